"""Signatures, checked as each exchange's documentation says, in a few lines apart from the plugin's own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def verify(
    name: str, keys: dict[str, str], method: str, url: str, headers: dict[str, str], body: str
) -> None:
    """Check that a request bears the signature that its exchange wants."""
    sent = {key.lower(): value for key, value in headers.items()}
    parts = urlsplit(url)
    secret = keys["secret"].encode()
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    match name:
        case "binance-spot":
            text, _, signature = (parts.query + body).rpartition("&signature=")
            assert text
            assert hmac.new(secret, text.encode(), hashlib.sha256).hexdigest() == signature
            assert sent["x-mbx-apikey"] == keys["key"]
        case "kraken-spot":
            nonce = parse_qs(body)["nonce"][0]
            digest = hashlib.sha256((nonce + body).encode()).digest()
            key = base64.b64decode(secret)
            told = hmac.new(key, parts.path.encode() + digest, hashlib.sha512).digest()
            assert base64.b64decode(sent["api-sign"]) == told
        case "okx-spot":
            text = sent["ok-access-timestamp"] + method + target + body
            told = hmac.new(secret, text.encode(), hashlib.sha256).digest()
            assert base64.b64decode(sent["ok-access-sign"]) == told
        case "bybit-spot":
            text = sent["x-bapi-timestamp"] + keys["key"] + sent["x-bapi-recv-window"]
            text += body or parts.query
            assert (
                hmac.new(secret, text.encode(), hashlib.sha256).hexdigest() == sent["x-bapi-sign"]
            )
        case "bitstamp":
            text = f"BITSTAMP {keys['key']}{method}{parts.netloc}{target}{sent.get('content-type', '')}"
            text += sent["x-auth-nonce"] + sent["x-auth-timestamp"] + "v2" + body
            told_hex = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
            assert sent["x-auth-signature"] == told_hex
        case "coinbase":
            _check_token(keys, f"{method} {parts.netloc}{parts.path}", sent["authorization"])
        case _:
            raise AssertionError(name)


def _check_token(keys: dict[str, str], uri: str, authorization: str) -> None:
    scheme, _, token = authorization.partition(" ")
    assert scheme == "Bearer"
    head, claims, signature = (_decode(part) for part in token.split("."))
    header, told = json.loads(head), json.loads(claims)
    assert (header["alg"], header["kid"], header["typ"]) == ("ES256", keys["key"], "JWT")
    assert header["nonce"]
    assert told["sub"] == keys["key"]
    assert told["uri"] == uri
    assert told["exp"] - told["nbf"] == 120
    key = load_pem_private_key(keys["secret"].encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    message = token.rpartition(".")[0].encode()
    key.public_key().verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
