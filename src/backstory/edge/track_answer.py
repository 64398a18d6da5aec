"""Answers of the Track API: JSON always, in the shapes of ``api-surface.md`` section 2.

An answer is the two ASGI messages it is sent as; the common ones are made once.
"""

import logging

import msgspec
from starlette.types import Message

from backstory.core.error import BackstoryError, Busy, ConflictError, NotFoundError, RequestError, StorageError
from backstory.edge.receiving import BodyTooLongError, BodyTooSlowError

Answer = tuple[Message, Message]
Headers = list[tuple[bytes, bytes]]

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class RouteError(RequestError):
    """No endpoint is meant: 404, or 405 when the path exists with other methods (``allow``)."""

    def __init__(self, message: str, *, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow


def answer(status: int, body: object, headers: Headers | None = None) -> Answer:
    """``body`` as JSON."""
    text = _encode(body)
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode()), *(headers or [])]
    return {"type": "http.response.start", "status": status, "headers": lines}, {
        "type": "http.response.body",
        "body": text,
    }


ACCEPTED = answer(200, {})
DONE: Answer = (
    {"type": "http.response.start", "status": 204, "headers": []},
    {"type": "http.response.body", "body": b""},
)
UNAUTHORISED = answer(
    401, {"meta": {"error": "Unauthorized request"}}, [(b"www-authenticate", b'Basic realm="Backstory Track API"')]
)
STARTING = answer(503, {"meta": {"error": "the server is starting: try again soon"}}, [(b"retry-after", b"1")])
READY = answer(200, {"status": "ready"})
FAILED = answer(503, {"status": "failed: nothing is accepted until a restart; the server's log says why"})
NOT_READY = answer(503, {"status": "starting"}, [(b"retry-after", b"1")])


def degraded(faults: list[str], *, named: bool) -> Answer:
    """The health of a server that answers, though something stored is missing or damaged."""
    return answer(200, {"status": "degraded", "faults": faults if named else len(faults)})


def errors(status: int, message: str, headers: Headers | None = None) -> Answer:
    """The shape of refusals: ``{"meta":{"errors":["…"]}}``."""
    return answer(status, {"meta": {"errors": [message]}}, headers)


def refusal(error: Exception) -> Answer:
    """The answer to an error: the caller's mistake, the world's, or ours (logged, and no details shown)."""
    match error:
        case RouteError():
            return _no_route(error)
        case BodyTooLongError():
            return errors(413, error.message)
        case BodyTooSlowError():
            return errors(408, error.message, [(b"connection", b"close")])
        case NotFoundError():
            return errors(404, error.message)
        case ConflictError():
            return errors(409, error.message)
        case RequestError():
            return errors(400, error.message)
        case Busy():
            return errors(429, str(error), [(b"retry-after", str(error.retry_after_s).encode())])
        case StorageError():
            _log.error("the storage refused a request: %s", error)
            return errors(503, f"nothing was accepted: {error}")
        case BackstoryError():
            _log.error("a request failed: %s", error)
        case _:
            _log.error("a request failed", exc_info=error)
    return errors(500, "something went wrong on our side; the server's log says what")


def _no_route(error: RouteError) -> Answer:
    if error.allow:
        return errors(405, error.message, [(b"allow", error.allow.encode())])
    return errors(404, error.message)
