"""`tradegw new-venue`: what it writes runs, passes its own tests, and is clean."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest

from tests.e2e.cli.conftest import check_refusal, is_ready, place
from tests.e2e.processes import REPOSITORY, run, serving, tradegw, wait_until


@pytest.fixture
def written(tmp_path: Path) -> Path:
    done = tradegw("new-venue", "acme-two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path / "tradegw-acme-two"


def installed(root: Path) -> str:
    """Make the package known to Python as an installer would; returns the path for it."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    info = root / "src" / "tradegw_acme_two-0.1.0.dist-info"
    info.mkdir()
    lines = [f"Name: {project['name']}", f"Version: {project['version']}", ""]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines]), "utf-8")
    entries = [f"{k} = {v}" for k, v in project["entry-points"]["tradegw"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[tradegw]", *entries, ""]), "utf-8")
    return str(root / "src")


@pytest.mark.parametrize("is_installed", [False, True], ids=["from source", "installed"])
def test_its_own_tests_pass(written: Path, is_installed: bool) -> None:
    path = installed(written) if is_installed else str(written / "src")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = run(words, cwd=written, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_it_is_clean_under_the_strictest_checks(written: Path) -> None:
    config = str(REPOSITORY / "pyproject.toml")
    words = [sys.executable, "-m", "ruff"]
    for more in (["check", "--config", config], ["format", "--check", "--config", config]):
        done = run([*words, *more, "src"], cwd=written)
        assert done.returncode == 0, done.stdout + done.stderr
    paths = os.pathsep.join([str(written / "src"), str(REPOSITORY / "src")])
    done = run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "src"],
        cwd=written,
        timeout_s=110,
        MYPYPATH=paths,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_once_installed_it_is_served(written: Path, tmp_path: Path) -> None:
    path = installed(written)
    assert "tradegw-acme-two" in tradegw("plugins", cwd=tmp_path, PYTHONPATH=path).stdout
    (tmp_path / "tradegw.toml").write_text(
        "[venues.here]\nplugin = 'acme-two'\n[accounts.paper]\nvenue = 'here'\n", "utf-8"
    )
    with serving(tmp_path, PYTHONPATH=path) as gateway:
        wait_until(lambda: is_ready(gateway), 60, "ready")

        def command(*words: str) -> object:
            return tradegw(*words, cwd=tmp_path)

        order = place(command, "--price", "60000", ord_type="limit")  # type: ignore[arg-type]
        assert (order["venue"], order["ord_status"]) == ("here", "NEW")


def test_nothing_is_overwritten_and_a_bad_name_is_refused(written: Path, tmp_path: Path) -> None:
    before = (written / "pyproject.toml").read_text("utf-8")
    check_refusal(tradegw("new-venue", "acme-two", cwd=tmp_path), 2, "FILE_EXISTS", "acme-two")
    assert (written / "pyproject.toml").read_text("utf-8") == before
    check_refusal(tradegw("new-venue", "../Acme", cwd=tmp_path), 2, "INVALID_FIELD", "Acme")
