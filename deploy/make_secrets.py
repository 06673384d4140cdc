"""Makes the stack's passwords: `python3 deploy/make_secrets.py [FOLDER]`, by default deploy/secrets.

The standard library alone. A folder that is there stays as it is: its passwords are in a database already.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

__all__ = ["make_secrets"]

IMAGE_USER = 10001
ROLES = """\
CREATE ROLE tradegw_owner LOGIN PASSWORD '{owner}';
CREATE ROLE tradegw_gateway LOGIN PASSWORD '{gateway}';
CREATE DATABASE tradegw OWNER tradegw_owner;
REVOKE ALL ON DATABASE tradegw FROM PUBLIC;
GRANT CONNECT ON DATABASE tradegw TO tradegw_gateway;
"""


def make_secrets(folder: Path, broker: str = "rabbitmq") -> None:
    """Write a file for each server and role.

    The folder is closed to others. Within a container a server's own user reads its file, and the host does
    not know that user's number; only what belongs to tradegw is closed as a file as well: it insists.
    Made by root, those files belong to the image's user, who is otherwise the one that `TRADEGW_USER` names.

    Args:
        broker: `HOST[:PORT]` of RabbitMQ, as the gateway reaches it.

    Raises:
        FileExistsError: The folder is there.
    """
    made = {
        name: secrets.token_urlsafe(32)
        for name in ("postgres", "owner", "gateway", "rabbitmq", "redis")
    }
    folder.mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    files = {
        "postgres_password": (made["postgres"], 0o600),
        "roles.sql": (ROLES.format(**made), 0o644),
        "owner.pgpass": (f"*:*:*:tradegw_owner:{made['owner']}\n", 0o600),
        "gateway.pgpass": (f"*:*:*:tradegw_gateway:{made['gateway']}\n", 0o600),
        "rabbitmq.conf": (f"default_user = tradegw\ndefault_pass = {made['rabbitmq']}\n", 0o644),
        "amqp.url": (f"amqp://tradegw:{made['rabbitmq']}@{broker}/\n", 0o600),
        "redis.conf": (f"requirepass {made['redis']}\n", 0o644),
    }
    for name, (text, mode) in files.items():
        file = folder / name
        file.touch(0o600)
        file.write_text(text, "utf-8")
        file.chmod(mode)
        if file.suffix in {".pgpass", ".url"} and os.geteuid() == 0:
            os.chown(file, IMAGE_USER, IMAGE_USER)


def main() -> int:
    """Make them, and say whose they are."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "secrets"
    try:
        make_secrets(folder)
    except FileExistsError:
        print(f"{folder} is there, and stays as it is")
        return 1
    print(f"made {folder}")
    if os.geteuid() != 0:
        print(f"in deploy/.env: TRADEGW_USER={os.geteuid()}:{os.getegid()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
