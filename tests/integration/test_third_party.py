"""A venue that somebody else publishes: a package outside the repository, installed, and it is there.

The package has some thirty lines of its own. It is installed with the repository into a fresh environment,
where a program trades on it, loses an answer, and sees the order resolved from evidence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYPROJECT = """
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"
[project]
name = "tradegw-acme"
version = "0.0.1"
requires-python = ">=3.11"
dependencies = ["tradegw"]
[project.entry-points.tradegw]
acme = "tradegw_acme"
[tool.hatch.build.targets.wheel]
only-include = ["tradegw_acme.py"]
"""

VENUE = """
import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from tradegw import ExecType, ExecutionReport, Instrument, OrdStatus, OrdType, TimeInForce, hookimpl
from tradegw.venue import (Capabilities, ExpiryKind, FetchInstruments, FetchOrder, Page, StreamReady,
                           Submit, Venue, VenueFactory, VenueRequest, VenueTime)

@dataclass
class AcmeConfig:
    lose_qty: str = "0"

class Acme(Venue):
    capabilities = Capabilities(
        ord_types=frozenset({OrdType.LIMIT}), time_in_force=frozenset({TimeInForce.GTC}),
        expiry=ExpiryKind.TIME, expiry_s=5.0)
    def __init__(self, config, runtime):
        self.config, self.runtime, self.orders = config, runtime, {}
    def translate(self, command, context):
        assert isinstance(command, Submit)
        until = VenueTime(time_ns=context.now.time_ns + 5 * 10**9)
        return VenueRequest(payload=command.order, valid_until=until, digest=f"new {command.order.symbol}")
    async def execute(self, request):
        name = request.payload.venue_client_order_id
        report = ExecutionReport(exec_type=ExecType.NEW, venue_client_order_id=name,
                                 venue_order_id=f"acme-{len(self.orders) + 1}")
        self.orders[name] = report
        if request.payload.order_qty == Decimal(self.config.lose_qty):
            raise ConnectionResetError("the answer is lost")
        return [report]
    async def fetch(self, query):
        found = ()
        if isinstance(query, FetchInstruments):
            found = (Instrument(
                symbol="ACME/USD", venue_symbol="ACMEUSD", base_asset="ACME", quote_asset="USD"),)
        elif isinstance(query, FetchOrder) and query.venue_client_order_id in self.orders:
            told = self.orders[query.venue_client_order_id]
            found = (ExecutionReport(
                exec_type=ExecType.ORDER_STATUS, ord_status=OrdStatus.NEW,
                cum_qty=Decimal(0), venue_order_id=told.venue_order_id),)
        return Page(items=found, as_of=VenueTime(time_ns=self.runtime.time_ns()))
    async def stream(self, since):
        yield StreamReady()
        await asyncio.Event().wait()

@asynccontextmanager
async def open_acme(config, runtime):
    yield Acme(config, runtime)

@hookimpl
def tradegw_register_venues(api_version):
    return [VenueFactory(name="acme", config_type=AcmeConfig, open=open_acme)]
"""

PROGRAM = """
import asyncio, json, sys
import tradegw

async def main():
    config = {
        "store": {"url": "sqlite:///acme.db"},
        "venues": {"acme": {"plugin": "acme", "lose_qty": "7"}},
        "accounts": {"mine": {"venue": "acme"}},
    }
    async with tradegw.open(config) as gateway:
        fields = {"symbol": "ACME/USD", "side": "buy", "ord_type": "limit", "price": "10"}
        plain = await gateway.place_order(order_qty="1", idempotency_key="plain", **fields)
        lost = await gateway.place_order(order_qty="7", idempotency_key="lost", **fields)
        again = await gateway.place_order(order_qty="7", idempotency_key="lost", **fields)
        async with asyncio.timeout(60):
            async for batch in gateway.stream_orders():
                if any(item.event.event_type == "DOUBT_RESOLVED" for item in batch.orders):
                    break
        found = await gateway.get_order(lost.order_id)
        events = await gateway.list_order_events(lost.order_id)
        print(json.dumps({
            "plain": plain.ord_status,
            "lost": [lost.ord_status, [doubt.command for doubt in lost.in_doubt]],
            "same": again.order_id == lost.order_id,
            "found": [found.ord_status, len(found.in_doubt), found.venue_order_id],
            "events": [event.event_type for event in events],
            "evidence": [e.evidence.kind for e in events if e.event_type == "DOUBT_RESOLVED"],
            "tradegw": tradegw.__file__,
        }))

asyncio.run(main())
"""


def run(command: list[str], directory: Path) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TRADEGW", "PYTHON"))}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def environment(directory: Path, *packages: Path) -> Path:
    """Make a fresh environment with the packages, and return its interpreter."""
    python = directory / "venv" / "bin" / "python"
    names = [str(package) for package in packages]
    uv = shutil.which("uv")
    if uv is not None:
        run([uv, "venv", "-q", "--python", sys.executable, "venv"], directory)
        run([uv, "pip", "install", "-q", "--python", str(python), *names], directory)
    else:
        run([sys.executable, "-m", "venv", "venv"], directory)
        run([str(python), "-m", "pip", "install", "-q", *names], directory)
    return python


@pytest.mark.timeout(240)
def test_a_venue_of_somebody_elses_works_once_it_is_installed(tmp_path: Path) -> None:
    acme = tmp_path / "acme"
    acme.mkdir()
    (acme / "pyproject.toml").write_text(PYPROJECT)
    (acme / "tradegw_acme.py").write_text(VENUE)
    (tmp_path / "program.py").write_text(PROGRAM)
    own_lines = [
        line
        for line in VENUE.split("@dataclass", 1)[1].splitlines()
        if line.strip() and not line.startswith("@")
    ]
    assert len(own_lines) <= 45, "a venue is some thirty lines; the contract must stay that small"

    python = environment(tmp_path, ROOT, acme)
    listed = run([str(python.parent / "tradegw"), "plugins", "--json"], tmp_path)
    assert "tradegw-acme" in listed
    told = json.loads(run([str(python), "program.py"], tmp_path))

    assert not told.pop("tradegw").startswith(str(ROOT)), "the installed package, not this one"
    assert told.pop("plain") == "NEW"
    assert told.pop("lost") == ["PENDING_NEW", ["NEW"]]
    assert told.pop("same") is True
    assert told.pop("found") == ["NEW", 0, "acme-2"]
    assert told.pop("evidence") == ["VENUE_REPORT"]
    assert told.pop("events") == ["INTENT", "SENT_UNANSWERED", "NEW", "DOUBT_RESOLVED"]
    assert told == {}
