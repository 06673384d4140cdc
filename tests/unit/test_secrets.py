"""Secrets: named by reference, read strictly, shown nowhere."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import pytest

from tradegw import hookimpl
from tradegw.errors import ConfigError, PluginError
from tradegw.gateway.secrets import SameSecrets, read_secret
from tradegw.hookspecs import SecretSource
from tradegw.plugins import load_plugins
from tradegw.venue import Secret


def test_a_secret_is_read_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    assert read_secret("env:KEY").reveal() == "s3cret"


def test_a_secret_is_read_from_a_file_of_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    path.chmod(0o600)
    assert read_secret(f"file:{path}").reveal() == "s3cret"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o601])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text("s3cret")
    path.chmod(mode)
    with pytest.raises(ConfigError) as wrong:
        read_secret(f"file:{path}")
    assert wrong.value.reason == "SECRET_EXPOSED"
    assert "s3cret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("s3cret", "SECRET_INLINE"),
        ("s3cret:x", "SECRET_INLINE"),
        ("", "SECRET_INLINE"),
        (5, "SECRET_INLINE"),
        (None, "SECRET_INLINE"),
        ("env:NO_SUCH_VARIABLE", "SECRET_MISSING"),
        ("env:EMPTY", "SECRET_MISSING"),
        ("file:/no/such/file", "SECRET_MISSING"),
        (f"file:{os.sep}", "SECRET_MISSING"),
    ],
)
def test_what_is_no_reference_or_leads_nowhere_is_refused(
    reference: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(ConfigError) as wrong:
        read_secret(reference)
    # A directory is open to others as well.
    assert wrong.value.reason in (reason, "SECRET_EXPOSED")
    assert "s3cret" not in str(wrong.value)


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe"])
def test_an_empty_or_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as wrong:
        read_secret(f"file:{path}")
    assert wrong.value.reason == "SECRET_MISSING"


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {[secret]} {vars(Secret)}"
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


# --- from elsewhere -------------------------------------------------------------------------------


class Keyring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self, **held: str) -> None:
        super().__init__()
        self.held = held

    def get_password(self, service: str, username: str) -> str | None:
        assert service == "tradegw"
        return self.held.get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[username] = password


@pytest.fixture
def in_keyring() -> Iterator[Keyring]:
    before, ours = keyring.get_keyring(), Keyring(main="s3cret")
    keyring.set_keyring(ours)
    yield ours
    keyring.set_keyring(before)


def test_a_secret_is_read_from_the_keyring(in_keyring: Keyring) -> None:
    assert read_secret("keyring:main").reveal() == "s3cret"
    with pytest.raises(ConfigError) as wrong:
        read_secret("keyring:other")
    assert wrong.value.reason == "SECRET_MISSING"


class Offers:
    """A plugin that offers sources of secrets."""

    def __init__(self, *sources: object) -> None:
        self.sources = sources

    @hookimpl
    def tradegw_register_secret_sources(self) -> Sequence[object]:
        return self.sources


def test_a_secret_is_read_from_a_plugins_source() -> None:
    held = {"main/key": "s3cret"}
    source = SecretSource(name="vault", read=held.__getitem__)
    sources = load_plugins([Offers(source)]).secret_sources()
    assert read_secret("vault:main/key", sources).reveal() == "s3cret"
    # What is there is read anew each time.
    held["main/key"] = "another"
    assert read_secret("vault:main/key", sources).reveal() == "another"
    with pytest.raises(ConfigError) as wrong:
        read_secret("vault:other", sources)
    assert (wrong.value.reason, "KeyError" in str(wrong.value)) == ("SECRET_MISSING", True)
    with pytest.raises(ConfigError, match="vault:"):
        read_secret("s3cret", sources)


def test_a_source_that_fails_tells_nothing_of_the_secret() -> None:
    def read(name: str) -> str:
        raise RuntimeError("the answer was s3cret")

    sources = load_plugins([Offers(SecretSource(name="vault", read=read))]).secret_sources()
    with pytest.raises(ConfigError) as wrong:
        read_secret("vault:main", sources)
    assert "s3cret" not in str(wrong.value)
    assert wrong.value.__cause__ is None
    assert wrong.value.__suppress_context__


@pytest.mark.parametrize("empty", ["", None, 5])
def test_a_source_without_an_answer_has_no_secret(empty: Any) -> None:
    sources = load_plugins([Offers(SecretSource(name="v", read=lambda _: empty))]).secret_sources()
    with pytest.raises(ConfigError, match="no secret v:main"):
        read_secret("v:main", sources)


@pytest.mark.parametrize("name", ["env", "file", "keyring", "", "Vault", "a:b", "vault"])
def test_sources_have_names_of_their_own(name: str) -> None:
    offers = Offers(SecretSource(name="vault", read=str), SecretSource(name=name, read=str))
    with pytest.raises(PluginError):
        load_plugins([offers]).secret_sources()


def test_what_is_no_source_is_refused() -> None:
    with pytest.raises(PluginError, match="SecretSource"):
        load_plugins([Offers("vault")]).secret_sources()


# --- the same credentials ------------------------------------------------------------------------------


@dataclass
class _Options:
    api_key: Secret
    api_secret: Secret | None = None
    host: str = ""


def test_accounts_with_the_same_credentials_are_told_from_others() -> None:
    same = SameSecrets()
    one = same.name_of(_Options(Secret("k"), Secret("s"), "a"))
    assert one == same.name_of(_Options(Secret("k"), Secret("s"), "b"))
    others = [
        same.name_of(_Options(Secret("k"), Secret("t"))),
        same.name_of(_Options(Secret("ks"))),
        same.name_of(_Options(Secret("k"))),
    ]
    assert len({one, *others}) == 4
    assert same.name_of(object()) == ""
