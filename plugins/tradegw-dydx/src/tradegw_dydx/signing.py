"""Signs transactions away from the event loop, and numbers the stateful ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from google.protobuf.message import Message

from tradegw import ConfigError, NotSent
from tradegw_dydx.tx import SignedTx, TxTerms, sign
from tradegw_dydx.wallet import Wallet, WalletError

__all__ = ["Signer"]

WAITING_MAX: Final = 1_000
"""Transactions that wait for the one worker; at a third of a millisecond each, a third of a second."""


class Signer:
    """One worker that signs for one key. cosmpy is plain Python and would hold the event loop up."""

    def __init__(self, wallet: Wallet, worker: ThreadPoolExecutor) -> None:
        self.wallet = wallet
        self._worker = worker
        self._waiting = 0

    @classmethod
    async def open(cls, make_wallet: Callable[[], Wallet]) -> Signer:
        """Start the worker, and have it make the wallet: importing cosmpy alone takes a tenth of a second.

        Raises:
            ConfigError: There is no usable key.
        """
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dydx-signer")
        try:
            wallet = await asyncio.get_running_loop().run_in_executor(worker, make_wallet)
        except WalletError as e:
            worker.shutdown(wait=False)
            raise ConfigError(str(e)) from e
        return cls(wallet, worker)

    async def sign(self, messages: Sequence[Message], terms: TxTerms) -> SignedTx:
        """Sign one transaction.

        Raises:
            NotSent: Too many wait already.
        """
        if self._waiting >= WAITING_MAX:
            raise NotSent(f"{self._waiting} transactions wait to be signed already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._worker, sign, messages, terms, self.wallet
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the worker go."""
        self._worker.shutdown(wait=False, cancel_futures=True)
