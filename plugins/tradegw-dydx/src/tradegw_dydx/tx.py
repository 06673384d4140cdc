"""Transactions: from messages to the signed bytes that a node takes. Pure.

The layout and the signature are fixed by golden vectors; see tests/test_vectors.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.message import Message

from tradegw_dydx.wallet import Wallet
from tradegw_dydx.wire.messages import (
    Any,
    AuthInfo,
    Coin,
    Fee,
    ModeInfo,
    ModeInfoSingle,
    PubKey,
    SignDoc,
    SignerInfo,
    TxBody,
    TxExtension,
    TxRaw,
)

__all__ = ["ORDER_GAS_LIMIT", "SignedTx", "TxTerms", "pack", "sign"]

ORDER_GAS_LIMIT = 1_000_000
"""Messages of the order book are free; any limit will do, and this is the one that everybody sends."""
_SIGN_MODE_DIRECT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TxTerms:
    """What a transaction is signed with, besides its messages.

    Attributes:
        account_number: Of the account that owns the order, also when another key signs for it.
        sequence: The account's, or a timestamp nonce; the chain ignores it for short-term messages, but
            it is part of what is signed.
        fee: Denomination and amount of each coin.
        authenticators: For each message the id of the authenticator that lets this key sign.
    """

    chain_id: str
    account_number: int
    sequence: int
    memo: str = ""
    gas_limit: int = ORDER_GAS_LIMIT
    fee: tuple[tuple[str, int], ...] = ()
    authenticators: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTx:
    """A transaction ready to be sent, any number of times, to any node.

    Attributes:
        hash: Upper hex of its SHA-256: its name on the chain, known before it is sent.
    """

    sign_bytes: bytes
    tx_bytes: bytes
    hash: str


def sign(messages: Sequence[Message], terms: TxTerms, wallet: Wallet) -> SignedTx:
    """Make one transaction of the messages. The same arguments give the same bytes."""
    extensions = (
        [pack(TxExtension(selected_authenticators=terms.authenticators))]
        if terms.authenticators
        else []
    )
    body = TxBody(
        messages=[pack(message) for message in messages],
        memo=terms.memo,
        non_critical_extension_options=extensions,
    ).SerializeToString(deterministic=True)
    auth_info = _auth_info(wallet.public_key, terms.sequence, terms.gas_limit, terms.fee)
    sign_bytes = SignDoc(
        body_bytes=body,
        auth_info_bytes=auth_info,
        chain_id=terms.chain_id,
        account_number=terms.account_number,
    ).SerializeToString(deterministic=True)
    tx_bytes = TxRaw(
        body_bytes=body, auth_info_bytes=auth_info, signatures=[wallet.sign(sign_bytes)]
    ).SerializeToString(deterministic=True)
    return SignedTx(
        sign_bytes=sign_bytes,
        tx_bytes=tx_bytes,
        hash=hashlib.sha256(tx_bytes).hexdigest().upper(),
    )


# Short-term orders all have the same: their sequence does not rise.
@lru_cache(maxsize=64)
def _auth_info(
    public_key: bytes, sequence: int, gas_limit: int, fee: tuple[tuple[str, int], ...]
) -> bytes:
    return AuthInfo(
        signer_infos=[
            SignerInfo(
                public_key=pack(PubKey(key=public_key)),
                mode_info=ModeInfo(single=ModeInfoSingle(mode=_SIGN_MODE_DIRECT)),
                sequence=sequence,
            )
        ],
        fee=Fee(
            amount=[Coin(denom=denom, amount=str(amount)) for denom, amount in fee],
            gas_limit=gas_limit,
        ),
    ).SerializeToString(deterministic=True)


def pack(message: Message) -> Any:
    """Wrap a message with its type's name."""
    return Any(
        type_url=f"/{message.DESCRIPTOR.full_name}",
        value=message.SerializeToString(deterministic=True),
    )
