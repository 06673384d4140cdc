"""A client of the admin API."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen


class Admin:
    """Asks as a script of an operator would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: Any) -> Any:
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, **body: Any) -> Any:
        return self.ask("POST", path, body)

    def put(self, path: str, **body: Any) -> Any:
        return self.ask("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self.ask("DELETE", path)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.status_of(method, path, body)
        assert status == 200, answer
        return answer

    def status_of(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json"
    ) -> tuple[int, Any]:
        """Give status and answer, whatever they are."""
        request = Request(
            f"{self.url}{path}",
            method=method,
            headers={} if body is None else {"content-type": kind},
            data=None if body is None else json.dumps(body).encode(),
        )
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except HTTPError as e:
            with e:
                return e.code, json.load(e)

    def hits(self) -> list[dict[str, Any]]:
        """Read from the audit trail what faults hit."""
        return [record["detail"] for record in self.get("/audit", operation="FAULT_HIT")["records"]]
