"""Makes what `tradegw_dydx.wire` reads: the descriptors of these protos, and their types for checkers.

    python plugins/tradegw-dydx/proto/make.py

There is no generated Python code that runs, and so none whose protobuf version could disagree with the
installed one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

PROTO = Path(__file__).resolve().parent
WIRE = PROTO.parent / "src" / "tradegw_dydx" / "wire"
DESCRIPTORS = "descriptors.binpb"
TYPES = "messages.pyi"

_SCALARS = {
    FieldDescriptorProto.TYPE_STRING: "str",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_BOOL: "bool",
}
_HEAD = """\
# Made by proto/make.py from proto/*.proto. Do not edit.
from collections.abc import Iterable, Sequence

from google.protobuf.message import Message

"""


def make(out: Path) -> None:
    """Write both files into a directory."""
    image = out / DESCRIPTORS
    buf = Path(sys.executable).with_name("buf")
    subprocess.run([buf, "build", PROTO, "--exclude-source-info", "-o", image], check=True)
    files = FileDescriptorSet.FromString(image.read_bytes())
    files.DiscardUnknownFields()  # Notes of buf's own.
    image.write_bytes(files.SerializeToString(deterministic=True))
    (out / TYPES).write_text(types_of(files))


def types_of(files: FileDescriptorSet) -> str:
    """Return a stub with one class for each message."""
    messages = [pair for file in files.file for pair in _flat(file)]
    return "\n".join([_HEAD, *(_class(name, message) for name, message in messages)])


def _flat(file: FileDescriptorProto) -> list[tuple[str, DescriptorProto]]:
    return [
        pair
        for message in file.message_type
        for pair in (
            *((message.name + inner.name, inner) for inner in message.nested_type),
            (message.name, message),
        )
    ]


def _class(name: str, message: DescriptorProto) -> str:
    lines = [f"class {name}(Message):"]
    for field in message.field:
        value = _type(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            lines.append(f"    {field.name}: Sequence[{value}]")
        elif field.type == FieldDescriptorProto.TYPE_MESSAGE:
            lines += ["    @property", f"    def {field.name}(self) -> {value}: ..."]
        else:
            lines.append(f"    {field.name}: {value}")
    lines.append("    def __init__(")
    lines.append("        self,")
    if message.field:
        lines.append("        *,")
    for field in message.field:
        value = _type(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            value = f"Iterable[{value}]"
        lines.append(f"        {field.name}: {value} | None = ...,")
    lines.append("    ) -> None: ...")
    return "\n".join(lines) + "\n"


def _type(field: FieldDescriptorProto) -> str:
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        # Nested messages carry their owner's name; packages are in lower case.
        return "".join(part for part in field.type_name.split(".") if part[:1].isupper())
    return _SCALARS.get(field.type, "int")


def differences() -> list[str]:
    """Return the names of files that are not what the protos yield."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        make(made)
        return [
            name
            for name in (DESCRIPTORS, TYPES)
            if not (WIRE / name).exists()
            or (WIRE / name).read_bytes() != (made / name).read_bytes()
        ]


if __name__ == "__main__":
    make(WIRE)
