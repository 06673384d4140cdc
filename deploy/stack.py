"""`python -m deploy.stack up|down [FOLDER]`: the whole stack on this machine, by default below .dev.

In containers, by deploy/compose.yaml, where an engine with compose answers; otherwise with the servers that
the machine has. Data, logs and pids are kept in the folder; `down` stops what `up` started, and nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from deploy.engines import find_engine, has_compose
from deploy.make_secrets import make_secrets
from deploy.processes import Processes, StackError
from deploy.servers import postgres_url, start_postgres, start_rabbitmq, start_redis

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "deploy" / "config" / "development.toml"
COMPOSE = ("compose", "-f", str(ROOT / "deploy" / "compose.yaml"))
START_S = 60.0
TRADEGW = (sys.executable, "-m", "tradegw.transports.cli")
USUAL: Mapping[str, int] = {
    "postgres": 5432,
    "rabbitmq": 5672,
    "rabbitmq_dist": 25672,
    "epmd": 4369,
    "redis": 6379,
    "exchange": 8100,
    "native": 8101,
    "grpc": 50051,
    "http": 8080,
}


def up(folder: Path) -> None:
    """Start it all, and say where it listens.

    Raises:
        StackError: A part does not start, or the stack runs already. What was started is stopped.
    """
    engine = find_engine()
    if engine is not None and has_compose(engine):
        _compose_up(engine, folder)
        return
    running = Processes(folder)
    if names := running.running():
        raise StackError(f"it runs already: {', '.join(names)}")
    running.stop()  # Forgets those that have ended.
    try:
        _up(folder, running)
    except BaseException:
        running.stop()
        raise


def down(folder: Path) -> None:
    """Stop what `up` started."""
    marker = folder / "compose"
    if marker.exists():
        subprocess.run([marker.read_text("utf-8"), *COMPOSE, "down"], check=True)
        marker.unlink()
        return
    stopped = Processes(folder).stop()
    print("stopped:", ", ".join(stopped) or "nothing ran")


def _compose_up(engine: str, folder: Path) -> None:
    secrets = ROOT / "deploy" / "secrets"
    if not secrets.exists():
        make_secrets(secrets)
    user = {} if os.geteuid() == 0 else {"TRADEGW_USER": f"{os.geteuid()}:{os.getegid()}"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compose").write_text(engine, "utf-8")
    words = [engine, *COMPOSE, "up", "--build", "--wait"]
    subprocess.run(words, check=True, env={**os.environ, **user})


def _up(folder: Path, running: Processes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ports = _ports(folder)
    secrets = folder / "secrets"
    if not secrets.exists():
        make_secrets(secrets, f"127.0.0.1:{ports['rabbitmq']}")
    version = start_postgres(running, folder, secrets, ports["postgres"])
    print(f"postgres  127.0.0.1:{ports['postgres']}  (PostgreSQL {version})")
    settings = folder / "exchange.toml"
    settings.write_text(f"native_port = {ports['native']}\n", "utf-8")
    kept = ("--config", str(settings), "--store", str(folder / "exchange.db"))
    words: tuple[str, ...] = (*TRADEGW, "mock", "serve", "--port", str(ports["exchange"]), *kept)
    running.start("exchange", words, cwd=folder, env=_environment())
    ping = f"http://127.0.0.1:{ports['exchange']}/api/v3/ping"
    running.wait("exchange", lambda: _is_fine(ping), START_S)
    print(f"exchange  127.0.0.1:{ports['native']}  (Binance-compatible on {ports['exchange']})")

    owner = _environment(TRADEGW__STORE__URL=postgres_url("owner", secrets, ports["postgres"]))
    words = (*TRADEGW, "migrate", "up", "--grant-to", "tradegw_gateway")
    done = subprocess.run(words, cwd=folder, env=owner, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"the schema cannot be made: {done.stderr}")
    print(f"migrate   {done.stdout.strip()}")

    for name, is_there in (
        ("rabbitmq", start_rabbitmq(running, folder, secrets, ports)),
        ("redis", start_redis(running, folder, secrets, ports["redis"])),
    ):
        said = f"127.0.0.1:{ports[name]}" if is_there else "not started: it is not installed here"
        print(f"{name:9} {said}")

    env = _environment(
        TRADEGW__STORE__URL=postgres_url("gateway", secrets, ports["postgres"]),
        TRADEGW__VENUES__EXCHANGE__URL=f"127.0.0.1:{ports['native']}",
    )
    if "rabbitmq" in running.running():
        env |= {
            "TRADEGW__SINKS__RABBIT__PLUGIN": "rabbitmq",
            "TRADEGW__SINKS__RABBIT__URL": f"file:{secrets / 'amqp.url'}",
            # Until queues are bound there, nobody misses an event that none of them takes.
            "TRADEGW__SINKS__RABBIT__MANDATORY": "false",
        }
    doors = ("--port", str(ports["grpc"]), "--http-port", str(ports["http"]))
    words = (*TRADEGW, "serve", "--config", str(CONFIG), "--json", *doors)
    running.start("gateway", words, cwd=folder, env=env)
    ready = f"http://127.0.0.1:{ports['http']}/readyz"
    running.wait("gateway", lambda: _is_fine(ready), START_S)
    target = f"127.0.0.1:{ports['grpc']}"
    print(f"gateway   {target}  (HTTP on 127.0.0.1:{ports['http']})")
    print(
        f"\n  tradegw order place --target {target} --account paper --symbol BTC/USDT --side buy "
        f"--type market --qty 0.01\n\nLogs in {folder / 'logs'}. `nox -s dev-down` stops it."
    )


def _environment(**more: str) -> dict[str, str]:
    """Return this process's environment, without what would configure another gateway."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TRADEGW")}
    return {**kept, **more}


def _ports(folder: Path) -> Mapping[str, int]:
    """Return the ports: the usual ones, free ones instead of those that are taken, and the same ever after.

    An account is bound to the address of its exchange, so what was chosen once is kept.
    """
    file = folder / "ports.json"
    if file.exists():
        kept: Mapping[str, int] = json.loads(file.read_text("utf-8"))
        if taken := [f"{name} {port}" for name, port in kept.items() if not _is_free(port)]:
            raise StackError(f"ports of {file} are in use: {', '.join(taken)}")
        return kept
    chosen: dict[str, int] = {}
    for name, port in USUAL.items():
        chosen[name] = port if _is_free(port) else _free_port()
    file.write_text(json.dumps(chosen, indent=1), "utf-8")
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_fine(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    """Do as the command line says."""
    commands = {"up": up, "down": down}
    if len(sys.argv) not in {2, 3} or sys.argv[1] not in commands:
        print(__doc__)
        return 2
    folder = Path(sys.argv[2] if len(sys.argv) == 3 else ROOT / ".dev").absolute()
    try:
        commands[sys.argv[1]](folder)
    except StackError as e:
        print(f"dev-{sys.argv[1]}: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
