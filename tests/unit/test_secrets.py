"""Secrets: named by reference, read strictly, shown nowhere."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from tradegw.errors import ConfigError
from tradegw.gateway.secrets import read_secret
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
