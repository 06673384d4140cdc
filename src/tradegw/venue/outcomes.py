"""Outcome tables: what a venue's answer means for the order.

A plugin declares, for each operation, which of the venue's codes mean accepted, refused or throttled.
Whatever is not in the table is unknown: guessing "refused" loses track of a live order, guessing
"accepted" invents one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

from tradegw.errors import OutcomeUnknown, RateLimited, VenueRejected
from tradegw.model import CommandKind

__all__ = ["Outcome", "OutcomeTable"]


class Outcome(StrEnum):
    """What an answer says about the request."""

    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    THROTTLED = "THROTTLED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeTable:
    """Codes of one venue, for each command. A code that stands nowhere is `UNKNOWN`."""

    codes: Mapping[CommandKind, Mapping[str, Outcome]] = field(
        default_factory=dict[CommandKind, Mapping[str, Outcome]]
    )

    def outcome(self, command: CommandKind, code: str) -> Outcome:
        """Return what `code` means as the answer to `command`."""
        return self.codes.get(command, {}).get(code, Outcome.UNKNOWN)

    def fail(self, command: CommandKind, code: str, text: str) -> NoReturn:
        """Raise what the engine understands for an answer that is not an acceptance.

        Raises:
            VenueRejected: The table says refused.
            RateLimited: The table says throttled.
            OutcomeUnknown: Anything else, "accepted" included: an error with that code explains nothing.
        """
        match self.outcome(command, code):
            case Outcome.REFUSED:
                raise VenueRejected(text, reason=code)
            case Outcome.THROTTLED:
                raise RateLimited(text, reason=code)
            case _:
                raise OutcomeUnknown(f"{code}: {text}")
