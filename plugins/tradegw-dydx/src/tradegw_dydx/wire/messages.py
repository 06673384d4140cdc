"""Message classes, typed by the stub beside this file.

They live in a private descriptor pool. cosmpy and the chain's own packages register the same names in the
default pool, where a second definition is an error whichever comes first. No generated code runs here, so
that no version of protobuf's runtime refuses it.
"""

from __future__ import annotations

from importlib.resources import files

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

POOL = DescriptorPool()


def _load() -> dict[str, type[Message]]:
    found: dict[str, type[Message]] = {}
    image = files("tradegw_dydx.wire").joinpath("descriptors.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(image).file:
        POOL.AddSerializedFile(file.SerializeToString())
        for message in file.message_type:
            _add(found, POOL.FindMessageTypeByName(f"{file.package}.{message.name}"), "")
    return found


def _add(found: dict[str, type[Message]], descriptor: Descriptor, owner: str) -> None:
    name = owner + descriptor.name
    assert name not in found, f"two messages are called {name}"
    found[name] = GetMessageClass(descriptor)
    for nested in descriptor.nested_types:
        _add(found, nested, name)


globals().update(_load())
