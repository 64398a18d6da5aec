"""Dispatch: which API answers a request, told by its path; and what answers while there is none yet."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.edge import track_answer
from backstory.edge.pipeline import is_pipelines
from backstory.edge.track_route import raw_path


def build_app(track: ASGIApp, pipelines: ASGIApp, app: ASGIApp, health: Callable[[], track_answer.Answer]) -> ASGIApp:
    """The ASGI application of a listener: Track, Pipelines, the App API, health, told apart by their paths.

    A plain function that hands on the coroutine: the hot path gets no layer of its own.
    """

    def dispatch(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return _no_http(scope, receive, send)
        path = raw_path(scope)
        if path.startswith(b"/api/"):
            return track(scope, receive, send)
        if path.startswith((b"/v1/", b"/local/")):
            return (pipelines if is_pipelines(path) else app)(scope, receive, send)
        if path.startswith((b"/push/", b"/unsubscribe/")):
            return track(scope, receive, send)
        if path == b"/health":
            return _send(health(), send)
        shown = path[:200].decode("latin-1")
        message = f"there is nothing at {shown}: the Track API is under /api/v1/ and /api/v2/, the others under /v1/"
        return _send(track_answer.errors(404, message), send)

    return dispatch


async def starting(scope: Scope, receive: Receive, send: Send) -> None:
    """While the workspaces are being opened: 503 to everything."""
    health = scope["type"] == "http" and raw_path(scope) == b"/health"
    await _send(track_answer.NOT_READY if health else track_answer.STARTING, send)


async def _send(answer: track_answer.Answer, send: Send) -> None:
    await send(answer[0])
    await send(answer[1])


async def _no_http(scope: Scope, receive: Receive, send: Send) -> None:
    """Under another ASGI server: the lifespan needs nothing of us; anything else is not spoken here."""
    if scope["type"] != "lifespan":
        raise RuntimeError(f"this application speaks HTTP only, not {scope['type']}")
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})
