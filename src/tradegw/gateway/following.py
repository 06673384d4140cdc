"""Keeps up with the other gateways on the store: their events for our streams, and halts.

Whoever commits tells the others at once, and nothing hangs on their hearing it: each looks into the store by
himself, every second, for what somebody waits for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from tradegw.errors import NotFound, TradegwError
from tradegw.model import AccountName, OrderEvent
from tradegw.ports import Clock, Notices

if TYPE_CHECKING:
    from tradegw.engine.engine import Engine

__all__ = ["Follower"]

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often we look by ourselves: so late is an event, or a halt, of which no notice came."""

_HALTS: Final = "halts"
_EVENTS: Final = "events "

_PAUSE_S: Final = 1.0
"""Before the next attempt, when the store does not let us."""


class Follower:
    """Tells other gateways of our commits, and our hub and engine of theirs."""

    def __init__(
        self,
        engine: Engine,
        notices: Notices,
        clock: Clock,
        *,
        is_ours: Callable[[AccountName], bool],
    ) -> None:
        self._engine = engine
        self._notices = notices
        self._clock = clock
        self._is_ours = is_ours
        # What is to be told, and what was told to us; each once, however often it happens meanwhile.
        self._to_tell: set[str] = set()
        self._moved: set[AccountName] = set()
        self._have_halts_moved = False
        self._telling = asyncio.Event()
        self._looking = asyncio.Event()
        engine.store.subscribe(self._committed)
        engine.halts.subscribe(self._halt_changed)

    async def run(self) -> None:
        """Go on until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._tell, self._listen, self._look, self._wake_now_and_then):
                    group.create_task(self._keep(part))
        finally:
            await self._notices.close()

    async def _keep(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part for ever: neither a store that is away nor a defect ends it."""
        while True:
            try:
                await part()
            except TradegwError as e:
                log.info("other gateways are not kept up with for now: %s", e)
            except Exception:
                log.exception("keeping up with other gateways failed, and goes on")
            await self._clock.sleep(_PAUSE_S)

    # --- to them --------------------------------------------------------------------------------

    def _committed(self, events: Sequence[OrderEvent]) -> None:
        self._to_tell.update(_EVENTS + event.account for event in events)
        self._telling.set()

    def _halt_changed(self) -> None:
        self._to_tell.add(_HALTS)
        self._telling.set()

    async def _tell(self) -> None:
        while True:
            await self._telling.wait()
            self._telling.clear()
            notes, self._to_tell = sorted(self._to_tell), set()
            # Whoever does not get them looks by himself.
            await self._notices.send(notes)

    # --- of theirs ------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async with aclosing(self._notices.listen()) as heard:
            async for note in heard:
                self._hear(note)

    def _hear(self, note: str | None) -> None:
        if note is None:
            # Whatever happened while nobody listened.
            self._suspect_all()
        elif note == _HALTS:
            self._have_halts_moved = True
        elif note.startswith(_EVENTS):
            name = AccountName(note.removeprefix(_EVENTS))
            if not self._engine.hub.has_account(name):
                return  # Nobody here has ever read its stream.
            self._moved.add(name)
        self._looking.set()

    def _suspect_all(self) -> None:
        self._have_halts_moved = True
        self._moved |= self._engine.hub.awaited
        self._looking.set()

    async def _wake_now_and_then(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            self._suspect_all()

    async def _look(self) -> None:
        while True:
            await self._looking.wait()
            self._looking.clear()
            moved, self._moved = self._moved, set()
            have_halts_moved, self._have_halts_moved = self._have_halts_moved, False
            if have_halts_moved:
                await self._engine.halts.read()
            for name in moved:
                if not self._is_ours(name):
                    await self._advance(name)

    async def _advance(self, name: AccountName) -> None:
        try:
            head = await self._engine.store.get_head(name)
        except NotFound:
            return  # Nobody has served it yet.
        self._engine.hub.add_account(name)
        self._engine.hub.advance(name, head)
