"""What a signature is made over, and whether it is right. Pure.

Source: binance-spot-api-docs, rest-api.md, "Request Security"; web-socket-api.md, "Request security".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote

from tradegw_mock.exchange import ApiKey, KeyKind

__all__ = ["is_signed", "rest_payload", "socket_payload"]


def rest_payload(query: bytes, body: bytes) -> bytes:
    """Give what a REST request signs: query and body as they were sent, but for the signature itself."""
    return _without_signature(query) + _without_signature(body)


def _without_signature(raw: bytes) -> bytes:
    if b"signature=" not in raw:
        return raw
    return b"&".join(part for part in raw.split(b"&") if not part.startswith(b"signature="))


def socket_payload(params: Mapping[str, str]) -> bytes:
    """Give what a request to the WebSocket API signs: its parameters by name, in plain UTF-8."""
    named = sorted((name, value) for name, value in params.items() if name != "signature")
    return "&".join(f"{name}={value}" for name, value in named).encode()


def is_signed(key: ApiKey, payload: bytes, signature: str) -> bool:
    """Tell whether a signature is this key's over these bytes.

    Args:
        signature: As it was sent, percent-encoded or not.
    """
    if key.kind is KeyKind.HMAC:
        expected = hmac.digest(key.secret.encode(), payload, hashlib.sha256).hex()
        return hmac.compare_digest(expected.encode(), signature.lower().encode())
    try:
        # A "+" of base64 that was not percent-encoded arrives as a blank.
        raw = base64.b64decode(unquote(signature).replace(" ", "+"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return _is_signed_by(key.kind, key.secret, payload, raw)


def _is_signed_by(kind: KeyKind, pem: str, payload: bytes, signature: bytes) -> bool:
    # Imported here, because it takes a tenth of a second and few have such keys.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    public = _load(pem)
    try:
        if kind is KeyKind.ED25519 and isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, payload)
            return True
        if kind is KeyKind.RSA and isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, payload, padding.PKCS1v15(), SHA256())
            return True
    except InvalidSignature:
        return False
    return False


@lru_cache(maxsize=64)
def _load(pem: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        # Whoever gave the account this key gave it one that opens nothing.
        return None
