"""Imports run one way: a room imports the rooms named in its row, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "tradegw"
PLUGINS = ROOT / "plugins"

PROTOBUF = {"trading", "adapter", "events", "admin"}
"""The protobuf packages, which are generated and import each other."""

# Room by room, which rooms it may import beside itself and `errors`.
_MODEL = {"model"}
_ENGINE = {*_MODEL, "venue", "ports", "hookspecs", "plugins"}
_GATEWAY = {*_ENGINE, "engine", "store", "_generated"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "model": set(),
    # The markers stand alone, because both sides of a hook need them.
    "markers": set(),
    "venue": {*_MODEL, "markers"},
    "ports": _MODEL,
    "hookspecs": {*_MODEL, "markers", "venue", "ports"},
    "plugins": {*_MODEL, "markers", "venue", "ports", "hookspecs"},
    "engine": _ENGINE,
    "store": {*_MODEL, "ports", "hookspecs", "_generated"},
    "gateway": _GATEWAY,
    "transports": {"gateway", *_MODEL, *PROTOBUF},
    "sync": {"gateway", "transports", *_MODEL},
    "wire": {"transports", "ports", *_MODEL, *PROTOBUF},
    "testing": {*_GATEWAY, "gateway", "markers"},
    "_generated": {"ports", *_MODEL},
    # The front: public names, and the two ways to a gateway.
    "__init__": {*_GATEWAY, "gateway", "markers", "_doors", "__main__"},
    "_doors": {"gateway", "transports"},
    "__main__": {"transports"},
    **dict.fromkeys(PROTOBUF, PROTOBUF),
}

STANDARD_LIBRARY_ONLY = {"errors", "model"}

FOR_PLUGINS = {"", "venue", "ports", "testing", "wire", *PROTOBUF}
"""What a plugin may import: `tradegw` itself, and these rooms."""


def modules(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        if "__pycache__" not in path.parts:
            yield path


def imports(path: Path, package: str) -> Iterator[str]:
    """Yield the absolute names of all that a module imports, wherever in it the statement stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                # The part of the path below `src` is the package; each further dot goes up one.
                parts = path.parts[path.parts.index("src") + 1 : -node.level]
                module = ".".join([*parts, *([module] if module else [])])
            if module == package:
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def room_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


CORE_MODULES = [str(path.relative_to(CORE)) for path in modules(CORE)]


def test_every_module_has_a_room_and_every_room_is_known() -> None:
    assert {room_of(CORE / name) for name in CORE_MODULES} <= set(ROOMS)
    for allowed in ROOMS.values():
        assert allowed <= set(ROOMS)


@pytest.mark.parametrize("name", CORE_MODULES)
def test_a_module_imports_what_its_room_may(name: str) -> None:
    path = CORE / name
    room = room_of(path)
    may = {room, "errors", *ROOMS[room]}
    for imported in imports(path, "tradegw"):
        top, _, rest = imported.partition(".")
        if top == "tradegw" and rest:
            there = rest.partition(".")[0]
            # A public name of the front is not a room.
            if (CORE / there).is_dir() or (CORE / f"{there}.py").exists():
                assert there in may, f"{name} ({room}) imports {imported}"
            else:
                assert room in ("transports", "sync", "testing", "__init__"), (
                    f"{name} ({room}) imports {imported} from the front"
                )
        assert top not in ("tests", "codegen"), f"{name} imports {imported}"
        assert not top.startswith("tradegw_"), f"{name} imports the plugin {imported}"


@pytest.mark.parametrize("name", CORE_MODULES)
def test_the_things_themselves_need_the_standard_library_alone(name: str) -> None:
    import sys

    path = CORE / name
    if room_of(path) not in STANDARD_LIBRARY_ONLY:
        return
    for imported in imports(path, "tradegw"):
        top = imported.partition(".")[0]
        assert top == "tradegw" or top in sys.stdlib_module_names, f"{name} imports {imported}"


PLUGIN_MODULES = [
    str(path.relative_to(PLUGINS))
    for path in modules(PLUGINS)
    if "src" in path.relative_to(PLUGINS).parts
]


@pytest.mark.parametrize("name", PLUGIN_MODULES)
def test_a_plugin_imports_what_plugins_may(name: str) -> None:
    own = name.partition("/")[0].replace("-", "_")
    for imported in imports(PLUGINS / name, "tradegw"):
        top, _, rest = imported.partition(".")
        if top == "tradegw":
            there = rest.partition(".")[0]
            if (CORE / there).is_dir() or (CORE / f"{there}.py").exists():
                assert there in FOR_PLUGINS, f"{name} imports {imported}"
        else:
            assert top == own or not top.startswith("tradegw_"), f"{name} imports {imported}"


def test_there_is_something_to_look_at() -> None:
    assert len(CORE_MODULES) > 50
    assert len(PLUGIN_MODULES) > 5


def test_imports_are_seen_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "src" / "tradegw" / "venue" / "deep" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import tradegw.engine.desk\n"
        "from tradegw import gateway\n"
        "def late():\n    from tradegw.store.memory import MemoryStore\n"
        "from ..venue import Venue\n"
        "from . import sibling\n"
    )
    assert set(imports(path, "tradegw")) == {
        "tradegw.engine.desk",
        "tradegw.gateway",
        "tradegw.store.memory",
        "tradegw.venue.venue",
        "tradegw.venue.deep",
    }
