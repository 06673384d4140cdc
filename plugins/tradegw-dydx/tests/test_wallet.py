"""Keys and addresses."""

from __future__ import annotations

import pickle

import pytest
from tradegw_dydx.wallet import Wallet, WalletError, check_address, check_mnemonic

from .keys import A1, A2, A3, M1, M2, M3


@pytest.mark.parametrize(
    ("mnemonic", "private", "public", "address"),
    [
        (
            M1,
            "e92a6595c934c991d3b3e987ea9b3125bf61a076deab3a9cb519787b7b3e8d77",
            "03f0be763f781b5b59ebc37d721beda913148a539425baa720b97d4820f652ed75",
            A1,
        ),
        (
            M2,
            "c4a48e2fce1481cd3294b4490f6678090ea98d3d0e5cd984558ab0968741b104",
            "024f4e2ad99c34d60b9ba6283c9431a8418af8673212961f97a77b6377fcd05b62",
            A2,
        ),
        (M3, "0a7ff605269ed00853a425beda719da038a11792f6dddf31c087b2988b4dc8fe", None, A3),
    ],
)
def test_a_mnemonic_gives_the_keys_that_everyone_derives(mnemonic, private, public, address):
    wallet = Wallet.from_mnemonic(mnemonic)
    assert wallet.address == address
    assert public is None or wallet.public_key.hex() == public
    assert Wallet.from_hex(private).address == address
    assert Wallet.from_hex(f"0x{private}\n").public_key == wallet.public_key


@pytest.mark.parametrize(
    ("mnemonic", "told"),
    [
        (" ".join(["abandon"] * 12), "checksum is wrong"),
        (M1.replace("mirror", "mirrow"), "word 1 of the mnemonic is not"),
        (M1.replace("mirror", "Mirror"), "word 1 of the mnemonic is not"),
        (M1.rsplit(" ", 1)[0], "found 23"),
        (f"{M1} wait", "found 25"),
        ("", "found 0"),
        # Two words changed places.
        (M2.replace("abandon about", "about abandon"), "checksum is wrong"),
    ],
)
def test_a_mistyped_mnemonic_is_refused_and_not_shown(mnemonic, told):
    with pytest.raises(WalletError, match=told) as e:
        Wallet.from_mnemonic(mnemonic)
    assert "abandon" not in str(e.value)
    assert "mirro" not in str(e.value)


def test_spaces_and_lines_between_words_do_not_matter():
    assert check_mnemonic(M1.replace(" ", " \n ")) == M1.split()


@pytest.mark.parametrize("key", ["", "00" * 32, "ff" * 32, "zz" * 32, "01" * 31])
def test_what_is_no_private_key_is_refused_and_not_shown(key):
    with pytest.raises(WalletError) as e:
        Wallet.from_hex(key)
    assert not key or key not in str(e.value)


def test_a_wallet_shows_its_address_alone_and_stays_in_its_process():
    wallet = Wallet.from_mnemonic(M2)
    assert repr(wallet) == f"Wallet({A2})"
    with pytest.raises(TypeError):
        pickle.dumps(wallet)


def test_a_signature_is_always_the_same_and_low():
    wallet = Wallet.from_mnemonic(M1)
    signatures = {wallet.sign(b"the same") for _ in range(3)}
    assert len(signatures) == 1
    half = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
    for text in (b"%d" % n for n in range(20)):
        signature = wallet.sign(text)
        assert len(signature) == 64
        assert int.from_bytes(signature[32:], "big") <= half


def test_the_fast_signer_makes_the_same_signatures():
    pytest.importorskip("coincurve", reason="the extra `fast` is not installed")
    wallet = Wallet.from_mnemonic(M1)
    assert wallet._fast is not None
    for text in (b"%d" % n for n in range(200)):
        by_cosmpy = wallet._key.sign(text, deterministic=True, canonicalise=True)
        assert wallet.sign(text) == by_cosmpy


def test_addresses_are_checked():
    assert check_address(A1) == A1
    for wrong in ("", "dydx1", A1[:-1] + "x", A1.upper(), "fetch" + A1[4:], A1 + "q"):
        with pytest.raises(WalletError):
            check_address(wrong)
