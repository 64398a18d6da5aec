"""The Track APIs as an ASGI application: v1 with one path for each thing, v2 with operations and batches.

The hottest path of the edge: a raw ASGI callable without a framework. A request costs one look into a dict for its
credentials, one decode, one fact handed to the workspace, one future, two prepared messages. A 200 is sent after the
fact is durable; with ``Backstory-Wait: applied`` after it is applied, with a receipt. Source: ``api-surface.md``
sections 1 to 5, design section 5.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

from starlette.types import Receive, Scope, Send

from backstory.core.error import BackstoryError, NotFoundError
from backstory.core.fact import Fact, Receipt, ReportMetric
from backstory.core.limit import BATCH_BODY_BYTES, ENTITY_BODY_BYTES, TRACK_BODY_BYTES, Limit
from backstory.edge.auth import workspace_number
from backstory.edge.bridge import Bridge, Waiter
from backstory.edge.decoding import Decoding
from backstory.edge.receiving import BodyReader, CallerGone
from backstory.edge.submission import WAIT_HEADER, WAIT_S, Submission, wants_applied
from backstory.edge.track2_answer import batch_answer, entity_answer, operation_refusal
from backstory.edge.track_answer import ACCEPTED, DONE, UNAUTHORISED, Answer, answer, refusal
from backstory.edge.track_request import (
    TrackWorkspace,
    check_encoding,
    members,
    merge_refusal,
    public_fact,
    request_facts,
)
from backstory.edge.track_route import Action, find_route, raw_path

_LIMITS: dict[Action, Limit] = {"entity": ENTITY_BODY_BYTES, "batch": BATCH_BODY_BYTES}
_KEYLESS = frozenset[Action]({"metric", "push", "unsubscribe"})
_UNKNOWN_DELIVERY = Receipt(result="dropped", reason="there is no such delivery")


class TrackApi:
    """The ASGI callable. ``authorise`` turns an ``Authorization`` header into a workspace's name, or None."""

    def __init__(
        self,
        workspaces: Mapping[str, TrackWorkspace],
        authorise: Callable[[bytes], str | None],
        bridge: Bridge,
        *,
        wait_s: float = WAIT_S,
        reader: BodyReader | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        self._workspaces = workspaces
        self._authorise = authorise
        self._bridge = bridge
        self._submission = Submission(bridge, wait_s=wait_s)
        self._reader = reader or BodyReader(bridge.loop)
        self._decoding = decoding or Decoding(bridge.loop, processes=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        action: Action | None = None
        try:
            action, subject = find_route(scope["method"], raw_path(scope))
            start, body = await self._answer(action, subject, scope, receive)
        except CallerGone:
            return
        except Exception as error:
            start, body = _refusal(action, error)
        await send(start)
        await send(body)

    async def _answer(self, action: Action, subject: bytes, scope: Scope, receive: Receive) -> Answer:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if action in _KEYLESS:
            return await self._keyless(action, subject, headers, receive)
        name = self._authorise(headers.get(b"authorization", b""))
        if name is None:
            return UNAUTHORISED
        workspace = self._workspaces[name]
        if action == "region":
            return _region(scope, headers, name)
        limit = _LIMITS.get(action, TRACK_BODY_BYTES)
        raw = await self._reader.read(receive, limit, headers.get(b"content-length", b""))
        check_encoding(headers)
        if action == "batch":
            return await self._batch(workspace, raw, headers.get(WAIT_HEADER))
        if action == "add" or action == "remove":
            facts: list[Fact] = [await members(workspace, action, subject, scope, headers, raw)]
        else:
            facts = request_facts(action, subject, headers.get(b"content-type", b""), raw)
        if WAIT_HEADER in headers:
            return await self._apply(workspace, facts, headers[WAIT_HEADER], entity_answer)
        waiter = Waiter(self._bridge)
        workspace.submit(facts, on_accept=waiter.on_accept, on_applied=None, on_error=waiter.on_error)
        refused = await waiter.accepted
        if refused is not None:
            raise cast("BackstoryError", refused)
        return DONE if action == "form" else ACCEPTED

    async def _apply(
        self, workspace: TrackWorkspace, facts: list[Fact], wanted: bytes, made: Callable[[list[Receipt]], Answer]
    ) -> Answer:
        wants_applied(wanted)
        return made(await self._submission.apply(workspace, facts))

    async def _batch(self, workspace: TrackWorkspace, raw: bytes, wanted: bytes | None) -> Answer:
        waits = wants_applied(wanted)
        workspace.check_room(len(raw))
        decoded = await self._decoding.read("operations", raw)
        receipts: list[Receipt] | None = None
        if waits:
            receipts = await self._submission.apply(workspace, decoded.facts)
        else:
            await self._submission.accept(workspace, decoded.facts)
        return batch_answer(decoded, receipts)

    async def _keyless(
        self, action: Action, subject: bytes, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer:
        """What is told of a delivery: its id, which nobody can guess, stands for credentials where there are none."""
        workspace: TrackWorkspace | None = None
        if b"authorization" in headers:
            name = self._authorise(headers[b"authorization"])
            if name is None:
                return UNAUTHORISED
            workspace = self._workspaces[name]
        raw = await self._reader.read(receive, TRACK_BODY_BYTES, headers.get(b"content-length", b""))
        check_encoding(headers)
        fact = public_fact(action, subject, headers.get(b"content-type", b""), raw)
        waits = wants_applied(headers.get(WAIT_HEADER))
        if fact is not None and workspace is None:
            workspace = await asyncio.to_thread(self._sender_of, fact)
        if fact is None or workspace is None:
            return entity_answer([_UNKNOWN_DELIVERY]) if waits and fact is not None else ACCEPTED
        if waits:
            return entity_answer(await self._submission.apply(workspace, [fact]))
        await self._submission.accept(workspace, [fact])
        return ACCEPTED

    def _sender_of(self, fact: ReportMetric) -> TrackWorkspace | None:
        """The workspace that made a delivery; None when none did."""
        for workspace in list(self._workspaces.values()):
            try:
                workspace.reader.message(fact.delivery_id)
            except NotFoundError:
                continue
            return workspace
        return None


def _refusal(action: Action | None, error: Exception) -> Answer:
    """The shape of a refusal hangs on the endpoint: v2 and merge have their own."""
    match action:
        case "entity" | "batch":
            return operation_refusal(error)
        case "merge":
            return merge_refusal(error)
        case _:
            return refusal(error)


def _region(scope: Scope, headers: Mapping[bytes, bytes], name: str) -> Answer:
    """Says that the credentials are right, and the address the caller reached us by."""
    host = headers.get(b"host", b"localhost").decode("latin-1")
    url = f"{scope.get('scheme', 'http')}://{host}"
    return answer(200, {"url": url, "region": "us", "environment_id": workspace_number(name)})
