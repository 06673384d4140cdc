"""Structured logs, set up by the command line alone: a library leaves logging to the program around it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final

from tradegw.errors import ConfigError
from tradegw.gateway import REQUEST
from tradegw.gateway.config import Config
from tradegw.transports.cli.values import clean, jsonable

__all__ = ["set_up_logging"]

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS: Final = ("auto", "json", "text")
_TEXT_MAX: Final = 8_000

# What every record has, and what says nothing here; the rest was given as `extra`.
_KNOWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


def set_up_logging(config: Config) -> None:
    """Send every log record to stderr, as `log.format` and `log.level` say.

    Raises:
        ConfigError: One of the two is none that there is.
    """
    level, form = config.log.level.upper(), config.log.format.lower()
    if level not in _LEVELS:
        raise ConfigError(f"log.level is one of {', '.join(_LEVELS)}; found {config.log.level!r}")
    if form not in _FORMATS:
        raise ConfigError(
            f"log.format is one of {', '.join(_FORMATS)}; found {config.log.format!r}"
        )
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(config.gateway.environment) if form == "json" else TextFormatter()
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class JsonFormatter(logging.Formatter):
    """One JSON object on one line."""

    def __init__(self, environment: str) -> None:
        super().__init__()
        from tradegw.gateway.metrics import tradegw_version

        self._common = {
            "service": "tradegw",
            "version": tradegw_version(),
            "environment": environment,
        }

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "event": clean(record.getMessage(), limit=_TEXT_MAX),
            "logger": record.name,
            **self._common,
            **_context(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)[-_TEXT_MAX:]
        return json.dumps(fields, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line for people; what was raised follows it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text."""
        line = (
            f"{_time(record)} {record.levelname:<7} {clean(record.getMessage(), limit=_TEXT_MAX)}"
        )
        about = " ".join(f"{k}={clean(str(v))}" for k, v in _context(record).items())
        if about:
            line += f"  [{about}]"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _context(record: logging.LogRecord) -> dict[str, Any]:
    """Return what is known beside the text: what the caller of `log` gave, and which request this is."""
    request = REQUEST.get()
    fields: dict[str, Any] = {}
    if request.request_id:
        fields["request_id"] = request.request_id
    if request.trace_id:
        fields["trace_id"] = request.trace_id
    for name, value in record.__dict__.items():
        if name not in _KNOWN and value not in (None, ""):
            fields[name] = (
                clean(value, limit=_TEXT_MAX) if isinstance(value, str) else jsonable(value)
            )
    return fields
