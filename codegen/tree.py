"""Puts generated files in place, or tells how those in place differ."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def write(files: Mapping[Path, str], root: Path) -> None:
    """Write files below a directory, Python formatted as `ruff format` does it."""
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
    ours = [str(root / path) for path in files if path.suffix == ".py"]
    if ours:
        # Isolated: what is written must not hang on where it is written.
        options = [
            "--isolated",
            "--no-cache",
            "--quiet",
            "--line-length=100",
            "--target-version=py311",
        ]
        for command in (["check", "--select=I", "--fix"], ["format"]):
            subprocess.run(
                [sys.executable, "-m", "ruff", *command, *options, *ours], check=True, cwd=root
            )


def differences(made: Path, standing: Path, owned: Iterable[Path]) -> list[str]:
    """Compare what was just made with what stands in the repository.

    Args:
        made: Directory with the new files, and nothing else.
        standing: Directory in which the same paths should hold the same bytes.
        owned: Files that stand there and only generation writes, below `standing`.

    Returns:
        One line for each path that is missing, different, or no longer made.
    """
    new = {p.relative_to(made) for p in made.rglob("*") if p.is_file()}
    lines: list[str] = []
    for path in sorted(new):
        target = standing / path
        if not target.is_file():
            lines.append(f"missing: {target}")
        elif target.read_bytes() != (made / path).read_bytes():
            lines.append(f"differs: {target}")
    stale = sorted({p.relative_to(standing) for p in owned} - new)
    return lines + [f"no longer generated: {standing / path}" for path in stale]
