"""What deploy/ holds: configurations that pass, containers that are closed, secrets that others cannot read.

`nox -s lint` has hadolint and compose's own schema look at the same files; here is what is ours to ask.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from codegen.env_example import env_example
from deploy.make_secrets import main, make_secrets
from tradegw.errors import ConfigError
from tradegw.gateway.config import SECTIONS, Config, load_config
from tradegw.gateway.extensions import check_config

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ENVIRONMENTS = ("development", "staging", "production")
TEXTS = [file for file in sorted(DEPLOY.rglob("*")) if file.suffix in {".yaml", ".toml", ""}]
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
OURS = {"gateway", "migrate", "exchange"}


def services(text: str = COMPOSE) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = yaml.safe_load(text)["services"]
    return found


# --- configurations -------------------------------------------------------------------------------


def checked(file: Path) -> Config:
    config = load_config(file, environ={})
    check_config(config)
    return config


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_configuration_passes_and_is_of_its_environment(environment: str) -> None:
    assert checked(DEPLOY / "config" / f"{environment}.toml").gateway.environment == environment


def test_account_in_production_passes_once_its_secrets_are_there(tmp_path: Path) -> None:
    text = (DEPLOY / "config" / "production.toml").read_text("utf-8")
    head, _, account = text.partition("# [accounts.main]")
    assert account, "the example of an account"
    whole = head + re.sub(r"^# ", "", f"# [accounts.main]{account}", flags=re.MULTILINE)
    file = tmp_path / "production.toml"
    file.write_text(whole.replace("/run/secrets", str(tmp_path)), "utf-8")
    with pytest.raises(ConfigError) as refusal:
        checked(file)
    assert refusal.value.reason == "SECRET_MISSING"
    for name in ("binance_key", "binance_secret"):
        (tmp_path / name).write_text("s3cret", "utf-8")
        (tmp_path / name).chmod(0o600)
    assert list(checked(file).accounts) == ["main"]


@pytest.mark.parametrize("environment", ["development", "staging"])
def test_rehearsals_are_refused_once_they_are_called_production(environment: str) -> None:
    file = DEPLOY / "config" / f"{environment}.toml"
    with pytest.raises(ConfigError) as refusal:
        load_config(file, environ={"TRADEGW__GATEWAY__ENVIRONMENT": "production"})
    assert refusal.value.reason in {"MOCK_IN_PRODUCTION", "PLAINTEXT_STORE"}


# --- .env.example ---------------------------------------------------------------------------------


def variables() -> Mapping[str, str]:
    """Return the example's variables, as if every line were uncommented."""
    page = (DEPLOY / ".env.example").read_text("utf-8")
    return dict(re.findall(r"^# (\w+)=(.*)$", page, re.MULTILINE))


def test_env_example_is_what_the_settings_yield() -> None:
    assert (DEPLOY / ".env.example").read_text("utf-8").rstrip() == env_example().rstrip()


def test_env_example_has_every_setting_with_its_default() -> None:
    ours = {name: text for name, text in variables().items() if name.startswith("TRADEGW__")}
    assert len(ours) == sum(len(msgspec.structs.fields(kind)) for kind in SECTIONS.values())
    config = load_config(overrides={}, environ=ours)
    for section, kind in SECTIONS.items():
        assert getattr(config, section) == kind()


def test_env_example_has_every_variable_of_compose() -> None:
    named = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert named
    assert named == {name for name in variables() if not name.startswith("TRADEGW__")}


# --- compose --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", services())
def test_service_is_closed(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "network_mode"} & set(service)
    assert service.get("cap_add", []) == (
        [] if name in OURS else ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
    )
    if name in OURS:
        assert service["user"].endswith(":-10001:10001}")
    # The gateway has its health check from the image.
    assert name == "gateway" or "healthcheck" in service
    for variable, text in service.get("environment", {}).items():
        assert "PASSWORD" not in variable or variable.endswith("_FILE")
        assert not re.search(r"//[^/@]*:[^/@]*@", text), "a password in a URL"


def test_only_the_gateway_is_reached_and_only_from_this_machine() -> None:
    networks = yaml.safe_load(COMPOSE)["networks"]
    assert networks["inside"] == {"internal": True}
    for name, service in services().items():
        ports = service.get("ports", [])
        assert bool(ports) == (name == "gateway")
        assert all(str(port).startswith("127.0.0.1:") for port in ports)
        assert service["networks"] == (["inside", "door"] if name == "gateway" else ["inside"])


def test_gateway_waits_for_the_schema_and_has_only_its_own_secrets() -> None:
    gateway, migrate = services()["gateway"], services()["migrate"]
    assert gateway["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert gateway["secrets"] == ["gateway.pgpass", "amqp.url"]
    assert migrate["secrets"] == ["owner.pgpass"]
    assert migrate["command"] == ["migrate", "up", "--grant-to", "tradegw_gateway"]


def test_every_secret_is_one_that_is_made(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")
    wanted = {Path(entry["file"]) for entry in yaml.safe_load(COMPOSE)["secrets"].values()}
    assert wanted == {Path("secrets", file.name) for file in (tmp_path / "secrets").iterdir()}


def test_second_gateway_is_one_line_away() -> None:
    line = re.compile(r"^  # (?=gateway-2:)", re.MULTILINE)
    assert len(line.findall(COMPOSE)) == 1
    first, second = (services(line.sub("  ", COMPOSE))[name] for name in ("gateway", "gateway-2"))
    differs = {key for key in first if first[key] != second[key]}
    assert differs == {"ports"}
    assert all(port.startswith("127.0.0.1:") for port in second["ports"])


def test_gateway_of_compose_has_a_configuration_that_passes(tmp_path: Path) -> None:
    url = tmp_path / "amqp.url"
    url.write_text("amqp://rabbitmq/", "utf-8")
    url.chmod(0o600)
    environ = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", text).replace("/run/secrets/amqp.url", str(url))
        for name, text in services()["gateway"]["environment"].items()
    }
    config = load_config(DEPLOY / "config" / "staging.toml", environ=environ)
    check_config(config)
    assert [sink.plugin for sink in config.sinks.values()] == ["rabbitmq"]


# --- the image ------------------------------------------------------------------------------------


def stages() -> list[str]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    return ["FROM " + stage for stage in re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]]


def test_image_is_made_of_copies_alone_and_runs_as_nobody_in_particular() -> None:
    *_, last = stages()
    assert last.startswith("FROM scratch\n")
    assert not re.search(r"^(RUN|ADD|SHELL)\b", last, re.MULTILINE)
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "/readyz" in last.partition("HEALTHCHECK")[2].partition("STOPSIGNAL")[0]
    # In the form that needs no shell: there is none.
    assert re.findall(r"^(?:ENTRYPOINT|CMD|    CMD) (.)", last, re.MULTILINE) == ["["] * 3


def test_image_holds_every_plugin_that_can_be_together() -> None:
    (named,) = re.findall(r'^ARG PLUGINS="(.*)"$', stages()[0], re.MULTILINE)
    folders = {path.parent.name for path in DEPLOY.parent.glob("plugins/*/pyproject.toml")}
    assert set(named.split()) == folders - {"tradegw-dydx"}


def test_python_of_the_image_is_one_that_is_tested() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text("utf-8"))["project"]
    versions = set(re.findall(r"^FROM python:(\d\.\d+)-", "\n".join(stages()), re.MULTILINE))
    assert len(versions) == 1
    assert f"Programming Language :: Python :: {versions.pop()}" in project["classifiers"]


def test_no_place_to_take_packages_from_is_named() -> None:
    assert len(TEXTS) >= 6
    for file in TEXTS:
        if file.is_file():
            assert not re.search(
                r"index-url|PIP_INDEX|pypi", file.read_text("utf-8"), re.IGNORECASE
            )


# --- secrets --------------------------------------------------------------------------------------


def test_secrets_are_behind_a_closed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    old = os.umask(0)
    try:
        make_secrets(folder)
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("owner.pgpass", "gateway.pgpass", "amqp.url", "postgres_password"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    roles = (folder / "roles.sql").read_text("utf-8")
    for role in ("owner", "gateway"):
        line = (folder / f"{role}.pgpass").read_text("utf-8").strip()
        password = line.removeprefix(f"*:*:*:tradegw_{role}:")
        assert f"tradegw_{role} LOGIN PASSWORD '{password}'" in roles
        assert len(password) >= 40


def test_secrets_that_are_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "secrets"
    monkeypatch.setattr("sys.argv", ["make_secrets.py", str(folder)])
    assert main() == 0
    before = (folder / "roles.sql").read_text("utf-8")
    assert main() == 1
    assert (folder / "roles.sql").read_text("utf-8") == before
    assert before.split("'")[1] not in capsys.readouterr().out
