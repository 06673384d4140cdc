"""`tradegw doctor`: whether all that trading needs is there."""

from __future__ import annotations

import logging
from pathlib import Path

from tradegw.gateway.config import load_config
from tradegw.gateway.doctor import Verdict, examine
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.exits import ExitCode
from tradegw.transports.cli.show import print_json, show_table

__all__ = ["doctor"]


async def doctor(
    *, venue: str | None = None, config: Path | None = None, json: Json = False
) -> ExitCode:
    """Look at the plugins, the store, and each account's venue: its clock, its markets, the key.

    Venues are connected to with the accounts' own keys, and only asked. The exit code is 1 when there is a
    problem.

    For example:

        tradegw doctor

        tradegw doctor --venue binance --json

    Args:
        venue: Only the accounts of this venue.
        config: Configuration. Default: tradegw.toml in the working directory, if there is one.
    """
    # What the loader would log stands in the list.
    logging.getLogger("tradegw.plugins").disabled = True
    found = [finding async for finding in examine(load_config(config), venue=venue)]
    if json:
        print_json({"findings": found})
    else:
        show_table(
            ["what", "check", "verdict", "detail"],
            [[f.subject, f.check, f.verdict, f.detail] for f in found],
        )
    has_problem = any(finding.verdict is Verdict.PROBLEM for finding in found)
    return ExitCode.REFUSED if has_problem else ExitCode.OK
