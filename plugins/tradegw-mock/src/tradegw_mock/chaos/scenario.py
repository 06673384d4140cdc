"""Scenario files: faults written down in TOML.

```toml
[[fault]]
kind = "ANSWER_LOST"
account = "account-1"
times = 2
start_s = 30.0
```
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from tradegw_mock.chaos.faults import FaultSpec

__all__ = ["Scenario", "ScenarioError", "read_scenario"]


class ScenarioError(Exception):
    """A scenario file cannot be read; the text names the file, and the fault by its place in it."""


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file says. Faults begin in its order.

    Attributes:
        name: For people.
        fault: The faults.
    """

    name: str = ""
    fault: tuple[FaultSpec, ...] = ()


def read_scenario(path: str | Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: It is missing, no TOML, or asks for what there is not.
    """
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=Scenario)
    except (OSError, msgspec.DecodeError, ValueError) as e:
        raise ScenarioError(f"scenario {path}: {e}") from e
