"""`tradegw verify`: proves the record, and compares it with what was anchored elsewhere."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tradegw.errors import ConfigError
from tradegw.gateway.archive import open_archive
from tradegw.gateway.config import load_config
from tradegw.gateway.record import Record, open_record
from tradegw.model import AccountName
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.exits import ExitCode
from tradegw.transports.cli.show import console, print_json, show_table

__all__ = ["verify"]


async def verify(
    *,
    config: Path | None = None,
    anchor: Path | None = None,
    archive: Annotated[Sequence[Path], Parameter(consume_multiple=True)] = (),
    json: Json = False,
) -> int:
    """Check the record: every hash link, and that orders and fills say what the events say.

    It reads the store itself, beside a gateway that may go on writing. With --anchor the ends of all chains
    are compared with those in the file, and then written to it: keep it where nobody who can write the store
    can write, and no past event can be altered or cut off unseen.

    A chain of which events were archived is checked from there on. With --archive, and all files of its
    account, it is checked from its beginning, and so are the orders and fills that only the files tell of.
    Accounts of which no file is given are named.

    For example:

        tradegw verify

        tradegw verify --anchor /mnt/elsewhere/tradegw.anchor

        tradegw verify --archive archive/*.jsonl.gz

    Exits with 1 when it finds a problem; the anchor is then left as it was.

    Args:
        config: Configuration that tells where the store is.
        anchor: File with the ends of the chains; made when there is none.
        archive: Files that `tradegw store archive` wrote, in any order.
    """
    settings = load_config(config)
    async with open_record(settings) as record:
        # Before the check, which so covers at least all events up to here.
        heads = await record.heads()
        cuts = await record.checkpoints()
        seen = await record.accounts_in(archive)
        problems: list[dict[str, Any]] = [
            {
                "kind": problem.kind.value,
                "account": problem.account,
                "seq": problem.seq,
                "detail": problem.detail,
            }
            async for problem in record.verify(archive)
        ]
        if anchor is not None:
            problems += await _compare(record, anchor, archive)
    accounts: dict[str, dict[str, Any]] = {
        name: {"seq": head.seq, "hash": head.hash.hex()} for name, head in heads.items()
    }
    # What nobody looked at is said.
    unseen = {name: cut.seq for name, cut in cuts.items() if name not in seen}
    if anchor is not None and not problems:
        _write(anchor, accounts)
    if json:
        print_json(
            {"ok": not problems, "accounts": accounts, "problems": problems, "archived": unseen}
        )
    else:
        _show(settings.store.shown_url, accounts, problems, anchor, unseen)
    return ExitCode.REFUSED if problems else ExitCode.OK


def _show(
    url: str,
    accounts: Mapping[str, Mapping[str, Any]],
    problems: list[dict[str, Any]],
    anchor: Path | None,
    unseen: Mapping[str, int],
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
    for name, seq in unseen.items():
        out.print(f"{name}: events 1 to {seq} are archived, and not checked: --archive FILE...")
    total = sum(head["seq"] - unseen.get(name, 0) for name, head in accounts.items())
    out.print(f"{url}: {total} events checked, no problem found", style="green")
    if anchor is not None:
        out.print(f"anchored in {anchor}")


async def _compare(record: Record, anchor: Path, archives: Sequence[Path]) -> list[dict[str, Any]]:
    problems: list[dict[str, Any]] = []
    cuts = await record.checkpoints()
    anchored = _read(anchor)
    in_archives = _find_archived(
        {name: seq for name, (seq, _) in anchored.items() if name in cuts and seq < cuts[name].seq},
        archives,
    )
    for name, (seq, hash_hex) in anchored.items():
        if seq == 0:
            continue
        found = in_archives.get(name) or await record.find_hash(AccountName(name), seq)
        if found is None and name in cuts and seq < cuts[name].seq:
            detail = (
                f"event {seq} was anchored, and archived since: only its file, given with --archive, can "
                "show that it is the same"
            )
        elif found is None:
            detail = f"event {seq} was anchored, and is not in the record"
        elif found.hex() != hash_hex:
            detail = f"event {seq} was anchored with hash {hash_hex}; now it has {found.hex()}"
        else:
            continue
        problems.append({"kind": "ANCHOR", "account": name, "seq": seq, "detail": detail})
    return problems


def _find_archived(wanted: Mapping[str, int], archives: Sequence[Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in archives if wanted else ():
        with open_archive(path) as archive:
            seq = wanted.get(archive.account, 0)
            if archive.after.seq < seq <= archive.up_to_seq:
                for event in archive.events():
                    if event.seq == seq:
                        found[archive.account] = bytes.fromhex(event.hash)
                        break
    return found


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
