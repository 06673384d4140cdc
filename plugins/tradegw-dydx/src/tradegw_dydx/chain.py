"""What the plugin asks the chain itself: accounts, transactions in blocks, stateful orders. And sends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from tradegw import VenueError
from tradegw_dydx.nodes import NodeNotFound, Nodes
from tradegw_dydx.orders import ChainOrderId
from tradegw_dydx.outcomes import Verdict
from tradegw_dydx.wire.messages import (
    BaseAccount,
    GetTxRequest,
    GetTxResponse,
    QueryAccountRequest,
    QueryAccountResponse,
    QueryStatefulOrderRequest,
    QueryStatefulOrderResponse,
)

__all__ = ["ChainAccount", "fetch_account", "find_included", "find_stateful", "wait_included"]

_ACCOUNT: Final = "/cosmos.auth.v1beta1.Query/Account"
_GET_TX: Final = "/cosmos.tx.v1beta1.Service/GetTx"
_STATEFUL_ORDER: Final = "/dydxprotocol.clob.Query/StatefulOrder"
_BASE_ACCOUNT: Final = "cosmos.auth.v1beta1.BaseAccount"
_POLL_S: Final = (0.3, 0.3, 0.5, 0.8, 1.2, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAccount:
    """An account as the chain numbers it."""

    number: int
    sequence: int


async def fetch_account(nodes: Nodes, address: str) -> ChainAccount:
    """Return an account's number and sequence.

    Raises:
        VenueError: It was never funded, is of a kind that cannot be read, or no node answers.
    """
    try:
        answer = await nodes.ask(
            _ACCOUNT, QueryAccountRequest(address=address), QueryAccountResponse
        )
    except NodeNotFound as e:
        raise VenueError(
            f"account {address} does not exist on the chain: it was never funded",
            reason="ACCOUNT_NOT_FOUND",
        ) from e
    if not answer.account.type_url.endswith(_BASE_ACCOUNT):
        raise VenueError(
            f"account {address} is a {answer.account.type_url}; expected {_BASE_ACCOUNT}",
            reason="ACCOUNT_UNREADABLE",
        )
    account = BaseAccount.FromString(answer.account.value)
    return ChainAccount(number=account.account_number, sequence=account.sequence)


async def find_included(nodes: Nodes, tx_hash: str) -> Verdict | None:
    """Return what became of a transaction in its block; None while it is in none.

    Raises:
        VenueError: No node answers.
    """
    try:
        answer = await nodes.ask(_GET_TX, GetTxRequest(hash=tx_hash), GetTxResponse)
    except NodeNotFound:
        return None
    told = answer.tx_response
    return Verdict(codespace=told.codespace, code=told.code, log=told.raw_log)


async def wait_included(nodes: Nodes, tx_hash: str, *, wait_s: float) -> Verdict | None:
    """Ask until a transaction is in a block; None when it was not for so long, or nobody could be asked."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + wait_s
    for pause_s in (*_POLL_S, *((_POLL_S[-1],) * 1_000)):
        left_s = ends_s - loop.time()
        if left_s <= 0:
            return None
        await asyncio.sleep(min(pause_s, left_s))
        try:
            verdict = await find_included(nodes, tx_hash)
        except VenueError:
            continue
        if verdict is not None:
            return verdict
    return None


async def find_stateful(nodes: Nodes, order_id: ChainOrderId) -> QueryStatefulOrderResponse | None:
    """Return a long-term or conditional order that is in the chain's state now.

    Raises:
        VenueError: No node answers.
    """
    request = QueryStatefulOrderRequest(order_id=order_id.to_message())
    try:
        return await nodes.ask(_STATEFUL_ORDER, request, QueryStatefulOrderResponse)
    except NodeNotFound:
        return None
