"""Paths of the Track APIs: which action a method and a raw path mean, and the raw names inside the path.

Matched as sent, before percent-decoding: ``%2F`` inside an id is no separator.
Source: ``api-surface.md`` sections 1, 4 and 5; ``edge.endpoint`` has the list.
"""

from typing import Literal

from starlette.types import Scope

from backstory.edge.track_answer import RouteError

Action = Literal[
    "identify", "delete", "event", "anonymous", "region", "add", "remove", "put_device", "delete_device", "suppress",
    "unsuppress", "merge", "metric", "push", "unsubscribe", "form", "entity", "batch",
]  # fmt: skip

ROOT = b"/api/v1/"
_CUSTOMERS = b"/api/v1/customers/"
_SEGMENTS = b"/api/v1/segments/"
_FORMS = b"/api/v1/forms/"
_UNSUBSCRIBE = b"/unsubscribe/"
_EVENTS = b"/events"
_DEVICES = b"/devices"
_DEVICE = b"/devices/"
_SUBMIT = b"/submit"
_EXACT: dict[bytes, tuple[str, Action]] = {
    b"/api/v1/events": ("POST", "anonymous"),
    b"/api/v1/accounts/region": ("GET", "region"),
    b"/api/v1/merge_customers": ("POST", "merge"),
    b"/api/v1/metrics": ("POST", "metric"),
    b"/api/v1/push/events": ("POST", "push"),
    b"/push/events": ("POST", "push"),
    b"/api/v2/entity": ("POST", "entity"),
    b"/api/v2/batch": ("POST", "batch"),
}
_MEMBERS: dict[bytes, Action] = {b"add_customers": "add", b"remove_customers": "remove"}
_PEOPLE: tuple[tuple[bytes, Action], ...] = ((b"/suppress", "suppress"), (b"/unsuppress", "unsuppress"))


def raw_path(scope: Scope) -> bytes:
    """The path as it was sent, still percent-encoded: ``%2F`` inside an id must not separate."""
    return scope.get("raw_path") or scope["path"].encode()


def find_route(method: str, raw: bytes) -> tuple[Action, bytes]:
    """The action and the raw name (person, segment, form, delivery) of a path; raises ``RouteError``.

    A plain slash in a person's id is taken as part of it where no other path is meant, for clients that do not
    encode it (async-customerio). The name of ``delete_device`` is ``person/devices/token``.
    """
    if raw.startswith(_CUSTOMERS):
        return _customer_route(method, raw[len(_CUSTOMERS) :])
    if raw in _EXACT:
        allowed, action = _EXACT[raw]
        return _only(method, allowed, action, b"")
    if raw.startswith(_SEGMENTS):
        number, _, verb = raw[len(_SEGMENTS) :].partition(b"/")
        if verb in _MEMBERS:
            return _only(method, "POST", _MEMBERS[verb], number)
    if raw.startswith(_FORMS) and raw.endswith(_SUBMIT):
        return _only(method, "POST", "form", raw[len(_FORMS) : -len(_SUBMIT)])
    if raw.startswith(_UNSUBSCRIBE) and len(raw) > len(_UNSUBSCRIBE):
        return _only(method, "POST", "unsubscribe", raw[len(_UNSUBSCRIBE) :])
    raise _unknown(raw)


def split_device(raw: bytes) -> tuple[bytes, bytes]:
    """The raw person and token of a ``delete_device`` path. Tokens hold more than ids do: the first one separates."""
    person, _, token = raw.partition(_DEVICE)
    return person, token


def _only(method: str, allowed: str, action: Action, name: bytes) -> tuple[Action, bytes]:
    if method != allowed:
        raise _not_allowed(method, allowed)
    return action, name


def _customer_route(method: str, rest: bytes) -> tuple[Action, bytes]:
    if rest.endswith(_EVENTS):
        return _only(method, "POST", "event", rest[: -len(_EVENTS)])
    for suffix, action in _PEOPLE:
        if rest.endswith(suffix):
            return _only(method, "POST", action, rest[: -len(suffix)])
    if rest.endswith(_DEVICES):
        return _only(method, "PUT", "put_device", rest[: -len(_DEVICES)])
    if _DEVICE in rest:
        return _only(method, "DELETE", "delete_device", rest)
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
    hint = "" if raw.startswith(ROOT) else f"; the Track API is under {ROOT.decode()}"
    return RouteError(f"there is nothing at {path}{hint}")
