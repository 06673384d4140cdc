"""The plugins as the command line sees them: what is installed, and the commands that they add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tradegw.engine.crash import CrashPoint
from tradegw.plugins import PluginInfo, load_plugins

if TYPE_CHECKING:
    import cyclopts

    from tradegw.gateway.config import Config

__all__ = ["CrashPoint", "PluginInfo", "add_commands", "check_config", "list_plugins"]


def add_commands(app: cyclopts.App) -> None:
    """Let every installed plugin add its commands to the command line."""
    load_plugins().manager.hook.tradegw_cli(app=app)


def list_plugins() -> Sequence[PluginInfo]:
    """Return every plugin that is installed, the broken ones with why."""
    return load_plugins().infos


def check_config(config: Config) -> None:
    """Check what the configuration says to plugins, as a gateway would before it opens anything.

    Raises:
        ConfigError: A venue is one that no plugin offers, a key is unknown to its plugin, or a secret is
            missing.
    """
    from tradegw.gateway.clock import SystemClock
    from tradegw.gateway.open import plan_accounts

    plan_accounts(config, load_plugins(), SystemClock())
