"""Signers: how each exchange wants a request signed. Code, because a definition is data.

A signer is made once for a key, and sees the final text of what it signs. `draft.now_ns` is the venue time
at which the request was translated; what the venue dates the request's expiry from must be that, however late
the request is sent. `stamp.now_ns` is the venue time now.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

from tradegw import ConfigError
from tradegw.venue import Secret
from tradegw_rest.times import iso
from tradegw_rest.wire import HttpRequest, encode_form, encode_json

if TYPE_CHECKING:
    from tradegw_rest.operations import Draft

__all__ = ["NONCES", "SIGNERS", "Credentials", "NonceSource", "Signer", "Stamp"]

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An API key.

    Attributes:
        passphrase: Only OKX wants one.
    """

    key: Secret
    secret: Secret
    passphrase: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a signature is dated with.

    Attributes:
        now_ns: The venue's clock.
        nonce: From the definition's nonce source, drawn under the key's lock; `""` where it has none.
    """

    now_ns: int
    nonce: str = ""


class NonceSource:
    """Nonces of one key: each above the last, also when the clock stands or goes back.

    Not safe across processes: a key whose nonces must rise belongs to one holder.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._last = 0

    def draw(self, now_ns: int) -> str:
        """Return the next nonce."""
        match self.kind:
            case "none":
                return ""
            case "uuid":
                return str(uuid4())
            case "hex":
                return secrets.token_hex(16)
            case _:
                self._last = max(self._last + 1, now_ns // NONCES[self.kind][0])
                return str(self._last)


NONCES: Final[Mapping[str, tuple[int, str]]] = {
    "none": (1, "none"),
    "uuid": (1, "a random UUID"),
    "hex": (1, "32 random hex digits"),
    "unix_ms": (_NS_PER_MS, "milliseconds, each above the last"),
    "unix_us": (1000, "microseconds, each above the last"),
}
"""Nonce sources by name: nanoseconds for each unit, and in words."""


class Signer(ABC):
    """Signs requests with one key."""

    nonce: str = "none"
    """The nonce source that it needs."""
    key_header: str = ""
    """The header that carries the key, where a definition may name another."""

    def __init__(self, credentials: Credentials, *, key_header: str = "") -> None:
        self.key_header = key_header or self.key_header
        self.key = credentials.key.reveal()
        if not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError("an API key must be printable ASCII")

    @abstractmethod
    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        """Return the request as it is to be sent to `base`, such as `https://api.example.com`."""

    def login(self, stamp: Stamp) -> Mapping[str, Any]:
        """Return what the stream's login needs, by name: a definition writes `$login.NAME`.

        Raises:
            ConfigError: The scheme has no login.
        """
        raise ConfigError("this signer has no stream login")


def plain_request(draft: Draft, base: str) -> HttpRequest:
    """Return an unsigned request."""
    is_text = bool(draft.params) and draft.encoding in {"query", "form"}
    text = encode_form(draft.params) if is_text else ""
    query = f"?{text}" if text and draft.encoding == "query" else ""
    body, headers = "", dict(draft.headers)
    if draft.encoding == "form" and text:
        body = text
        headers["Content-Type"] = _FORM
    elif draft.encoding in {"json", "json_list"}:
        body = encode_json(draft.params if draft.encoding == "json" else [draft.params])
        headers["Content-Type"] = _JSON
    return HttpRequest(
        method=draft.method, url=f"{base}{draft.path}{query}", headers=headers, body=body
    )


def _prepared(secret: bytes, digest: str) -> Callable[[bytes], Any]:
    """Return HMAC with its key taken in once: a quarter of the cost for each request.

    Its two hashes themselves, because copying an object of `hmac` takes longer than hashing.

    Source: RFC 2104, section 4, "Implementation Note".
    """
    inner, outer = hashlib.new(digest), hashlib.new(digest)
    if len(secret) > inner.block_size:
        secret = hashlib.new(digest, secret).digest()
    key = secret.ljust(inner.block_size, b"\0")
    inner.update(bytes([byte ^ 0x36 for byte in key]))
    outer.update(bytes([byte ^ 0x5C for byte in key]))

    def compute(message: bytes) -> Any:
        within, around = inner.copy(), outer.copy()
        within.update(message)
        around.update(within.digest())
        return around

    return compute


class Binance(Signer):
    """`signature` over the parameters, appended to them: HMAC-SHA256, or Ed25519 or RSA for a key in PEM.

    Source: Binance Spot API, "Request security", and for streams "WebSocket API, SIGNED requests".
    """

    key_header = "X-MBX-APIKEY"

    def __init__(self, credentials: Credentials, *, key_header: str = "") -> None:
        super().__init__(credentials, key_header=key_header)
        secret = credentials.secret.reveal()
        self._headers = {self.key_header: self.key}
        self._form_headers = {**self._headers, "Content-Type": _FORM}
        self._signature = _binance_signature(secret)

    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        params = encode_form(draft.params)
        window_ms = (draft.valid_until_ns - draft.now_ns) // _NS_PER_MS
        # The venue counts from the timestamp: it must be that of the translation, not of a late sending.
        text = (
            f"timestamp={draft.now_ns // _NS_PER_MS}{'&' if params else ''}{params}"
            f"&recvWindow={window_ms}"
        )
        signature = self._signature(text)
        text = f"{text}&signature={signature if signature.isalnum() else quote(signature, safe='')}"
        if draft.encoding == "form":
            return HttpRequest(
                method=draft.method,
                url=base + draft.path,
                headers={**self._form_headers, **draft.headers}
                if draft.headers
                else self._form_headers,
                body=text,
            )
        return HttpRequest(
            method=draft.method,
            url=f"{base}{draft.path}?{text}",
            headers={**self._headers, **draft.headers} if draft.headers else self._headers,
        )

    def sign_text(self, text: str) -> str:
        """Return the signature of a text of parameters."""
        return self._signature(text)

    def sign_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a request over WebSocket, signed: the key among them."""
        named = {"apiKey": self.key, **params}
        # Sorted, raw, not percent-encoded: unlike a REST request.
        text = "&".join(f"{name}={value}" for name, value in sorted(named.items()))
        return {**named, "signature": self._signature(text)}

    def login(self, stamp: Stamp) -> Mapping[str, Any]:
        return self.sign_params({"timestamp": stamp.now_ns // _NS_PER_MS})


def _binance_signature(secret: str) -> Callable[[str], str]:
    if not secret.lstrip().startswith("-----BEGIN"):
        compute = _prepared(secret.encode(), "sha256")
        return lambda text: compute(text.encode()).hexdigest()
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    key = _read_pem(secret)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return lambda text: base64.b64encode(key.sign(text.encode())).decode()
    if isinstance(key, rsa.RSAPrivateKey):
        return lambda text: base64.b64encode(
            key.sign(text.encode(), padding.PKCS1v15(), SHA256())
        ).decode()
    raise ConfigError("expected an HMAC secret, or a private key of type Ed25519 or RSA in PEM")


def _read_pem(text: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # Where the file came through an environment variable, line ends are often written as \n.
        return load_pem_private_key(text.replace("\\n", "\n").strip().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(
            "the secret looks like PEM, but no private key can be read from it"
        ) from None


class Kraken(Signer):
    """`API-Sign` over path, nonce and body, HMAC-SHA512 with the decoded secret.

    Source: Kraken REST API, "Authentication".
    """

    nonce = "unix_ms"

    def __init__(self, credentials: Credentials, *, key_header: str = "") -> None:
        super().__init__(credentials, key_header=key_header)
        self._compute = _prepared(_read_base64(credentials.secret), "sha512")

    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        body = encode_form({"nonce": stamp.nonce, **draft.params})
        digest = hashlib.sha256((stamp.nonce + body).encode()).digest()
        signature = self._compute(draft.path.encode() + digest).digest()
        return HttpRequest(
            method=draft.method,
            url=base + draft.path,
            headers={
                "API-Key": self.key,
                "API-Sign": base64.b64encode(signature).decode(),
                "Content-Type": _FORM,
                **draft.headers,
            },
            body=body,
        )


def _read_base64(secret: Secret) -> bytes:
    try:
        return base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError("the API secret must be base64, as the exchange gave it") from None


class Okx(Signer):
    """`OK-ACCESS-SIGN` over time, method, path with query, and body.

    Source: OKX API v5, "REST Authentication" and "WebSocket, Login".
    """

    def __init__(self, credentials: Credentials, *, key_header: str = "") -> None:
        super().__init__(credentials, key_header=key_header)
        if credentials.passphrase is None:
            raise ConfigError("OKX keys have a passphrase: it is missing")
        self._passphrase = credentials.passphrase.reveal()
        self._compute = _prepared(credentials.secret.reveal().encode(), "sha256")

    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        unsigned = plain_request(draft, base)
        # OKX takes requests for 30 seconds from this time on: it must be that of the translation.
        time = iso(draft.now_ns)
        target = unsigned.url[len(base) :]
        return HttpRequest(
            method=draft.method,
            url=unsigned.url,
            headers={
                "OK-ACCESS-KEY": self.key,
                "OK-ACCESS-PASSPHRASE": self._passphrase,
                "OK-ACCESS-TIMESTAMP": time,
                "OK-ACCESS-SIGN": self._sign(f"{time}{draft.method}{target}{unsigned.body}"),
                **unsigned.headers,
            },
            body=unsigned.body,
        )

    def _sign(self, text: str) -> str:
        return base64.b64encode(self._compute(text.encode()).digest()).decode()

    def login(self, stamp: Stamp) -> Mapping[str, Any]:
        # Seconds here, ISO in REST.
        time = str(stamp.now_ns // _NS_PER_S)
        return {
            "apiKey": self.key,
            "passphrase": self._passphrase,
            "timestamp": time,
            "sign": self._sign(f"{time}GET/users/self/verify"),
        }


class Bybit(Signer):
    """`X-BAPI-SIGN` over time, key, window, and query or body.

    Source: Bybit v5, "Integration Guidance" and "WebSocket, Authentication".
    """

    def __init__(self, credentials: Credentials, *, key_header: str = "") -> None:
        super().__init__(credentials, key_header=key_header)
        self._compute = _prepared(credentials.secret.reveal().encode(), "sha256")

    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        unsigned = plain_request(draft, base)
        time = str(draft.now_ns // _NS_PER_MS)
        window = str((draft.valid_until_ns - draft.now_ns) // _NS_PER_MS)
        signed = unsigned.body or urlsplit(unsigned.url).query
        return HttpRequest(
            method=draft.method,
            url=unsigned.url,
            headers={
                "X-BAPI-API-KEY": self.key,
                "X-BAPI-TIMESTAMP": time,
                "X-BAPI-RECV-WINDOW": window,
                "X-BAPI-SIGN": self._sign(f"{time}{self.key}{window}{signed}"),
                **unsigned.headers,
            },
            body=unsigned.body,
        )

    def _sign(self, text: str) -> str:
        return str(self._compute(text.encode()).hexdigest())

    def login(self, stamp: Stamp) -> Mapping[str, Any]:
        expires = stamp.now_ns // _NS_PER_MS + 10_000
        return {
            "apiKey": self.key,
            "expires": expires,
            "sign": self._sign(f"GET/realtime{expires}"),
        }


class Bitstamp(Signer):
    """`X-Auth-Signature` over everything in the request, host and content type included.

    Source: Bitstamp API v2, "Authentication". Without a body there must be no content type.
    """

    nonce = "uuid"

    def __init__(self, credentials: Credentials, *, key_header: str = "") -> None:
        super().__init__(credentials, key_header=key_header)
        self._compute = _prepared(credentials.secret.reveal().encode(), "sha256")

    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        unsigned = plain_request(draft, base)
        parts = urlsplit(unsigned.url)
        time = str(stamp.now_ns // _NS_PER_MS)
        kind = unsigned.headers.get("Content-Type", "")
        query = f"?{parts.query}" if parts.query else ""
        text = (
            f"BITSTAMP {self.key}{draft.method}{parts.netloc}{parts.path}{query}{kind}"
            f"{stamp.nonce}{time}v2{unsigned.body}"
        )
        return HttpRequest(
            method=draft.method,
            url=unsigned.url,
            headers={
                "X-Auth": f"BITSTAMP {self.key}",
                "X-Auth-Signature": self._compute(text.encode()).hexdigest(),
                "X-Auth-Nonce": stamp.nonce,
                "X-Auth-Timestamp": time,
                "X-Auth-Version": "v2",
                **unsigned.headers,
            },
            body=unsigned.body,
        )


class Coinbase(Signer):
    """A JWT for each request, ES256 for a key in PEM, EdDSA for one in base64.

    Source: Coinbase Advanced Trade, "API key authentication"; claims as coinbase-advanced-py 1.8 makes them.
    """

    nonce = "hex"

    def __init__(self, credentials: Credentials, *, key_header: str = "") -> None:
        super().__init__(credentials, key_header=key_header)
        self._algorithm, self._signature = _coinbase_signature(credentials.secret)

    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        unsigned = plain_request(draft, base)
        parts = urlsplit(unsigned.url)
        # Neither query nor body is bound by the token.
        token = self._token(stamp, uri=f"{draft.method} {parts.netloc}{parts.path}")
        return HttpRequest(
            method=draft.method,
            url=unsigned.url,
            headers={
                "Content-Type": _JSON,
                "Authorization": f"Bearer {token}",
                **unsigned.headers,
            },
            body=unsigned.body,
        )

    def login(self, stamp: Stamp) -> Mapping[str, Any]:
        # A fresh token for every subscription: they are valid for two minutes.
        return {"jwt": self._token(stamp)}

    def _token(self, stamp: Stamp, uri: str = "") -> str:
        now = stamp.now_ns // _NS_PER_S
        header = {"alg": self._algorithm, "kid": self.key, "nonce": stamp.nonce, "typ": "JWT"}
        claims: dict[str, Any] = {"sub": self.key, "iss": "cdp", "nbf": now, "exp": now + 120}
        if uri:
            claims["uri"] = uri
        text = (
            f"{_base64url(encode_json(header).encode())}.{_base64url(encode_json(claims).encode())}"
        )
        return f"{text}.{_base64url(self._signature(text.encode()))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _coinbase_signature(secret: Secret) -> tuple[str, Callable[[bytes], bytes]]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    text = secret.reveal()
    if "-----BEGIN" in text:
        key = _read_pem(text)
        if not (
            isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
        ):
            raise ConfigError("the secret of a Coinbase key in PEM must be of type EC P-256")

        def sign(message: bytes) -> bytes:
            r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")

        return "ES256", sign
    seed = _read_base64(secret)
    if len(seed) not in {32, 64}:
        raise ConfigError("the secret of a Coinbase key is PEM, or base64 of 32 or 64 bytes")
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(seed[:32])
    return "EdDSA", edwards.sign


class Unsigned(Signer):
    """No signature: public requests alone."""

    def sign(self, draft: Draft, base: str, stamp: Stamp) -> HttpRequest:
        return plain_request(draft, base)


SIGNERS: Final[Mapping[str, type[Signer]]] = {
    "binance": Binance,
    "kraken": Kraken,
    "okx": Okx,
    "bybit": Bybit,
    "bitstamp": Bitstamp,
    "coinbase": Coinbase,
    "none": Unsigned,
}
"""Signers by the name that definitions use."""
