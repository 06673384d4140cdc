"""Several nodes: who is asked, in which order, with which bytes."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tradegw_dydx.chain import fetch_account, find_included
from tradegw_dydx.nodes import NoNodeAnswers, open_nodes
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet

from tradegw import VenueError

from .fakes import Chain, serving_node
from .keys import A1, A2, M1
from .test_vectors import V1


@asynccontextmanager
async def three(timeout_s=0.3):
    async with AsyncExitStack() as stack:
        chain = Chain()
        served = [await stack.enter_async_context(serving_node(chain)) for _ in range(3)]
        nodes = await stack.enter_async_context(
            open_nodes([node.address for node in served], timeout_s=timeout_s)
        )
        await nodes.look()
        yield chain, served, nodes


def signed():
    terms = TxTerms(chain_id="localdydxprotocol", account_number=33, sequence=0)
    return sign([V1.to_message()], terms, Wallet.from_mnemonic(M1))


async def test_the_same_bytes_go_round_until_one_answers():
    async with three() as (chain, served, nodes):
        served[0].mode, served[1].mode = "silent", "exhausted"
        tx = signed()
        attempts = await nodes.broadcast(tx)
        assert [a.verdict is None for a in attempts] == [True, True, False]
        assert [node.broadcasts for node in served] == [1, 1, 1]
        assert list(chain.taken) == [tx.hash]
        # It is decided: nobody is asked again.
        assert await nodes.broadcast(tx) == attempts
        assert [node.broadcasts for node in served] == [1, 1, 1]


async def test_a_node_that_just_started_is_passed_over():
    async with three() as (chain, _served, nodes):
        verdicts = iter([("clob", 47, "not initialised"), ("", 0, "")])
        chain.judge = lambda tx: next(verdicts)
        attempts = await nodes.broadcast(signed())
        assert [a.verdict.key for a in attempts if a.verdict] == ["clob/47", "0"]


async def test_a_node_that_failed_or_lags_is_asked_last():
    async with three() as (chain, served, nodes):
        served[0].lag, served[1].mode = 6, "silent"
        chain.height += 10
        await nodes.look()
        order = [
            served.index(next(s for s in served if s.address == n.address)) for n in nodes.ranked()
        ]
        assert order == [2, 0, 1]
        assert nodes.head.height == 1010


async def test_heights_come_with_every_answer():
    async with three() as (chain, _served, nodes):
        chain.height += 3
        await fetch_account(nodes, A1)
        assert max(node.height for node in nodes.nodes) == 1003


async def test_questions_fail_over_and_say_who_was_asked():
    async with three() as (_chain, served, nodes):
        served[0].mode = served[1].mode = "exhausted"
        assert (await fetch_account(nodes, A1)).number == 33
        served[2].mode = "exhausted"
        with pytest.raises(NoNodeAnswers) as e:
            await fetch_account(nodes, A1)
        assert all(node.address in str(e.value) for node in served)


async def test_an_account_that_was_never_funded():
    async with three() as (_, _, nodes):
        with pytest.raises(VenueError, match="never funded") as e:
            await fetch_account(nodes, A2)
        assert e.value.reason == "ACCOUNT_NOT_FOUND"


async def test_a_transaction_in_no_block():
    async with three() as (_, _, nodes):
        assert await find_included(nodes, "00" * 32) is None


async def test_a_node_of_another_chain_is_never_used():
    async with AsyncExitStack() as stack:
        chain, other = Chain(), Chain(height=9_000_000)
        own = await stack.enter_async_context(serving_node(chain))
        stranger = await stack.enter_async_context(serving_node(other))
        stranger.chain_id = "dydx-mainnet-1"
        nodes = await stack.enter_async_context(
            open_nodes([stranger.address, own.address], timeout_s=5, chain_id="localdydxprotocol")
        )
        await nodes.look()
        assert nodes.head.height == 1000
        await nodes.broadcast(signed())
        own.mode = "exhausted"
        with pytest.raises(NoNodeAnswers):
            await fetch_account(nodes, A1)
        assert (own.broadcasts, stranger.broadcasts) == (1, 0)
        assert len(stranger.calls) == 1
