"""Every endpoint of the write APIs: what it takes, what it does, which statuses it may answer.

The table that ``docs/compat.md`` and the OpenAPI description of the tests are made from; tests go through it too, so
that it cannot say what is not so. The App API keeps its routes beside its handlers.
"""

from dataclasses import dataclass
from typing import Literal

Credential = Literal["track", "cdp", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint. ``statuses`` are those it may answer besides 408, 429 and 503, which any may."""

    method: str
    path: str
    does: str
    statuses: tuple[int, ...]
    credential: Credential = "track"
    note: str = ""


def _v1(route: str, does: str, *, statuses: str = "200 400 401 413", keyless: bool = False, note: str = "") -> Endpoint:
    method, path = route.split()
    numbers = tuple(int(one) for one in statuses.split())
    credential: Credential = "none" if keyless else "track"
    return Endpoint(method=method, path=path, does=does, statuses=numbers, credential=credential, note=note)


_PERSON = "/api/v1/customers/{identifier}"
_FORGIVING = "unless X-Strict-Mode is 1, a call that cannot be taken is answered 200 and told in a header"

TRACK: tuple[Endpoint, ...] = (
    _v1("GET /api/v1/accounts/region", "says that the credentials are right", statuses="200 401"),
    _v1(f"PUT {_PERSON}", "attributes, identifiers, subscription topics, relationships"),
    _v1(f"DELETE {_PERSON}", "the person goes", note="an unknown person is 200 too"),
    _v1(f"POST {_PERSON}/events", "an event, page or screen", note="JSON or form"),
    _v1("POST /api/v1/events", "an anonymous event, or an invite event"),
    _v1(f"PUT {_PERSON}/devices", "a device, by its token", note="further keys beside the token are attributes"),
    _v1(f"DELETE {_PERSON}/devices/{{device_id}}", "a device goes"),
    _v1(f"POST {_PERSON}/suppress", "the person goes, the identifiers are blocked"),
    _v1(f"POST {_PERSON}/unsuppress", "the identifier is free again"),
    _v1("POST /api/v1/merge_customers", "secondary becomes part of primary"),
    _v1(
        "POST /api/v1/segments/{segment_id}/add_customers", "people into a manual segment",
        statuses="200 400 401 404 413",
    ),
    _v1(
        "POST /api/v1/segments/{segment_id}/remove_customers", "people out of a manual segment",
        statuses="200 400 401 404 413",
    ),
    _v1(
        "POST /api/v1/metrics", "what became of a delivery", keyless=True,
        note="an unknown delivery is 200; credentials, if given, must be right",
    ),
    _v1("POST /api/v1/push/events", "what a device tells of a push", keyless=True, note="as metrics"),
    _v1("POST /push/events", "the same, as the Ruby client spells it", keyless=True, note="as metrics"),
    _v1(
        "POST /unsubscribe/{delivery_id}", "unsubscribes the delivery's person", keyless=True,
        note='{"unsubscribe": true}, or the one-click form of RFC 8058',
    ),
    _v1(
        "POST /api/v1/forms/{form_id}/submit", "fields become attributes, the submission the event form_submit",
        statuses="204 400 401 413", note="forms are not listed anywhere",
    ),
    _v1("POST /api/v2/entity", "one operation on a person, an object or a delivery", statuses="200 400 401"),
    _v1(
        "POST /api/v2/batch", "operations, in order", statuses="200 207 400 401",
        note="207 tells the refused ones by their index",
    ),
)  # fmt: skip


def _call(name: str, does: str, letter: str, *, note: str = "") -> tuple[Endpoint, Endpoint]:
    def at(path: str, says: str, more: str) -> Endpoint:
        return Endpoint(method="POST", path=path, does=says, statuses=(200, 400, 401, 413), credential="cdp", note=more)

    return at(f"/v1/{name}", does, note or _FORGIVING), at(f"/v1/{letter}", f"the same as /v1/{name}", "")


PIPELINES: tuple[Endpoint, ...] = (
    *_call("identify", "traits of a person", "i"),
    *_call("track", "an event, or one of the semantic events", "t"),
    *_call("page", "a page view", "p"),
    *_call("screen", "a screen view", "s"),
    *_call("group", "an object, and the person's relationship to it", "g"),
    *_call("alias", "previousId becomes part of userId", "a"),
    *_call("batch", "calls, in order", "b", note="gzip; in strict mode all of it or nothing"),
    Endpoint(
        method="GET", path="/v1/projects/{write_key}/settings", does="lets the browser client start",
        statuses=(200, 404), credential="none",
    ),
)  # fmt: skip

ENDPOINTS: tuple[Endpoint, ...] = (*TRACK, *PIPELINES)
