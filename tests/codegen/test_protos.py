"""Protobuf stubs are made, typed and repeatable; buf's rules are asked."""

from pathlib import Path

import pytest

from codegen import protos
from codegen.errors import CodegenError

BUF = """\
version: v2
modules:
  - path: .
lint:
  use: [STANDARD]
  except: [SERVICE_SUFFIX]
breaking:
  use: [FILE]
"""
PROTO = """\
syntax = "proto3";

package tradegw.sample.v1;

message SayRequest {
  string words = 1;
}

message SayResponse {
  string words = 1;
}

service Echo {
  rpc Say(SayRequest) returns (SayResponse);
}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    proto = tmp_path / "proto"
    (proto / "tradegw/sample/v1").mkdir(parents=True)
    (proto / "buf.yaml").write_text(BUF)
    (proto / "tradegw/sample/v1/echo.proto").write_text(PROTO)
    return tmp_path


def change(root: Path, old: str, new: str) -> None:
    path = root / "proto/tradegw/sample/v1/echo.proto"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.timeout(300)  # The tools are installed on first use.
def test_stubs_are_made_and_repeatable(root: Path) -> None:
    made = protos.generate(root, root / "src")
    package = Path("tradegw/sample/v1")
    assert made == (
        Path("tradegw/sample/__init__.py"),
        package / "__init__.py",
        package / "echo_pb2.py",
        package / "echo_pb2.pyi",
        package / "echo_pb2_grpc.py",
        package / "echo_pb2_grpc.pyi",
    )
    assert "from tradegw.sample.v1 import echo_pb2" in read(root, made[4])
    assert "GRPC_GENERATED_VERSION = '1.71.2'" in read(root, made[4])
    assert "Protobuf Python Version: 5.29.0" in read(root, made[2])
    assert "EchoAsyncStub" in read(root, made[5]) or "EchoStub" in read(root, made[5])
    protos.generate(root, root / "again")
    for path in made:
        assert (root / "src" / path).read_bytes() == (root / "again" / path).read_bytes()
    assert not (root / "src/tradegw/__init__.py").exists(), "that one is written by hand"
    assert sorted(protos.owned(root / "src")) == [root / "src" / p for p in made[2:]]


def test_a_proto_that_does_not_compile_is_named(root: Path) -> None:
    change(root, "SayResponse);", "Nobody);")
    with pytest.raises(CodegenError, match=r"echo\.proto.*Nobody"):
        protos.generate(root, root / "src")


def test_rules_are_kept(root: Path) -> None:
    protos.write_baseline(root)
    protos.check(root)
    change(root, "string words = 1;", "string words = 1;\n  string more = 2;")
    protos.check(root)


def test_a_broken_rule_is_named(root: Path) -> None:
    protos.write_baseline(root)
    change(root, "string words", "string Words")
    with pytest.raises(CodegenError, match="lower_snake_case"):
        protos.check(root)


def test_a_broken_promise_is_named(root: Path) -> None:
    protos.write_baseline(root)
    change(root, "string words = 1;", "int64 words = 1;")
    with pytest.raises(CodegenError, match="changed type"):
        protos.check(root)


def test_a_missing_baseline_is_no_success(root: Path) -> None:
    with pytest.raises(CodegenError, match=r"baseline\.binpb"):
        protos.check(root)


def read(root: Path, path: Path) -> str:
    return (root / "src" / path).read_text()
