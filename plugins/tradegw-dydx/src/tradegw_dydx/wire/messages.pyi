# Made by proto/make.py from proto/*.proto. Do not edit.
from collections.abc import Iterable, Sequence

from google.protobuf.message import Message


class TxExtension(Message):
    selected_authenticators: Sequence[int]
    def __init__(
        self,
        *,
        selected_authenticators: Iterable[int] | None = ...,
    ) -> None: ...

class AccountAuthenticator(Message):
    id: int
    type: str
    config: bytes
    def __init__(
        self,
        *,
        id: int | None = ...,
        type: str | None = ...,
        config: bytes | None = ...,
    ) -> None: ...

class GetAuthenticatorsRequest(Message):
    account: str
    def __init__(
        self,
        *,
        account: str | None = ...,
    ) -> None: ...

class GetAuthenticatorsResponse(Message):
    account_authenticators: Sequence[AccountAuthenticator]
    def __init__(
        self,
        *,
        account_authenticators: Iterable[AccountAuthenticator] | None = ...,
    ) -> None: ...

class TimestampNonceDetails(Message):
    timestamp_nonces: Sequence[int]
    max_ejected_nonce: int
    def __init__(
        self,
        *,
        timestamp_nonces: Iterable[int] | None = ...,
        max_ejected_nonce: int | None = ...,
    ) -> None: ...

class AccountState(Message):
    address: str
    @property
    def timestamp_nonce_details(self) -> TimestampNonceDetails: ...
    def __init__(
        self,
        *,
        address: str | None = ...,
        timestamp_nonce_details: TimestampNonceDetails | None = ...,
    ) -> None: ...

class AccountStateRequest(Message):
    address: str
    def __init__(
        self,
        *,
        address: str | None = ...,
    ) -> None: ...

class AccountStateResponse(Message):
    @property
    def account_state(self) -> AccountState: ...
    def __init__(
        self,
        *,
        account_state: AccountState | None = ...,
    ) -> None: ...

class MsgAddAuthenticator(Message):
    sender: str
    authenticator_type: str
    data: bytes
    def __init__(
        self,
        *,
        sender: str | None = ...,
        authenticator_type: str | None = ...,
        data: bytes | None = ...,
    ) -> None: ...

class MsgRemoveAuthenticator(Message):
    sender: str
    id: int
    def __init__(
        self,
        *,
        sender: str | None = ...,
        id: int | None = ...,
    ) -> None: ...

class Timestamp(Message):
    seconds: int
    nanos: int
    def __init__(
        self,
        *,
        seconds: int | None = ...,
        nanos: int | None = ...,
    ) -> None: ...

class BlockInfo(Message):
    height: int
    @property
    def timestamp(self) -> Timestamp: ...
    def __init__(
        self,
        *,
        height: int | None = ...,
        timestamp: Timestamp | None = ...,
    ) -> None: ...

class QueryPreviousBlockInfoRequest(Message):
    def __init__(
        self,
    ) -> None: ...

class QueryPreviousBlockInfoResponse(Message):
    @property
    def info(self) -> BlockInfo: ...
    def __init__(
        self,
        *,
        info: BlockInfo | None = ...,
    ) -> None: ...

class PageRequest(Message):
    key: bytes
    offset: int
    limit: int
    count_total: bool
    reverse: bool
    def __init__(
        self,
        *,
        key: bytes | None = ...,
        offset: int | None = ...,
        limit: int | None = ...,
        count_total: bool | None = ...,
        reverse: bool | None = ...,
    ) -> None: ...

class PageResponse(Message):
    next_key: bytes
    total: int
    def __init__(
        self,
        *,
        next_key: bytes | None = ...,
        total: int | None = ...,
    ) -> None: ...

class SubaccountId(Message):
    owner: str
    number: int
    def __init__(
        self,
        *,
        owner: str | None = ...,
        number: int | None = ...,
    ) -> None: ...

class AssetPosition(Message):
    asset_id: int
    quantums: bytes
    index: int
    def __init__(
        self,
        *,
        asset_id: int | None = ...,
        quantums: bytes | None = ...,
        index: int | None = ...,
    ) -> None: ...

class PerpetualPosition(Message):
    perpetual_id: int
    quantums: bytes
    funding_index: bytes
    quote_balance: bytes
    def __init__(
        self,
        *,
        perpetual_id: int | None = ...,
        quantums: bytes | None = ...,
        funding_index: bytes | None = ...,
        quote_balance: bytes | None = ...,
    ) -> None: ...

class Subaccount(Message):
    @property
    def id(self) -> SubaccountId: ...
    asset_positions: Sequence[AssetPosition]
    perpetual_positions: Sequence[PerpetualPosition]
    margin_enabled: bool
    def __init__(
        self,
        *,
        id: SubaccountId | None = ...,
        asset_positions: Iterable[AssetPosition] | None = ...,
        perpetual_positions: Iterable[PerpetualPosition] | None = ...,
        margin_enabled: bool | None = ...,
    ) -> None: ...

class QueryGetSubaccountRequest(Message):
    owner: str
    number: int
    def __init__(
        self,
        *,
        owner: str | None = ...,
        number: int | None = ...,
    ) -> None: ...

class QuerySubaccountResponse(Message):
    @property
    def subaccount(self) -> Subaccount: ...
    def __init__(
        self,
        *,
        subaccount: Subaccount | None = ...,
    ) -> None: ...

class QueryAllSubaccountRequest(Message):
    @property
    def pagination(self) -> PageRequest: ...
    def __init__(
        self,
        *,
        pagination: PageRequest | None = ...,
    ) -> None: ...

class QuerySubaccountAllResponse(Message):
    subaccount: Sequence[Subaccount]
    @property
    def pagination(self) -> PageResponse: ...
    def __init__(
        self,
        *,
        subaccount: Iterable[Subaccount] | None = ...,
        pagination: PageResponse | None = ...,
    ) -> None: ...

class OrderId(Message):
    @property
    def subaccount_id(self) -> SubaccountId: ...
    client_id: int
    order_flags: int
    clob_pair_id: int
    def __init__(
        self,
        *,
        subaccount_id: SubaccountId | None = ...,
        client_id: int | None = ...,
        order_flags: int | None = ...,
        clob_pair_id: int | None = ...,
    ) -> None: ...

class Order(Message):
    @property
    def order_id(self) -> OrderId: ...
    side: int
    quantums: int
    subticks: int
    good_til_block: int
    good_til_block_time: int
    time_in_force: int
    reduce_only: bool
    client_metadata: int
    condition_type: int
    conditional_order_trigger_subticks: int
    @property
    def twap_parameters(self) -> TwapParameters: ...
    @property
    def builder_code_parameters(self) -> BuilderCodeParameters: ...
    order_router_address: str
    def __init__(
        self,
        *,
        order_id: OrderId | None = ...,
        side: int | None = ...,
        quantums: int | None = ...,
        subticks: int | None = ...,
        good_til_block: int | None = ...,
        good_til_block_time: int | None = ...,
        time_in_force: int | None = ...,
        reduce_only: bool | None = ...,
        client_metadata: int | None = ...,
        condition_type: int | None = ...,
        conditional_order_trigger_subticks: int | None = ...,
        twap_parameters: TwapParameters | None = ...,
        builder_code_parameters: BuilderCodeParameters | None = ...,
        order_router_address: str | None = ...,
    ) -> None: ...

class TwapParameters(Message):
    duration: int
    interval: int
    price_tolerance: int
    def __init__(
        self,
        *,
        duration: int | None = ...,
        interval: int | None = ...,
        price_tolerance: int | None = ...,
    ) -> None: ...

class BuilderCodeParameters(Message):
    builder_address: str
    fee_ppm: int
    def __init__(
        self,
        *,
        builder_address: str | None = ...,
        fee_ppm: int | None = ...,
    ) -> None: ...

class MsgPlaceOrder(Message):
    @property
    def order(self) -> Order: ...
    def __init__(
        self,
        *,
        order: Order | None = ...,
    ) -> None: ...

class MsgCancelOrder(Message):
    @property
    def order_id(self) -> OrderId: ...
    good_til_block: int
    good_til_block_time: int
    def __init__(
        self,
        *,
        order_id: OrderId | None = ...,
        good_til_block: int | None = ...,
        good_til_block_time: int | None = ...,
    ) -> None: ...

class OrderBatch(Message):
    clob_pair_id: int
    client_ids: Sequence[int]
    def __init__(
        self,
        *,
        clob_pair_id: int | None = ...,
        client_ids: Iterable[int] | None = ...,
    ) -> None: ...

class MsgBatchCancel(Message):
    @property
    def subaccount_id(self) -> SubaccountId: ...
    short_term_cancels: Sequence[OrderBatch]
    good_til_block: int
    def __init__(
        self,
        *,
        subaccount_id: SubaccountId | None = ...,
        short_term_cancels: Iterable[OrderBatch] | None = ...,
        good_til_block: int | None = ...,
    ) -> None: ...

class PerpetualClobMetadata(Message):
    perpetual_id: int
    def __init__(
        self,
        *,
        perpetual_id: int | None = ...,
    ) -> None: ...

class ClobPair(Message):
    id: int
    @property
    def perpetual_clob_metadata(self) -> PerpetualClobMetadata: ...
    step_base_quantums: int
    subticks_per_tick: int
    quantum_conversion_exponent: int
    status: int
    def __init__(
        self,
        *,
        id: int | None = ...,
        perpetual_clob_metadata: PerpetualClobMetadata | None = ...,
        step_base_quantums: int | None = ...,
        subticks_per_tick: int | None = ...,
        quantum_conversion_exponent: int | None = ...,
        status: int | None = ...,
    ) -> None: ...

class QueryGetClobPairRequest(Message):
    id: int
    def __init__(
        self,
        *,
        id: int | None = ...,
    ) -> None: ...

class QueryClobPairResponse(Message):
    @property
    def clob_pair(self) -> ClobPair: ...
    def __init__(
        self,
        *,
        clob_pair: ClobPair | None = ...,
    ) -> None: ...

class QueryAllClobPairRequest(Message):
    @property
    def pagination(self) -> PageRequest: ...
    def __init__(
        self,
        *,
        pagination: PageRequest | None = ...,
    ) -> None: ...

class QueryClobPairAllResponse(Message):
    clob_pair: Sequence[ClobPair]
    @property
    def pagination(self) -> PageResponse: ...
    def __init__(
        self,
        *,
        clob_pair: Iterable[ClobPair] | None = ...,
        pagination: PageResponse | None = ...,
    ) -> None: ...

class EquityTierLimit(Message):
    usd_tnc_required: bytes
    limit: int
    def __init__(
        self,
        *,
        usd_tnc_required: bytes | None = ...,
        limit: int | None = ...,
    ) -> None: ...

class EquityTierLimitConfiguration(Message):
    short_term_order_equity_tiers: Sequence[EquityTierLimit]
    stateful_order_equity_tiers: Sequence[EquityTierLimit]
    def __init__(
        self,
        *,
        short_term_order_equity_tiers: Iterable[EquityTierLimit] | None = ...,
        stateful_order_equity_tiers: Iterable[EquityTierLimit] | None = ...,
    ) -> None: ...

class QueryEquityTierLimitConfigurationRequest(Message):
    def __init__(
        self,
    ) -> None: ...

class QueryEquityTierLimitConfigurationResponse(Message):
    @property
    def equity_tier_limit_config(self) -> EquityTierLimitConfiguration: ...
    def __init__(
        self,
        *,
        equity_tier_limit_config: EquityTierLimitConfiguration | None = ...,
    ) -> None: ...

class MaxPerNBlocksRateLimit(Message):
    num_blocks: int
    limit: int
    def __init__(
        self,
        *,
        num_blocks: int | None = ...,
        limit: int | None = ...,
    ) -> None: ...

class BlockRateLimitConfiguration(Message):
    max_stateful_orders_per_n_blocks: Sequence[MaxPerNBlocksRateLimit]
    max_short_term_orders_and_cancels_per_n_blocks: Sequence[MaxPerNBlocksRateLimit]
    def __init__(
        self,
        *,
        max_stateful_orders_per_n_blocks: Iterable[MaxPerNBlocksRateLimit] | None = ...,
        max_short_term_orders_and_cancels_per_n_blocks: Iterable[MaxPerNBlocksRateLimit] | None = ...,
    ) -> None: ...

class QueryBlockRateLimitConfigurationRequest(Message):
    def __init__(
        self,
    ) -> None: ...

class QueryBlockRateLimitConfigurationResponse(Message):
    @property
    def block_rate_limit_config(self) -> BlockRateLimitConfiguration: ...
    def __init__(
        self,
        *,
        block_rate_limit_config: BlockRateLimitConfiguration | None = ...,
    ) -> None: ...

class LongTermOrderPlacement(Message):
    @property
    def order(self) -> Order: ...
    def __init__(
        self,
        *,
        order: Order | None = ...,
    ) -> None: ...

class QueryStatefulOrderRequest(Message):
    @property
    def order_id(self) -> OrderId: ...
    def __init__(
        self,
        *,
        order_id: OrderId | None = ...,
    ) -> None: ...

class QueryStatefulOrderResponse(Message):
    @property
    def order_placement(self) -> LongTermOrderPlacement: ...
    fill_amount: int
    triggered: bool
    def __init__(
        self,
        *,
        order_placement: LongTermOrderPlacement | None = ...,
        fill_amount: int | None = ...,
        triggered: bool | None = ...,
    ) -> None: ...

class Any(Message):
    type_url: str
    value: bytes
    def __init__(
        self,
        *,
        type_url: str | None = ...,
        value: bytes | None = ...,
    ) -> None: ...

class TxResponse(Message):
    height: int
    txhash: str
    codespace: str
    code: int
    data: str
    raw_log: str
    info: str
    gas_wanted: int
    gas_used: int
    @property
    def tx(self) -> Any: ...
    timestamp: str
    def __init__(
        self,
        *,
        height: int | None = ...,
        txhash: str | None = ...,
        codespace: str | None = ...,
        code: int | None = ...,
        data: str | None = ...,
        raw_log: str | None = ...,
        info: str | None = ...,
        gas_wanted: int | None = ...,
        gas_used: int | None = ...,
        tx: Any | None = ...,
        timestamp: str | None = ...,
    ) -> None: ...

class GasInfo(Message):
    gas_wanted: int
    gas_used: int
    def __init__(
        self,
        *,
        gas_wanted: int | None = ...,
        gas_used: int | None = ...,
    ) -> None: ...

class Result(Message):
    data: bytes
    log: str
    def __init__(
        self,
        *,
        data: bytes | None = ...,
        log: str | None = ...,
    ) -> None: ...

class BaseAccount(Message):
    address: str
    @property
    def pub_key(self) -> Any: ...
    account_number: int
    sequence: int
    def __init__(
        self,
        *,
        address: str | None = ...,
        pub_key: Any | None = ...,
        account_number: int | None = ...,
        sequence: int | None = ...,
    ) -> None: ...

class QueryAccountRequest(Message):
    address: str
    def __init__(
        self,
        *,
        address: str | None = ...,
    ) -> None: ...

class QueryAccountResponse(Message):
    @property
    def account(self) -> Any: ...
    def __init__(
        self,
        *,
        account: Any | None = ...,
    ) -> None: ...

class Coin(Message):
    denom: str
    amount: str
    def __init__(
        self,
        *,
        denom: str | None = ...,
        amount: str | None = ...,
    ) -> None: ...

class QueryBalanceRequest(Message):
    address: str
    denom: str
    def __init__(
        self,
        *,
        address: str | None = ...,
        denom: str | None = ...,
    ) -> None: ...

class QueryBalanceResponse(Message):
    @property
    def balance(self) -> Coin: ...
    def __init__(
        self,
        *,
        balance: Coin | None = ...,
    ) -> None: ...

class QueryAllBalancesRequest(Message):
    address: str
    @property
    def pagination(self) -> PageRequest: ...
    def __init__(
        self,
        *,
        address: str | None = ...,
        pagination: PageRequest | None = ...,
    ) -> None: ...

class QueryAllBalancesResponse(Message):
    balances: Sequence[Coin]
    @property
    def pagination(self) -> PageResponse: ...
    def __init__(
        self,
        *,
        balances: Iterable[Coin] | None = ...,
        pagination: PageResponse | None = ...,
    ) -> None: ...

class PubKey(Message):
    key: bytes
    def __init__(
        self,
        *,
        key: bytes | None = ...,
    ) -> None: ...

class BlockID(Message):
    hash: bytes
    def __init__(
        self,
        *,
        hash: bytes | None = ...,
    ) -> None: ...

class Header(Message):
    chain_id: str
    height: int
    @property
    def time(self) -> Timestamp: ...
    proposer_address: bytes
    def __init__(
        self,
        *,
        chain_id: str | None = ...,
        height: int | None = ...,
        time: Timestamp | None = ...,
        proposer_address: bytes | None = ...,
    ) -> None: ...

class Block(Message):
    @property
    def header(self) -> Header: ...
    def __init__(
        self,
        *,
        header: Header | None = ...,
    ) -> None: ...

class GetLatestBlockRequest(Message):
    def __init__(
        self,
    ) -> None: ...

class GetLatestBlockResponse(Message):
    @property
    def block_id(self) -> BlockID: ...
    @property
    def block(self) -> Block: ...
    @property
    def sdk_block(self) -> SdkBlock: ...
    def __init__(
        self,
        *,
        block_id: BlockID | None = ...,
        block: Block | None = ...,
        sdk_block: SdkBlock | None = ...,
    ) -> None: ...

class SdkHeader(Message):
    chain_id: str
    height: int
    @property
    def time(self) -> Timestamp: ...
    proposer_address: str
    def __init__(
        self,
        *,
        chain_id: str | None = ...,
        height: int | None = ...,
        time: Timestamp | None = ...,
        proposer_address: str | None = ...,
    ) -> None: ...

class SdkBlock(Message):
    @property
    def header(self) -> SdkHeader: ...
    def __init__(
        self,
        *,
        header: SdkHeader | None = ...,
    ) -> None: ...

class GetSyncingRequest(Message):
    def __init__(
        self,
    ) -> None: ...

class GetSyncingResponse(Message):
    syncing: bool
    def __init__(
        self,
        *,
        syncing: bool | None = ...,
    ) -> None: ...

class GetNodeInfoRequest(Message):
    def __init__(
        self,
    ) -> None: ...

class NodeInfo(Message):
    network: str
    version: str
    moniker: str
    def __init__(
        self,
        *,
        network: str | None = ...,
        version: str | None = ...,
        moniker: str | None = ...,
    ) -> None: ...

class VersionInfo(Message):
    name: str
    app_name: str
    version: str
    def __init__(
        self,
        *,
        name: str | None = ...,
        app_name: str | None = ...,
        version: str | None = ...,
    ) -> None: ...

class GetNodeInfoResponse(Message):
    @property
    def default_node_info(self) -> NodeInfo: ...
    @property
    def application_version(self) -> VersionInfo: ...
    def __init__(
        self,
        *,
        default_node_info: NodeInfo | None = ...,
        application_version: VersionInfo | None = ...,
    ) -> None: ...

class Tx(Message):
    @property
    def body(self) -> TxBody: ...
    @property
    def auth_info(self) -> AuthInfo: ...
    signatures: Sequence[bytes]
    def __init__(
        self,
        *,
        body: TxBody | None = ...,
        auth_info: AuthInfo | None = ...,
        signatures: Iterable[bytes] | None = ...,
    ) -> None: ...

class TxRaw(Message):
    body_bytes: bytes
    auth_info_bytes: bytes
    signatures: Sequence[bytes]
    def __init__(
        self,
        *,
        body_bytes: bytes | None = ...,
        auth_info_bytes: bytes | None = ...,
        signatures: Iterable[bytes] | None = ...,
    ) -> None: ...

class SignDoc(Message):
    body_bytes: bytes
    auth_info_bytes: bytes
    chain_id: str
    account_number: int
    def __init__(
        self,
        *,
        body_bytes: bytes | None = ...,
        auth_info_bytes: bytes | None = ...,
        chain_id: str | None = ...,
        account_number: int | None = ...,
    ) -> None: ...

class TxBody(Message):
    messages: Sequence[Any]
    memo: str
    timeout_height: int
    extension_options: Sequence[Any]
    non_critical_extension_options: Sequence[Any]
    def __init__(
        self,
        *,
        messages: Iterable[Any] | None = ...,
        memo: str | None = ...,
        timeout_height: int | None = ...,
        extension_options: Iterable[Any] | None = ...,
        non_critical_extension_options: Iterable[Any] | None = ...,
    ) -> None: ...

class AuthInfo(Message):
    signer_infos: Sequence[SignerInfo]
    @property
    def fee(self) -> Fee: ...
    def __init__(
        self,
        *,
        signer_infos: Iterable[SignerInfo] | None = ...,
        fee: Fee | None = ...,
    ) -> None: ...

class SignerInfo(Message):
    @property
    def public_key(self) -> Any: ...
    @property
    def mode_info(self) -> ModeInfo: ...
    sequence: int
    def __init__(
        self,
        *,
        public_key: Any | None = ...,
        mode_info: ModeInfo | None = ...,
        sequence: int | None = ...,
    ) -> None: ...

class ModeInfoSingle(Message):
    mode: int
    def __init__(
        self,
        *,
        mode: int | None = ...,
    ) -> None: ...

class ModeInfo(Message):
    @property
    def single(self) -> ModeInfoSingle: ...
    def __init__(
        self,
        *,
        single: ModeInfoSingle | None = ...,
    ) -> None: ...

class Fee(Message):
    amount: Sequence[Coin]
    gas_limit: int
    payer: str
    granter: str
    def __init__(
        self,
        *,
        amount: Iterable[Coin] | None = ...,
        gas_limit: int | None = ...,
        payer: str | None = ...,
        granter: str | None = ...,
    ) -> None: ...

class BroadcastTxRequest(Message):
    tx_bytes: bytes
    mode: int
    def __init__(
        self,
        *,
        tx_bytes: bytes | None = ...,
        mode: int | None = ...,
    ) -> None: ...

class BroadcastTxResponse(Message):
    @property
    def tx_response(self) -> TxResponse: ...
    def __init__(
        self,
        *,
        tx_response: TxResponse | None = ...,
    ) -> None: ...

class SimulateRequest(Message):
    @property
    def tx(self) -> Tx: ...
    tx_bytes: bytes
    def __init__(
        self,
        *,
        tx: Tx | None = ...,
        tx_bytes: bytes | None = ...,
    ) -> None: ...

class SimulateResponse(Message):
    @property
    def gas_info(self) -> GasInfo: ...
    @property
    def result(self) -> Result: ...
    def __init__(
        self,
        *,
        gas_info: GasInfo | None = ...,
        result: Result | None = ...,
    ) -> None: ...

class GetTxRequest(Message):
    hash: str
    def __init__(
        self,
        *,
        hash: str | None = ...,
    ) -> None: ...

class GetTxResponse(Message):
    @property
    def tx(self) -> Tx: ...
    @property
    def tx_response(self) -> TxResponse: ...
    def __init__(
        self,
        *,
        tx: Tx | None = ...,
        tx_response: TxResponse | None = ...,
    ) -> None: ...

class PerpetualFeeTier(Message):
    name: str
    absolute_volume_requirement: int
    total_volume_share_requirement_ppm: int
    maker_volume_share_requirement_ppm: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    def __init__(
        self,
        *,
        name: str | None = ...,
        absolute_volume_requirement: int | None = ...,
        total_volume_share_requirement_ppm: int | None = ...,
        maker_volume_share_requirement_ppm: int | None = ...,
        maker_fee_ppm: int | None = ...,
        taker_fee_ppm: int | None = ...,
    ) -> None: ...

class PerpetualFeeParams(Message):
    tiers: Sequence[PerpetualFeeTier]
    def __init__(
        self,
        *,
        tiers: Iterable[PerpetualFeeTier] | None = ...,
    ) -> None: ...

class QueryPerpetualFeeParamsRequest(Message):
    def __init__(
        self,
    ) -> None: ...

class QueryPerpetualFeeParamsResponse(Message):
    @property
    def params(self) -> PerpetualFeeParams: ...
    def __init__(
        self,
        *,
        params: PerpetualFeeParams | None = ...,
    ) -> None: ...

class QueryUserFeeTierRequest(Message):
    user: str
    def __init__(
        self,
        *,
        user: str | None = ...,
    ) -> None: ...

class QueryUserFeeTierResponse(Message):
    index: int
    @property
    def tier(self) -> PerpetualFeeTier: ...
    def __init__(
        self,
        *,
        index: int | None = ...,
        tier: PerpetualFeeTier | None = ...,
    ) -> None: ...

class PerpetualParams(Message):
    id: int
    ticker: str
    market_id: int
    atomic_resolution: int
    default_funding_ppm: int
    liquidity_tier: int
    market_type: int
    def __init__(
        self,
        *,
        id: int | None = ...,
        ticker: str | None = ...,
        market_id: int | None = ...,
        atomic_resolution: int | None = ...,
        default_funding_ppm: int | None = ...,
        liquidity_tier: int | None = ...,
        market_type: int | None = ...,
    ) -> None: ...

class Perpetual(Message):
    @property
    def params(self) -> PerpetualParams: ...
    funding_index: bytes
    open_interest: bytes
    def __init__(
        self,
        *,
        params: PerpetualParams | None = ...,
        funding_index: bytes | None = ...,
        open_interest: bytes | None = ...,
    ) -> None: ...

class QueryPerpetualRequest(Message):
    id: int
    def __init__(
        self,
        *,
        id: int | None = ...,
    ) -> None: ...

class QueryPerpetualResponse(Message):
    @property
    def perpetual(self) -> Perpetual: ...
    def __init__(
        self,
        *,
        perpetual: Perpetual | None = ...,
    ) -> None: ...

class QueryAllPerpetualsRequest(Message):
    @property
    def pagination(self) -> PageRequest: ...
    def __init__(
        self,
        *,
        pagination: PageRequest | None = ...,
    ) -> None: ...

class QueryAllPerpetualsResponse(Message):
    perpetual: Sequence[Perpetual]
    @property
    def pagination(self) -> PageResponse: ...
    def __init__(
        self,
        *,
        perpetual: Iterable[Perpetual] | None = ...,
        pagination: PageResponse | None = ...,
    ) -> None: ...

class MarketPrice(Message):
    id: int
    exponent: int
    price: int
    def __init__(
        self,
        *,
        id: int | None = ...,
        exponent: int | None = ...,
        price: int | None = ...,
    ) -> None: ...

class QueryMarketPriceRequest(Message):
    id: int
    def __init__(
        self,
        *,
        id: int | None = ...,
    ) -> None: ...

class QueryMarketPriceResponse(Message):
    @property
    def market_price(self) -> MarketPrice: ...
    def __init__(
        self,
        *,
        market_price: MarketPrice | None = ...,
    ) -> None: ...

class QueryAllMarketPricesRequest(Message):
    @property
    def pagination(self) -> PageRequest: ...
    def __init__(
        self,
        *,
        pagination: PageRequest | None = ...,
    ) -> None: ...

class QueryAllMarketPricesResponse(Message):
    market_prices: Sequence[MarketPrice]
    @property
    def pagination(self) -> PageResponse: ...
    def __init__(
        self,
        *,
        market_prices: Iterable[MarketPrice] | None = ...,
        pagination: PageResponse | None = ...,
    ) -> None: ...

class MsgDepositToSubaccount(Message):
    sender: str
    @property
    def recipient(self) -> SubaccountId: ...
    asset_id: int
    quantums: int
    def __init__(
        self,
        *,
        sender: str | None = ...,
        recipient: SubaccountId | None = ...,
        asset_id: int | None = ...,
        quantums: int | None = ...,
    ) -> None: ...

class MsgWithdrawFromSubaccount(Message):
    recipient: str
    @property
    def sender(self) -> SubaccountId: ...
    asset_id: int
    quantums: int
    def __init__(
        self,
        *,
        recipient: str | None = ...,
        sender: SubaccountId | None = ...,
        asset_id: int | None = ...,
        quantums: int | None = ...,
    ) -> None: ...

class Transfer(Message):
    @property
    def sender(self) -> SubaccountId: ...
    @property
    def recipient(self) -> SubaccountId: ...
    asset_id: int
    amount: int
    def __init__(
        self,
        *,
        sender: SubaccountId | None = ...,
        recipient: SubaccountId | None = ...,
        asset_id: int | None = ...,
        amount: int | None = ...,
    ) -> None: ...

class MsgCreateTransfer(Message):
    @property
    def transfer(self) -> Transfer: ...
    def __init__(
        self,
        *,
        transfer: Transfer | None = ...,
    ) -> None: ...
