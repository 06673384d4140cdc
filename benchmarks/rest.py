"""REST plugin: translate, sign and parse a Binance order, against ccxt's `create_order` with HTTP stubbed.

Rounds of both take turns in one run; what counts is each side's best round, in CPU time, because other work
on the machine can only add to it. ccxt runs in an environment of its own: `TRADEGW_CCXT_PYTHON` names its
Python, or one is made with uv for the run.

And requests a second over loopback, kept alive: through the plugin's transport, and as whole orders, against
the bare aiohttp client at the same server.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from tradegw_rest import Credentials, Draft, HttpResponse, Stamp, load
from tradegw_rest.transport import open_http

from benchmarks.measure import Figures, hammer, together
from benchmarks.processes import process
from tradegw.testing import an_order
from tradegw.venue import Secret, Submit, TranslateContext, VenueTime

CCXT = "ccxt==4.5.90"
NAME = "0123456789abcdef0123456789abcdef"
ANSWER = json.dumps(
    {
        "symbol": "BTCUSDT",
        "orderId": 28,
        "orderListId": -1,
        "clientOrderId": NAME,
        "transactTime": 1_700_000_000_000,
        "price": "65000.00000000",
        "origQty": "0.01000000",
        "executedQty": "0.00000000",
        "origQuoteOrderQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "workingTime": 1_700_000_000_000,
        "fills": [],
        "selfTradePreventionMode": "NONE",
    }
)


@contextmanager
def ccxt_python() -> Iterator[str]:
    """Yield the Python of an environment that has ccxt."""
    named = os.environ.get("TRADEGW_CCXT_PYTHON")
    if named:
        yield named
        return
    with tempfile.TemporaryDirectory() as directory:
        python = str(Path(directory, "bin", "python"))
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", CCXT], check=True)
        yield python


def ours(count: int) -> float:
    """Return the CPU seconds of one round."""
    definition = load("binance-spot")
    signer = definition.signer(Credentials(key=Secret("K"), secret=Secret("S")))
    order = an_order(order_qty=Decimal("0.01"), price=Decimal(65000))
    instrument = definition.samples.get("BTC/USDT")
    base = definition.hosts["live"].rest
    body = ANSWER.encode()
    began = time.process_time()
    for number in range(count):
        now_ns = 1_700_000_000_000_000_000 + number
        context = TranslateContext(
            instrument=instrument,
            now=VenueTime(time_ns=now_ns),
            venue_client_order_ids=(NAME,),  # type: ignore[arg-type]
        )
        draft = definition.translate(Submit(order=order), context).payload
        assert isinstance(draft, Draft)
        signer.sign(draft, base, Stamp(now_ns=now_ns))
        answer = HttpResponse(status=200, headers={}, body=body, received_time_ns=now_ns)
        assert definition.reports(draft, answer)
    return time.process_time() - began


def measure(*, rounds: int = 15, count: int = 400) -> tuple[Figures, Figures]:
    """Return our figures and ccxt's."""
    mine: list[float] = []
    theirs: list[float] = []
    script = str(Path(__file__).parent / "ccxt_peer.py")
    with ccxt_python() as python:
        child = subprocess.Popen(
            [python, script, str(count), ANSWER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            for _ in range(rounds):
                mine.append(ours(count))
                child.stdin.write("\n")
                child.stdin.flush()
                theirs.append(float(child.stdout.readline()))
            child.stdin.close()
    return _figures(mine, count), _figures(theirs, count)


CALLERS = 16
ROUNDS = 5


async def measure_loopback(*, count: int) -> tuple[Figures, Figures, Figures]:
    """Return the figures of the bare client, of the transport, and of whole orders, in turns."""
    definition = load("binance-spot")
    signer = definition.signer(Credentials(key=Secret("K"), secret=Secret("S")))
    submit = Submit(order=an_order(order_qty=Decimal("0.01"), price=Decimal(65000)))
    instrument = definition.samples.get("BTC/USDT")
    async with (
        process("http") as base,
        open_http(frozenset({urlsplit(base).netloc}), time.time_ns) as transport,
        aiohttp.ClientSession() as session,
    ):

        def translate() -> Draft:
            context = TranslateContext(
                instrument=instrument,
                now=VenueTime(time_ns=time.time_ns()),
                venue_client_order_ids=(NAME,),  # type: ignore[arg-type]
            )
            draft = definition.translate(submit, context).payload
            assert isinstance(draft, Draft)
            return draft

        request = signer.sign(translate(), base, Stamp(now_ns=time.time_ns()))

        async def bare() -> None:
            async with session.post(
                request.url, data=request.body.encode(), headers=request.headers
            ) as answer:
                assert answer.status == 200
                await answer.read()

        async def sent() -> None:
            assert (await transport.send(request)).status == 200

        async def whole() -> None:
            draft = translate()
            signed = signer.sign(draft, base, Stamp(now_ns=time.time_ns()))
            assert definition.reports(draft, await transport.send(signed))

        rounds: dict[str, list[Figures]] = {"bare": [], "sent": [], "whole": []}
        calls = {"bare": bare, "sent": sent, "whole": whole}
        for _ in range(ROUNDS):
            for name, figures in rounds.items():
                figures.append(await hammer(calls[name], count=count // ROUNDS, callers=CALLERS))
    return together(rounds["bare"]), together(rounds["sent"]), together(rounds["whole"])


def _figures(rounds: list[float], count: int) -> Figures:
    ordered = sorted(seconds / count for seconds in rounds)
    return Figures(
        count=count,
        seconds=ordered[0] * count,
        p50_s=ordered[len(ordered) // 2],
        p99_s=ordered[-1],
    )


if __name__ == "__main__":
    we, they = measure()
    sys.stdout.write(
        f"tradegw-rest {we.seconds / we.count * 1e6:.1f} us, ccxt {they.seconds / they.count * 1e6:.1f} us "
        f"for one Binance order: {they.seconds / we.seconds:.1f} times faster\n"
    )
    plain, *through = asyncio.run(measure_loopback(count=5000))
    for title, found in zip(
        ("bare aiohttp", "our transport", "whole orders"), (plain, *through), strict=True
    ):
        sys.stdout.write(
            f"{title:14} {found.per_second:7,.0f}/s  p50 {found.p50_s * 1e3:.2f} ms  "
            f"p99 {found.p99_s * 1e3:.2f} ms  {found.per_second / plain.per_second:.2f} of bare\n"
        )
