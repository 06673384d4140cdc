"""`tradegw plugins`: what is installed, and what is broken."""

from __future__ import annotations

import logging

from tradegw.gateway.extensions import list_plugins
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.show import console, print_json, show_table

__all__ = ["plugins"]


def plugins(*, json: Json = False) -> None:
    """List the installed plugins: distribution, version, hooks, and why one was skipped.

    For example:

        tradegw plugins

        TRADEGW_DISABLE_PLUGINS=mock tradegw plugins
    """
    # What the loader would log stands in the list.
    logging.getLogger("tradegw.plugins").disabled = True
    found = list_plugins()
    if json:
        print_json({"plugins": found})
    elif not found:
        console().print("no plugins; `pip install tradegw-mock` for the mock exchange")
    else:
        show_table(
            ["name", "distribution", "version", "module", "hooks", "skipped because"],
            [
                [p.name, p.distribution, p.version, p.module, ", ".join(p.hooks), p.error]
                for p in found
            ],
        )
