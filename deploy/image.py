"""`python -m deploy.image`: builds the image, runs it closed as compose does, and trades through it.

Exits with 77 and "not run" where no container engine answers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from deploy.engines import NOT_RUN, find_engine

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "tradegw:local"
READY_S = 60.0
CLOSED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp", "--tmpfs", "/var/lib/tradegw:mode=1777"),
)
BARE = """
import os, shutil, sys
found = [name for name in "sh bash dash pip pip3 apt apt-get dpkg perl gcc".split() if shutil.which(name)]
sys.exit(f"in the image: {found}" if found or os.geteuid() == 0 else 0)
"""


def main() -> int:
    """Build, run, trade, stop."""
    engine = find_engine()
    if engine is None:
        print("not run: no container engine answers here (docker, podman)")
        return NOT_RUN
    _run(engine, "build", "-f", "deploy/Dockerfile", "-t", IMAGE, ".")
    _run(engine, "run", "--rm", *CLOSED, "--entrypoint", "python", IMAGE, "-c", BARE)
    doors = ("-p", "127.0.0.1::50051", "-p", "127.0.0.1::8080")
    container = _ask(engine, "run", "-d", *CLOSED, *doors, IMAGE, "serve", "--host", "0.0.0.0")
    try:
        _await_health(engine, container)
        target = _ask(engine, "port", container, "50051").splitlines()[0]
        _run(
            *(sys.executable, "-m", "tradegw.transports.cli", "order", "place"),
            *("--target", target, "--account", "paper", "--symbol", "BTC/USDT"),
            *("--side", "buy", "--type", "market", "--qty", "0.01"),
        )
        _run(engine, "stop", "-t", "30", container)
        code = _ask(engine, "inspect", "--format", "{{.State.ExitCode}}", container)
        if code != "0":
            raise SystemExit(f"the gateway ended with {code}")
    finally:
        subprocess.run([engine, "logs", "--tail", "20", container], check=False)
        _run(engine, "rm", "-f", container)
    return 0


def _await_health(engine: str, container: str) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        health = _ask(engine, "inspect", "--format", "{{.State.Health.Status}}", container)
        if health == "healthy":
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"not healthy within {READY_S:g} s, but {health}")
        time.sleep(0.5)


def _run(*words: str) -> None:
    print("+", *words, flush=True)
    subprocess.run(words, cwd=ROOT, check=True)


def _ask(*words: str) -> str:
    return subprocess.run(
        words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
