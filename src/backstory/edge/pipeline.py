"""The Pipelines API as an ASGI application: single calls, batches, and what browsers need around them.

Credentials are Basic with the write key as the user, Bearer, or ``writeKey`` in the body. Bodies are JSON whatever
their content type says (browsers send text/plain), packed with gzip or not. Source: ``api-surface.md`` section 6.
"""

from collections.abc import Callable, Mapping

import msgspec
from starlette.types import Receive, Scope, Send

from backstory.core.error import RequestError
from backstory.core.fact import Receipt
from backstory.core.limit import PIPELINES_BATCH_BYTES, PIPELINES_CALL_BYTES
from backstory.edge import pipeline_answer
from backstory.edge.bridge import Bridge, Intake
from backstory.edge.decoding import Decoding
from backstory.edge.pipeline_semantic import call_facts
from backstory.edge.receiving import BodyReader, BodyTooSlowError, CallerGone, unpacked
from backstory.edge.submission import WAIT_HEADER, WAIT_S, Submission, wants_applied
from backstory.edge.track2_batch import Decoded
from backstory.edge.track_answer import Answer, RouteError
from backstory.edge.track_route import raw_path
from backstory.edge.value import read_object

_NAMES = ("identify", "track", "page", "screen", "group", "alias", "batch")
PATHS: dict[bytes, str] = {f"/v1/{word}".encode(): name for name in _NAMES for word in (name, name[0])}
_PROJECTS, _SETTINGS = b"/v1/projects/", b"/settings"


class _Key(msgspec.Struct):
    writeKey: str | None = None


_key = msgspec.json.Decoder(_Key).decode


def is_pipelines(raw: bytes) -> bool:
    """Does a raw path belong to this API, and not to the App API that shares ``/v1/`` with it?"""
    return raw in PATHS or (raw.startswith(_PROJECTS) and raw.endswith(_SETTINGS))


class PipelinesApi:
    """The ASGI callable. ``authorise`` turns an ``Authorization`` header into a workspace's name, or None."""

    def __init__(
        self,
        workspaces: Mapping[str, Intake],
        authorise: Callable[[bytes], str | None],
        bridge: Bridge,
        *,
        wait_s: float = WAIT_S,
        reader: BodyReader | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        self._workspaces = workspaces
        self._authorise = authorise
        self._submission = Submission(bridge, wait_s=wait_s)
        self._reader = reader or BodyReader(bridge.loop)
        self._decoding = decoding or Decoding(bridge.loop, processes=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            start, body = await self._answer(scope, receive)
        except CallerGone:
            return
        except Exception as error:
            start, body = pipeline_answer.refusal(error)
        await send(start)
        await send(body)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method, raw = scope["method"], raw_path(scope)
        if method == "OPTIONS":
            return pipeline_answer.PREFLIGHT
        if raw not in PATHS:
            return self._settings(method, raw)
        if method != "POST":
            raise RouteError(f"{method} is not allowed here; allowed: POST, OPTIONS", allow="POST, OPTIONS")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        waits = wants_applied(headers.get(WAIT_HEADER))
        try:
            return await self._taken(PATHS[raw], headers, receive, waits=waits)
        except (RouteError, BodyTooSlowError):
            raise
        except RequestError as error:
            if _is_strict(headers):
                return pipeline_answer.strict({0: error}, batch=False)
            return pipeline_answer.permitted(error, waits=waits)

    async def _taken(self, name: str, headers: Mapping[bytes, bytes], receive: Receive, *, waits: bool) -> Answer:
        given = headers.get(b"authorization")
        workspace = None if given is None else self._authorise(given)
        if given is not None and workspace is None:
            return pipeline_answer.UNAUTHORISED
        limit = PIPELINES_BATCH_BYTES if name == "batch" else PIPELINES_CALL_BYTES
        sent = await self._reader.read(receive, limit, headers.get(b"content-length", b""))
        raw = unpacked(sent, headers.get(b"content-encoding", b""), limit)
        if workspace is None:
            workspace = self._authorise(b"Bearer " + _write_key(raw))
        if workspace is None:
            return pipeline_answer.UNAUTHORISED
        if name == "batch":
            self._workspaces[workspace].check_room(len(raw))
            decoded = await self._decoding.read("calls", raw)
        else:
            decoded = _single(name, raw)
        if decoded.refused and _is_strict(headers):
            return pipeline_answer.strict(decoded.refused, batch=name == "batch")
        receipts: list[Receipt] | None = None
        if waits:
            receipts = await self._submission.apply(self._workspaces[workspace], decoded.facts)
        else:
            await self._submission.accept(self._workspaces[workspace], decoded.facts)
        return pipeline_answer.accepted(decoded, receipts, batch=name == "batch")

    def _settings(self, method: str, raw: bytes) -> Answer:
        """Anybody may ask: a write key is public in a browser, and this tells nothing but whether it is one."""
        if method not in ("GET", "HEAD"):
            raise RouteError(f"{method} is not allowed here; allowed: GET, OPTIONS", allow="GET, OPTIONS")
        key = raw[len(_PROJECTS) : -len(_SETTINGS)]
        if self._authorise(b"Bearer " + key) is None:
            raise RouteError("there is no project with this write key")
        return pipeline_answer.settings()


def _single(name: str, raw: bytes) -> Decoded:
    facts = call_facts(read_object(raw), name)
    return Decoded(facts=facts, sizes=[len(facts)], refused={})


def _write_key(raw: bytes) -> bytes:
    try:
        return (_key(raw).writeKey or "").encode()
    except (msgspec.DecodeError, RecursionError, ValueError):
        return b""


def _is_strict(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"x-strict-mode", b"").strip() == b"1"
