"""Answers of the App API: JSON always, errors in the published shape.

    {"errors": [{"detail": "what is wrong and what to do", "status": "422", "source": {"pointer": "$.segment.name"}}]}

Source: ``api-surface.md`` section 2.
"""

import logging
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from backstory.core.error import (
    BackstoryError,
    Busy,
    ConflictError,
    LimitError,
    NotFoundError,
    RequestError,
    StorageError,
)
from backstory.engine.file.unpack import SourceError

_log = logging.getLogger(__name__)


class UnprocessableError(RequestError):
    """The request is well-formed but what it defines cannot be: 422, with the path of the mistake."""


class TooLargeError(LimitError):
    """The body is longer than allowed: 413, and the rest of it is not read."""


class StillPending(BackstoryError):
    """The write is accepted and durable but was not applied in time: 202, look again later."""


def answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``body`` as JSON."""
    return Response(msgspec.json.encode(body), status_code=status, headers=headers, media_type="application/json")


def nothing() -> Response:
    """204, for a deletion."""
    return Response(status_code=204)


def failure(status: int, detail: str, *, pointer: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """One error in the published shape; ``pointer`` says where in the request the mistake is."""
    error: dict[str, object] = {"detail": detail, "status": str(status)}
    if pointer:
        error["source"] = {"pointer": pointer}
    return answer({"errors": [error]}, status=status, headers=headers)


def unauthorised() -> Response:
    """401 as the original's App API answers it: without ``WWW-Authenticate``."""
    return answer({"meta": {"error": "Unauthorized request"}}, status=401)


def refusal(error: Exception) -> Response:
    """The answer to an error: the caller's mistake, the world's, or ours (logged, and no details shown)."""
    match error:
        case RequestError():
            return failure(status_of(error), error.message, pointer=error.path)
        case StillPending():
            return answer({"receipt": {"result": "pending"}}, status=202)
        case Busy():
            return failure(429, str(error), headers={"Retry-After": str(error.retry_after_s)})
        case SourceError():
            return failure(422, str(error))
        case StorageError():
            _log.error("storage refused a request: %s", error)
            return failure(503, f"nothing was accepted: {error}")
        case _:
            _log.error("a request failed", exc_info=error)
            return failure(500, "something went wrong on our side; the server's log says what")


def status_of(error: RequestError) -> int:
    """The HTTP status of a mistake of the caller."""
    match error:
        case NotFoundError():
            return 404
        case ConflictError():
            return 409
        case UnprocessableError():
            return 422
        case TooLargeError():
            return 413
        case _:
            return 400
