"""The plugin's entry point: what it offers to tradegw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tradegw import hookimpl

if TYPE_CHECKING:
    import cyclopts

__all__ = ["tradegw_cli"]


@hookimpl
def tradegw_cli(app: cyclopts.App) -> None:
    """Add `tradegw rest`."""
    from tradegw_rest.cli import make_app

    app.command(make_app())
