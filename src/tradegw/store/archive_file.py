r"""An archive: a file with the oldest events of one account, which proves itself.

Gzipped lines of JSON. The first says whose events follow, and after which one:

    {"format": "tradegw-archive", "version": 1, "account": "paper", "account_id": "...",
     "after_seq": 0, "after_hash": "", "up_to_seq": 2}

then one line for each event, in order: the exact text of its payload, which holds everything else, and its
place in the chain

    {"seq": 1, "prev_hash": "", "hash": "5d0c...", "payload": "{\"v\":1,...}"}

and at the end what shows that nothing is cut off: `{"end": 2, "hash": "77aa..."}`. A hash is SHA-256 over
`prev_hash`, the 16 bytes of `account_id`, `seq` in 8 bytes, highest first, and the payload. Further keys may
come; readers leave out what they do not know.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import msgspec

from tradegw.errors import ConfigError, StoreCorrupt
from tradegw.model import AccountId, AccountName
from tradegw.ports import AccountRecord, Head
from tradegw.store.codec import chain

__all__ = ["Archive", "ArchiveWriter", "ArchivedEvent", "archive_name", "open_archive"]

_FORMAT: Final = "tradegw-archive"
_VERSION: Final = 1
_LEVEL: Final = 6

StructT = TypeVar("StructT")


class ArchivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the chain, as it was stored."""

    seq: int
    prev_hash: str
    hash: str
    payload: str


class _Begin(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    version: int
    account: str
    account_id: UUID
    after_seq: int
    after_hash: str
    up_to_seq: int


class _End(msgspec.Struct, frozen=True, kw_only=True):
    end: int
    hash: str


def archive_name(account: AccountName, *, after_seq: int, up_to_seq: int) -> str:
    """Return the name of a file: they sort in the order of their events."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in account)
    return f"{safe}.{after_seq + 1:012}-{up_to_seq:012}.jsonl.gz"


class ArchiveWriter:
    """Writes a file beside its name; it has its name once it is whole and on the disk.

    A context manager: what was not `finish`ed is taken away.
    """

    def __init__(self, path: Path, record: AccountRecord, after: Head, *, up_to_seq: int) -> None:
        self.head = after
        self._path = path
        self._account_id = record.account_id
        self._up_to_seq = up_to_seq
        self._draft = path.with_name(f".{path.name}.{os.getpid()}.new")
        # From its beginning: a run that was killed may have left one, and its process number comes again.
        self._raw = self._draft.open("wb")
        # No time and no name inside: the same events give the same bytes.
        self._out = gzip.GzipFile("", "wb", _LEVEL, self._raw, mtime=0)
        self._write(
            _Begin(
                format=_FORMAT,
                version=_VERSION,
                account=record.account,
                account_id=record.account_id,
                after_seq=after.seq,
                after_hash=after.hash.hex(),
                up_to_seq=up_to_seq,
            )
        )

    def add(self, *, seq: int, payload: bytes, prev_hash: bytes, hash: bytes) -> None:  # noqa: A002
        """Write the next event.

        Raises:
            StoreCorrupt: It does not follow the one before it. What contradicts itself stays where it is.
        """
        if (
            seq != self.head.seq + 1
            or prev_hash != self.head.hash
            or chain(prev_hash, self._account_id, seq, payload) != hash
        ):
            raise StoreCorrupt(
                f"event {seq} does not follow event {self.head.seq}: nothing is archived; "
                "`tradegw verify` says more"
            )
        self._write(
            ArchivedEvent(
                seq=seq, prev_hash=prev_hash.hex(), hash=hash.hex(), payload=payload.decode()
            )
        )
        self.head = Head(seq=seq, hash=hash)

    def finish(self) -> None:
        """Bring the file to the disk, read it back, and give it its name. A file of that name is replaced.

        Raises:
            StoreCorrupt: What is read is not what was written.
        """
        assert self.head.seq == self._up_to_seq
        self._write(_End(end=self.head.seq, hash=self.head.hash.hex()))
        self._out.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        with open_archive(self._draft) as written:
            for _ in written.events():
                pass
        self._draft.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take away what is not whole."""
        self._out.close()
        self._raw.close()
        self._draft.unlink(missing_ok=True)

    def _write(self, line: msgspec.Struct) -> None:
        self._out.write(msgspec.json.encode(line) + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive that is open. Made by `open_archive`."""

    path: Path
    account: AccountName
    account_id: AccountId
    after: Head
    up_to_seq: int
    _lines: Iterator[bytes]

    def events(self) -> Iterator[ArchivedEvent]:
        """Yield the events, once, each checked against the one before.

        Raises:
            StoreCorrupt: The file was altered, or its end is missing.
        """
        head = self.after
        for line in self._lines:
            if line.startswith(b'{"end"'):
                end = _decode(self.path, line, _End)
                if (end.end, end.hash) != (head.seq, head.hash.hex()) or head.seq != self.up_to_seq:
                    raise StoreCorrupt(
                        f"archive {self.path}: expected to end with event {self.up_to_seq}; "
                        f"it ends with {head.seq}"
                    )
                if next(self._lines, None) is not None:
                    raise StoreCorrupt(f"archive {self.path}: something follows its end")
                return
            event = _decode(self.path, line, ArchivedEvent)
            digest = chain(head.hash, self.account_id, head.seq + 1, event.payload.encode())
            found = (event.seq, event.prev_hash, event.hash)
            if found != (head.seq + 1, head.hash.hex(), digest.hex()):
                raise StoreCorrupt(
                    f"archive {self.path}: event {event.seq} does not follow event {head.seq}, or was altered"
                )
            head = Head(seq=event.seq, hash=digest)
            yield event
        raise StoreCorrupt(f"archive {self.path}: its end is missing")


@contextmanager
def open_archive(path: Path) -> Generator[Archive]:
    """Open an archive, and read whose it is.

    Raises:
        ConfigError: There is no such file, or it is no archive that this release reads.
        StoreCorrupt: It is damaged.
    """
    with closing(_read_lines(path)) as lines:
        begin = _decode(path, next(lines, b""), _Begin)
        if begin.format != _FORMAT or begin.version != _VERSION:
            raise ConfigError(
                f"archive {path}: expected {_FORMAT} version {_VERSION}; found {begin.format} "
                f"version {begin.version}"
            )
        yield Archive(
            path=path,
            account=AccountName(begin.account),
            account_id=AccountId(begin.account_id),
            after=Head(seq=begin.after_seq, hash=bytes.fromhex(begin.after_hash)),
            up_to_seq=begin.up_to_seq,
            _lines=lines,
        )


def _read_lines(path: Path) -> Generator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise StoreCorrupt(f"archive {path} is no archive, or is damaged: {e}") from e
    except OSError as e:
        raise ConfigError(f"archive {path} cannot be read: {e.strerror or e}") from e


def _decode(path: Path, line: bytes, kind: type[StructT]) -> StructT:
    try:
        found: Any = msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as e:
        raise StoreCorrupt(f"archive {path} is no archive, or is damaged: {e}") from e
    result: StructT = found
    return result
