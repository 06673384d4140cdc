"""The private pool: its files are current, and it disturbs nobody."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

MAKE = Path(__file__).parent.parent / "proto" / "make.py"


def test_descriptors_and_types_are_what_the_protos_yield():
    spec = importlib.util.spec_from_file_location("dydx_make_protos", MAKE)
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.differences() == [], "run python plugins/tradegw-dydx/proto/make.py"


@pytest.mark.parametrize(
    "imports",
    [
        "import cosmpy.aerial.client; from tradegw_dydx.wire import messages",
        "from tradegw_dydx.wire import messages; import cosmpy.aerial.client",
    ],
)
def test_it_lives_beside_the_messages_of_cosmpy(imports):
    code = f"""{imports}
from cosmpy.protos.cosmos.base.v1beta1.coin_pb2 import Coin
from google.protobuf import descriptor_pool
theirs = Coin(denom="adydx", amount="1").SerializeToString()
assert messages.Coin.FromString(theirs).denom == "adydx"
assert messages.Coin.DESCRIPTOR is not Coin.DESCRIPTOR
try:
    descriptor_pool.Default().FindMessageTypeByName("dydxprotocol.clob.Order")
except KeyError:
    pass
else:
    raise SystemExit("a message stands in the default pool")
"""
    # cosmpy's generated code draws warnings of its own.
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=100)
