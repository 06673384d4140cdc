"""What production refuses, each with its code; and that other environments are not asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tradegw.errors import ConfigError
from tradegw.gateway.config import Config, load_config
from tradegw.gateway.production import check_doors, is_loopback

ELSEWHERE = "postgresql://tradegw_gateway@db.internal/tradegw"
REST: Mapping[str, Any] = {"venues": {"binance": {"plugin": "rest", "definition": "binance-spot"}}}
MOCK: Mapping[str, Any] = {"venues": {"toy": {"plugin": "mock"}}}
REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "the memory store": ({"store": {"url": "memory://"}}, "STORE_FORGETS"),
    "the mock venue": (MOCK, "MOCK_IN_PRODUCTION"),
    "a mock venue beside a real one": (
        {"venues": {**REST["venues"], **MOCK["venues"]}},
        "MOCK_IN_PRODUCTION",
    ),
    "the gRPC door open to others": ({"server": {"grpc_host": "0.0.0.0"}}, "PLAINTEXT_DOOR"),
    "the HTTP door open to others": ({"server": {"http_host": "::"}}, "PLAINTEXT_DOOR"),
    "a door by a name": ({"server": {"grpc_host": "gateway.internal"}}, "PLAINTEXT_DOOR"),
    "Postgres elsewhere in plaintext": ({"store": {"url": ELSEWHERE}}, "PLAINTEXT_STORE"),
    "Postgres elsewhere, encrypted by whomever": (
        {"store": {"url": f"{ELSEWHERE}?sslmode=require"}},
        "PLAINTEXT_STORE",
    ),
    "one of two hosts elsewhere": (
        {"store": {"url": "postgresql://a@127.0.0.1,db2/tradegw"}},
        "PLAINTEXT_STORE",
    ),
    "hosts by address": (
        {"store": {"url": "postgresql://a@localhost/tradegw?hostaddr=10.0.0.7"}},
        "PLAINTEXT_STORE",
    ),
}
TAKEN: Mapping[str, Mapping[str, Any]] = {
    "a file": {},
    "other loopback addresses": {"server": {"grpc_host": "127.0.0.2", "http_host": "::1"}},
    "Postgres elsewhere that proves who it is": {
        "store": {"url": f"{ELSEWHERE}?sslmode=verify-full"}
    },
    "Postgres here": {"store": {"url": "postgresql://a@127.0.0.1/tradegw"}},
    "Postgres by a socket": {"store": {"url": "postgresql:///tradegw?host=/run/postgresql"}},
}


def load(environment: str, said: Mapping[str, Any], /, **environ: str) -> Config:
    told = {**REST, **said, "gateway": {"environment": environment}}
    return load_config(overrides=told, environ=environ)


@pytest.fixture(autouse=True)
def _no_server_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("case", REFUSED)
def test_production_refuses(case: str) -> None:
    said, reason = REFUSED[case]
    with pytest.raises(ConfigError) as refusal:
        load("production", said)
    assert refusal.value.reason == reason


@pytest.mark.parametrize("environment", ["development", "staging"])
@pytest.mark.parametrize("case", REFUSED)
def test_elsewhere_it_is_taken(environment: str, case: str) -> None:
    assert load(environment, REFUSED[case][0]).gateway.environment == environment


@pytest.mark.parametrize("case", TAKEN)
def test_production_takes(case: str) -> None:
    assert load("production", TAKEN[case]).venues["binance"].plugin == "rest"


def test_the_default_venue_is_refused_like_a_named_one() -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(overrides={}, environ={"TRADEGW__GATEWAY__ENVIRONMENT": "production"})
    assert refusal.value.reason == "MOCK_IN_PRODUCTION"


def test_a_misspelt_environment_is_refused_and_not_taken_for_another() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.environment"):
        load("prodution", {})


def test_what_libpq_reads_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.internal")
    with pytest.raises(ConfigError) as refusal:
        load("production", {"store": {"url": "postgresql:///tradegw"}})
    assert refusal.value.reason == "PLAINTEXT_STORE"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    load("production", {"store": {"url": "postgresql:///tradegw"}})


def test_doors_of_the_command_line() -> None:
    check_doors("staging", {"--host": "0.0.0.0"})
    check_doors("production", {"--host": "127.0.0.1"})
    with pytest.raises(ConfigError) as refusal:
        check_doors("production", {"--host": "0.0.0.0"})
    assert refusal.value.reason == "PLAINTEXT_DOOR"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")),
        *((host, False) for host in ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example")),
    ],
)
def test_loopback(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours
