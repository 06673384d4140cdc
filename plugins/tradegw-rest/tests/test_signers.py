"""The signature vectors that exchanges publish, and keys of every kind."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tradegw_rest import Credentials, Draft, NonceSource, Stamp
from tradegw_rest.inputs import Inputs
from tradegw_rest.signers import SIGNERS, Binance, _prepared  # pyright: ignore[reportPrivateUsage]
from tradegw_rest.wire import encode_form

from tradegw import ConfigError
from tradegw.venue import Secret

BINANCE_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
BINANCE_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
KRAKEN_SECRET = (
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
)


def credentials(key: str, secret: str, passphrase: str | None = None) -> Credentials:
    return Credentials(
        key=Secret(key),
        secret=Secret(secret),
        passphrase=None if passphrase is None else Secret(passphrase),
    )


def a_draft(path: str, encoding: str, method: str = "POST", **params: Any) -> Draft:
    return Draft(
        operation=None,  # type: ignore[arg-type]
        method=method,
        path=path,
        encoding=encoding,
        params=params,
        headers={},
        now_ns=1_499_827_319_559_000_000,
        valid_until_ns=1_499_827_324_559_000_000,
        inputs=Inputs(now_ns=0),
    )


WIDE = "\uff11\uff12\uff13\uff14\uff15\uff16"
LIMIT = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "0.1"}


@pytest.mark.parametrize(
    ("symbol", "signature"),
    [
        ("LTCBTC", "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
        (WIDE, "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3"),
    ],
)
def test_binance_rest(symbol: str, signature: str) -> None:
    """Source: Binance Spot API, "SIGNED request example". Unicode is encoded before it is signed."""
    params = {"symbol": symbol, **LIMIT, "recvWindow": "5000", "timestamp": "1499827319559"}
    signer = Binance(credentials(BINANCE_KEY, BINANCE_SECRET))
    assert signer.sign_text(encode_form(params)) == signature


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (
            {
                "symbol": "BTCUSDT",
                "side": "SELL",
                "type": "LIMIT",
                "timeInForce": "GTC",
                "quantity": "0.01000000",
                "price": "52000.00",
                "recvWindow": 100,
                "timestamp": 1645423376532,
            },
            "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
        ),
        (
            {
                "symbol": WIDE,
                "side": "BUY",
                "type": "LIMIT",
                "timeInForce": "GTC",
                "quantity": "1.00000000",
                "price": "0.10000000",
                "recvWindow": 5000,
                "timestamp": 1645423376532,
            },
            "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd",
        ),
    ],
)
def test_binance_websocket(params: dict[str, Any], signature: str) -> None:
    """Source: Binance WebSocket API, "SIGNED request example": sorted, raw UTF-8."""
    signer = Binance(credentials(BINANCE_KEY, BINANCE_SECRET))
    assert signer.sign_params(params)["signature"] == signature


def test_binance_signs_with_every_kind_of_key() -> None:
    draft = a_draft("/api/v3/order", "form", symbol="LTCBTC")
    secrets: list[Any] = [
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ]
    for key in secrets:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        # As it comes out of an environment variable, too.
        for text in (pem, pem.replace("\n", "\\n")):
            body = (
                SIGNERS["binance"](credentials("K", text))
                .sign(draft, "https://h", Stamp(now_ns=0))
                .body
            )
            signed, _, quoted = body.rpartition("&signature=")
            raw = base64.b64decode(
                quoted.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
            )
            if isinstance(key, rsa.RSAPrivateKey):
                key.public_key().verify(raw, signed.encode(), padding.PKCS1v15(), SHA256())
            else:
                key.public_key().verify(raw, signed.encode())


def test_kraken() -> None:
    """Source: Kraken REST API, "Authentication", the worked example."""
    signer = SIGNERS["kraken"](credentials("K", KRAKEN_SECRET))
    draft = a_draft(
        "/0/private/AddOrder",
        "form",
        ordertype="limit",
        pair="XBTUSD",
        price="37500",
        type="buy",
        volume="1.25",
    )
    request = signer.sign(draft, "https://api.kraken.com", Stamp(now_ns=0, nonce="1616492376594"))
    assert request.body == (
        "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    )
    assert request.headers["API-Sign"] == (
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )


def test_coinbase_tokens_verify_with_the_public_key() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    seed = edwards.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    curve = ec.generate_private_key(ec.SECP256R1())
    pem = curve.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()
    public = edwards.public_key().public_bytes_raw()
    draft = a_draft("/api/v3/brokerage/accounts", "query", "GET", limit="250")
    for secret in (pem, base64.b64encode(seed).decode(), base64.b64encode(seed + public).decode()):
        signer = SIGNERS["coinbase"](credentials("organizations/o/apiKeys/k", secret))
        request = signer.sign(draft, "https://api.coinbase.com", Stamp(now_ns=10**18, nonce="00ff"))
        token = request.headers["Authorization"].removeprefix("Bearer ")
        head, claims, signature = (
            base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")
        )
        message = token.rpartition(".")[0].encode()
        if secret == pem:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            curve.public_key().verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        else:
            edwards.public_key().verify(signature, message)
            # The same seconds and nonce give the same token: Ed25519 draws nothing.
            again = signer.sign(
                draft, "https://api.coinbase.com", Stamp(now_ns=10**18, nonce="00ff")
            )
            assert again.headers == request.headers
        # The query is not bound.
        assert json.loads(claims)["uri"] == "GET api.coinbase.com/api/v3/brokerage/accounts"
        assert json.loads(claims)["exp"] == 10**9 + 120
        assert json.loads(head)["alg"] == ("ES256" if secret == pem else "EdDSA")


@pytest.mark.parametrize(
    ("name", "secret", "words"),
    [
        ("kraken", "not base64!", "base64"),
        ("coinbase", "not base64!", "base64"),
        ("coinbase", base64.b64encode(b"short").decode(), "32 or 64 bytes"),
        ("coinbase", "-----BEGIN EC PRIVATE KEY-----\nx\n-----END EC PRIVATE KEY-----", "PEM"),
        ("binance", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", "PEM"),
        ("okx", "S", "passphrase"),
    ],
)
def test_a_key_of_the_wrong_kind_is_refused_and_not_shown(
    name: str, secret: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as told:
        SIGNERS[name](credentials("K", secret))
    assert secret == "S" or secret not in str(told.value)


def test_a_key_cannot_smuggle_headers() -> None:
    with pytest.raises(ConfigError, match="printable"):
        SIGNERS["bybit"](credentials("K\r\nX-Evil: 1", "S"))


def test_nonces_rise_whatever_the_clock_does() -> None:
    source = NonceSource("unix_ms")
    drawn = [int(source.draw(now)) for now in (5_000_000, 5_000_000, 2_000_000, 9_000_000)]
    assert drawn == [5, 6, 7, 9]
    assert len({NonceSource("uuid").draw(0) for _ in range(100)}) == 100


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 300])
def test_a_prepared_hmac_is_an_hmac(digest: str, length: int) -> None:
    """Secrets below, at and above the length of a block."""
    secret = bytes(range(1, 256)) * 2
    compute = _prepared(secret[:length], digest)
    for message in (b"", b"a", b"symbol=BTCUSDT&side=BUY" * 20):
        assert compute(message).digest() == hmac.digest(secret[:length], message, digest)
