"""What CI runs, and what a developer runs: `nox`. The big counts: `nox -s long`.

Sessions make their own environments. With uv on the machine they are made in a second.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
# Whoever has one of the versions can run the tests; `pythons` says which did.
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "lint",
    "types",
    "tests",
    "clients",
    "dydx",
    "dydx-client",
    "generate",
    "docs",
    "minimum",
    "newest",
    "build",
]

# Sessions start processes by the hundred, in environments that are new: where this is set, as images like to,
# each of them would compile all modules anew, half a second of its second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYTHONS = ["3.11", "3.12", "3.13"]
PYPROJECT = nox.project.load_toml("pyproject.toml")
PLUGINS = ["./plugins/tradegw-mock", "./plugins/tradegw-rest", "./plugins/tradegw-rabbitmq"]
# cosmpy holds protobuf at 5.29: with it in the environment the other sessions would test nothing newer.
DYDX = "./plugins/tradegw-dydx"
# It cannot share an environment with cosmpy, whatever the versions.
DYDX_CLIENT = ["dydx-v4-client==1.1.5", "v4-proto==8.2.0"]
TEST = nox.project.dependency_groups(PYPROJECT, "test")
DEV = nox.project.dependency_groups(PYPROJECT, "dev")
CODE = [
    "src",
    "plugins",
    "codegen",
    "tests",
    "examples",
    "benchmarks",
    "deploy",
    "noxfile.py",
]


def _install(session: nox.Session, *more: str) -> None:
    session.install("-e", ".", *(part for plugin in PLUGINS for part in ("-e", plugin)), *more)


def _pytest(session: nox.Session, *args: str) -> None:
    # Exit code 5, "no test ran", is a failure like any other. A file stays in one process: what its tests
    # share is started once. The files come in the order in which they are collected, which puts the longest
    # first; xdist would begin with those of many tests, which are the quick ones.
    dist = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    session.run("pytest", "-q", *dist, *args, *session.posargs)


WITHOUT_DYDX = ("--ignore", DYDX)


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Style, formatting, fragments of the changelog that can be read, and the files of deploy/."""
    tools = ("ruff", "towncrier", "hadolint", "check-jsonschema")
    session.install(*[d for d in DEV if d.startswith(tools)])
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)
    session.run("towncrier", "build", "--draft", silent=True)
    session.run("hadolint", "deploy/Dockerfile")
    # Against the schema that the compose project publishes; the package brings it.
    session.run(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"
    )


@nox.session(python=PYTHONS[0])
def types(session: nox.Session) -> None:
    """Both checkers, strict; and nothing unknown in what users import."""
    _install(session, *DEV)
    sources = [f"{plugin.removeprefix('./')}/src" for plugin in PLUGINS]
    session.run("mypy", "src/tradegw", *sources, "codegen", "examples", "benchmarks", "deploy")
    session.run("pyright", "--pythonpath", _python(session))
    told = session.run(
        "pyright",
        "--pythonpath",
        _python(session),
        "--outputjson",
        "--ignoreexternal",
        "--verifytypes",
        "tradegw",
        silent=True,
        # It also counts inferred types of private rooms, which are known; unknown ones are what fails here.
        success_codes=[0, 1],
    )
    assert isinstance(told, str)
    counts = json.loads(told)["typeCompleteness"]["exportedSymbolCounts"]
    session.log(f"types of public symbols: {counts}")
    if counts["withUnknownType"] or not counts["withKnownType"]:
        session.error("some public symbol has an unknown type: run pyright --verifytypes tradegw")


def _python(session: nox.Session) -> str:
    return str(Path(session.bin, "python"))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests but the long ones on the first Python; on the others those that may differ there."""
    _install(session, *DEV)
    if session.python == PYTHONS[0]:
        _need_chromium(session)
        _pytest(session, "-m", "not long", "tests", "plugins", *WITHOUT_DYDX)
    else:
        _pytest(
            session,
            "-m",
            "not long",
            "tests/unit",
            "tests/integration/store",
            "tests/integration/grpc",
            # What a server does when it is cut off or stopped does not hang on our Python.
            *("--ignore", "tests/integration/store/test_postgres.py", "-k", "not postgres15"),
        )


def _need_chromium(session: nox.Session) -> None:
    """Under CI, install the browser that tests of pages use, where that can be; say why where not."""
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return
    if not os.environ.get("CI"):
        session.warn("no chromium: the tests of pages are skipped; your package manager has it")
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.warn("no chromium, and no right to install one: the tests of pages fail")
        return
    session.run("apt-get", "update", "-qq", external=True)
    session.run("apt-get", "install", "-y", "-qq", "chromium", external=True)


@nox.session(python=PYTHONS[0])
def browser(session: nox.Session) -> None:
    """The pages in a headless Chromium alone; `TRADEGW_SCREENSHOTS=DIR` keeps what it saw."""
    _install(session, *DEV)
    _need_chromium(session)
    session.env["TRADEGW_REQUIRE_SERVICES"] = "1"
    _pytest(session, "plugins/tradegw-mock/tests/test_page.py")


@nox.session(python=PYTHONS[0])
def dydx(session: nox.Session) -> None:
    """The dYdX plugin, with what it brings: its tests, and both checkers."""
    _install(session, "-e", f"{DYDX}[fast]", *DEV)
    session.run("mypy", f"{DYDX}/src", f"{DYDX}/proto")
    session.run("pyright", "--pythonpath", _python(session), f"{DYDX}/src")
    _pytest(session, "-m", "not long", DYDX, "--ignore", f"{DYDX}/tests/official")
    # Without the fast signer, the signatures are cosmpy's: the golden vectors hold for both.
    session.run("uv", "pip", "uninstall", "coincurve", external=True, silent=True)
    session.run("pytest", "-q", f"{DYDX}/tests/test_vectors.py", f"{DYDX}/tests/test_wallet.py")


@nox.session(python=PYTHONS[0], name="dydx-client")
def dydx_client(session: nox.Session) -> None:
    """The official client of dYdX, unmodified and in an environment of its own.

    It trades on the local chain, and makes the same bytes of random orders as we do. Among the long tests
    twenty thousand; `nox -s dydx-client -- bench` compares how long building and signing take.
    """
    _install(session, "-e", f"{DYDX}[fast]", "uv", *TEST)
    client = Path(session.create_tmp(), "client")
    python = str(client / "bin" / "python")
    session.run("uv", "venv", "--clear", "--python", _python(session), str(client), silent=True)
    session.run("uv", "pip", "install", "--python", python, *DYDX_CLIENT, silent=True)
    session.env["TRADEGW_DYDX_CLIENT"] = python
    if session.posargs == ["bench"]:
        session.run("python", "-m", "benchmarks.dydx")
        return
    args = session.posargs or ["-m", "not long"]
    session.run("pytest", "-q", "-n", "0", f"{DYDX}/tests/official", *args)


@nox.session(python=PYTHONS[0])
def testnet(session: nox.Session) -> None:
    """Trade on dYdX's public testnet with the mnemonic in TRADEGW_DYDX_TESTNET_MNEMONIC.

    Without a key, or without a network, it is not run: that is no success, and it does not say so.
    """
    if not os.environ.get("TRADEGW_DYDX_TESTNET_MNEMONIC"):
        session.skip("not run: TRADEGW_DYDX_TESTNET_MNEMONIC is not set")
    _install(session, "-e", DYDX)
    # 77: it reached nobody. The last line says so, and no session passes by it.
    told = session.run("python", f"{DYDX}/tests/testnet.py", success_codes=[0, 77], silent=True)
    assert isinstance(told, str)
    session.log(told)
    if "not run:" in told:
        session.skip(told.strip().splitlines()[-1])


CLIENTS = {
    "ccxt": ["test_ccxt.py", "test_ccxt_pro.py", "test_ccxt_harness.py"],
    "python-binance": ["test_python_binance.py"],
    "binance-sdk-spot": ["test_binance_sdk.py"],
    "binance-connector": ["test_binance_connector.py"],
}


@nox.session(python=PYTHONS[0])
def clients(session: nox.Session) -> None:
    """Unmodified exchange clients trade on the mock exchange, each in an environment of its own.

    `nox -s clients -- long` runs what takes its time, too.
    """
    _install(session)
    session.install("uv")
    folder = Path("plugins/tradegw-mock/clients")
    marks = [] if "long" in session.posargs else ["-m", "not long"]
    # psutil: what ccxt's own tests import and its wheel does not ask for.
    tools = ["pytest>=8.3", "pytest-asyncio>=0.26", "pytest-timeout>=2.3", "psutil"]
    for client, files in CLIENTS.items():
        venv = Path(session.create_tmp(), client)
        session.run("uv", "venv", "--clear", "--python", _python(session), str(venv), silent=True)
        python = str(venv / "bin" / "python")
        session.run("uv", "pip", "install", "--python", python, client, *tools, silent=True)
        session.run(
            *(python, "-m", "pytest", "-q", "-c", str(folder / "pytest.ini"), *marks),
            *(str(folder / file) for file in files),
            env={"TRADEGW_MOCK_PYTHON": _python(session)},
            external=True,
        )


@nox.session(python=PYTHONS[0])
def generate(session: nox.Session) -> None:
    """What is generated is what is committed, and the protocol breaks no promise of the last release."""
    _install(session, *DEV)
    session.run("python", "-m", "codegen.generate", "--check")
    session.run("python", "-m", "codegen.protos", "check")


@nox.session(python=PYTHONS[0])
def docs(session: nox.Session) -> None:
    """Reference pages are those that the code yields; links lead somewhere."""
    _install(session, *TEST)
    session.run("python", "-m", "codegen.reference", "--check")


@nox.session(python=PYTHONS[0])
def minimum(session: nox.Session) -> None:
    """The lowest versions that the distributions allow."""
    session.install("uv")
    session.run(
        "uv",
        "pip",
        "install",
        "--python",
        _python(session),
        "--resolution",
        "lowest-direct",
        "-e",
        ".",
        *(part for plugin in PLUGINS for part in ("-e", plugin)),
        silent=True,
    )
    session.install(*TEST)
    _pytest(
        session,
        *("-m", "not long", "tests/unit", "tests/integration/grpc", "plugins", *WITHOUT_DYDX),
        # Whole gateways on doubles of exchanges: what they need of the versions, the other tests need, too.
        *("--ignore", "plugins/tradegw-rest/tests/test_on_doubles.py"),
    )


@nox.session(python=PYTHONS[0])
def newest(session: nox.Session) -> None:
    """The newest versions of everything, protobuf 7 included."""
    session.install("--upgrade", ".", *PLUGINS, *TEST)
    session.run("python", "-c", "import google.protobuf as p; assert p.__version__[0] == '7', p")
    _pytest(session, "-m", "not long", "tests/integration/grpc", "tests/unit")


@nox.session(python=PYTHONS[0])
def build(session: nox.Session) -> None:
    """Wheels and sdists are made, hold what they should, and work where nothing else is installed."""
    session.install("build", "uv")
    out = Path(session.create_tmp(), "dist")
    shutil.rmtree(out, ignore_errors=True)
    for project in [".", *PLUGINS, DYDX]:
        session.run("python", "-m", "build", "--outdir", str(out), project, silent=True)
    venv = Path(session.create_tmp(), "wheels")
    session.run("uv", "venv", "--clear", "--python", _python(session), str(venv), silent=True)
    python = str(venv / "bin" / "python")
    # First without dYdX, then with it: installed later, it takes protobuf back to 5.29.
    for wheels in (
        [str(path) for path in sorted(out.glob("*.whl")) if "dydx" not in path.name],
        [str(path) for path in sorted(out.glob("tradegw_dydx-*.whl"))],
    ):
        session.run("uv", "pip", "install", "--python", python, *wheels, silent=True)
        session.run("uv", "pip", "check", "--python", python, silent=True)
        session.run(str(venv / "bin" / "tradegw"), "plugins", "--json", external=True)


@nox.session(python=PYTHONS[0])
def long(session: nox.Session) -> None:
    """The big counts: kills, floods, histories."""
    _install(session, *DEV)
    _pytest(session, "-m", "long", "--timeout", "3600", "tests", "plugins", *WITHOUT_DYDX)


@nox.session(python=PYTHONS[0], name="dydx-long")
def dydx_long(session: nox.Session) -> None:
    """The big counts of the dYdX plugin, whose environment is its own."""
    _install(session, "-e", DYDX, *DEV)
    _pytest(session, "-m", "long", "--timeout", "3600", DYDX)


@nox.session(python=PYTHONS[0])
def simulate(session: nox.Session) -> None:
    """Whole gateways in virtual time: `-- --seeds 1000 [--first-seed S]`, or `-- --seed S` for a story."""
    _install(session, *TEST)
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session(python=PYTHONS[0])
def bench(session: nox.Session) -> None:
    """Measure, as ratios against a bare alternative in the same run."""
    _install(session, *DEV)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=PYTHONS[0])
def image(session: nox.Session) -> None:
    """Build the image, run it closed, and trade through it; *not run* where no container engine answers."""
    _install(session)
    told = session.run("python", "-m", "deploy.image", success_codes=[0, 77], silent=True)
    assert isinstance(told, str)
    session.log(told)
    if told.startswith("not run:"):
        session.skip(told.strip())


# Kept as it is: the gateway of the last `dev-up` may run from it.
@nox.session(python=PYTHONS[0], name="dev-up", reuse_venv=True)
def dev_up(session: nox.Session) -> None:
    """Start the whole stack: in containers, or with this machine's servers; `dev-down` stops it."""
    _install(session, *DEV)
    session.run("python", "-m", "deploy.stack", "up", *session.posargs)


@nox.session(python=PYTHONS[0], name="dev-down", reuse_venv=True)
def dev_down(session: nox.Session) -> None:
    """Stop what `dev-up` started, and nothing else. Data and logs stay in .dev."""
    session.run("python", "-m", "deploy.stack", "down", *session.posargs)


if os.environ.get("CI"):
    # A service that a test needs must be there: CI has no excuse.
    os.environ.setdefault("TRADEGW_REQUIRE_SERVICES", "1")
