"""Answers of the Pipelines API: forgiving unless asked to be strict, open to browsers.

    permissive  200 {}   also for a call that cannot be taken; the header Backstory-Refused then says what was wrong
    strict      400 {"code","message","meta":{"errors":[…]}}   nothing of the request was accepted

A wrong key is 401 in both (decision record 0019). Source: ``api-surface.md`` sections 2 and 6.
"""

import logging
from collections.abc import Mapping, Sequence

from backstory.core.error import Busy, RequestError, StorageError
from backstory.core.fact import Receipt
from backstory.edge.receiving import BodyTooSlowError
from backstory.edge.submission import is_pending, refused_shape
from backstory.edge.track2_answer import item_receipts
from backstory.edge.track2_batch import Decoded
from backstory.edge.track_answer import Answer, Headers, RouteError, answer

HEADER_CHARACTERS = 200
CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"backstory-refused, retry-after"),
]
PREFLIGHT: Answer = (
    {
        "type": "http.response.start",
        "status": 204,
        "headers": [
            (b"access-control-allow-origin", b"*"),
            (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
            (
                b"access-control-allow-headers",
                b"authorization, backstory-wait, content-encoding, content-type, x-strict-mode",
            ),
            (b"access-control-max-age", b"86400"),
        ],
    },
    {"type": "http.response.body", "body": b""},
)

_log = logging.getLogger(__name__)


def _answer(status: int, body: object, headers: Headers | None = None) -> Answer:
    return answer(status, body, [*CORS, *(headers or [])])


def _failure(
    status: int, code: str, message: str, *, headers: Headers | None = None, errors: list[str] | None = None
) -> Answer:
    body = {"code": code, "message": message, "meta": {"error": message, "errors": errors or [message]}}
    return _answer(status, body, headers)


ACCEPTED = _answer(200, {})
UNAUTHORISED = _failure(401, "unauthorized", "Unauthorized request")


def settings() -> Answer:
    """What the browser client asks for first: the one integration there is lets it start."""
    integration: dict[str, object] = {"type": "browser", "bundlingStatus": "bundled"}
    return _answer(200, {"integrations": {"Customer.io Data Pipelines": integration}, "plan": {}, "edgeFunction": {}})


def accepted(decoded: Decoded, receipts: Sequence[Receipt] | None, *, batch: bool) -> Answer:
    """The answer to a request of which at least the good part is accepted."""
    headers = _refused_header(decoded.refused)
    if receipts is None:
        return _answer(200, {}, headers) if headers else ACCEPTED
    status = 202 if is_pending(receipts) else 200
    shapes = item_receipts(decoded, receipts)
    return _answer(status, {"receipts": shapes} if batch else {"receipt": shapes[0]}, headers)


def permitted(error: RequestError, *, waits: bool) -> Answer:
    """The permissive answer to a request that was refused as a whole."""
    headers = _refused_header({0: error})
    return _answer(200, {"receipt": refused_shape(error)} if waits else {}, headers)


def strict(refused: Mapping[int, RequestError], *, batch: bool) -> Answer:
    """The strict answer: every mistake, and nothing was accepted."""
    texts = [f"batch[{number}]: {error.message}" if batch else error.message for number, error in refused.items()]
    return _failure(400, "invalid_request", texts[0], errors=texts)


def refusal(error: Exception) -> Answer:
    """Refusals that are the same in both modes."""
    match error:
        case RouteError():
            status, headers = (405, [(b"allow", error.allow.encode())]) if error.allow else (404, [])
            return _failure(status, "not_found", error.message, headers=headers)
        case BodyTooSlowError():
            return _failure(408, "timeout", error.message, headers=[(b"connection", b"close")])
        case RequestError():
            return _failure(400, "invalid_request", error.message)
        case Busy():
            return _failure(429, "busy", str(error), headers=[(b"retry-after", str(error.retry_after_s).encode())])
        case StorageError():
            _log.error("the storage refused a request: %s", error)
            return _failure(503, "unavailable", f"nothing was accepted: {error}")
        case _:
            _log.error("a request failed", exc_info=error)
            return _failure(500, "internal", "something went wrong on our side; the server's log says what")


def _refused_header(refused: Mapping[int, RequestError]) -> Headers:
    """Says in a header, and in the log, what the permissive 200 does not."""
    if not refused:
        return []
    number, first = next(iter(refused.items()))
    text = f"{len(refused)}; first at {number}: {first.message}"
    # Without the words of the refusal: they say what was sent, and a log is no place for that.
    _log.warning("%d calls to Pipelines were refused, the first at %d: %s", len(refused), number, first.path or "whole")
    shown = text.encode("ascii", "replace")[:HEADER_CHARACTERS]
    return [(b"backstory-refused", bytes(letter if 32 <= letter < 127 else 63 for letter in shown))]
