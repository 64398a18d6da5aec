"""Calls of the Pipelines API (Segment's shape) as rows of files: what the same calls would say live.

Source: ``api-surface.md`` section 6; ``edge/pipeline_call.py`` reads the same of requests.
"""

import re
from collections.abc import Mapping

from backstory.core.condition import Json
from backstory.core.event import is_event_id
from backstory.core.limit import EVENT_NAME_BYTES
from backstory.core.time import SECOND_US, TimeUnreadable, from_text, is_local
from backstory.engine.file.row_value import NotHere, RowError

_DATE_CHARACTERS = 10
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT")
_RELATED = "traits.relationshipAttributes"
# Track calls that ask for something else than an event; an import does not turn them into one.
SEMANTIC = frozenset(
    (
        "User Deleted", "User Suppressed", "User Unsuppressed", "Object Deleted", "Relationship Deleted",
        "Device Created or Updated", "Device Deleted", "Report Delivery Event", "Report Content Event",
    )
)  # fmt: skip


def event_of(call: Mapping[str, Json]) -> dict[str, Json]:
    """A track, page or screen call as flat keys, without the person; raises ``RowError``, ``NotHere`` for others."""
    kind = call.get("type")
    properties = dict(_object(call, "properties"))
    match kind:
        case "identify" | "group":
            raise NotHere("people" if kind == "identify" else "objects")
        case "track":
            name = call.get("event")
            if name in SEMANTIC:
                raise RowError("event", name, "asks for something else than an event: send it as a call")
        case "page" | "screen":
            category = call.get("category")
            if isinstance(category, str) and category:
                properties.setdefault("category", category)
            name = _page(call, properties) if kind == "page" else call.get("name")
        case _:
            raise RowError("type", kind, "must be track, page, screen or identify")
    return {
        "type": "event" if kind == "track" else kind,
        "name": name,
        "timestamp": moment_of(call),
        "event_id": _message_id(call.get("messageId")),
        "data": properties,
    }


def identify_of(call: Mapping[str, Json]) -> dict[str, Json]:
    """An identify call as the attributes it sets; raises ``RowError``, ``NotHere`` for calls that are events."""
    kind = call.get("type")
    if kind in ("track", "page", "screen"):
        raise NotHere("events")
    if kind == "group":
        raise NotHere("objects")
    if kind != "identify":
        raise RowError("type", kind, "must be identify")
    return _attributes(_object(call, "traits"))


def group_of(call: Mapping[str, Json]) -> tuple[dict[str, Json], dict[str, Json], dict[str, Json]]:
    """A group call: ``object_id`` and ``object_type_id``, the attributes of the object, those of the relationship.

    Raises ``RowError``, ``NotHere`` for calls that say something else.
    """
    kind = call.get("type")
    if kind in ("track", "page", "screen"):
        raise NotHere("events")
    if kind == "identify":
        raise NotHere("people")
    if kind != "group":
        raise RowError("type", kind, "must be group")
    traits = dict(_object(call, "traits"))
    given = traits.pop("object_type_id", None)
    type_id = given if given is not None else traits.pop("objectTypeId", call.get("objectTypeId"))
    related = _object({_RELATED: traits.pop("relationshipAttributes", None)}, _RELATED)
    named: dict[str, Json] = {"object_id": call.get("groupId"), "object_type_id": type_id}
    return named, _attributes(traits), _attributes(related)


def person_text(call: Mapping[str, Json], *, or_email: bool = False) -> str:
    """What names the person: ``userId``, for identify calls else the email among the traits. Raises ``RowError``."""
    value = call.get("userId")
    if value is None or value == "":
        email = _object(call, "traits").get("email") if or_email else None
        if isinstance(email, str) and email:
            return email
        if call.get("anonymousId"):
            raise RowError("anonymousId", call["anonymousId"], "names nobody known: send it as a call")
        raise RowError("userId", None, "names no person")
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RowError("userId", value, "must be text or a whole number")


def moment_of(call: Mapping[str, Json]) -> Json:
    """When it happened; a time without a zone is in UTC here, clients leave it out."""
    value = call.get("timestamp") if call.get("timestamp") is not None else call.get("originalTimestamp")
    if isinstance(value, str) and is_local(value):
        return value + ("T00:00:00Z" if len(value) == _DATE_CHARACTERS else "Z")
    return value


def _message_id(value: Json) -> Json:
    return value.lower() if isinstance(value, str) and is_event_id(value) else value


def _page(call: Mapping[str, Json], properties: dict[str, Json]) -> Json:
    """The URL when there is one, cut where it is too long for a name; the whole of it stays among the data."""
    url, name = properties.get("url"), call.get("name")
    if not (isinstance(url, str) and url.strip()):
        return name or properties.get("path") or properties.get("title")
    if name is not None:
        properties.setdefault("name", name)
    for short in (url, url.partition("#")[0], url.partition("?")[0]):
        if len(short.encode()) <= EVENT_NAME_BYTES.value:
            return short
    return url.partition("?")[0].encode()[: EVENT_NAME_BYTES.value].decode("utf-8", "ignore")


def _object(call: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = call.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowError(name, value, "must be an object")
    return value


def _attributes(traits: Mapping[str, Json]) -> dict[str, Json]:
    attributes = {name: _seconds(value) for name, value in traits.items()}
    if "createdAt" in attributes:
        attributes.setdefault("created_at", _created(attributes.pop("createdAt")))
    return attributes


def _created(value: Json) -> Json:
    plain_date = isinstance(value, str) and len(value) == _DATE_CHARACTERS and is_local(value)
    return _seconds(f"{value}T00:00:00Z") if plain_date else value


def _seconds(value: Json) -> Json:
    """A trait whose text is a moment, as unix seconds."""
    if isinstance(value, dict):
        return {name: _seconds(inner) for name, inner in value.items()}
    if isinstance(value, str) and 16 <= len(value) <= 40 and _MOMENT.match(value):
        try:
            return from_text(value + "Z" if is_local(value) else value)[0] // SECOND_US
        except TimeUnreadable:
            return value
    return value

