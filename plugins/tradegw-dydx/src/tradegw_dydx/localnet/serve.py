"""`tradegw dydx localnet`: a local chain until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final

import msgspec

from tradegw_dydx.localnet.genesis import Settings
from tradegw_dydx.localnet.localnet import Serving, open_localnet

__all__ = ["for_people", "run"]

_HOST: Final = "127.0.0.1"


async def run(
    settings: Settings, *, grpc_port: int, indexer_port: int, block_time_s: float, is_json: bool
) -> None:
    """Serve until SIGINT or SIGTERM. The first line says where, when all doors listen.

    Raises:
        OSError: A port is taken.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with open_localnet(
        settings,
        block_time_s=block_time_s,
        host=_HOST,
        grpc_port=grpc_port,
        indexer_port=indexer_port,
    ) as localnet:
        serving = localnet.serving
        text = (
            msgspec.json.encode(serving).decode() if is_json else for_people(serving, block_time_s)
        )
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        await ended.wait()


def for_people(serving: Serving, block_time_s: float) -> str:
    """Say where everything is, in lines to copy from."""
    pace = f"a block every {block_time_s} s" if block_time_s else "blocks by command"
    return "\n".join(
        [
            f"chain {serving.chain_id}, {pace}; everything is forgotten when it ends",
            f"nodes    {', '.join(serving.grpc)}",
            f"indexer  {serving.indexer_rest}  {serving.indexer_ws}",
            f"admin    {serving.indexer_rest}/admin",
            *(f"{item.name}  {item.address}\n    {item.mnemonic}" for item in serving.accounts),
        ]
    )
