"""The plugins as the command line sees them: what is installed, and the commands that they add."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tradegw.engine.crash import CrashPoint
from tradegw.plugins import PluginInfo, load_plugins

if TYPE_CHECKING:
    import cyclopts

    from tradegw.gateway.config import Config

__all__ = ["CrashPoint", "PluginInfo", "add_commands", "check_config", "list_plugins"]

log = logging.getLogger(__name__)


def add_commands(app: cyclopts.App) -> None:
    """Let every plugin add its commands to the command line. One that fails is named and skipped."""
    given = {"app": app}
    for impl in load_plugins().manager.hook.tradegw_cli.get_hookimpls():
        try:
            impl.function(*(given[name] for name in impl.argnames))
        except Exception as e:  # noqa: BLE001  A plugin may raise anything, and the others still work.
            log.error("plugin %s adds no commands: %r", impl.plugin_name, e)


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
    from tradegw.gateway.sinks import plan_sinks

    plugins = load_plugins()
    plan_accounts(config, plugins, SystemClock())
    plan_sinks(config, plugins)
