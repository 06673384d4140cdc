"""The guard around every venue; see docs/explanation/guard.md.

From the inside out: `breaker`, `pools` and `backoff` decide, and are pure; `traffic` lets requests through in
order; `guard` is one account's, told of every answer; `plugins` puts an account's hooks behind it.

Libraries were considered. Breakers (purgatory, aiobreaker, pybreaker) read their own clock and count whatever
is raised; limiters (aiolimiter, pyrate-limiter, limits) know neither a venue's own count, nor windows of its
clock, nor whose turn it is. What is left of either is shorter than the code to adapt it.
"""

from tradegw.engine.guard.deadman import DeadManSwitch
from tradegw.engine.guard.guard import AccountGuard
from tradegw.engine.guard.plugins import GuardedPlugins
from tradegw.engine.guard.traffic import FREE, Lane, Permit, Rank, Traffic

__all__ = [
    "FREE",
    "AccountGuard",
    "DeadManSwitch",
    "GuardedPlugins",
    "Lane",
    "Permit",
    "Rank",
    "Traffic",
]
