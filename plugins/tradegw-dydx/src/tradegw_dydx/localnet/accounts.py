"""Accounts: numbers, sequences, timestamp nonces, keys and who may sign instead. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, cast

import bech32
import msgspec
from Crypto.Hash import RIPEMD160
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tradegw_dydx.localnet.decode import ChainMessage, Tx
from tradegw_dydx.localnet.terms import BatchCancel, Cancel, Order, refuse
from tradegw_dydx.wire import messages as wire

__all__ = [
    "Account",
    "Authenticator",
    "address_of",
    "check_authenticator",
    "check_permission",
    "check_signature",
]

TIMESTAMP_NONCE_MIN: Final = 2**40
NONCES_MAX: Final = 20
NONCE_WINDOW_MS: Final = 30_000
AUTHENTICATOR_DATA_MAX: Final = 1024
_CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_KEY_BYTES: Final = 33
_FAILURES: Final = {
    "SignatureVerification": 100,
    "MessageFilter": 101,
    "ClobPairIdFilter": 102,
    "SubaccountFilter": 103,
    "AllOf": 104,
    "AnyOf": 105,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Who else may sign for an account, and what."""

    authenticator_id: int
    kind: str
    config: bytes


@dataclass(slots=True, kw_only=True)
class Account:
    """What the chain remembers of one address.

    Attributes:
        nonces: The largest timestamp nonces seen, rising.
        bank: Coins outside the subaccounts, by denomination.
    """

    address: str
    number: int
    sequence: int = 0
    public_key: bytes = b""
    nonces: list[int] = field(default_factory=list[int])
    nonce_ejected: int = 0
    authenticators: dict[int, Authenticator] = field(default_factory=dict[int, Authenticator])
    bank: dict[str, int] = field(default_factory=dict[str, int])

    def copy(self) -> Account:
        """Return another of the same content."""
        return Account(
            address=self.address,
            number=self.number,
            sequence=self.sequence,
            public_key=self.public_key,
            nonces=list(self.nonces),
            nonce_ejected=self.nonce_ejected,
            authenticators=dict(self.authenticators),
            bank=dict(self.bank),
        )

    def use_sequence(self, sequence: int, block_time_ms: int) -> None:
        """Take a sequence or a timestamp nonce, once.

        Raises:
            Refused: It is not the next, outside the window, or used before.
        """
        if sequence < TIMESTAMP_NONCE_MIN:
            if sequence != self.sequence:
                raise refuse(
                    "sdk",
                    32,
                    f"account sequence mismatch, expected {self.sequence}, got {sequence}: "
                    "incorrect account sequence",
                )
            self.sequence += 1
            return
        first, last = block_time_ms - NONCE_WINDOW_MS, block_time_ms + NONCE_WINDOW_MS
        if not first <= sequence <= last:
            raise refuse(
                "sdk",
                32,
                f"timestamp nonce {sequence} not within valid time window: [{first}, {last}]: "
                "incorrect account sequence",
            )
        is_full = len(self.nonces) >= NONCES_MAX
        if (
            sequence in self.nonces
            or sequence <= self.nonce_ejected
            or (is_full and sequence < self.nonces[0])
        ):
            raise refuse(
                "sdk", 32, f"timestamp nonce {sequence} rejected: incorrect account sequence"
            )
        self.nonces.append(sequence)
        self.nonces.sort()
        if is_full:
            self.nonce_ejected = max(self.nonce_ejected, self.nonces.pop(0))


@lru_cache(maxsize=1024)
def address_of(public_key: bytes) -> str:
    """Return the address that belongs to a compressed key."""
    digest = RIPEMD160.new(hashlib.sha256(public_key).digest()).digest()
    data = bech32.convertbits(digest, 8, 5)
    assert data is not None
    return str(bech32.bech32_encode("dydx", data))


def check_signature(tx: Tx, account: Account, chain_id: str) -> None:
    """Check that the owner signed, for this chain and this account.

    Raises:
        Refused: It did not.
    """
    if len(tx.public_key) != _KEY_BYTES or address_of(tx.public_key) != account.address:
        raise refuse(
            "sdk", 8, f"pubKey does not match signer address {account.address}: invalid pubkey"
        )
    if not _is_signed(tx, tx.public_key, account.number, chain_id):
        raise refuse(
            "sdk",
            4,
            f"signature verification failed; please verify account number ({account.number}) and "
            f"chain-id ({chain_id}): (unable to verify single signer signature): unauthorized",
        )


def _is_signed(tx: Tx, public_key: bytes, account_number: int, chain_id: str) -> bool:
    signature = tx.signatures[0]
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    # The chain takes the lower of the two values that fit, so that nobody can alter a signature.
    if not (0 < r < _CURVE_ORDER and 0 < s <= _CURVE_ORDER // 2):
        return False
    signed = wire.SignDoc(
        body_bytes=tx.body_bytes,
        auth_info_bytes=tx.auth_info_bytes,
        chain_id=chain_id,
        account_number=account_number,
    ).SerializeToString(deterministic=True)
    return _verifies(public_key, encode_dss_signature(r, s), signed)


# Each node asks anew about the same bytes.
@lru_cache(maxsize=1024)
def _verifies(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public_key)
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


# --- permissioned keys ----------------------------------------------------------------------------


def check_permission(tx: Tx, account: Account, chain_id: str) -> None:
    """Check that the authenticators that a transaction selects let its key sign each message.

    Raises:
        Refused: One does not.
    """
    if len(tx.authenticators) != len(tx.messages):
        raise refuse(
            "sdk",
            18,
            f"mismatch between the number of selected authenticators and messages: "
            f"{len(tx.authenticators)} and {len(tx.messages)}: invalid request",
        )
    for authenticator_id, (type_url, message) in zip(tx.authenticators, tx.messages, strict=True):
        found = account.authenticators.get(authenticator_id)
        if found is None:
            raise refuse(
                "dydxaccountplus",
                1,
                f"authenticator {authenticator_id} not found for account {account.address}",
            )
        if not _permits(found.kind, found.config, (tx, account, chain_id), type_url, message):
            raise refuse(
                "dydxaccountplus",
                _FAILURES[found.kind],
                f"authentication failed for message of type {type_url}: {found.kind} verification failed",
            )


def _permits(
    kind: str,
    config: bytes,
    signed: tuple[Tx, Account, str],
    type_url: str,
    message: ChainMessage,
) -> bool:
    tx, account, chain_id = signed
    match kind:
        case "SignatureVerification":
            return tx.public_key == config and _is_signed(tx, config, account.number, chain_id)
        case "MessageFilter":
            return type_url in config.decode().split(",")
        case "SubaccountFilter":
            numbers = {int(part) for part in config.decode().split(",")}
            return _subaccount_number(message) in numbers
        case "ClobPairIdFilter":
            pairs = {int(part) for part in config.decode().split(",")}
            touched = _pairs(message)
            return bool(touched) and touched <= pairs
        case _:
            results = (
                _permits(part_kind, part_config, signed, type_url, message)
                for part_kind, part_config in _parts(config)
            )
            return all(results) if kind == "AllOf" else any(results)


def _subaccount_number(message: ChainMessage) -> int | None:
    match message:
        case Order() | Cancel():
            return message.order_id.subaccount.number
        case BatchCancel():
            return message.subaccount.number
        case _:
            return None


def _pairs(message: ChainMessage) -> set[int]:
    match message:
        case Order() | Cancel():
            return {message.order_id.clob_pair_id}
        case BatchCancel():
            return {pair for pair, _ in message.batches}
        case _:
            return set()


def check_authenticator(kind: str, data: bytes) -> None:
    """Check an authenticator that an account wants to add.

    Raises:
        Refused: It is malformed, or lets anybody sign.
    """
    if len(data) > AUTHENTICATOR_DATA_MAX:
        raise refuse(
            "dydxaccountplus", 3, f"authenticator data exceeds {AUTHENTICATOR_DATA_MAX} bytes"
        )
    try:
        is_signed = _demands_signature(kind, data)
    except (ValueError, KeyError, TypeError, msgspec.DecodeError, binascii.Error) as e:
        raise refuse("sdk", 18, f"malformed authenticator {kind[:40]!r}: invalid request") from e
    if not is_signed:
        raise refuse("sdk", 18, "an authenticator must demand a signature: invalid request")


def _demands_signature(kind: str, data: bytes) -> bool:
    match kind:
        case "SignatureVerification":
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
            return len(data) == _KEY_BYTES
        case "MessageFilter":
            data.decode()
            return False
        case "SubaccountFilter" | "ClobPairIdFilter":
            [int(part) for part in data.decode().split(",")]
            return False
        case "AllOf" | "AnyOf":
            parts = [_demands_signature(*part) for part in _parts(data)]
            if len(parts) < 2:
                raise ValueError("it must have two parts at least")
            return any(parts) if kind == "AllOf" else all(parts)
        case _:
            raise ValueError("unknown type")


def _parts(data: bytes) -> list[tuple[str, bytes]]:
    told = cast("list[dict[str, Any]]", msgspec.json.decode(data))
    return [(part["type"], base64.b64decode(_text(part["config"]))) for part in told]


def _text(config: object) -> str:
    # The official client writes a list of byte values where the chain's JSON has base64.
    if isinstance(config, list):
        return base64.b64encode(bytes(cast("list[int]", config))).decode()
    if not isinstance(config, str):
        raise TypeError("config is base64")
    return config
