"""From bytes to a transaction, and what can be said of it without knowing the chain. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from tradegw_dydx.localnet.terms import (
    BatchCancel,
    Cancel,
    Flags,
    Order,
    OrderId,
    SubaccountId,
    TimeInForce,
    refuse,
)
from tradegw_dydx.wire import messages as wire

__all__ = [
    "AddAuthenticator",
    "ChainMessage",
    "MoveFunds",
    "RemoveAuthenticator",
    "Tx",
    "check_basics",
    "decode",
    "hash_of",
    "order_id_of",
]

MEMO_MAX: Final = 256
SUBACCOUNT_MAX: Final = 128_000
BATCH_MAX: Final = 100
_KINDS: Final = (Flags.SHORT_TERM, Flags.CONDITIONAL, Flags.LONG_TERM, Flags.TWAP)
_EXTENSION: Final = "/dydxprotocol.accountplus.TxExtension"
MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveFunds:
    """Collateral that goes from one place to another; None is the bank account of `owner`."""

    owner: str
    sender: SubaccountId | None
    recipient: SubaccountId | str
    asset_id: int
    quantums: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAuthenticator:
    """An account lets another key sign for it."""

    owner: str
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAuthenticator:
    """An account takes such a permission back."""

    owner: str
    authenticator_id: int


ChainMessage = Order | Cancel | BatchCancel | MoveFunds | AddAuthenticator | RemoveAuthenticator


@dataclass(frozen=True, slots=True, kw_only=True)
class Tx:
    """A transaction, read.

    Attributes:
        messages: Each with its type's name.
        signer: Who must sign: the owner of all messages.
        sign_bytes: What is signed, but for chain and account number.
        authenticators: One for each message; empty where the owner's own key signs.
    """

    hash: str
    size: int
    body_bytes: bytes
    auth_info_bytes: bytes
    messages: tuple[tuple[str, ChainMessage], ...]
    signer: str
    sequence: int
    public_key: bytes
    signatures: tuple[bytes, ...]
    authenticators: tuple[int, ...]
    memo: str
    timeout_height: int
    gas_limit: int
    fee: tuple[tuple[str, int], ...]

    @property
    def is_short_term(self) -> bool:
        """Tell whether it never becomes part of a block: sequence and nonce mean nothing then."""
        return all(_is_short_term(message) for _, message in self.messages)

    @property
    def is_clob(self) -> bool:
        """Tell whether it pays no gas."""
        return any(
            isinstance(message, Order | Cancel | BatchCancel) for _, message in self.messages
        )


def hash_of(tx_bytes: bytes) -> str:
    """Return a transaction's name."""
    return hashlib.sha256(tx_bytes).hexdigest().upper()


def _is_short_term(message: ChainMessage) -> bool:
    match message:
        case Order() | Cancel():
            return message.order_id.is_short_term
        case BatchCancel():
            return True
        case _:
            return False


# The door, the network and each node read the same bytes.
@lru_cache(maxsize=256)
def decode(tx_bytes: bytes) -> Tx:
    """Read a transaction.

    Raises:
        Refused: It cannot be read, or its messages do not go together.
    """
    raw = _parse(wire.TxRaw, tx_bytes)
    raw.DiscardUnknownFields()
    if raw.SerializeToString(deterministic=True) != tx_bytes:
        # Its frame is signed by nobody: only one encoding is taken, so that nobody can give a transaction
        # another name.
        raise refuse("sdk", 2, "non-canonical or unknown fields: tx parse error")
    body = _parse(wire.TxBody, raw.body_bytes)
    auth = _parse(wire.AuthInfo, raw.auth_info_bytes)
    if body.extension_options:
        raise refuse("sdk", 31, "unknown extension options")
    if not body.messages:
        raise refuse("sdk", 18, "must contain at least one message: invalid request")
    messages = tuple((item.type_url, _message(item)) for item in body.messages)
    owners = {_owner(message) for _, message in messages}
    if len(owners) != 1 or len(raw.signatures) != 1 or len(auth.signer_infos) != 1:
        raise refuse("sdk", 4, "exactly one signer and one signature are expected: unauthorized")
    info = auth.signer_infos[0]
    if info.mode_info.single.mode != 1:
        raise refuse("sdk", 4, "only SIGN_MODE_DIRECT is supported: unauthorized")
    key = _parse(wire.PubKey, info.public_key.value).key if info.public_key.value else b""
    return Tx(
        hash=hash_of(tx_bytes),
        size=len(tx_bytes),
        body_bytes=raw.body_bytes,
        auth_info_bytes=raw.auth_info_bytes,
        messages=messages,
        signer=owners.pop(),
        sequence=info.sequence,
        public_key=key,
        signatures=tuple(raw.signatures),
        authenticators=_extension(body),
        memo=body.memo,
        timeout_height=body.timeout_height,
        gas_limit=auth.fee.gas_limit,
        fee=tuple((coin.denom, _amount(coin.amount)) for coin in auth.fee.amount),
    )


def _parse(kind: type[MessageT], data: bytes) -> MessageT:
    try:
        return kind.FromString(data)
    except DecodeError as e:
        raise refuse("sdk", 2, f"{e}: tx parse error") from e


def _amount(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise refuse("sdk", 2, f"invalid amount of a coin {text[:40]!r}: tx parse error")
    return int(text)


def _extension(body: wire.TxBody) -> tuple[int, ...]:
    for option in body.non_critical_extension_options:
        if option.type_url == _EXTENSION:
            return tuple(_parse(wire.TxExtension, option.value).selected_authenticators)
    return ()


def _owner(message: ChainMessage) -> str:
    match message:
        case Order() | Cancel():
            return message.order_id.subaccount.owner
        case BatchCancel():
            return message.subaccount.owner
        case _:
            return message.owner


def order_id_of(told: wire.OrderId) -> OrderId:
    """Read the identity of an order."""
    return OrderId(
        _subaccount(told.subaccount_id), told.client_id, told.order_flags, told.clob_pair_id
    )


def _subaccount(told: wire.SubaccountId) -> SubaccountId:
    return SubaccountId(told.owner, told.number)


def _message(item: wire.Any) -> ChainMessage:
    value = item.value
    match item.type_url:
        case "/dydxprotocol.clob.MsgPlaceOrder":
            return _order(_parse(wire.MsgPlaceOrder, value).order)
        case "/dydxprotocol.clob.MsgCancelOrder":
            cancel = _parse(wire.MsgCancelOrder, value)
            return Cancel(
                order_id=order_id_of(cancel.order_id),
                good_til_block=cancel.good_til_block,
                good_til_block_time=cancel.good_til_block_time,
            )
        case "/dydxprotocol.clob.MsgBatchCancel":
            batch = _parse(wire.MsgBatchCancel, value)
            return BatchCancel(
                subaccount=_subaccount(batch.subaccount_id),
                batches=tuple(
                    (part.clob_pair_id, tuple(part.client_ids)) for part in batch.short_term_cancels
                ),
                good_til_block=batch.good_til_block,
            )
        case "/dydxprotocol.sending.MsgDepositToSubaccount":
            deposit = _parse(wire.MsgDepositToSubaccount, value)
            return MoveFunds(
                owner=deposit.sender,
                sender=None,
                recipient=_subaccount(deposit.recipient),
                asset_id=deposit.asset_id,
                quantums=deposit.quantums,
            )
        case "/dydxprotocol.sending.MsgWithdrawFromSubaccount":
            withdrawal = _parse(wire.MsgWithdrawFromSubaccount, value)
            return MoveFunds(
                owner=withdrawal.sender.owner,
                sender=_subaccount(withdrawal.sender),
                recipient=withdrawal.recipient,
                asset_id=withdrawal.asset_id,
                quantums=withdrawal.quantums,
            )
        case "/dydxprotocol.sending.MsgCreateTransfer":
            transfer = _parse(wire.MsgCreateTransfer, value).transfer
            return MoveFunds(
                owner=transfer.sender.owner,
                sender=_subaccount(transfer.sender),
                recipient=_subaccount(transfer.recipient),
                asset_id=transfer.asset_id,
                quantums=transfer.amount,
            )
        case "/dydxprotocol.accountplus.MsgAddAuthenticator":
            added = _parse(wire.MsgAddAuthenticator, value)
            return AddAuthenticator(
                owner=added.sender, kind=added.authenticator_type, data=added.data
            )
        case "/dydxprotocol.accountplus.MsgRemoveAuthenticator":
            removed = _parse(wire.MsgRemoveAuthenticator, value)
            return RemoveAuthenticator(owner=removed.sender, authenticator_id=removed.id)
        case unknown:
            raise refuse("sdk", 2, f"unable to resolve type URL {unknown[:200]}: tx parse error")


def _order(told: wire.Order) -> Order:
    return Order(
        order_id=order_id_of(told.order_id),
        side=told.side,
        quantums=told.quantums,
        subticks=told.subticks,
        good_til_block=told.good_til_block,
        good_til_block_time=told.good_til_block_time,
        time_in_force=told.time_in_force,
        reduce_only=told.reduce_only,
        client_metadata=told.client_metadata,
        condition_type=told.condition_type,
        trigger_subticks=told.conditional_order_trigger_subticks,
        digest=hashlib.sha256(told.SerializeToString(deterministic=True)).digest(),
    )


# --- what needs no state --------------------------------------------------------------------------


def check_basics(tx: Tx) -> None:
    """Refuse what no state of the chain could make right.

    Raises:
        Refused: With the chain's code.
    """
    if len(tx.memo) > MEMO_MAX:
        raise refuse(
            "sdk",
            12,
            f"maximum number of characters is {MEMO_MAX} but received {len(tx.memo)} characters: "
            "memo too large",
        )
    messages = [message for _, message in tx.messages]
    if len(messages) > 1:
        if any(_is_short_term(message) for message in messages):
            raise refuse(
                "sdk",
                18,
                "a transaction containing MsgCancelOrder or MsgPlaceOrder or MsgBatchCancel may not "
                "contain more than one message: invalid request",
            )
        transfers = [m for m in messages if isinstance(m, MoveFunds)]
        others = [m for m in messages if not isinstance(m, Order | Cancel | MoveFunds)]
        if tx.is_clob and (others or len(transfers) > 1):
            raise refuse("sdk", 18, "messages that do not go together: invalid request")
    for message in messages:
        match message:
            case Order():
                _check_order(message)
                end = message.good_til_block
                if tx.timeout_height and message.order_id.is_short_term and tx.timeout_height < end:
                    raise refuse(
                        "sdk", 18, "timeout height is below the goodTilBlock: invalid request"
                    )
            case Cancel():
                _check_order_id(message.order_id)
                if message.order_id.is_short_term and not message.good_til_block:
                    raise refuse("clob", 5, "cancellation goodTilBlock cannot be 0")
                if not message.order_id.is_short_term and not message.good_til_block_time:
                    raise refuse("clob", 3001, "cancellation goodTilBlockTime cannot be 0")
            case BatchCancel():
                _check_batch(message)
            case _:
                pass


def _check_order_id(order_id: OrderId) -> None:
    if order_id.subaccount.number > SUBACCOUNT_MAX:
        raise refuse("subaccounts", 200, f"subaccount number is at most {SUBACCOUNT_MAX}")
    if not order_id.subaccount.owner.startswith("dydx1"):
        raise refuse("subaccounts", 201, "owner is not a bech32 address")
    if order_id.flags not in _KINDS:
        raise refuse("clob", 3000, f"invalid order flag {order_id.flags}")


def _check_order(order: Order) -> None:
    order_id = order.order_id
    _check_order_id(order_id)
    if order.side not in (1, 2):
        raise refuse("clob", 3, f"invalid order side {order.side}")
    if order.quantums == 0:
        raise refuse("clob", 4, "order size quantums cannot be 0")
    if order_id.is_short_term and not order.good_til_block:
        raise refuse("clob", 5, "order goodTilBlock cannot be 0")
    if not order_id.is_short_term and not order.good_til_block_time:
        raise refuse("clob", 3001, "stateful order goodTilBlockTime cannot be 0")
    if order.time_in_force == TimeInForce.FILL_OR_KILL:
        raise refuse("clob", 48, "fill-or-kill has been deprecated and will be removed")
    if order.time_in_force not in (0, 1, 2):
        raise refuse("clob", 44, f"invalid time in force {order.time_in_force}")
    if order_id.flags == Flags.TWAP:
        raise refuse("clob", 9000, "TWAP orders are not implemented here")
    if order.subticks == 0:
        raise refuse("clob", 6, "order subticks cannot be 0")
    if order_id.flags == Flags.LONG_TERM and order.is_immediate:
        raise refuse("clob", 3002, "long-term orders cannot require immediate execution")
    if order.reduce_only and not order.is_immediate:
        raise refuse("clob", 9003, "reduce-only is disabled for orders that are not IOC")
    if order_id.flags == Flags.CONDITIONAL:
        if order.condition_type not in (1, 2):
            raise refuse("clob", 6000, "invalid condition type of a conditional order")
        if order.trigger_subticks == 0:
            raise refuse("clob", 6001, "conditional order trigger subticks cannot be 0")
    elif order.condition_type:
        raise refuse("clob", 6000, "condition type on an order that is not conditional")
    elif order.trigger_subticks:
        raise refuse("clob", 6001, "trigger subticks on an order that is not conditional")


def _check_batch(batch: BatchCancel) -> None:
    if batch.subaccount.number > SUBACCOUNT_MAX:
        raise refuse("subaccounts", 200, f"subaccount number is at most {SUBACCOUNT_MAX}")
    if not batch.good_til_block:
        raise refuse("clob", 5, "batch cancel goodTilBlock cannot be 0")
    pairs = [pair for pair, _ in batch.batches]
    sizes = [len(client_ids) for _, client_ids in batch.batches]
    if (
        not pairs
        or not all(sizes)
        or sum(sizes) > BATCH_MAX
        or len(set(pairs)) != len(pairs)
        or any(len(set(client_ids)) != len(client_ids) for _, client_ids in batch.batches)
    ):
        raise refuse(
            "clob", 45, f"a batch cancel names 1 to {BATCH_MAX} orders, each market and id once"
        )
