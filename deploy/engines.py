"""Which container engine answers here, if any."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

__all__ = ["NOT_RUN", "find_engine", "has_compose"]

NOT_RUN = 77
"""Exit code of what could not be tried here: neither done nor failed."""

_ANSWER_S = 20


def find_engine() -> str | None:
    """Return `docker` or `podman`, whichever has an engine that answers: a client alone builds nothing."""
    return next((name for name in ("docker", "podman") if _answers([name, "info"])), None)


def has_compose(engine: str) -> bool:
    """Whether the engine's client has `compose`."""
    return _answers([engine, "compose", "version"])


def _answers(words: Sequence[str]) -> bool:
    if shutil.which(words[0]) is None:
        return False
    try:
        return (
            subprocess.run(words, check=False, capture_output=True, timeout=_ANSWER_S).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False
