"""The admin API's description of itself, made from what serves it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from tradegw_mock.admin.api import Endpoint
from tradegw_mock.admin.values import Problem

__all__ = ["describe"]


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Describe the API in OpenAPI 3.1."""
    types = [part for e in endpoints for part in (e.query, e.body, e.answer) if part is not None]
    types.append(Problem)
    unique = list(dict.fromkeys(types))
    found, components = msgspec.json.schema_components(
        unique, ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(unique, found, strict=True))
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(f"/admin{endpoint.path}", {})[endpoint.method.lower()] = _operation(
            endpoint, schemas, components
        )
    asked = {endpoint.query.__name__ for endpoint in endpoints}
    used = msgspec.json.encode(paths).decode() + msgspec.json.encode(components).decode()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tradegw mock exchange, admin API",
            "version": version("tradegw-mock"),
            "description": "What the operator of a mock exchange sees and does. Decimals are strings, "
            "instants are nanoseconds since the epoch by the exchange's clock.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                name: schema
                for name, schema in components.items()
                # What became parameters is of no further use.
                if name not in asked or f'/schemas/{name}"' in used
            }
        },
    }


def _operation(
    endpoint: Endpoint, schemas: dict[type[Any], Any], components: dict[str, Any]
) -> dict[str, Any]:
    in_path = set(re.findall(r"\{(\w+)\}", endpoint.path))
    asked = components[endpoint.query.__name__]
    operation: dict[str, Any] = {
        "operationId": endpoint.call.__name__,
        "summary": endpoint.summary,
        "parameters": [
            {
                "name": name,
                "in": "path" if name in in_path else "query",
                "required": name in in_path or name in asked.get("required", ()),
                "schema": schema,
            }
            for name, schema in asked["properties"].items()
        ],
        "responses": {
            "200": _content("Done.", schemas[endpoint.answer]),
            "default": _content(
                "Not done: 400 or 404 refused, 409 not at this exchange, 503 away.",
                schemas[Problem],
            ),
        },
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[endpoint.body]}},
        }
    return operation


def _content(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
