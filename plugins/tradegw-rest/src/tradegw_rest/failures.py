"""What an answer that is not an acceptance means: the error table of a definition, applied.

Whatever no rule names is unknown. A status of 500 or above is unknown too, whatever its body says, unless a
rule names that status: between the venue's front and its engine an order may have passed.
"""

# Decoded JSON is what it is: narrowing it yields "dict of unknown".
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tradegw import OutcomeUnknown, RateLimited, VenueError, VenueRejected
from tradegw.venue import Outcome
from tradegw_rest.inputs import Inputs, Read
from tradegw_rest.source import Spot
from tradegw_rest.values import Compiler, to_text
from tradegw_rest.wire import HttpResponse

__all__ = ["CLASSES", "ERROR_KEYS", "ErrorTable", "Failure"]

_R, _T, _U = Outcome.REFUSED, Outcome.THROTTLED, Outcome.UNKNOWN

CLASSES: Final[Mapping[str, tuple[Outcome, str]]] = {
    "INSUFFICIENT_FUNDS": (_R, "the account cannot afford it"),
    "INVALID_ORDER": (_R, "a field, a filter or a limit of the market forbids it"),
    "UNKNOWN_SYMBOL": (_R, "no such market"),
    "MARKET_CLOSED": (_R, "the market does not take it now"),
    "POST_ONLY_WOULD_CROSS": (_R, "post-only, and it would take"),
    "TRIGGER_IMMEDIATE": (_R, "its trigger would fire at once"),
    "AUTH": (_R, "key, signature, passphrase, address or permission"),
    "CLOCK_SKEW": (_R, "the request's time is too far from the venue's"),
    "NONCE": (_R, "the nonce was used, or is below one that was"),
    "REQUEST_EXPIRED": (_R, "it came after its own deadline"),
    "RATE_LIMITED": (_T, "too fast; it was not taken"),
    "BUSY": (_T, "overloaded; it was not taken"),
    "DUPLICATE_CLIENT_ORDER_ID": (_U, "an order of this name exists: ours, so ask about it"),
    "UNKNOWN_ORDER": (_U, "the venue does not show the order; of a query: not found"),
    "ORDER_CLOSED": (_U, "the order closed before; how, only a query says"),
    "MAINTENANCE": (_U, "not available; what happened to the request is not said"),
    "STATUS_UNKNOWN": (_U, "the venue itself does not know"),
    "PROCESSING": (_U, "taken, and not done yet"),
}
"""Classes of failure, what each means for a command unless its rule says otherwise, and in words."""

ERROR_KEYS: Final[Mapping[str, str]] = {
    "when": "Condition under which an answer of HTTP 2xx is an error.",
    "code": "Where the code stands.",
    "text": "Where the words stand.",
    "list": "Path of a list of texts, each of them an error (Kraken).",
    "ignore": "Pattern of texts in `list` that are warnings.",
    "retry_after": "`{header, unit}` of how long to wait: unit `s` or `ms`.",
    "rules": "List of rules; the first that fits decides.",
}
RULE_KEYS: Final[Mapping[str, str]] = {
    "code": "The code, or a list of codes.",
    "text": "Pattern that is searched in the words, without regard to case.",
    "http": "HTTP status, or a list of them; `5xx` for a whole class.",
    "operations": "Operations for which the rule holds; all without it.",
    "class": "Class of failure.",
    "outcome": "`REFUSED THROTTLED UNKNOWN`, where the class's own does not hold.",
    "wait_s": "How long to wait, where the answer does not say.",
}

_CAUTION: Final = (_U, _T, _R)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An answer that is no acceptance.

    Attributes:
        error_class: One of `CLASSES`; `""` when no rule fits.
        code: The venue's own.
    """

    error_class: str
    outcome: Outcome
    code: str
    text: str
    retry_after_s: float | None = None

    def raise_for_command(self) -> None:
        """Raise what the engine understands."""
        words = f"{self.code}: {self.text}" if self.code else self.text
        match self.outcome:
            case Outcome.REFUSED:
                raise VenueRejected(words, reason=self.error_class)
            case Outcome.THROTTLED:
                raise RateLimited(words, reason=self.error_class, retry_after_s=self.retry_after_s)
            case _:
                raise OutcomeUnknown(words, reason=self.error_class or None)

    def raise_for_query(self) -> None:
        """Raise what the engine understands when a question got no answer."""
        words = f"{self.code}: {self.text}" if self.code else self.text
        if self.outcome is Outcome.THROTTLED:
            raise RateLimited(words, reason=self.error_class, retry_after_s=self.retry_after_s)
        raise VenueError(words, reason=self.error_class or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    codes: frozenset[str] | None
    text: re.Pattern[str] | None
    statuses: frozenset[str] | None
    operations: frozenset[str] | None
    error_class: str
    outcome: Outcome
    wait_s: float | None

    def fits(self, operation: str, status: int, code: str | None, text: str) -> bool:
        if self.operations is not None and operation not in self.operations:
            return False
        if self.codes is not None and code not in self.codes:
            return False
        if self.text is not None and not self.text.search(text):
            return False
        if self.statuses is None:
            return status < 500
        return str(status) in self.statuses or f"{status // 100}xx" in self.statuses


class ErrorTable:
    """The error table of one definition."""

    def __init__(self, spot: Spot, operations: Sequence[str], compiler: Compiler) -> None:
        parts = spot.keys(("rules",), [key for key in ERROR_KEYS if key != "rules"])
        self._is_error = compiler.condition(parts["when"]) if "when" in parts else None
        self._code: Read | None = compiler.value(parts["code"]) if "code" in parts else None
        self._text: Read | None = compiler.value(parts["text"]) if "text" in parts else None
        self._list = None
        if "list" in parts:
            self._list = compiler.path(parts["list"], parts["list"].text())
        self._ignore = _pattern(parts["ignore"]) if "ignore" in parts else None
        self._retry_after: tuple[str, float] | None = None
        if "retry_after" in parts:
            wait = parts["retry_after"].keys(("header", "unit"))
            unit = wait["unit"].one_of(("s", "ms"))
            self._retry_after = (wait["header"].text().lower(), 1.0 if unit == "s" else 0.001)
        self.rules = tuple(_rule(part, operations) for part in parts["rules"].list())

    def is_error(self, answer: Any, inputs: Inputs) -> bool:
        """Whether the body of an answer of HTTP 2xx is an error all the same."""
        return self._is_error is not None and self._is_error(answer, inputs)

    def classify(
        self, operation: str, response: HttpResponse, answer: Any, inputs: Inputs
    ) -> Failure:
        """Say what an answer that is no acceptance means. `answer` is None when the body is not JSON."""
        found = [
            self._match(operation, response.status, code, text)
            for code, text in self._signs(answer, inputs)
        ]
        # Of several errors the least certain decides.
        wait_s = self._wait(response.headers)
        code, text, rule = min(
            found, key=lambda one: _CAUTION.index(_U if one[2] is None else one[2].outcome)
        )
        return Failure(
            error_class="" if rule is None else rule.error_class,
            outcome=_U if rule is None else rule.outcome,
            code=code or f"HTTP {response.status}",
            text=text or _words(response.body),
            retry_after_s=rule.wait_s if wait_s is None and rule is not None else wait_s,
        )

    def _signs(self, answer: Any, inputs: Inputs) -> list[tuple[str | None, str]]:
        if answer is None:
            return [(None, "")]
        if self._list is not None:
            listed = self._list(answer)
            texts = (
                [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
            )
            ignore = self._ignore
            signs: list[tuple[str | None, str]] = [
                (text, text) for text in texts if ignore is None or not ignore.search(text)
            ]
            return signs or [(None, "")]
        code = None if self._code is None else _plain(self._code(answer, inputs))
        text = "" if self._text is None else _plain(self._text(answer, inputs)) or ""
        return [(code, text)]

    def _match(
        self, operation: str, status: int, code: str | None, text: str
    ) -> tuple[str | None, str, _Rule | None]:
        for rule in self.rules:
            if rule.fits(operation, status, code, text):
                return code, text, rule
        return code, text, None

    def _wait(self, headers: Mapping[str, str]) -> float | None:
        if self._retry_after is None:
            return None
        name, unit = self._retry_after
        text = headers.get(name, "")
        return int(text) * unit if text.isascii() and text.isdigit() and len(text) < 10 else None


def _plain(value: Any) -> str | None:
    # Bitstamp's `reason` is text or an object of lists: its JSON will do to search in.
    return str(value)[:500] if isinstance(value, (dict, list)) else to_text(value)


def _words(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")


def _pattern(spot: Spot) -> re.Pattern[str]:
    try:
        return re.compile(spot.text(), re.IGNORECASE)
    except re.error as e:
        spot.fail(f"not a regular expression: {e}")


def _rule(spot: Spot, operations: Sequence[str]) -> _Rule:
    parts = spot.keys(("class",), [key for key in RULE_KEYS if key != "class"])
    if not {"code", "text", "http"} & set(parts):
        spot.fail("expected at least one of code, text and http")
    error_class = parts["class"].one_of(CLASSES)
    outcome = CLASSES[error_class][0]
    if "outcome" in parts:
        outcome = Outcome(parts["outcome"].one_of(("REFUSED", "THROTTLED", "UNKNOWN")))
    return _Rule(
        codes=_texts(parts.get("code")),
        text=_pattern(parts["text"]) if "text" in parts else None,
        statuses=_texts(parts.get("http")),
        operations=None
        if "operations" not in parts
        else frozenset(one.one_of(operations) for one in parts["operations"].each()),
        error_class=error_class,
        outcome=outcome,
        wait_s=parts["wait_s"].seconds() if "wait_s" in parts else None,
    )


def _texts(spot: Spot | None) -> frozenset[str] | None:
    return None if spot is None else frozenset(one.text() for one in spot.each())


Classify = Callable[[str, HttpResponse, Any, Inputs], Failure]
