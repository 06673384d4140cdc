"""The pluggy markers of the project. They stand alone, because both sides of a hook need them."""

import pluggy

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "tradegw"

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(PROJECT)
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(PROJECT)
