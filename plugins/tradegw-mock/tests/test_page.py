"""The page at `/` in a real browser: what a client does appears without reload, faults go in by a button."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from urllib.request import urlopen

import pytest
from tradegw_mock.config import MockConfig
from tradegw_mock.native.remote import open_remote
from tradegw_mock.testing import MockProcess

from tradegw import OutcomeUnknown

from .browser import a_tab
from .test_serve import WallRuntime
from .venue_helpers import Account, a_market_order, an_order


@pytest.mark.timeout(300)
async def test_the_page_shows_what_happens_and_injects_faults(tmp_path: Path) -> None:
    with MockProcess(accounts=["account-1", "account-2"]) as exchange:
        runtime = WallRuntime(account="account-1")
        with a_tab(exchange.serving.rest + "/", tmp_path / "browser") as tab:
            tab.wait_for("document.querySelectorAll('#bids tr').length === 10")
            tab.ask("window.same = true")  # It would not survive a reload.
            config = MockConfig(url=exchange.url)
            async with open_remote(config, runtime, rng=random.Random(1)) as venue:
                client = Account(venue, runtime)
                await client.place(an_order("seen-on-the-page"))
                row = "[...document.querySelectorAll('#orders tr')].find(r => r.innerText.includes('%s'))"
                shown = tab.wait_for(f"({row % 'seen-on-the-page'})?.innerText")
                assert "account-1" in shown
                assert "new" in shown
                held = "[...document.querySelectorAll('#accounts tr')][0].innerText.includes('600 held')"
                tab.wait_for(held)

                tab.ask("document.querySelector('#account').value = 'account-1'")
                tab.ask("document.querySelector('button[data-kind=ANSWER_LOST]').click()")
                listed = tab.wait_for("document.querySelector('#faults li[data-fault]')?.innerText")
                assert "ANSWER_LOST" in listed
                assert "account-1" in listed
                faults = await_json(exchange.serving.admin + "/faults")["faults"]
                assert [fault["kind"] for fault in faults] == ["ANSWER_LOST"]
                with pytest.raises(OutcomeUnknown):
                    await client.place(an_order("whose-answer-is-lost"))
                tab.wait_for(f"({row % 'whose-answer-is-lost'})?.innerText.includes('new')")
                tab.wait_for("document.querySelector('#hits').innerText.includes('ANSWER_LOST')")
                tab.wait_for("!document.querySelector('#faults li[data-fault]')")

                # Another fault is taken back by its button, unused.
                tab.ask("document.querySelector('button[data-kind=CLOCK_SKEW]').click()")
                tab.wait_for("!!document.querySelector('#faults li[data-fault] button')")
                tab.ask("document.querySelector('#faults li[data-fault] button').click()")
                tab.wait_for("!document.querySelector('#faults li[data-fault]')")

                await client.place(a_market_order("m1"))
                tab.wait_for("document.querySelector('#trades').innerText.includes('account-1')")
            assert tab.ask("window.same") is True
            assert tab.errors == []
            loaded = tab.ask(
                "performance.getEntriesByType('resource').map(e => new URL(e.name).origin)"
            )
            assert set(loaded) == {exchange.serving.rest}
            if directory := os.environ.get("TRADEGW_SCREENSHOTS"):
                tab.ask("document.querySelector('button[data-kind=NOT_FOUND]').click()")
                tab.wait_for("!!document.querySelector('#faults li[data-fault]')")
                tab.screenshot(Path(directory, "mock-page.png"))
            # An exchange that is gone is said to be gone, not shown as it was.
            exchange.kill()
            tab.wait_for("!document.querySelector('#trouble').hidden")


def await_json(url: str) -> dict[str, list[dict[str, object]]]:
    with urlopen(url, timeout=30) as answer:
        found: dict[str, list[dict[str, object]]] = json.load(answer)
    return found
