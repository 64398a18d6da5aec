"""Track API v1: identify, delete, events, anonymous events, region, members of manual segments.

The hottest path of the edge: a raw ASGI callable without a framework. A request costs one look into a dict for its
credentials, one decode, one fact handed to the workspace, one future, two prepared messages. A 200 is sent after the
fact is durable; with ``Backstory-Wait: applied`` after it is applied, with a receipt. Source: ``api-surface.md``
sections 1 to 4, design section 5.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, assert_never, cast
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from backstory.core.error import BackstoryError, RequestError
from backstory.core.fact import Fact, Receipt
from backstory.core.limit import TRACK_BODY_BYTES
from backstory.edge.bridge import Bridge, Intake, Waiter
from backstory.edge.track_answer import (
    ACCEPTED,
    UNAUTHORISED,
    Answer,
    BodyTooLongError,
    RouteError,
    answer,
    receipt,
    refusal,
)
from backstory.edge.track_body import (
    anonymous_fact,
    delete_fact,
    event_fact,
    identify_fact,
    members_fact,
    path_identifier,
    read_body,
)
from backstory.engine.view import SegmentView

WAIT_S = 30.0
# The original numbers its workspaces; here a key leads to exactly one, and clients only look for an integer.
ENVIRONMENT_ID = 1

Action = Literal["identify", "delete", "event", "anonymous", "region", "add", "remove"]

_ROOT = b"/api/v1/"
_CUSTOMERS = b"/api/v1/customers/"
_SEGMENTS = b"/api/v1/segments/"
_EVENTS = b"/events"
_EXACT: dict[bytes, tuple[str, Action]] = {
    b"/api/v1/events": ("POST", "anonymous"),
    b"/api/v1/accounts/region": ("GET", "region"),
}
_MEMBERS: dict[bytes, Action] = {b"add_customers": "add", b"remove_customers": "remove"}
# Endpoints of the original that are still to come: never to be mistaken for an id with a slash in it.
_LATER = (b"/devices", b"/suppress", b"/unsuppress")
_BODY_BYTES_MAX = TRACK_BODY_BYTES.value


class SegmentReader(Protocol):
    """The one read this API makes."""

    def segment(self, segment_id: int) -> SegmentView: ...


class TrackWorkspace(Intake, Protocol):
    """A workspace as the Track API uses it."""

    @property
    def reader(self) -> SegmentReader: ...


class _Gone(Exception):
    """The client left before its request was complete: there is nobody to answer."""


class TrackApi:
    """The ASGI callable. ``authorise`` turns an ``Authorization`` header into a workspace's name, or None."""

    def __init__(
        self,
        workspaces: Mapping[str, TrackWorkspace],
        authorise: Callable[[bytes], str | None],
        bridge: Bridge,
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        self._workspaces = workspaces
        self._authorise = authorise
        self._bridge = bridge
        self._wait_s = wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            start, body = await self._answer(scope, receive)
        except _Gone:
            return
        except Exception as error:
            start, body = refusal(error)
        await send(start)
        await send(body)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        action, subject = find_route(scope["method"], raw_path(scope))
        headers: dict[bytes, bytes] = dict(scope["headers"])
        name = self._authorise(headers.get(b"authorization", b""))
        if name is None:
            return UNAUTHORISED
        workspace = self._workspaces[name]
        if action == "region":
            return _region(scope, headers)
        raw = await _read(receive)
        if action == "add" or action == "remove":
            fact = await _members(workspace, action, subject, scope, headers, raw)
        else:
            fact = _person_fact(action, subject, headers.get(b"content-type", b""), raw)
        if b"backstory-wait" in headers:
            return await self._apply(workspace, fact, headers[b"backstory-wait"])
        waiter = Waiter(self._bridge)
        workspace.submit([fact], on_accept=waiter.on_accept, on_applied=None, on_error=waiter.on_error)
        refused = await waiter.accepted
        return ACCEPTED if refused is None else refusal(cast("BackstoryError", refused))

    async def _apply(self, workspace: TrackWorkspace, fact: Fact, wanted: bytes) -> Answer:
        """Submit and wait until all reads show it: the receipt, or 202 when that takes too long.

        What is accepted stays accepted whatever happens then, so from there on no answer speaks of failure.
        """
        if wanted.strip().lower() != b"applied":
            raise RequestError(f"Backstory-Wait must be applied, not {wanted.decode('latin-1')!r}")
        waiter = Waiter(self._bridge, until_applied=True)
        assert waiter.applied is not None
        deadline = self._bridge.loop.time() + self._wait_s
        workspace.submit(
            [fact], on_accept=waiter.on_accept, on_applied=waiter.on_applied, on_error=waiter.on_error
        )
        refused = await waiter.accepted
        if refused is not None:
            return refusal(cast("BackstoryError", refused))
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await waiter.applied
        except TimeoutError:
            return receipt(Receipt(result="pending", reason="accepted, but not applied within the time"))
        if isinstance(outcome, BackstoryError):
            return receipt(Receipt(result="pending", reason=f"accepted, but applying it was put off: {outcome}"))
        return receipt(cast("list[Receipt]", outcome)[0])


def raw_path(scope: Scope) -> bytes:
    """The path as it was sent, still percent-encoded: ``%2F`` inside an id must not separate."""
    return scope.get("raw_path") or scope["path"].encode()


def find_route(method: str, raw: bytes) -> tuple[Action, bytes]:
    """The action and the raw identifier (or segment number) of a path; raises ``RouteError``.

    A plain slash in a person's id is taken as part of it where no other path is meant, for clients that do not
    encode it (async-customerio).
    """
    if raw.startswith(_CUSTOMERS):
        return _customer_route(method, raw[len(_CUSTOMERS) :])
    if raw in _EXACT:
        allowed, action = _EXACT[raw]
        if method != allowed:
            raise _not_allowed(method, allowed)
        return action, b""
    if raw.startswith(_SEGMENTS):
        number, _, verb = raw[len(_SEGMENTS) :].partition(b"/")
        if verb in _MEMBERS:
            if method != "POST":
                raise _not_allowed(method, "POST")
            return _MEMBERS[verb], number
    raise _unknown(raw)


def _customer_route(method: str, rest: bytes) -> tuple[Action, bytes]:
    if rest.endswith(_EVENTS):
        if method == "POST":
            return "event", rest[: -len(_EVENTS)]
        raise _not_allowed(method, "POST")
    if rest.endswith(_LATER) or b"/devices/" in rest:
        raise RouteError("this endpoint is not available yet")
    if rest.endswith(b"/") and rest != b"/":
        raise RouteError("a slash at the end of an id must be written %2F")
    if method == "PUT":
        return "identify", rest
    if method == "DELETE":
        return "delete", rest
    if b"/" in rest:
        raise _unknown(_CUSTOMERS + rest)
    raise _not_allowed(method, "PUT, DELETE")


def _not_allowed(method: str, allow: str) -> RouteError:
    return RouteError(f"{method} is not allowed here; allowed: {allow}", allow=allow)


def _unknown(raw: bytes) -> RouteError:
    path = raw[:200].decode("latin-1")
    hint = "" if raw.startswith(_ROOT) else f"; the Track API is under {_ROOT.decode()}"
    return RouteError(f"there is nothing at {path}{hint}")


async def _read(receive: Receive) -> bytes:
    """The whole body; stops reading with ``BodyTooLongError`` as soon as it is past the limit."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_on(receive, body)
    if len(body) > _BODY_BYTES_MAX:
        raise BodyTooLongError
    return body


async def _read_on(receive: Receive, first: bytes) -> bytes:
    body = bytearray(first)
    while len(body) <= _BODY_BYTES_MAX:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


def _person_fact(
    action: Literal["identify", "delete", "event", "anonymous"], subject: bytes, content_type: bytes, raw: bytes
) -> Fact:
    match action:
        case "event":
            return event_fact(path_identifier(subject), read_body(content_type, raw))
        case "identify":
            return identify_fact(path_identifier(subject), read_body(content_type, raw))
        case "anonymous":
            return anonymous_fact(read_body(content_type, raw))
        case "delete":
            return delete_fact(path_identifier(subject))
        case _:
            assert_never(action)


async def _members(
    workspace: TrackWorkspace,
    action: Literal["add", "remove"],
    number: bytes,
    scope: Scope,
    headers: Mapping[bytes, bytes],
    raw: bytes,
) -> Fact:
    """People into or out of a manual segment. Only here is something stored looked at before accepting."""
    if not number.isdigit() or len(number) > 18:
        raise RouteError(f"there is no segment {number[:40].decode('latin-1')!r}")
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    fact = members_fact(
        int(number),
        query.get("id_type", ["id"])[-1],
        read_body(headers.get(b"content-type", b""), raw),
        add=action == "add",
    )
    segment = await asyncio.to_thread(workspace.reader.segment, fact.segment_id)
    if segment.type != "manual":
        raise RequestError(
            f"segment {fact.segment_id} is dynamic: its conditions alone say who is in it; only manual segments can"
            " be changed"
        )
    return fact


def _region(scope: Scope, headers: Mapping[bytes, bytes]) -> Answer:
    """Says that the credentials are right, and the address the caller reached us by."""
    host = headers.get(b"host", b"localhost").decode("latin-1")
    url = f"{scope.get('scheme', 'http')}://{host}"
    return answer(200, {"url": url, "region": "us", "environment_id": ENVIRONMENT_ID})
