"""The plugins as the command line sees them: what is installed, and the commands that they add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tradegw.plugins import PluginInfo, load_plugins

if TYPE_CHECKING:
    import cyclopts

__all__ = ["PluginInfo", "add_commands", "list_plugins"]


def add_commands(app: cyclopts.App) -> None:
    """Let every installed plugin add its commands to the command line."""
    load_plugins().manager.hook.tradegw_cli(app=app)


def list_plugins() -> Sequence[PluginInfo]:
    """Return every plugin that is installed, the broken ones with why."""
    return load_plugins().infos
