"""Keys, addresses and signatures, by cosmpy. The only module that touches a private key."""

from __future__ import annotations

import hashlib
import importlib
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PREFIX", "Wallet", "WalletError", "check_address", "check_mnemonic"]

PREFIX = "dydx"
_BITS_PER_WORD = 11
_WORD_COUNTS = (12, 15, 18, 21, 24)
_ADDRESS_BYTES = 20
_KEY_BYTES = 32


class WalletError(ValueError):
    """A mnemonic, a key or an address that cannot be used. The text never shows a secret."""


@final
class Wallet:
    """One secp256k1 key. Its `repr` shows the address alone."""

    __slots__ = ("_fast", "_key", "address", "public_key")

    def __init__(self, private_key: bytes) -> None:
        """Take a private key of 32 bytes.

        Raises:
            WalletError: It is no private key of the curve.
        """
        # 70 ms and 27 MB: only who signs pays. `cosmpy.aerial.client` would register 200 proto files more.
        from cosmpy.aerial.wallet import LocalWallet  # pyright: ignore[reportMissingTypeStubs]
        from cosmpy.crypto.keypairs import PrivateKey  # pyright: ignore[reportMissingTypeStubs]

        if len(private_key) != _KEY_BYTES:
            raise WalletError(f"a private key has 32 bytes; found {len(private_key)}")
        try:
            # Any: cosmpy ships no types.
            self._key: Any = PrivateKey(private_key)
        except (ValueError, RuntimeError, AssertionError):
            # Not from the error, whose text could show the key.
            raise WalletError("these 32 bytes are no private key of secp256k1") from None
        # Any: an extra that may be missing. libsecp256k1 makes the same signature, twenty times as fast.
        self._fast: Any = _coincurve_key(private_key)
        self.public_key: bytes = self._key.public_key.public_key_bytes
        self.address = str(LocalWallet(self._key, prefix=PREFIX).address())

    @classmethod
    def from_mnemonic(cls, mnemonic: str) -> Wallet:
        """Derive the key at m/44'/118'/0'/0/0 of a BIP-39 mnemonic without passphrase.

        Raises:
            WalletError: A word is unknown or the checksum is wrong; cosmpy would give another wallet.
        """
        from cosmpy.mnemonic import COSMOS_HD_PATH, derive_child_key_from_mnemonic  # pyright: ignore[reportMissingTypeStubs]

        words = check_mnemonic(mnemonic)
        return cls(derive_child_key_from_mnemonic(" ".join(words), path=COSMOS_HD_PATH))

    @classmethod
    def from_hex(cls, private_key: str) -> Wallet:
        """Take a private key of 64 hex digits, with or without `0x`.

        Raises:
            WalletError: It is not one.
        """
        try:
            data = bytes.fromhex(private_key.strip().removeprefix("0x"))
        except ValueError:
            raise WalletError("a private key is 64 hex digits; found other characters") from None
        return cls(data)

    @property
    def is_fast(self) -> bool:
        """Whether libsecp256k1 signs."""
        return self._fast is not None

    def sign_plainly(self) -> None:
        """Have cosmpy sign from now on, to compare the two."""
        self._fast = None

    def sign(self, data: bytes) -> bytes:
        """Sign the SHA-256 of `data`: 64 bytes, r and s, s low.

        Deterministic (RFC 6979): the same bytes have the same signature, so the same transaction has the
        same hash however often it is signed.
        """
        if self._fast is not None:
            recoverable: bytes = self._fast.sign_recoverable(data)
            return recoverable[:64]
        signature: bytes = self._key.sign(data, deterministic=True, canonicalise=True)
        return signature

    def __repr__(self) -> str:
        return f"Wallet({self.address})"

    def __reduce__(self) -> str:
        raise TypeError("a Wallet cannot be pickled")


def _coincurve_key(private_key: bytes) -> Any:
    try:
        coincurve: Any = importlib.import_module("coincurve")
    except ImportError:
        return None
    return coincurve.PrivateKey(private_key)


def check_mnemonic(mnemonic: str) -> Sequence[str]:
    """Return the words of an English BIP-39 mnemonic whose checksum is right.

    Raises:
        WalletError: It is none. The text says which word by its number, and shows none.

    Source: BIP-39, "Generating the mnemonic".
    """
    from cosmpy.mnemonic.words import ENGLISH_MNEMONIC_WORDS_LIST  # pyright: ignore[reportMissingTypeStubs]

    words = mnemonic.split()
    if len(words) not in _WORD_COUNTS:
        raise WalletError(f"a mnemonic has 12, 15, 18, 21 or 24 words; found {len(words)}")
    numbers = {word: number for number, word in enumerate(ENGLISH_MNEMONIC_WORDS_LIST)}
    bits = 0
    for position, word in enumerate(words, 1):
        if word not in numbers:
            raise WalletError(f"word {position} of the mnemonic is not an English BIP-39 word")
        bits = bits << _BITS_PER_WORD | numbers[word]
    checksum_bits = len(words) * _BITS_PER_WORD // 33
    entropy = (bits >> checksum_bits).to_bytes(checksum_bits * 4, "big")
    expected = hashlib.sha256(entropy).digest()[0] >> (8 - checksum_bits)
    if bits & ((1 << checksum_bits) - 1) != expected:
        raise WalletError(
            "the mnemonic's checksum is wrong: a word is mistyped, missing or misplaced"
        )
    return words


def check_address(address: str) -> str:
    """Return an address of the chain as it is.

    Raises:
        WalletError: It is not bech32 with the prefix `dydx`.
    """
    import bech32

    prefix, data = bech32.bech32_decode(address)
    raw = None if data is None else bech32.convertbits(data, 5, 8, False)
    if prefix != PREFIX or raw is None or len(raw) != _ADDRESS_BYTES or address != address.lower():
        raise WalletError(f"an address is bech32 and begins with dydx1; found {address[:80]!r}")
    return address
