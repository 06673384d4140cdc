"""Every story is told on both stores."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.engine.bench import Bench


@pytest.fixture(params=["memory", "sqlite"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/bench.db"
    bench = Bench(url)
    yield bench
    await bench.close()
