"""What the documentation says to run, runs.

Every snippet of Python in README.md and docs/ is run by a test here. One in docs/ names its test in a comment
before it: `<!-- test: NAME -->`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tradegw_mock.testing import MockProcess

from tests.e2e.processes import REPOSITORY, run, serving, tradegw

README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").rglob("*.md"))
BIN = Path(sys.executable).parent
_FENCE = re.compile(
    r"(?:^<!-- test: (?P<test>[\w-]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Snippet:
    """A fenced block.

    Attributes:
        test: The name in the comment before it; empty without one.
        section: The heading above it.
    """

    file: Path
    language: str
    text: str
    test: str
    section: str


def snippets(file: Path) -> list[Snippet]:
    page = file.read_text("utf-8")
    found: list[Snippet] = []
    for match in _FENCE.finditer(page):
        headings = re.findall(r"^#+ (.*)$", page[: match.start()], re.MULTILINE)
        found.append(
            Snippet(
                file=file.relative_to(REPOSITORY),
                language=match["language"],
                text=match["text"],
                test=match["test"] or "",
                section=headings[-1] if headings else "",
            )
        )
    return found


def named(test: str) -> Snippet:
    (snippet,) = [s for file in DOCS for s in snippets(file) if s.test == test]
    return snippet


def shell(line: str, cwd: Path, *, timeout_s: float = 120, **variables: str) -> str:
    """Run a line as a reader types it, in an environment where `tradegw` is installed."""
    done = run(
        ["bash", "-c", line],
        cwd=cwd,
        timeout_s=timeout_s,
        **{**variables, "PATH": f"{BIN}{os.pathsep}{variables.get('PATH', os.environ['PATH'])}"},
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def python(text: str, cwd: Path) -> CompletedProcess[str]:
    """Save a snippet and run it, with warnings as errors."""
    file = cwd / "bot.py"
    file.write_text(text, "utf-8")
    done = run([sys.executable, "-W", "error", str(file)], cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# --- the README -----------------------------------------------------------------------------------


def start_lines() -> list[str]:
    """Return the shell lines of the README's section Start."""
    return [
        line
        for snippet in snippets(README)
        if snippet.language == "sh" and snippet.section == "Start"
        for line in snippet.text.splitlines()
        if line
    ]


def test_first_command_names_what_there_is() -> None:
    command = start_lines()[0]
    *_, install, last = command.split(" && ")
    assert last == "tradegw serve"
    words = install.split()
    assert words[:4] == ["python3", "-m", "pip", "install"]
    for path in words[4:]:
        project = tomllib.loads((REPOSITORY / path / "pyproject.toml").read_text("utf-8"))
        assert project["project"]["name"].startswith("tradegw")


def test_test_command_names_what_there_is() -> None:
    command = start_lines()[-1]
    assert command.endswith("&& python3 -m nox")
    # What nox runs without further words (marked with a star) must be there, and the tests among it.
    listed = run([sys.executable, "-m", "nox", "--list"], cwd=REPOSITORY)
    assert listed.returncode == 0, listed.stderr
    chosen = set(re.findall(r"^\* ([\w.-]+)", listed.stdout, re.MULTILINE))
    assert {"lint", "types", "tests-3.11"} <= chosen, listed.stdout
    assert "- long" in listed.stdout


def test_every_other_line_of_start_runs(tmp_path: Path) -> None:
    lines = start_lines()[1:-1]
    assert len(lines) >= 4
    said: dict[str, str] = {}
    with serving(tmp_path) as served:
        for line in lines:
            said[line] = shell(line, tmp_path)
        assert served.stop() == 0
    words = {line.split()[1]: out for line, out in said.items()}
    assert "FILLED" in words["order"]
    assert "BTC/USDT" in words["fills"]
    assert "filled 0.01" in words["explain"], words["explain"]
    assert "no problem found" in words["verify"]


def test_serve_as_the_readme_says_it(tmp_path: Path) -> None:
    """Without any argument, but for its ports, which others may have."""
    with serving(tmp_path) as served:
        (account,) = json.loads(shell("tradegw venues --json", tmp_path))["venues"][0]["accounts"]
        assert account["account"] == "paper"
        assert {"BTC", "ETH", "USD", "USDT"} <= {
            balance["asset"]
            for balance in json.loads(shell("tradegw balances --json", tmp_path))["balances"]
        }
        assert served.grpc.startswith("127.0.0.1:")
        assert served.http.startswith("127.0.0.1:")
    assert (tmp_path / "tradegw.db").exists()


def test_demo(tmp_path: Path) -> None:
    assert "`tradegw demo`" in README.read_text("utf-8")
    said = shell("tradegw demo", tmp_path)
    match = re.search(r"(\d+) of (\d+) numbers agree", said)
    assert match is not None, said
    assert match[1] == match[2]
    assert "died by SIGKILL" in said
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def readme_python() -> tuple[str, str]:
    """Return the two programs: embedded, and connected."""
    embedded, connected = [s.text for s in snippets(README) if s.language == "python"]
    return embedded, connected


def test_ten_lines_embedded(tmp_path: Path) -> None:
    embedded, _ = readme_python()
    assert python(embedded, tmp_path).stdout == "NEW ()\nCANCELED\n"
    # Its key was used: the same order, as it stands now. It is closed, so the cancel is refused.
    (tmp_path / "bot.py").write_text(embedded, "utf-8")
    again = run([sys.executable, "bot.py"], cwd=tmp_path)
    assert again.stdout == "CANCELED ()\n"
    assert "ORDER_CLOSED" in again.stderr or "Conflict" in again.stderr


def test_ten_lines_connected(tmp_path: Path) -> None:
    embedded, connected = readme_python()
    pairs = zip(embedded.splitlines(), connected.splitlines(), strict=True)
    assert sum(ours != theirs for ours, theirs in pairs) == 1, "one line differs"
    with serving(tmp_path) as served:
        assert connected.count("127.0.0.1:50051") == 1
        text = connected.replace("127.0.0.1:50051", served.grpc)
        assert python(text, tmp_path).stdout == "NEW ()\nCANCELED\n"


def test_links_lead_somewhere() -> None:
    for page in [README, *DOCS]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


# --- docs/ ----------------------------------------------------------------------------------------


def test_every_snippet_of_python_has_its_test() -> None:
    without = [
        f"{snippet.file}: {snippet.section}"
        for file in DOCS
        for snippet in snippets(file)
        if snippet.language == "python" and not snippet.test
    ]
    assert not without
    assert {s.test for file in DOCS for s in snippets(file) if s.test} == set(TESTS)


def test_first_bot(tmp_path: Path) -> None:
    snippet = named("first-bot")
    first = python(snippet.text, tmp_path).stdout.splitlines()
    second = python(snippet.text, tmp_path).stdout.splitlines()
    assert first[0].startswith("FILLED 0.01")
    assert len(first) >= 2, "the order, and its fills"
    assert list(map(numbers, second)) == list(map(numbers, first)), "the second run buys nothing"
    lines = [
        line
        for other in snippets(REPOSITORY / snippet.file)
        if other.language == "sh"
        for line in other.text.splitlines()
    ]
    assert lines
    said = {line.split()[1]: shell(line, tmp_path) for line in lines}
    orders = json.loads(shell("tradegw orders --json", tmp_path))["orders"]
    assert [order["client_order_id"] for order in orders] == ["breakfast"]
    assert "FILLED" in said["orders"]
    assert "no problem found" in said["verify"]


def numbers(line: str) -> list[str | Decimal]:
    """Return the words of a line, with numbers by their value."""
    return [Decimal(word) if word[0].isdigit() else word for word in line.split()]


def test_config(tmp_path: Path) -> None:
    (tmp_path / "tradegw.toml").write_text(named("config").text, "utf-8")
    done = tradegw("config", "check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for key, value in [("gateway.name", "desk-1"), ("accounts.main.venue", "mock")]:
        assert re.search(rf"{re.escape(key)}\W.*{value}", done.stdout), done.stdout


def install_acme(site: Path, *, lost: str = "") -> None:
    """Lay out what pip would install of the package in the guide: a module, its name and entry point.

    Args:
        lost: Text in place of `execute`'s answer.
    """
    code = named("venue")
    answer = "        self.orders[name] = report\n        return [report]\n"
    assert code.text.count(answer) == 1
    text = code.text.replace(answer, lost) if lost else code.text
    (project,) = [
        tomllib.loads(s.text)
        for s in snippets(REPOSITORY / code.file)
        if s.language == "toml" and s.section == code.section
    ]
    about: Mapping[str, str] = project["project"]
    (entry,) = project["project"]["entry-points"]["tradegw"].items()
    site.mkdir()
    (site / f"{entry[1]}.py").write_text(text, "utf-8")
    info = site / f"{entry[1]}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n", "utf-8"
    )
    (info / "entry_points.txt").write_text(f"[tradegw]\n{entry[0]} = {entry[1]}\n", "utf-8")


ACME_TOML = """
[venues.acme]
plugin = "acme"
[accounts.main]
venue = "acme"
"""
ACME_BOT = """
import asyncio, tradegw

async def main():
    async with tradegw.open("tradegw.toml") as gateway:
        order = await gateway.place_order(
            account="main", symbol="ACME/USD", side="buy", ord_type="limit", order_qty="3", price="1.25",
        )
        print(order.ord_status, order.in_doubt)
        print((await gateway.cancel_order(order.order_id)).ord_status)

asyncio.run(main())
"""


def test_venue(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install_acme(site)
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    listed = shell("tradegw plugins", tmp_path, PYTHONPATH=paths)
    assert "tradegw-acme" in listed, listed
    assert "acme" in listed
    (tmp_path / "tradegw.toml").write_text(ACME_TOML, "utf-8")
    bot = tmp_path / "bot.py"
    bot.write_text(ACME_BOT, "utf-8")
    done = run([sys.executable, str(bot)], cwd=tmp_path, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "NEW ()\nCANCELED\n"
    shutil.rmtree(site)
    assert "acme" not in shell("tradegw plugins", tmp_path)


LOST_BOT = """
import asyncio, tradegw

async def main():
    async with tradegw.open("tradegw.toml") as gateway:
        order = await gateway.place_order(
            account="main", symbol="ACME/USD", side="buy", ord_type="limit", order_qty="3", price="1.25",
        )
        print(order.ord_status, [doubt.command.value for doubt in order.in_doubt])
        async with asyncio.timeout(60):
            async for batch in gateway.stream_orders():
                if (order := await gateway.get_order(order.order_id)) and not order.in_doubt:
                    break
        print(order.ord_status, order.reason, order.closed_by)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("lost", "ends"),
    [
        pytest.param(
            "        self.orders[name] = report\n        raise ConnectionResetError('cut')\n",
            "NEW  None",
            id="the answer is lost",
        ),
        pytest.param(
            "        raise ConnectionResetError('cut')\n",
            "REJECTED NEVER_REACHED_VENUE ABSENT_AFTER_EXPIRY",
            id="the request is lost",
        ),
    ],
)
def test_venue_that_cuts_the_line(tmp_path: Path, lost: str, ends: str) -> None:
    """The guide's venue says nothing of this case; the engine finds out all the same."""
    site = tmp_path / "site"
    install_acme(site, lost=lost)
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "tradegw.toml").write_text(ACME_TOML, "utf-8")
    bot = tmp_path / "bot.py"
    bot.write_text(LOST_BOT, "utf-8")
    done = run([sys.executable, str(bot)], cwd=tmp_path, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"PENDING_NEW ['NEW']\n{ends}\n"


def test_chaos_scenario(tmp_path: Path) -> None:
    """The scenario, the configuration and the bot that the guide shows, together."""
    (tmp_path / "bad-night.toml").write_text(named("chaos-scenario").text, "utf-8")
    (tmp_path / "tradegw.toml").write_text(named("chaos-config").text, "utf-8")
    done = python(named("chaos-bot").text, tmp_path)
    assert done.stdout == "NEW\n"
    told = shell("tradegw explain whose-answer-is-lost", tmp_path)
    assert "whose-answer-is-lost" in told


def test_mock_admin(tmp_path: Path) -> None:
    program = tmp_path / "operate.py"
    program.write_text(named("mock-admin").text, "utf-8")
    with MockProcess(config={"step_interval_s": 0}) as exchange:
        done = run(
            [sys.executable, "-W", "error", str(program), exchange.serving.admin], cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "BTC 1.5\nUSDT 50000\n61000\nTrue\n"


def test_simulated_hours(tmp_path: Path) -> None:
    program = tmp_path / "hours.py"
    program.write_text(named("simulated-hours").text, "utf-8")
    done = run([sys.executable, str(program)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_definition(tmp_path: Path) -> None:
    """What the definition does is tested in the plugin; here, that a reader's copy of it is taken."""
    (tmp_path / "acme.yaml").write_text(named("definition").text, "utf-8")
    done = tradegw("rest", "check", "acme.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


TESTS: Mapping[str, object] = {
    "first-bot": test_first_bot,
    "definition": test_definition,
    "config": test_config,
    "venue": test_venue,
    "chaos-scenario": test_chaos_scenario,
    "chaos-config": test_chaos_scenario,
    "chaos-bot": test_chaos_scenario,
    "mock-admin": test_mock_admin,
    "simulated-hours": test_simulated_hours,
    **dict.fromkeys(["upgrade-ask", "upgrade-up", "roll-back"], "tests/e2e/test_upgrade.py"),
    **dict.fromkeys(["archive-ask", "archive", "archive-read"], "tests/e2e/cli/test_archive.py"),
    # Elsewhere, for they are steps of one story.
    **dict.fromkeys(
        [
            *("back-up-sqlite", "restore-sqlite", "back-up-postgres", "restore-postgres"),
            *("anchor", "verify-restored", "adopt-restored"),
        ],
        "tests/e2e/test_back_up.py",
    ),
}


@pytest.mark.parametrize("name", sorted(TESTS))
def test_named_snippets_are_there_once(name: str) -> None:
    assert named(name).text
