"""The venue `mock` with its exchange in the gateway's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tradegw import AccountName, ConfigError, NotSent, OutcomeUnknown, VenueError
from tradegw.venue import Runtime, StreamGap, StreamItem, StreamReady
from tradegw_mock.chaos import ScenarioError
from tradegw_mock.chaos.desk import ErrorAnswered, Unanswered
from tradegw_mock.config import MockConfig
from tradegw_mock.contract import DoorCode, answer_error
from tradegw_mock.exchange import ExchangeError, Refusal
from tradegw_mock.feed import FeedGap
from tradegw_mock.host import ExchangeAway, ExchangeFailed, Host, HostSettings, StreamCut
from tradegw_mock.operations import PastLost
from tradegw_mock.requests import Answer, AnswerError, Mutation, Question
from tradegw_mock.translate import to_stream_item
from tradegw_mock.venue import MockVenue

__all__ = ["InProcessVenue", "open_in_process"]


class InProcessVenue(MockVenue):
    """One account's access to an exchange in this process."""

    def __init__(self, account: AccountName, exchange_account: str, host: Host) -> None:
        super().__init__(account, exchange_account)
        self._host = host

    async def _ask(self, request: Mutation | Question) -> Answer:
        try:
            return await self._host.ask(request)
        except Unanswered as e:
            raise OutcomeUnknown("the exchange never answered") from e
        except ErrorAnswered as e:
            raise answer_error(e.error) from e
        except Refusal as e:
            raise AnswerError(e.code, e.text) from e
        except PastLost as e:
            raise AnswerError(DoorCode.PAST_LOST, str(e)) from e
        except ExchangeAway as e:
            raise NotSent(str(e)) from e
        except ExchangeFailed as e:
            raise OutcomeUnknown(str(e)) from e

    async def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield the account's events as they are committed."""
        while True:
            await self._host.wait_back()
            try:
                feed = self._host.feed(self.exchange_account)
                after = feed.last_seq
                yield StreamReady(
                    instance_id=self._host.instance_id, venue_account_id=self.exchange_account
                )
                batches = self._host.follow(self.exchange_account, feed, after)
                async with aclosing(batches):
                    async for events in batches:
                        for event in events:
                            yield to_stream_item(event, self.account)
            except StreamCut:
                yield StreamGap(why="the stream was cut")
            except (FeedGap, ExchangeAway) as e:
                yield StreamGap(why=str(e))


@asynccontextmanager
async def open_in_process(config: MockConfig, runtime: Runtime) -> AsyncGenerator[InProcessVenue]:
    """Open an account at the exchange that all accounts of the venue share in this gateway.

    Raises:
        ConfigError: Another account of the venue says otherwise of the exchange.
        VenueError: The exchange's file cannot be used, or the account cannot be opened.
    """
    settings = HostSettings(
        path=_path(config, runtime),
        liquidity=config.liquidity,
        seed=config.seed,
        step_interval_s=config.step_interval_s,
        replay=Path(config.replay) if config.replay else None,
        scenario=Path(config.scenario) if config.scenario else None,
    )
    exchange_account = config.exchange_account or runtime.account
    async with _share(settings, runtime) as host:
        try:
            await host.open_account(exchange_account, config.read_balances())
        except (Refusal, ExchangeAway, ExchangeFailed) as e:
            raise VenueError(f"account {exchange_account!r} cannot be opened: {e}") from e
        yield InProcessVenue(runtime.account, exchange_account, host)


def _path(config: MockConfig, runtime: Runtime) -> Path | None:
    if not config.durable or not runtime.data_dir:
        return None
    # Two venues never share a file, however they are named.
    return Path(runtime.data_dir) / f"{quote(runtime.venue, safe='')}-exchange.db"


@dataclass(slots=True, kw_only=True)
class _Shared:
    settings: HostSettings
    host: Host
    opening: asyncio.Task[None]
    users: int = 0


# The loop is part of the key: a host belongs to one.
_SHARED: dict[tuple[asyncio.AbstractEventLoop, str, str], _Shared] = {}


@asynccontextmanager
async def _share(settings: HostSettings, runtime: Runtime) -> AsyncGenerator[Host]:
    key = (asyncio.get_running_loop(), runtime.data_dir, runtime.venue)
    shared = _SHARED.get(key)
    if shared is None:
        host = Host(settings, clock=runtime.time_ns, sleep=runtime.sleep)
        opening = asyncio.create_task(host.open())
        shared = _SHARED[key] = _Shared(settings=settings, host=host, opening=opening)
    elif shared.settings != settings:
        raise ConfigError(
            f"accounts of venue {runtime.venue} share one exchange, so what is said of it "
            f"must be the same for all: {settings} is not {shared.settings}"
        )
    shared.users += 1
    try:
        try:
            # The first account's cancellation must not close what the second waits for.
            await asyncio.shield(shared.opening)
        except (ExchangeError, ScenarioError) as e:
            raise VenueError(f"the exchange of venue {runtime.venue} cannot be opened: {e}") from e
        yield shared.host
    finally:
        shared.users -= 1
        if not shared.users:
            del _SHARED[key]
            shared.opening.cancel()
            await asyncio.wait([shared.opening])
            await shared.host.close()
