"""A source of secrets: a key-value vault over HTTP. A plugin of one file.

With `api_secret = "vault:trading/binance#secret"` in the configuration, the field `secret` of the entry
`trading/binance` is read, whenever the venue is opened; so a secret that was rotated in the vault is used
from the next opening on. `VAULT_ADDR` says where the vault is, `VAULT_TOKEN_FILE` where its token stands.

Install it as an entry point of the group `tradegw`, or hand it over:
`tradegw.open(config, plugins=[vault_secrets])`.

Source: HashiCorp Vault API, "KV secrets engine, version 2", "Read secret version".
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tradegw import hookimpl
from tradegw.hookspecs import SecretSource

TIMEOUT_S = 5.0


def read(reference: str) -> str:
    """Return one field of one entry: `PATH#FIELD`."""
    path, _, field = reference.partition("#")
    address = os.environ["VAULT_ADDR"].rstrip("/")
    if not address.startswith(("https://", "http://127.0.0.1:")):
        raise ValueError("VAULT_ADDR must be https://")
    token = Path(os.environ["VAULT_TOKEN_FILE"]).read_text("utf-8").strip()
    request = urllib.request.Request(  # noqa: S310  The scheme was looked at.
        f"{address}/v1/secret/data/{path}", headers={"X-Vault-Token": token}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            secret: str = json.load(answer)["data"]["data"][field]
    except urllib.error.HTTPError as e:
        e.close()
        raise LookupError(f"the vault answers {e.code}") from None
    return secret


@hookimpl
def tradegw_register_secret_sources() -> Sequence[SecretSource]:
    """Offer `vault:PATH#FIELD`."""
    return [SecretSource(name="vault", read=read)]
