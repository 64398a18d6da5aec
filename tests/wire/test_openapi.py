"""Descriptions of the APIs as an oracle: ours, made from the table of endpoints, and the vendor's where it lies near.

Ours is always tried. The vendor's files are not ours to copy: they are looked for in ``../shared/reference/openapi`` or
in the folder that ``VENDOR_OPENAPI`` names, and the run says so when they are not there.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backstory.edge.endpoint import ENDPOINTS, Endpoint
from tests.wire.conftest import CDP_KEY, SITE_ID, TRACK_KEY, Server, serving, settings_of

pytestmark = pytest.mark.wire

ROOT = Path(__file__).resolve().parents[2]
VENDOR = Path(os.environ.get("VENDOR_OPENAPI") or ROOT.parent / "shared" / "reference" / "openapi")
# For a longer look: OPENAPI_EXAMPLES=200 make test T=tests/wire/test_openapi.py
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES") or 4)
QUIET = settings(
    deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
# What the original's documentation page says beside its description (api-surface section 2).
ALSO = {400, 413, 404}

TEXT, OBJECT = {"type": "string"}, {"type": "object"}
ERRORS = {
    "type": "object",
    "anyOf": [{"required": ["errors"]}, {"required": ["meta"]}],
    "properties": {"errors": {"type": "array", "minItems": 1}, "meta": OBJECT, "code": TEXT, "message": TEXT},
}
EMPTY = {"type": "object", "maxProperties": 0}
PERSON = {
    "oneOf": [
        {"type": "object", "required": [kind], "properties": {kind: TEXT}, "maxProperties": 1}
        for kind in ("id", "email", "cio_id")
    ]
}
EVENT = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": TEXT, "data": OBJECT, "timestamp": {"type": "integer"}, "anonymous_id": TEXT},
}
DEVICE = {
    "type": "object",
    "required": ["id", "platform"],
    "properties": {"id": TEXT, "platform": {"enum": ["ios", "android"]}},
}
BODIES: dict[str, dict[str, Any]] = {
    "PUT /api/v1/customers/{identifier}": {
        "type": "object",
        "properties": {"email": TEXT, "_update": {"type": "boolean"}},
    },
    "POST /api/v1/customers/{identifier}/events": EVENT,
    "POST /api/v1/events": EVENT,
    "PUT /api/v1/customers/{identifier}/devices": {
        "type": "object",
        "required": ["device"],
        "properties": {"device": DEVICE},
    },
    "POST /api/v1/merge_customers": {
        "type": "object",
        "required": ["primary", "secondary"],
        "properties": {"primary": PERSON, "secondary": PERSON},
    },
    "POST /api/v2/entity": {
        "type": "object",
        "required": ["type", "action", "identifiers"],
        "properties": {
            "type": {"enum": ["person", "object"]},
            "action": {"enum": ["identify", "delete", "event"]},
            "identifiers": PERSON,
            "name": TEXT,
            "attributes": OBJECT,
        },
    },
    "POST /api/v2/batch": {
        "type": "object",
        "required": ["batch"],
        "properties": {"batch": {"type": "array", "items": OBJECT}},
    },
    "POST /v1/batch": {
        "type": "object",
        "required": ["batch"],
        "properties": {"batch": {"type": "array", "items": OBJECT}},
    },
    "POST /v1/track": {"type": "object", "properties": {"userId": TEXT, "event": TEXT, "properties": OBJECT}},
}


def described(one: Endpoint) -> dict[str, Any]:
    """One endpoint of the table as an operation of OpenAPI."""
    responses: dict[str, Any] = {}
    for status in one.statuses:
        if status == 204:
            responses["204"] = {"description": "done"}
            continue
        loose = one.path.endswith(("/region", "/settings")) or status == 207
        schema = (OBJECT if loose else EMPTY) if status < 300 else ERRORS
        responses[str(status)] = {"description": "", "content": {"application/json": {"schema": schema}}}
    found: dict[str, Any] = {"responses": responses, "operationId": f"{one.method} {one.path}"}
    names = re.findall(r"\{(\w+)\}", one.path)
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if one.method in ("PUT", "POST"):
        schema = BODIES.get(f"{one.method} {one.path}", OBJECT)
        found["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return found


def description() -> dict[str, Any]:
    """Our own description, made from the table that the documents are made from."""
    paths: dict[str, dict[str, Any]] = {}
    for one in ENDPOINTS:
        paths.setdefault(one.path, {})[one.method.lower()] = described(one)
    return {"openapi": "3.1.0", "info": {"title": "Backstory", "version": "1"}, "paths": paths}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(settings_of(tmp_path_factory.mktemp("openapi"))) as server:
        yield server


def auth_of(path: str) -> tuple[str, str]:
    return (
        (CDP_KEY, "")
        if path.startswith("/v1/") or not path.startswith(("/api", "/push", "/unsubscribe"))
        else (SITE_ID, TRACK_KEY)
    )


def operations(schema: Any) -> list[Any]:
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_our_description(server: Server, mode: schemathesis.GenerationMode) -> None:
    """Right requests and wrong ones: no 5xx, no undescribed status, no body of another shape."""
    tried = 0
    for operation in operations(schemathesis.openapi.from_dict(description())):
        call_all(operation, server, mode, server.url, [status_code_conformance])
        tried += 1
    assert tried == len(ENDPOINTS)


def call_all(operation: Any, server: Server, mode: Any, base: str, more: list[Any]) -> None:
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance, *more]

    @QUIET
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        answer = case.call(base_url=base, auth=auth_of(operation.path))
        case.validate_response(answer, checks=checks)
        seen.add(answer.status_code)

    seen: set[int] = set()
    try:
        one()
    except Exception as error:
        if "Unsatisfiable" not in type(error).__name__:  # An operation without anything that could be wrong.
            raise
    documented = {int(status) for status in operation.definition.raw["responses"]}
    assert seen <= documented | ALSO, f"{operation.label} answered {seen - documented - ALSO}"


@pytest.mark.parametrize("name", ["track.json", "pipelines.json"])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_vendors_description(server: Server, name: str, mode: schemathesis.GenerationMode) -> None:
    """All of the vendor's operations: no 5xx, no undocumented status but 400, 404 and 413, no body of another shape."""
    if not (VENDOR / name).exists():
        pytest.skip(f"the vendor's {name} is not in {VENDOR}: only our own description was tried")
    text = (VENDOR / name).read_text()
    base = server.url + ("/v1" if name == "pipelines.json" else "")
    for operation in operations(schemathesis.openapi.from_dict(_vendors(json.loads(text)))):
        call_all(operation, server, mode, base, [])
    assert httpx.get(f"{server.url}/health").json() == {"status": "ready"}


def _vendors(found: dict[str, Any]) -> dict[str, Any]:
    """The vendor's description, but for its own addresses: the region answers ours."""
    for operation in found["paths"].get("/api/v1/accounts/region", {}).values():
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        del schema["properties"]["url"]["enum"]
    return found


def test_every_endpoint_is_described_once() -> None:
    """The table has no endpoint twice, and every one says what it does."""
    keys = [(one.method, one.path) for one in ENDPOINTS]
    assert len(set(keys)) == len(keys)
    assert all(one.does and one.statuses for one in ENDPOINTS)
