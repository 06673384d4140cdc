"""Samples, a folder each: the SQL, and every byte that is written from it.

After a change that is meant, write the expected files anew with TRADEGW_UPDATE_GOLDEN=1, and read
the difference before committing it.
"""

import os
import shutil
from pathlib import Path

import pytest

from codegen.generate import generate_sql
from codegen.tree import differences

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(p.name for p in GOLDEN.iterdir() if (p / "sql").is_dir())


@pytest.mark.parametrize("case", CASES)
def test_output_is_as_expected(case: str, tmp_path: Path, server_url: str) -> None:
    generate_sql(GOLDEN / case / "sql", tmp_path, server_url=server_url)
    expected = GOLDEN / case / "expected"
    if os.environ.get("TRADEGW_UPDATE_GOLDEN") == "1":
        shutil.rmtree(expected, ignore_errors=True)
        shutil.copytree(tmp_path, expected)
    assert differences(tmp_path, expected, expected.rglob("*.py")) == []


def test_a_file_that_is_no_longer_made_is_named(tmp_path: Path) -> None:
    made, standing = tmp_path / "made", tmp_path / "standing"
    for directory, names in ((made, "ab"), (standing, "bc")):
        directory.mkdir()
        for name in names:
            (directory / name).write_text(f"{name} in {directory.name if name == 'b' else ''}")
    assert differences(made, standing, [standing / "c"]) == [
        f"missing: {standing / 'a'}",
        f"differs: {standing / 'b'}",
        f"no longer generated: {standing / 'c'}",
    ]
