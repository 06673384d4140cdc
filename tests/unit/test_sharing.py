"""What gateways that share a store ask of settings and processes, and how they divide budgets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tradegw.engine.guard.pools import Pool, make_pool
from tradegw.errors import ConfigError
from tradegw.gateway.config import Config, load_config
from tradegw.gateway.process import is_gone, this_process
from tradegw.gateway.replicas import check_forwarding
from tradegw.ports import LeaseHolder
from tradegw.venue import BudgetPool, BudgetScope, BudgetStrategy, Operation

S = 1_000_000_000

# --- settings ---------------------------------------------------------------------------------------


def a_config(**sections: Any) -> Config:
    base: dict[str, Any] = {
        "store": {"url": "postgresql:///tradegw"},
        "replicas": {"enabled": True},
        "venues": {"v": {"plugin": "mock", "url": "127.0.0.1:1"}},
        "accounts": {"a": {"venue": "v"}},
    }
    return load_config(environ={}, overrides={**base, **sections})


def test_a_gateway_shares_nothing_by_default() -> None:
    assert not load_config(environ={}, overrides={}).replicas.enabled
    replicas = a_config().replicas
    assert (replicas.ttl_s, replicas.margin_s, replicas.address) == (10.0, 2.0, "")


@pytest.mark.parametrize(
    ("sections", "reason", "text"),
    [
        pytest.param(
            {"store": {"url": "sqlite:///tradegw.db"}},
            "REPLICAS_NEED_POSTGRES",
            "sqlite:///tradegw.db",
            id="a file has one writer",
        ),
        pytest.param(
            {"store": {"url": "memory://"}},
            "REPLICAS_NEED_POSTGRES",
            "memory://",
            id="memory is one process's",
        ),
        pytest.param(
            {"venues": {"v": {"plugin": "mock"}}},
            "MOCK_IN_PROCESS",
            "tradegw mock serve",
            id="a mock in each process is another exchange in each",
        ),
        pytest.param(
            {"replicas": {"enabled": True, "ttl_s": 4.0, "margin_s": 2.0}},
            "CONFIG_INVALID",
            "margin_s",
            id="a margin that leaves no time between renewals",
        ),
        pytest.param(
            {"replicas": {"enabled": True, "address": "gateway-1"}},
            "CONFIG_INVALID",
            "HOST:PORT",
            id="an address without a port",
        ),
        pytest.param(
            {"replicas": {"enabled": True, "ttl_s": 0}},
            "CONFIG_INVALID",
            "ttl_s",
            id="leases that are over at once",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(sections: dict[str, Any], reason: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as refused:
        a_config(**sections)
    assert refused.value.reason == reason


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]"])
def test_a_door_on_every_address_needs_a_name_for_others(host: str) -> None:
    with pytest.raises(ConfigError, match=r"replicas\.address"):
        check_forwarding(a_config(), host)
    named = a_config(replicas={"enabled": True, "address": "gateway-1:50051"})
    check_forwarding(named, host)
    check_forwarding(a_config(replicas={}), host)


def test_a_door_with_an_address_of_its_own_is_where_it_listens() -> None:
    check_forwarding(a_config(), "127.0.0.1")


# --- other processes ---------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def holder_of(process: subprocess.Popen[bytes]) -> LeaseHolder:
    stat = Path(f"/proc/{process.pid}/stat").read_text("ascii")
    start = int(stat.rpartition(")")[2].split()[19])
    return replace(this_process(), pid=process.pid, process_start=start)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing proves it")
def test_a_process_is_gone_when_it_has_ended_and_not_before(
    sleeper: subprocess.Popen[bytes],
) -> None:
    me, by = this_process(), holder_of(sleeper)
    assert not is_gone(by, seen_by=me)
    sleeper.send_signal(signal.SIGSTOP)
    assert not is_gone(by, seen_by=me), "it may go on"
    assert is_gone(replace(by, process_start=by.process_start - 1), seen_by=me), (
        "the pid is used again"
    )
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(by, seen_by=me), "a zombie runs no more"
    sleeper.wait()
    assert is_gone(by, seen_by=me)
    assert not is_gone(replace(by, host="another"), seen_by=me), "nobody here can tell"
    assert not is_gone(replace(by, process_start=0), seen_by=me), "of its start nothing is known"


def test_we_are_here() -> None:
    me = this_process()
    assert not is_gone(me, seen_by=this_process())
    assert this_process().holder != me.holder


# --- budgets -----------------------------------------------------------------------------------------


def a_pool(strategy: BudgetStrategy, limit: int = 100) -> Pool:
    return make_pool(
        BudgetPool(name="p", scope=BudgetScope.KEY, limit=limit, window_s=10.0, strategy=strategy)
    )


def drawn(pool: Pool, now_ns: int) -> int:
    """Draw all that is to be had at once; what was drawn is answered."""
    count = 0
    while not pool.wait_ns(1, now_ns):
        pool.take(1)
        count += 1
    for _ in range(count):
        pool.answered(1, now_ns)
    return count


@pytest.mark.parametrize("strategy", BudgetStrategy)
def test_replicas_together_draw_no_more_than_there_is(strategy: BudgetStrategy) -> None:
    pools = [a_pool(strategy) for _ in range(3)]
    for pool in pools:
        pool.divide(3)
    now_ns = 1_000 * S
    assert 90 <= sum(drawn(pool, now_ns) for pool in pools) <= 100
    # When the others have gone, the whole is ours; what we used of it counts on.
    pools[0].divide(1)
    assert 60 <= drawn(pools[0], now_ns) <= 67


def test_a_budget_too_small_to_be_divided_leaves_one_to_each() -> None:
    pool = a_pool(BudgetStrategy.SLIDING_WINDOW, limit=2)
    pool.divide(3)
    assert drawn(pool, 1_000 * S) == 1


def test_what_the_venue_counts_of_all_is_ours_in_part() -> None:
    pool = a_pool(BudgetStrategy.SLIDING_WINDOW)
    pool.divide(2)
    now_ns = 1_000 * S
    assert pool.used(now_ns) == 0
    pool.correct(60, now_ns)
    assert (pool.used(now_ns), pool.limit) == (30, 50)
    assert drawn(pool, now_ns) == 20


def test_cancels_keep_their_part_of_our_part() -> None:
    pool = make_pool(
        BudgetPool(
            name="p",
            scope=BudgetScope.IP,
            limit=100,
            window_s=10.0,
            strategy=BudgetStrategy.SLIDING_WINDOW,
            costs={Operation.NEW: 1, Operation.CANCEL: 1},
        )
    )
    assert pool.kept == 10
    pool.divide(2)
    assert (pool.limit, pool.kept) == (50, 5)
