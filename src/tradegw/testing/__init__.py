"""For tests of plugins and of programs that trade: a clock to turn, a venue to script, builders.

The conformance kit stands in `tradegw.testing.kit`, apart, because it needs pytest.
"""

from tradegw.testing.builders import (
    a_fill,
    a_new_order,
    a_report,
    a_trade,
    an_instrument,
    an_order,
)
from tradegw.testing.clock import TurnedClock
from tradegw.testing.exchange import Fault, Placed, ScriptedExchange
from tradegw.testing.runtime import LentRuntime
from tradegw.testing.venue import ScriptedPlugin, ScriptedVenue

__all__ = [
    "Fault",
    "LentRuntime",
    "Placed",
    "ScriptedExchange",
    "ScriptedPlugin",
    "ScriptedVenue",
    "TurnedClock",
    "a_fill",
    "a_new_order",
    "a_report",
    "a_trade",
    "an_instrument",
    "an_order",
]
