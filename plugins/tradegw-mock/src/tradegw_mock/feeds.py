"""The feeds of all accounts of one exchange."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tradegw_mock.chaos import Chaos
from tradegw_mock.exchange import Change, Event, Exchange
from tradegw_mock.feed import Feed

__all__ = ["Feeds", "StreamCut", "follow"]


class StreamCut(Exception):
    """The stream is to be cut, without a word."""


class Feeds:
    """A feed for each account, from when one is wanted.

    Args:
        keep: Events of each kept for those who come back.
    """

    def __init__(self, *, keep: int) -> None:
        self._keep = keep
        self._feeds: dict[str, Feed] = {}
        self._first_seq: dict[str, int] = {}

    def begin(self, exchange: Exchange) -> None:
        """Begin with an exchange, a new one or one that was built anew."""
        self._first_seq = {account.name: account.last_event for account in exchange.accounts()}

    def get(self, account: str) -> Feed:
        """Give the feed of an account."""
        feed = self._feeds.get(account)
        if feed is None:
            first = self._first_seq.get(account, 0)
            feed = self._feeds[account] = Feed(first, keep=self._keep)
        return feed

    def publish(self, change: Change) -> None:
        """Add the events of a change, after those of the one before."""
        for event in change.events:
            self.get(event.account).publish(event)

    def end(self, why: str) -> None:
        """End every feed; whoever wants to go on gets a new one, from where the exchange begins anew."""
        for feed in self._feeds.values():
            feed.end(why)
        self._feeds.clear()

    def forget(self, why: str) -> None:
        """End every feed, and let nobody resume one beyond now."""
        # What is committed and was told; more may have happened, and is told by the new ones.
        self._first_seq |= {account: feed.last_seq for account, feed in self._feeds.items()}
        self.end(why)


async def follow(
    feed: Feed, chaos: Chaos, account: str, after: int, *, route: str
) -> AsyncGenerator[list[Event]]:
    """Yield what a client's stream carries, while faults act; see `Feed.follow`.

    Raises:
        FeedGap: Events are gone, or the exchange began anew.
        StreamCut: A fault cuts the stream.
    """
    is_cut = False

    def cut() -> None:
        nonlocal is_cut
        is_cut = True
        feed.poke()

    stream = chaos.open_stream(account, cut, route=route)
    try:
        async with aclosing(feed.follow(after)) as batches:
            async for events in batches:
                passed, ends = stream.pass_on(events)
                if passed:
                    yield passed
                if ends or is_cut:
                    raise StreamCut
    finally:
        stream.close()
