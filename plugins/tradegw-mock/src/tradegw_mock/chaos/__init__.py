"""Faults on demand: what a venue does wrong, done on purpose, counted, and written to the audit trail.

`Chaos` decides; doors and the exchange's host ask it at the points where faults act, and do what it says.
"""

from tradegw_mock.chaos.engine import (
    Chaos,
    ErrorAnswer,
    Fault,
    LateFill,
    Outcome,
    Restart,
    UnknownFault,
)
from tradegw_mock.chaos.faults import FaultKind, FaultSpec, Mark, Point, Target
from tradegw_mock.chaos.scenario import Scenario, ScenarioError, read_scenario
from tradegw_mock.chaos.streams import StreamFaults

__all__ = [
    "Chaos",
    "ErrorAnswer",
    "Fault",
    "FaultKind",
    "FaultSpec",
    "LateFill",
    "Mark",
    "Outcome",
    "Point",
    "Restart",
    "Scenario",
    "ScenarioError",
    "StreamFaults",
    "Target",
    "UnknownFault",
    "read_scenario",
]
