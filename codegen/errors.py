"""What generation says when it refuses."""

from __future__ import annotations

from pathlib import Path


class CodegenError(Exception):
    """Generation refuses; the message says where and why."""


class SqlError(CodegenError):
    """Something in an SQL file is wrong.

    Args:
        path: The file.
        line: The line in it, from 1.
        problem: What was expected and what was found.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem
