"""What is signed, and by whom: the published examples, and keys made here."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.params import from_form, from_json
from tradegw_mock.binance.signing import is_signed, rest_payload, socket_payload
from tradegw_mock.exchange import ApiKey, KeyKind

KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
ORDER = "side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
WIDE = "%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96"


def a_key(kind: KeyKind = KeyKind.HMAC, secret: str = SECRET) -> ApiKey:
    return ApiKey(
        api_key=KEY, account="a", kind=kind, secret=secret, can_trade=True, created_time_ns=0
    )


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (
            f"symbol=LTCBTC&{ORDER}",
            "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
        ),
        (
            f"symbol={WIDE}&{ORDER}",
            "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
        ),
    ],
    ids=["ascii", "percent-encoded"],
)
def test_published_examples_of_the_rest_api(payload: str, signature: str) -> None:
    signed = f"{payload}&signature={signature}".encode()
    for query, body in ((signed, b""), (b"", signed)):
        found = rest_payload(query, body)
        assert found == payload.encode()
        assert is_signed(a_key(), found, signature)
        assert is_signed(a_key(), found, signature.upper())
        assert not is_signed(a_key(), found + b" ", signature)
    # Split between both, nothing stands between them.
    head, tail = payload.split("&quantity")
    found = rest_payload(head.encode(), f"quantity{tail}&signature={signature}".encode())
    assert found == f"{head}quantity{tail}".encode()


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
                "apiKey": KEY,
            },
            "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
        ),
        (
            {
                "symbol": "１２３４５６",  # noqa: RUF001  It is what is published.
                "side": "BUY",
                "type": "LIMIT",
                "timeInForce": "GTC",
                "quantity": "1.00000000",
                "price": "0.10000000",
                "recvWindow": 5000,
                "timestamp": 1645423376532,
                "apiKey": KEY,
            },
            "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd",
        ),
    ],
    ids=["ascii", "utf-8"],
)
def test_published_examples_of_the_websocket_api(params: dict[str, object], signature: str) -> None:
    payload = socket_payload(from_json({**params, "signature": signature}))
    assert is_signed(a_key(), payload, signature)


def test_keys_of_other_kinds() -> None:
    payload = b"symbol=BTCUSDT&timestamp=1"
    edward = ed25519.Ed25519PrivateKey.generate()
    rivest = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signatures = {
        KeyKind.ED25519: (edward.public_key(), edward.sign(payload)),
        KeyKind.RSA: (
            rivest.public_key(),
            rivest.sign(payload, padding.PKCS1v15(), hashes.SHA256()),
        ),
    }
    for kind, (public, signature) in signatures.items():
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        text = base64.b64encode(signature).decode()
        key = a_key(kind, pem)
        assert is_signed(key, payload, text)
        assert is_signed(key, payload, text.replace("+", "%2B").replace("/", "%2F"))
        assert is_signed(key, payload, text.replace("+", " "))
        assert not is_signed(key, payload + b"0", text)
        assert not is_signed(key, payload, text[:-4])
        assert not is_signed(key, payload, "not base64!")
        other = KeyKind.RSA if kind is KeyKind.ED25519 else KeyKind.ED25519
        assert not is_signed(a_key(other, pem), payload, text)
    assert not is_signed(a_key(KeyKind.RSA, "no key"), payload, "AAAA")


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        (b"a=1&a=2", b"", -1101),
        (b"a=%FF", b"", -1100),
        (b"a=\xff", b"", -1100),
        (b"&".join(b"a%d=1" % n for n in range(200)), b"", -1100),
    ],
)
def test_parameters_that_cannot_be_read(query: bytes, body: bytes, code: int) -> None:
    with pytest.raises(BinanceError) as refused:
        from_form(query, body)
    assert refused.value.code == code


def test_the_query_wins() -> None:
    params = from_form(b"symbol=A", b"symbol=B&price=1")
    assert dict(params) == {"symbol": "A", "price": "1"}
