"""No message shows the password of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradegw.errors import ConfigError
from tradegw.gateway.archive import archive_store
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config, StoreConfig
from tradegw.gateway.schema import list_steps
from tradegw.store import open_store, shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:s3cret@db:5432/trade", "postgresql://u:***@db:5432/trade"),
        ("postgres://u:s3cret@a:1,b:2/trade?x=1", "postgres://u:***@a:1,b:2/trade?x=1"),
        ("postgresql://u@db:5432/trade", "postgresql://u@db:5432/trade"),
        ("postgresql://db:5432/trade", "postgresql://db:5432/trade"),
        ("postgresql://:s3cret@db/trade", "postgresql://:***@db/trade"),
        ("postgresql://u:s3/cr@et@db/trade", "postgresql://u:***@db/trade"),
        (
            "postgresql://db/t?user=u&password=s3cret&sslmode=require",
            "postgresql://db/t?user=u&password=***&sslmode=require",
        ),
        ("postgresql:///t?PassWord=s3 cr@et", "postgresql:///t?PassWord=***"),
        ("postgresql://db/t?sslpassword=s3cret", "postgresql://db/t?sslpassword=***"),
        ("mysql://u:s3cret@db/trade", "mysql://u:***@db/trade"),
        ("host=db password=s3cret user=u", "host=db password=*** user=u"),
        (r"host=db password = 's3 cr\'et' user=u", "host=db password = *** user=u"),
        (r"password=s3\ cret user=u", "password=*** user=u"),
        ("password='s3 cret", "password=***"),
        ("sqlite:////var/lib/a:b@c.db", "sqlite:////var/lib/a:b@c.db"),
        ("memory://", "memory://"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert StoreConfig(url=url).shown_url == shown


async def test_no_error_shows_a_password(tmp_path: Path) -> None:
    """Of URLs that name no store, such as one whose scheme is misspelt."""
    url = "postgre://u:s3cret@db/trade"
    config = Config(store=StoreConfig(url=url))
    with pytest.raises(ConfigError, match=r"u:\*\*\*@db") as opened:
        await open_store(url, clock=SystemClock())
    with pytest.raises(ConfigError, match=r"u:\*\*\*@db") as archived:
        await archive_store(config, before_ns=0, to=tmp_path)
    with pytest.raises(ConfigError, match=r"u:\*\*\*@db") as migrated:
        await list_steps(config)
    assert not any("s3cret" in str(e.value) for e in (opened, archived, migrated))
