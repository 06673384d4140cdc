"""Carries one request to the chain: numbered, signed once, sent, and for stateful ones found in a block."""

from __future__ import annotations

import asyncio
from typing import Final

from tradegw import NotSent, OutcomeUnknown, RateLimited, VenueRejected
from tradegw.venue import Outcome
from tradegw_dydx.chain import ChainAccount, fetch_account, wait_included
from tradegw_dydx.nodes import Nodes
from tradegw_dydx.outcomes import OUTCOMES, WRONG_SEQUENCE, Attempt, Verdict, judge
from tradegw_dydx.signing import Signer
from tradegw_dydx.translate import ChainRequest
from tradegw_dydx.tx import SignedTx, TxTerms

__all__ = ["IN_FLIGHT_MAX", "Sender"]

IN_FLIGHT_MAX: Final = 16
"""Stateful transactions under way. The chain keeps 20 nonces, and refuses one older than all of them."""


class Sender:
    """Sends for one account.

    Attributes:
        address: Whose orders they are.
    """

    def __init__(
        self,
        *,
        nodes: Nodes,
        signer: Signer,
        chain_id: str,
        address: str,
        account: ChainAccount,
        authenticators: tuple[int, ...],
        is_numbered_by_time: bool,
        inclusion_wait_s: float,
    ) -> None:
        self.address = address
        self._nodes = nodes
        self._signer = signer
        self._chain_id = chain_id
        self._account_number = account.number
        self._authenticators = authenticators
        self._is_numbered_by_time = is_numbered_by_time
        self._inclusion_wait_s = inclusion_wait_s
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._counting = asyncio.Lock()
        self._sequence: int | None = account.sequence

    async def send(self, request: ChainRequest) -> None:
        """Send a request; returns when the chain has taken it, a stateful one into a block.

        Raises:
            VenueRejected: It was refused, and is nowhere.
            RateLimited: It was not taken.
            NotSent: No byte left.
            OutcomeUnknown: Anything else.

        Cancellation: it may have been sent. Sent again, it is the same bytes.
        """
        if not request.is_stateful:
            # The chain reads no sequence of short-term messages.
            self._judge(request, await self._broadcast(request, sequence=0))
        elif self._is_numbered_by_time:
            assert request.nonce is not None
            async with self._in_flight:
                self._judge(request, await self._broadcast(request, sequence=request.nonce))
                await self.await_block(request, wait_s=self._inclusion_wait_s)
        else:
            async with self._counting:
                await self._send_counted(request)
                await self.await_block(request, wait_s=self._inclusion_wait_s)

    async def _send_counted(self, request: ChainRequest) -> None:
        """Send with the account's own counter, which only moves when a transaction was surely taken."""
        for is_last in (False, True):
            if self._sequence is None:
                self._sequence = (await fetch_account(self._nodes, self.address)).sequence
            sequence, self._sequence = self._sequence, None
            attempts = await self._broadcast(request, sequence=sequence)
            outcome, verdict = judge(request.command, attempts)
            is_stale = (
                outcome is Outcome.REFUSED and verdict is not None and verdict.key == WRONG_SEQUENCE
            )
            if is_stale and not is_last:
                # Refused by every node that was asked: these bytes are nowhere, so others may be signed.
                request.signed = None
                continue
            if outcome is Outcome.ACCEPTED:
                self._sequence = sequence + 1
            self._judge(request, attempts)
            return

    async def _broadcast(self, request: ChainRequest, *, sequence: int) -> tuple[Attempt, ...]:
        head = self._nodes.head.height
        if request.good_til_block is not None and head >= request.good_til_block:
            raise NotSent(
                f"good until block {request.good_til_block}, and the chain is at {head} already"
            )
        signed = request.signed
        if signed is None:
            signed = request.signed = await self._sign(request, sequence)
        return tuple(await self._nodes.broadcast(signed))

    async def _sign(self, request: ChainRequest, sequence: int) -> SignedTx:
        return await self._signer.sign(
            [request.message],
            TxTerms(
                chain_id=self._chain_id,
                account_number=self._account_number,
                sequence=sequence,
                authenticators=self._authenticators,
            ),
        )

    def _judge(self, request: ChainRequest, attempts: tuple[Attempt, ...]) -> None:
        outcome, verdict = judge(request.command, attempts)
        told = _shown(attempts)
        match outcome:
            case Outcome.ACCEPTED:
                return
            case Outcome.REFUSED:
                assert verdict is not None
                raise VenueRejected(verdict.log or told, reason=verdict.key)
            case Outcome.THROTTLED:
                assert verdict is not None
                raise RateLimited(verdict.log or told, reason=verdict.key)
            case _:
                if attempts and all(attempt.is_unsent for attempt in attempts):
                    raise NotSent(f"no node can be reached: {told}")
                raise OutcomeUnknown(told)

    async def await_block(self, request: ChainRequest, *, wait_s: float) -> None:
        """Wait until a transaction is in a block.

        Raises:
            VenueRejected: It failed there, for good.
            OutcomeUnknown: It is in none.
        """
        assert request.signed is not None
        tx_hash = request.signed.hash
        verdict = await wait_included(self._nodes, tx_hash, wait_s=wait_s)
        if verdict is None:
            raise OutcomeUnknown(f"transaction {tx_hash} is in no block after {wait_s} s")
        if not verdict.code:
            return
        self._refuse_included(request, verdict)

    def _refuse_included(self, request: ChainRequest, verdict: Verdict) -> None:
        # What a block says is final, whatever the code: the transaction was carried out, and failed.
        outcome = OUTCOMES.outcome(request.command, verdict.key)
        if outcome is Outcome.ACCEPTED:
            return
        raise VenueRejected(
            verdict.log or f"failed in its block: {verdict.key}", reason=verdict.key
        )


def _shown(attempts: tuple[Attempt, ...]) -> str:
    return "; ".join(
        f"{a.node}: {a.error or 'no answer' if a.verdict is None else a.verdict.key}"
        for a in attempts
    )
