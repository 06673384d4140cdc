"""`tradegw verify`: proves the record, and compares it with what was anchored elsewhere."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tradegw.errors import ConfigError
from tradegw.gateway.config import load_config
from tradegw.gateway.record import Record, open_record
from tradegw.model import AccountName
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.exits import ExitCode
from tradegw.transports.cli.show import console, print_json, show_table

__all__ = ["verify"]


async def verify(
    *, config: Path | None = None, anchor: Path | None = None, json: Json = False
) -> int:
    """Check the record: every hash link, and that orders and fills say what the events say.

    It reads the store itself, beside a gateway that may go on writing. With --anchor the ends of all chains
    are compared with those in the file, and then written to it: keep it where nobody who can write the store
    can write, and no past event can be altered or cut off unseen.

    For example:

        tradegw verify

        tradegw verify --anchor /mnt/elsewhere/tradegw.anchor

    Exits with 1 when it finds a problem; the anchor is then left as it was.

    Args:
        config: Configuration that tells where the store is.
        anchor: File with the ends of the chains; made when there is none.
    """
    settings = load_config(config)
    async with open_record(settings) as record:
        # Before the check, which so covers at least all events up to here.
        heads = await record.heads()
        problems: list[dict[str, Any]] = [
            {
                "kind": problem.kind.value,
                "account": problem.account,
                "seq": problem.seq,
                "detail": problem.detail,
            }
            async for problem in record.verify()
        ]
        if anchor is not None:
            problems += await _compare(record, anchor)
    accounts: dict[str, dict[str, Any]] = {
        name: {"seq": head.seq, "hash": head.hash.hex()} for name, head in heads.items()
    }
    if anchor is not None and not problems:
        _write(anchor, accounts)
    if json:
        print_json({"ok": not problems, "accounts": accounts, "problems": problems})
    else:
        _show(settings.store.shown_url, accounts, problems, anchor)
    return ExitCode.REFUSED if problems else ExitCode.OK


def _show(
    url: str,
    accounts: Mapping[str, Mapping[str, Any]],
    problems: list[dict[str, Any]],
    anchor: Path | None,
) -> None:
    out = console()
    if problems:
        show_table(
            ["kind", "account", "event", "what is wrong"],
            [[p["kind"], p["account"], str(p["seq"]), p["detail"]] for p in problems],
            right=["event"],
        )
        out.print(f"{url}: {len(problems)} problems", style="bold red")
        return
    for name, head in accounts.items():
        out.print(f"{name}: {head['seq']} events, head {head['hash'][:16] or '(none)'}")
    total = sum(head["seq"] for head in accounts.values())
    out.print(f"{url}: {total} events checked, no problem found", style="green")
    if anchor is not None:
        out.print(f"anchored in {anchor}")


async def _compare(record: Record, anchor: Path) -> list[dict[str, Any]]:
    problems: list[dict[str, Any]] = []
    for name, (seq, hash_hex) in _read(anchor).items():
        if seq == 0:
            continue
        found = await record.find_hash(AccountName(name), seq)
        if found is None:
            detail = f"event {seq} was anchored, and is not in the record"
        elif found.hex() != hash_hex:
            detail = f"event {seq} was anchored with hash {hash_hex}; now it has {found.hex()}"
        else:
            continue
        problems.append({"kind": "ANCHOR", "account": name, "seq": seq, "detail": detail})
    return problems


def _read(anchor: Path) -> dict[str, tuple[int, str]]:
    if not anchor.exists():
        return {}
    try:
        found: Any = json_module.loads(anchor.read_text("utf-8"))
        return {
            str(name): (int(head["seq"]), str(head["hash"]))
            for name, head in found["accounts"].items()
        }
    except OSError as e:
        raise ConfigError(f"the anchor {anchor} cannot be read: {e.strerror or e}") from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigError(
            f"the anchor {anchor} is not one that `tradegw verify --anchor` wrote: {e!r}"
        ) from e


def _write(anchor: Path, accounts: Mapping[str, Mapping[str, Any]]) -> None:
    draft = anchor.with_name(f"{anchor.name}.new")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json_module.dump({"accounts": accounts}, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        # In one step, so that a crash leaves the old anchor or the new one.
        draft.replace(anchor)
    except OSError as e:
        raise ConfigError(f"the anchor {anchor} cannot be written: {e.strerror or e}") from e
