"""The venue's own dead man's switch: unless it hears from us in time, it cancels every order of the account.

Every order, whoever placed it; so only for accounts that are `exclusive` to this gateway. It acts where
nothing else can: when this machine is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tradegw.ports import Clock

__all__ = ["DeadManSwitch"]

log = logging.getLogger(__name__)

DISARM_TIMEOUT_S = 2.0


class DeadManSwitch:
    """The switch of one account.

    Args:
        tell: Tells the venue to act after so many seconds; 0 disarms it.
        is_leaving: Whether the gateway leaves in good order, so that orders are to stay as they are.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        tell: Callable[[float], Awaitable[None]],
        is_leaving: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._timeout_s = timeout_s
        self._tell = tell
        self._is_leaving = is_leaving
        self._clock = clock

    async def keep(self) -> None:
        """Keep the switch armed, without end.

        Cancellation: it is disarmed when the gateway leaves in good order, and otherwise does its work.
        """
        try:
            while True:
                # Three signs of life for each timeout: one may be late.
                try:
                    await self._tell(self._timeout_s)
                except Exception as e:  # noqa: BLE001  A plugin may raise anything; it is told again.
                    log.error(
                        "ALARM the dead man's switch was not armed: %s: %s", type(e).__name__, e
                    )
                await self._clock.sleep(self._timeout_s / 3)
        except asyncio.CancelledError:
            if self._is_leaving():
                await self._disarm()
            raise

    async def _disarm(self) -> None:
        try:
            async with asyncio.timeout(DISARM_TIMEOUT_S):
                await self._tell(0)
        except Exception as e:  # noqa: BLE001  As above.
            log.error("ALARM the dead man's switch stays armed: %s: %s", type(e).__name__, e)
