"""The App API as an ASGI application: routes, credentials, bodies, errors.

Handlers are synchronous and run in a thread pool: these are the cold paths, and reads touch the disk. Paths are
matched as they were sent, before percent-decoding, so that an id may hold a slash.
Source: ``api-surface.md`` sections 1, 2 and 7.
"""

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.core.error import RequestError, without_frames
from backstory.core.limit import APP_BODY_BYTES
from backstory.edge import (
    app_activity,
    app_campaign,
    app_export,
    app_import,
    app_import_control,
    app_inquiry,
    app_key,
    app_local,
    app_member,
    app_message,
    app_object,
    app_people,
    app_segment,
    app_upload,
)
from backstory.edge.app_answer import TooLargeError, failure, refusal, unauthorised
from backstory.edge.app_key import KeyTools
from backstory.edge.app_local import LocalTools
from backstory.edge.app_query import read_query
from backstory.edge.app_request import Answer, Call, Desk, Handler
from backstory.edge.app_upload import Receiving
from backstory.engine.port import Workspace

Authorise = Callable[[Scope], bool]

# Inquiries come first: "history" and "preview" are no numbers of segments.
_NOUNS = (
    app_inquiry,
    app_people,
    app_activity,
    app_segment,
    app_member,
    app_campaign,
    app_message,
    app_object,
    app_import,
    app_export,
    app_upload,
    app_import_control,
    app_key,
)


def app_api(
    workspace: Workspace,
    authorise: Authorise,
    *,
    trusted: bool = False,
    tools: LocalTools | None = None,
    keys: KeyTools | None = None,
    desk: Desk | None = None,
) -> ASGIApp:
    """The App API of a workspace.

    ``authorise`` says whether a request's credentials are right. A ``trusted`` application (the local socket, the
    command line) asks for none and has the ``/local`` endpoints as well, if it is given ``tools``. With ``keys`` there
    are the endpoints of keys; a ``desk`` takes uploads and imports.
    """
    table = [row for noun in _NOUNS for row in noun.ROUTES]
    if keys is not None:
        table += app_key.routes(keys, "/v1")
    if trusted and tools is not None:
        table += app_local.routes(tools)
    guard = _everybody if trusted else authorise
    endpoints = [(path, _Endpoint(workspace, guard, path, methods, desk)) for path, methods in _by_path(table)]
    router = Router(
        [Route(path, _receiving(path, desk, guard, endpoint)) for path, endpoint in endpoints],
        redirect_slashes=False,
        default=_Unknown(guard),
    )
    return _RawPath(router)


def public_routes(keys: KeyTools) -> list[tuple[str, str, Handler]]:
    """Method, path and handler of every endpoint on the public listener, as the documents show them."""
    return [row for noun in _NOUNS for row in noun.ROUTES] + app_key.routes(keys, "/v1")


class _RawPath:
    """Matches on the path as sent: ``%2F`` inside an id is not a separator."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the App API speaks HTTP only, not {scope['type']}")
        raw = scope.get("raw_path")
        path = scope["path"] if raw is None else raw.partition(b"?")[0].decode("utf-8", "replace")
        await self._inner({**scope, "path": path}, receive, send)


class _Endpoint:
    """All methods of one path."""

    def __init__(
        self, workspace: Workspace, authorise: Authorise, path: str, methods: Mapping[str, Handler], desk: Desk | None
    ) -> None:
        self._workspace = workspace
        self._path = path
        self._desk = desk
        self._authorise = authorise
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        except Exception as error:
            response = refusal(without_frames(error) if isinstance(error, RequestError) else error)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        if not self._authorise(scope):
            return unauthorised()
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        handler = self._methods.get(method)
        if handler is None:
            allowed = ", ".join(self._methods)
            return failure(405, f"{scope['path']} takes {allowed}, not {scope['method']}", headers={"Allow": allowed})
        call = Call(
            workspace=self._workspace,
            path={name: unquote(value) for name, value in scope["path_params"].items()},
            query=read_query(QueryParams(scope["query_string"]), method, self._path),
            body=await _body(scope, receive),
            wants_receipt=Headers(scope=scope).get("backstory-wait", "").strip().lower() == "applied",
            desk=self._desk,
        )
        return await run_in_threadpool(handler, call)


def _receiving(path: str, desk: Desk | None, guard: Authorise, endpoint: ASGIApp) -> ASGIApp:
    """Files are taken as they come, before a body would be read whole."""
    takes = path in ("/v1/imports", "/v1/imports/{import_id}/retry", "/v1/uploads/{upload_id}")
    return Receiving(desk, guard, endpoint) if takes and desk is not None else endpoint


class _Unknown:
    """Paths that do not exist: JSON too, and only for those with credentials."""

    def __init__(self, authorise: Authorise) -> None:
        self._authorise = authorise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = failure(404, f"there is no {scope['path']}")
        response = found if self._authorise(scope) else unauthorised()
        await response(scope, receive, send)


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The body, refused as soon as it is too long."""
    length = Headers(scope=scope).get("content-length", "")
    if length.isascii() and length.isdigit():
        _check_length(int(length[:20]))
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        _check_length(len(body))
        more = message.get("more_body", False)
    return bytes(body)


def _check_length(length: int) -> None:
    try:
        APP_BODY_BYTES.check(length)
    except RequestError as error:
        raise TooLargeError(error.message) from None


def _by_path(table: Iterable[tuple[str, str, Handler]]) -> list[tuple[str, dict[str, Handler]]]:
    paths: dict[str, dict[str, Handler]] = {}
    for method, path, handler in table:
        paths.setdefault(path, {})[method] = handler
    return list(paths.items())


def _everybody(scope: Scope) -> bool:
    return True
