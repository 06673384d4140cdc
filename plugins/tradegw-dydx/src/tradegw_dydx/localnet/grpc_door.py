"""A node's gRPC door: the calls of the chain's clients, over messages of the private pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import Message
from typing_extensions import override

from tradegw_dydx.localnet.chain import TxResult, simulated_gas
from tradegw_dydx.localnet.decode import Tx, decode, hash_of, order_id_of
from tradegw_dydx.localnet.faults import FaultKind, Faults
from tradegw_dydx.localnet.gate import Gate
from tradegw_dydx.localnet.ledger import Pair
from tradegw_dydx.localnet.network import Network, client_ids
from tradegw_dydx.localnet.node import Node
from tradegw_dydx.localnet.terms import Refused, SubaccountId
from tradegw_dydx.localnet.views import iso
from tradegw_dydx.wire import bigint
from tradegw_dydx.wire import messages as wire

__all__ = ["NodeDoor", "serve_node"]

_SYNC: Final = 2
_HASH_DIGITS: Final = 64
_NO_CLIENTS: Final[frozenset[int]] = frozenset()
Context = grpc.aio.ServicerContext[Any, Any]
Method = tuple[type[Message], Callable[[Any], Message]]


class _Status(Exception):
    """An answer in gRPC's own words."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class NodeDoor:
    """One node, as its clients meet it."""

    def __init__(self, network: Network, node: Node, faults: Faults) -> None:
        self._network = network
        self._node = node
        self._faults = faults
        self.gate: Gate | None = None
        self._late: set[asyncio.Task[Message]] = set()
        self._methods: dict[str, Method] = {
            "/cosmos.auth.v1beta1.Query/Account": (wire.QueryAccountRequest, self._account),
            "/cosmos.base.tendermint.v1beta1.Service/GetLatestBlock": (
                wire.GetLatestBlockRequest,
                self._latest_block,
            ),
            "/cosmos.base.tendermint.v1beta1.Service/GetSyncing": (
                wire.GetSyncingRequest,
                lambda _: wire.GetSyncingResponse(syncing=self._node.is_syncing),
            ),
            "/cosmos.base.tendermint.v1beta1.Service/GetNodeInfo": (
                wire.GetNodeInfoRequest,
                self._node_info,
            ),
            "/cosmos.tx.v1beta1.Service/BroadcastTx": (wire.BroadcastTxRequest, self._broadcast),
            "/cosmos.tx.v1beta1.Service/Simulate": (wire.SimulateRequest, self._simulate),
            "/cosmos.tx.v1beta1.Service/GetTx": (wire.GetTxRequest, self._get_tx),
            "/dydxprotocol.clob.Query/ClobPair": (wire.QueryGetClobPairRequest, self._clob_pair),
            "/dydxprotocol.clob.Query/ClobPairAll": (
                wire.QueryAllClobPairRequest,
                lambda _: wire.QueryClobPairAllResponse(
                    clob_pair=[_clob_pair(pair) for pair in self._pairs]
                ),
            ),
            "/dydxprotocol.clob.Query/EquityTierLimitConfiguration": (
                wire.QueryEquityTierLimitConfigurationRequest,
                self._equity_tiers,
            ),
            "/dydxprotocol.clob.Query/BlockRateLimitConfiguration": (
                wire.QueryBlockRateLimitConfigurationRequest,
                self._rate_limits,
            ),
            "/dydxprotocol.clob.Query/StatefulOrder": (
                wire.QueryStatefulOrderRequest,
                self._stateful_order,
            ),
            "/dydxprotocol.prices.Query/MarketPrice": (
                wire.QueryMarketPriceRequest,
                lambda told: wire.QueryMarketPriceResponse(
                    market_price=_price(self._pair(told.id))
                ),
            ),
            "/dydxprotocol.prices.Query/AllMarketPrices": (
                wire.QueryAllMarketPricesRequest,
                lambda _: wire.QueryAllMarketPricesResponse(
                    market_prices=[_price(pair) for pair in self._pairs]
                ),
            ),
            "/dydxprotocol.perpetuals.Query/Perpetual": (
                wire.QueryPerpetualRequest,
                lambda told: wire.QueryPerpetualResponse(perpetual=_perpetual(self._pair(told.id))),
            ),
            "/dydxprotocol.perpetuals.Query/AllPerpetuals": (
                wire.QueryAllPerpetualsRequest,
                lambda _: wire.QueryAllPerpetualsResponse(
                    perpetual=[_perpetual(pair) for pair in self._pairs]
                ),
            ),
            "/dydxprotocol.subaccounts.Query/Subaccount": (
                wire.QueryGetSubaccountRequest,
                self._subaccount,
            ),
            "/dydxprotocol.subaccounts.Query/SubaccountAll": (
                wire.QueryAllSubaccountRequest,
                lambda _: wire.QuerySubaccountAllResponse(
                    subaccount=[
                        self._subaccount_message(key)
                        for key in self._network.chain.ledger.subaccounts
                    ]
                ),
            ),
            "/dydxprotocol.feetiers.Query/PerpetualFeeParams": (
                wire.QueryPerpetualFeeParamsRequest,
                lambda _: wire.QueryPerpetualFeeParamsResponse(
                    params=wire.PerpetualFeeParams(tiers=[self._fee_tier])
                ),
            ),
            "/dydxprotocol.feetiers.Query/UserFeeTier": (
                wire.QueryUserFeeTierRequest,
                lambda _: wire.QueryUserFeeTierResponse(index=0, tier=self._fee_tier),
            ),
            "/cosmos.bank.v1beta1.Query/Balance": (
                wire.QueryBalanceRequest,
                lambda told: wire.QueryBalanceResponse(
                    balance=wire.Coin(
                        denom=told.denom, amount=str(self._bank(told.address).get(told.denom, 0))
                    )
                ),
            ),
            "/cosmos.bank.v1beta1.Query/AllBalances": (
                wire.QueryAllBalancesRequest,
                lambda told: wire.QueryAllBalancesResponse(
                    balances=[
                        wire.Coin(denom=denom, amount=str(amount))
                        for denom, amount in sorted(self._bank(told.address).items())
                    ]
                ),
            ),
            "/dydxprotocol.accountplus.Query/GetAuthenticators": (
                wire.GetAuthenticatorsRequest,
                self._authenticators,
            ),
            "/dydxprotocol.accountplus.Query/AccountState": (
                wire.AccountStateRequest,
                self._account_state,
            ),
            "/dydxprotocol.blocktime.Query/PreviousBlockInfo": (
                wire.QueryPreviousBlockInfoRequest,
                self._previous_block,
            ),
        }

    # Serving

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what gRPC's server asks."""
        return _Handlers(
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._guarded(name.rpartition("/")[2], answer),
                    request_deserializer=request.FromString,
                    response_serializer=_serialize,
                )
                for name, (request, answer) in self._methods.items()
            }
        )

    def end(self) -> None:
        """Carry out nothing any more."""
        for task in self._late:
            task.cancel()

    def _guarded(
        self, name: str, answer: Callable[[Any], Message]
    ) -> Callable[[Any, Context], Any]:
        async def serve(request: Any, context: Context) -> Message:
            ids = _NO_CLIENTS
            if name == "BroadcastTx":
                ids = _ids_of(request)
            await self._face(name, ids, context)
            height = (("x-cosmos-block-height", str(self._node.height)),)
            await context.send_initial_metadata(height)
            try:
                response = await self._answer(name, ids, answer, request)
            except _Status as e:
                await context.abort(e.code, str(e))
            if self._take(FaultKind.REPLY_LOST, name, ids):
                await self._vanish(context)
            return response

        return serve

    async def _answer(
        self, name: str, ids: frozenset[int], answer: Callable[[Any], Message], request: Any
    ) -> Message:
        slow = self._take(FaultKind.SLOW, name, ids)
        if slow is None:
            return answer(request)

        async def late() -> Message:
            await asyncio.sleep(slow.delay_s)
            return answer(request)

        task = asyncio.create_task(late())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        # Carried out also when the caller has given it up.
        return await asyncio.shield(task)

    def _take(self, kind: FaultKind, name: str, ids: frozenset[int]) -> Any:
        return self._faults.take(kind, node=self._node.number, method=name, client_ids=ids)

    async def _face(self, name: str, ids: frozenset[int], context: Context) -> None:
        if self._take(FaultKind.RESET, name, ids):
            await self._vanish(context)
        if self._take(FaultKind.BLACK_HOLE, name, ids):
            await asyncio.Event().wait()
        if self._take(FaultKind.RESOURCE_EXHAUSTED, name, ids):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "rate limit exceeded")

    async def _vanish(self, context: Context) -> NoReturn:
        """Cut the connection; the call ends with it, and says nothing."""
        assert self.gate is not None
        self.gate.cut(context.peer())
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    # Accounts and blocks

    def _account(self, told: wire.QueryAccountRequest) -> Message:
        account = self._network.chain.accounts.get(told.address)
        if account is None:
            raise _Status(
                grpc.StatusCode.NOT_FOUND,
                f"account {told.address} not found: key not found",
            )
        key = _pack(wire.PubKey(key=account.public_key)) if account.public_key else None
        return wire.QueryAccountResponse(
            account=_pack(
                wire.BaseAccount(
                    address=account.address,
                    pub_key=key,
                    account_number=account.number,
                    sequence=account.sequence,
                )
            )
        )

    def _latest_block(self, told: wire.GetLatestBlockRequest) -> Message:
        node = self._node
        chain_id = self._network.settings.chain_id
        time = _timestamp(node.time_ns)
        return wire.GetLatestBlockResponse(
            block_id=wire.BlockID(hash=node.height.to_bytes(32, "big")),
            block=wire.Block(
                header=wire.Header(
                    chain_id=chain_id,
                    height=node.height,
                    time=time,
                    proposer_address=node.number.to_bytes(20, "big"),
                )
            ),
            sdk_block=wire.SdkBlock(
                header=wire.SdkHeader(
                    chain_id=chain_id,
                    height=node.height,
                    time=time,
                    proposer_address=f"node-{node.number}",
                )
            ),
        )

    def _node_info(self, told: wire.GetNodeInfoRequest) -> Message:
        return wire.GetNodeInfoResponse(
            default_node_info=wire.NodeInfo(
                network=self._network.settings.chain_id,
                version="0.38.15",
                moniker=f"localnet-{self._node.number}",
            ),
            application_version=wire.VersionInfo(
                name="localnet", app_name="localnet", version="9.6.1"
            ),
        )

    def _previous_block(self, told: wire.QueryPreviousBlockInfoRequest) -> Message:
        return wire.QueryPreviousBlockInfoResponse(
            info=wire.BlockInfo(height=self._node.height, timestamp=_timestamp(self._node.time_ns))
        )

    # Transactions

    def _broadcast(self, told: wire.BroadcastTxRequest) -> Message:
        if told.mode != _SYNC:
            raise _Status(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"unsupported return type {told.mode}; supported types: sync, async",
            )
        verdict = self._network.broadcast(self._node.number, told.tx_bytes)
        return wire.BroadcastTxResponse(
            tx_response=wire.TxResponse(
                txhash=hash_of(told.tx_bytes),
                codespace=verdict.codespace,
                code=verdict.code,
                raw_log=verdict.log or ("[]" if verdict.code == 0 else ""),
            )
        )

    def _simulate(self, told: wire.SimulateRequest) -> Message:
        # Old clients send the transaction in parts, in a field that is deprecated.
        tx_bytes = told.tx_bytes or told.tx.SerializeToString()
        try:
            tx = decode(tx_bytes)
            self._node.simulate(tx)
        except Refused as e:
            text = f"{e.verdict.log} with gas used: '0'"
            raise _Status(grpc.StatusCode.UNKNOWN, text) from e
        gas = 0 if tx.is_clob else simulated_gas(tx.size)
        return wire.SimulateResponse(gas_info=wire.GasInfo(gas_used=gas), result=wire.Result())

    def _get_tx(self, told: wire.GetTxRequest) -> Message:
        if not told.hash:
            raise _Status(grpc.StatusCode.INVALID_ARGUMENT, "tx hash cannot be empty")
        found = self._network.chain.results.get(told.hash.upper())
        if found is None or found.height > self._node.height or len(told.hash) != _HASH_DIGITS:
            raise _Status(grpc.StatusCode.NOT_FOUND, f"tx not found: {told.hash[:100]}")
        tx = wire.Tx.FromString(found.tx_bytes)
        return wire.GetTxResponse(tx=tx, tx_response=_tx_response(found, found.tx))

    # Markets and subaccounts

    @property
    def _pairs(self) -> list[Pair]:
        return list(self._network.chain.pairs.values())

    def _pair(self, number: int) -> Pair:
        pair = self._network.chain.pairs.get(number)
        if pair is None:
            raise _Status(grpc.StatusCode.NOT_FOUND, "not found")
        return pair

    def _clob_pair(self, told: wire.QueryGetClobPairRequest) -> Message:
        return wire.QueryClobPairResponse(clob_pair=_clob_pair(self._pair(told.id)))

    def _equity_tiers(self, told: wire.QueryEquityTierLimitConfigurationRequest) -> Message:
        return wire.QueryEquityTierLimitConfigurationResponse(
            equity_tier_limit_config=wire.EquityTierLimitConfiguration(
                stateful_order_equity_tiers=[
                    wire.EquityTierLimit(usd_tnc_required=bigint.to_bytes(least), limit=limit)
                    for least, limit in self._network.settings.equity_tiers
                ]
            )
        )

    def _rate_limits(self, told: wire.QueryBlockRateLimitConfigurationRequest) -> Message:
        settings = self._network.settings

        def shown(limits: tuple[tuple[int, int], ...]) -> list[wire.MaxPerNBlocksRateLimit]:
            return [wire.MaxPerNBlocksRateLimit(num_blocks=n, limit=limit) for n, limit in limits]

        return wire.QueryBlockRateLimitConfigurationResponse(
            block_rate_limit_config=wire.BlockRateLimitConfiguration(
                max_stateful_orders_per_n_blocks=shown(settings.stateful_limits),
                max_short_term_orders_and_cancels_per_n_blocks=shown(settings.short_term_limits),
            )
        )

    def _stateful_order(self, told: wire.QueryStatefulOrderRequest) -> Message:
        item = self._network.chain.stateful.get(order_id_of(told.order_id))
        if item is None:
            raise _Status(grpc.StatusCode.NOT_FOUND, "not found")
        order = item.order
        return wire.QueryStatefulOrderResponse(
            order_placement=wire.LongTermOrderPlacement(
                order=wire.Order(
                    order_id=told.order_id,
                    side=order.side,
                    quantums=order.quantums,
                    subticks=order.subticks,
                    good_til_block_time=order.good_til_block_time,
                    time_in_force=order.time_in_force,
                    reduce_only=order.reduce_only,
                    client_metadata=order.client_metadata,
                    condition_type=order.condition_type,
                    conditional_order_trigger_subticks=order.trigger_subticks,
                )
            ),
            fill_amount=self._network.chain.ledger.filled.get(order.order_id, 0),
            triggered=item.triggered,
        )

    def _subaccount(self, told: wire.QueryGetSubaccountRequest) -> Message:
        return wire.QuerySubaccountResponse(
            subaccount=self._subaccount_message(SubaccountId(told.owner, told.number))
        )

    def _subaccount_message(self, key: SubaccountId) -> wire.Subaccount:
        # An unused subaccount is an empty one, not an error.
        item = self._network.chain.ledger.subaccount(key)
        assets = [wire.AssetPosition(asset_id=0, quantums=bigint.to_bytes(item.usdc))]
        return wire.Subaccount(
            id=wire.SubaccountId(owner=key.owner, number=key.number),
            asset_positions=assets if item.usdc else [],
            perpetual_positions=[
                wire.PerpetualPosition(
                    perpetual_id=pair,
                    quantums=bigint.to_bytes(held),
                    funding_index=bigint.to_bytes(0),
                    quote_balance=bigint.to_bytes(0),
                )
                for pair, held in sorted(item.positions.items())
            ],
            margin_enabled=True,
        )

    @property
    def _fee_tier(self) -> wire.PerpetualFeeTier:
        settings = self._network.settings
        return wire.PerpetualFeeTier(
            name="1", maker_fee_ppm=settings.maker_fee_ppm, taker_fee_ppm=settings.taker_fee_ppm
        )

    def _bank(self, address: str) -> dict[str, int]:
        account = self._network.chain.accounts.get(address)
        return {} if account is None else account.bank

    def _authenticators(self, told: wire.GetAuthenticatorsRequest) -> Message:
        account = self._network.chain.accounts.get(told.account)
        found = () if account is None else tuple(account.authenticators.values())
        return wire.GetAuthenticatorsResponse(
            account_authenticators=[
                wire.AccountAuthenticator(
                    id=item.authenticator_id, type=item.kind, config=item.config
                )
                for item in found
            ]
        )

    def _account_state(self, told: wire.AccountStateRequest) -> Message:
        account = self._network.chain.accounts.get(told.address)
        if account is None:
            raise _Status(grpc.StatusCode.NOT_FOUND, "account state not found")
        return wire.AccountStateResponse(
            account_state=wire.AccountState(
                address=account.address,
                timestamp_nonce_details=wire.TimestampNonceDetails(
                    timestamp_nonces=account.nonces, max_ejected_nonce=account.nonce_ejected
                ),
            )
        )


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, handlers: dict[str, Any]) -> None:
        self._handlers = handlers

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


@asynccontextmanager
async def serve_node(door: NodeDoor, host: str, port: int) -> AsyncGenerator[Gate]:
    """Serve a node until left.

    Args:
        port: 0 picks a free one.

    Raises:
        OSError: The port is taken.
    """
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((door.handlers(),))
    inner = server.add_insecure_port(f"{host}:0")
    await server.start()
    gate = door.gate = Gate(host, inner)
    try:
        await gate.open(port)
        yield gate
    finally:
        door.end()
        await gate.close()
        await server.stop(0)


def _ids_of(request: wire.BroadcastTxRequest) -> frozenset[int]:
    try:
        return client_ids(decode(request.tx_bytes))
    except Refused:
        return _NO_CLIENTS


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _pack(message: Message) -> wire.Any:
    return wire.Any(
        type_url=f"/{message.DESCRIPTOR.full_name}",
        value=message.SerializeToString(deterministic=True),
    )


def _timestamp(time_ns: int) -> wire.Timestamp:
    return wire.Timestamp(seconds=time_ns // 1_000_000_000, nanos=time_ns % 1_000_000_000)


def _tx_response(found: TxResult, tx: Tx) -> wire.TxResponse:
    return wire.TxResponse(
        height=found.height,
        txhash=tx.hash,
        codespace=found.verdict.codespace,
        code=found.verdict.code,
        raw_log=found.verdict.log,
        gas_wanted=tx.gas_limit,
        gas_used=found.gas_used,
        timestamp=iso(found.time_ns),
    )


def _clob_pair(pair: Pair) -> wire.ClobPair:
    return wire.ClobPair(
        id=pair.clob_pair_id,
        perpetual_clob_metadata=wire.PerpetualClobMetadata(perpetual_id=pair.clob_pair_id),
        step_base_quantums=pair.step_base_quantums,
        subticks_per_tick=pair.subticks_per_tick,
        quantum_conversion_exponent=pair.quantum_conversion_exponent,
        status=pair.status,
    )


def _price(pair: Pair) -> wire.MarketPrice:
    return wire.MarketPrice(
        id=pair.clob_pair_id, exponent=pair.price_exponent, price=pair.oracle_price
    )


def _perpetual(pair: Pair) -> wire.Perpetual:
    return wire.Perpetual(
        params=wire.PerpetualParams(
            id=pair.clob_pair_id,
            ticker=pair.ticker,
            market_id=pair.clob_pair_id,
            atomic_resolution=pair.atomic_resolution,
            market_type=1,
        ),
        funding_index=bigint.to_bytes(0),
        open_interest=bigint.to_bytes(0),
    )
