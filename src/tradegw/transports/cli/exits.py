"""What the exit codes of `tradegw` mean, and which error ends with which."""

from __future__ import annotations

from enum import IntEnum

from tradegw.errors import (
    CommitUnknown,
    ConfigError,
    PluginError,
    StoreError,
    StoreUnavailable,
    TradegwError,
    Unavailable,
)

__all__ = ["EXIT_MEANINGS", "ExitCode", "exit_code"]


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 3
    IN_DOUBT = 4
    STORE = 5
    DEFECT = 70
    INTERRUPTED = 130


EXIT_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "refused by the gateway or the venue, or a check found something wrong",
    ExitCode.USAGE: "the command line or the configuration is wrong; nothing was done",
    ExitCode.UNAVAILABLE: "no gateway answered in time, or it cannot now: ask again with the same key",
    ExitCode.IN_DOUBT: "the venue was asked and nobody knows yet; the gateway goes on asking",
    ExitCode.STORE: "the store cannot be used: in use, damaged, or of another release",
    ExitCode.DEFECT: "a defect of tradegw",
    ExitCode.INTERRUPTED: "ended by Ctrl-C",
}
"""One line for each, for `--help` and for the reference pages."""


def exit_code(error: TradegwError) -> ExitCode:
    """Return the code with which a command ends that failed so."""
    match error:
        case ConfigError() | PluginError():
            return ExitCode.USAGE
        case Unavailable() | StoreUnavailable():
            return ExitCode.UNAVAILABLE
        case CommitUnknown():
            return ExitCode.IN_DOUBT
        case StoreError():
            return ExitCode.STORE
        case _:
            return ExitCode.DEFECT if error.reason == "INTERNAL" else ExitCode.REFUSED
