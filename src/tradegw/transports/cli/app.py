"""The commands, which are imported when they are called, and the one place where a command ends."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tradegw.errors import TradegwError, UsageError
from tradegw.transports.cli.exits import EXIT_MEANINGS, ExitCode, exit_code
from tradegw.transports.cli.values import clean

if TYPE_CHECKING:
    import cyclopts

__all__ = ["COMMANDS", "CommandInfo", "build_app", "main"]

_HOME: Final = "tradegw.transports.cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandInfo:
    """A command, for the help and for the reference pages.

    Attributes:
        path: The words that call it, such as `order place`.
        function: Where it is, as `module:function` below this package.
        group: Heading under which the help lists it.
    """

    path: str
    function: str
    summary: str
    group: str


_RUN, _TRADE, _LOOK, _ACT, _SETUP = "Run", "Trade", "Look", "Operate", "Set up"

COMMANDS: Final[tuple[CommandInfo, ...]] = tuple(
    CommandInfo(path=path, function=function, summary=summary, group=group)
    for group, path, function, summary in (
        (
            _RUN,
            "serve",
            "serve:serve",
            "Run the gateway: gRPC and HTTP doors over the configured venues.",
        ),
        (_RUN, "demo", "demo:demo", "Trade, kill the gateway mid-order, and count: one minute."),
        (_TRADE, "order place", "orders:place", "Place an order, once."),
        (_TRADE, "order cancel", "orders:cancel", "Cancel an order."),
        (_TRADE, "order replace", "orders:replace", "Give an order another quantity or price."),
        (_TRADE, "order status", "orders:status", "Show an order as it stands."),
        (_LOOK, "orders", "lists:orders", "List orders, newest first."),
        (_LOOK, "fills", "lists:fills", "List fills, newest first."),
        (_LOOK, "balances", "lists:balances", "Show what each account holds."),
        (_LOOK, "positions", "lists:positions", "Show open positions, or close one."),
        (_LOOK, "venues", "lists:venues", "Show venues, and whether their accounts take orders."),
        (_LOOK, "instruments", "lists:instruments", "Show what can be traded at a venue."),
        (_LOOK, "watch", "watch:watch", "Show orders, fills, balances and venues, live."),
        (_LOOK, "explain", "explain:explain", "Tell the story of an order, from the record."),
        (_LOOK, "verify", "verify:verify", "Check the record, and compare it with an anchor."),
        (_ACT, "halt", "control:halt", "Refuse new orders, durably."),
        (_ACT, "resume", "control:resume", "Lift a halt."),
        (_ACT, "halts", "control:halts", "List the halts in force."),
        (_ACT, "resolve", "control:resolve", "Decide an order in doubt by hand."),
        (_ACT, "adopt", "control:adopt", "Make open orders at a venue ours."),
        (_ACT, "lease list", "leases:lease_list", "Show which gateway serves which account."),
        (
            _ACT,
            "lease release",
            "leases:lease_release",
            "Say that the silent holder of an account is gone.",
        ),
        (
            _ACT,
            "doctor",
            "doctor:doctor",
            "Look at plugins, store, clocks and keys, and say what is wrong.",
        ),
        (_SETUP, "init", "setup:init", "Write a configuration with comments."),
        (_SETUP, "config check", "setup:config_check", "Print what is in force, and from where."),
        (
            _SETUP,
            "config print-default",
            "setup:config_print_default",
            "Print the configuration that init writes.",
        ),
        (_SETUP, "migrate up", "setup:migrate_up", "Take the store's schema forwards."),
        (_SETUP, "migrate down", "setup:migrate_down", "Take the store's schema back."),
        (_SETUP, "migrate status", "setup:migrate_status", "Show the schema's migrations."),
        (
            _SETUP,
            "migrate check",
            "setup:migrate_check",
            "Say whether this release can run on the store.",
        ),
        (
            _SETUP,
            "store archive",
            "store:archive",
            "Move the oldest events of the store to a file.",
        ),
        (_SETUP, "store read", "store:read", "Print the events that are in archives."),
        (_SETUP, "new-venue", "scaffold:new_venue", "Write the start of a venue plugin."),
        (_SETUP, "plugins", "plugins:plugins", "List plugins, and why one was skipped."),
    )
)
"""Every built-in command. Plugins add theirs through the hook `tradegw_cli`."""

_GROUP_HELP: Final = {
    "order": "Place, cancel, replace and show single orders.",
    "lease": "Show who serves which account, where several gateways share the store.",
    "config": "Check and print the configuration.",
    "migrate": "Take the store's schema forwards and back.",
    "store": "Archive the store's oldest events, and read archives.",
}

_INTRO: Final = (
    "tradegw: one order API, many venues, a durable record, no guessing.\n\n"
    "    tradegw serve                    run the gateway (without configuration: a mock exchange)\n"
    "    tradegw order place --account paper --symbol BTC/USDT --side buy --type market --qty 0.01\n"
)


def build_app(tokens: Sequence[str] = (), *, with_plugins: bool = True) -> cyclopts.App:
    """Return the application.

    Args:
        tokens: The command line. The one command that it calls is imported now, with the whole of its
            help; of the others the application knows no more than the summary.
    """
    import cyclopts

    from tradegw import __version__

    settings: Any = {"help_format": "plaintext", "version_flags": []}
    called = " ".join(_words(tokens))
    app = cyclopts.App(
        name="tradegw",
        help=_INTRO,
        version=f"tradegw {__version__}",
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        default_parameter=cyclopts.Parameter(negative="", show_default=False),
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
    )
    groups: dict[str, cyclopts.App] = {}
    for command in COMMANDS:
        parent, name = app, command.path
        if " " in command.path:
            group, _, name = command.path.partition(" ")
            if group not in groups:
                groups[group] = cyclopts.App(name=group, help=_GROUP_HELP[group], **settings)
                app.command(groups[group])
            parent = groups[group]
        where = f"{_HOME}.{command.function}"
        if command.path == called:
            module, _, function = where.partition(":")
            called_one: Any = getattr(importlib.import_module(module), function)
            parent.command(called_one, name=name, **settings)
        else:
            parent.command(where, name=name, help=command.summary, **settings)
    if with_plugins:
        from tradegw.gateway.extensions import add_commands

        add_commands(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit with one of `ExitCode`."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    sys.exit(int(code))


def _run(tokens: Sequence[str]) -> int:
    import cyclopts

    as_json = "--json" in tokens
    is_root = not tokens or tokens[0] in ("--help", "-h")
    is_builtin = bool(tokens) and any(c.path.split(" ")[0] == tokens[0] for c in COMMANDS)
    try:
        app = build_app(tokens, with_plugins=not is_builtin and tokens != ["--version"])
        if is_root:
            print(_root_help(app))
            return ExitCode.OK
        result = app(tokens)
        return int(result) if isinstance(result, int) else ExitCode.OK
    except cyclopts.CycloptsError as e:
        text = " ".join(str(e).split())
        hint = f"see `tradegw {' '.join(_words(tokens))} --help`".replace("  ", " ")
        return fail("USAGE", f"{text} ({hint})", ExitCode.USAGE, as_json=as_json)
    except TradegwError as e:
        return fail(e.reason, str(e), exit_code(e), as_json=as_json, about=_notes(e))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise
    except UsageError as e:
        return fail("DEFECT", str(e), ExitCode.DEFECT, as_json=as_json)
    except Exception:  # noqa: BLE001  The last resort: say that it is our fault, and how.
        traceback.print_exc()
        text = "this is a defect of tradegw; please report it with the lines above"
        return fail("DEFECT", text, ExitCode.DEFECT, as_json=as_json)


def fail(
    reason: str, text: str, code: ExitCode, *, as_json: bool, about: dict[str, str] | None = None
) -> ExitCode:
    """Say on one line of stderr why a command failed; return its exit code."""
    if as_json:
        error = {"reason": reason, "text": text, "exit_code": int(code), **(about or {})}
        print(json.dumps({"error": error}), file=sys.stderr)
    else:
        more = "".join(f"; {key} {value}" for key, value in (about or {}).items())
        print(f"tradegw: {reason}: {clean(text, limit=2000)}{clean(more)}", file=sys.stderr)
    return code


def _notes(error: TradegwError) -> dict[str, str]:
    """Return what a command noted on an error: `key=value` lines, such as the key to ask again with."""
    notes: dict[str, str] = {}
    for note in getattr(error, "__notes__", ()):
        key, _, value = note.partition("=")
        notes[key] = value
    return notes


def _words(tokens: Sequence[str]) -> list[str]:
    """Return the words of the command line that name a built-in command, or a group of them."""
    words = list(tokens[:2])
    paths = [command.path.split(" ") for command in COMMANDS]
    while words and not any(path[: len(words)] == words for path in paths):
        words.pop()
    return words


def _root_help(app: cyclopts.App) -> str:
    """Return the list of all commands. Written here, because it must appear at once."""
    listed: dict[str, list[tuple[str, str]]] = {}
    for command in COMMANDS:
        listed.setdefault(command.group, []).append((command.path, command.summary))
    builtin = {command.path.split(" ")[0] for command in COMMANDS}
    for name in app:
        if name not in builtin and not name.startswith("-"):
            summary = (app[name].help or "").strip().partition("\n")[0]
            listed.setdefault("From plugins", []).append((name, summary))
    width = max(len(path) for rows in listed.values() for path, _ in rows)
    lines = [_INTRO]
    for group, rows in listed.items():
        lines.append(f"{group}:")
        lines.extend(f"  {path:<{width}}  {summary}" for path, summary in rows)
        lines.append("")
    lines.append("Every command has --help, with examples. Exit codes:")
    lines.extend(f"  {code.value:<3}  {meaning}" for code, meaning in EXIT_MEANINGS.items())
    return "\n".join(lines)
