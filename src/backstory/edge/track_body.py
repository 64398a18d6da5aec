"""Bodies of the Track API turned into facts, with everything judged that the request alone can tell.

Knows limits, texts and identifiers by shape; nothing of HTTP beyond a content type, nothing of what is stored.
A body that cannot be taken raises ``RequestError`` with the text of ``api-surface.md`` section 2 where it has one.
"""

from collections.abc import Collection
from typing import Literal, cast
from urllib.parse import unquote_to_bytes

import msgspec

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.event import is_event_id
from backstory.core.fact import (
    ChangeMembers,
    DeletePerson,
    EventKind,
    Identifier,
    IdentifierKind,
    Identify,
    Track,
    TrackAnonymous,
)
from backstory.core.limit import (
    ATTRIBUTE_NAME_BYTES,
    ATTRIBUTE_VALUE_BYTES,
    ATTRIBUTES_PER_CALL,
    EMAIL_BYTES,
    EVENT_DATA_BYTES,
    EVENT_NAME_BYTES,
    ID_BYTES,
    JSON_DEPTH,
    MEMBERS_PER_CALL,
)
from backstory.core.time import TimeUnreadable, from_text, from_unix
from backstory.edge.form import parse_form

Body = dict[str, Json]
MemberKind = Literal["id", "email", "cio_id"]

FORM_TYPE = b"application/x-www-form-urlencoded"
CIO_PREFIX = "cio_"
SHOWN_CHARACTERS = 60
# Overrides of a campaign's addresses: an anonymous event may name them beside its data (api-surface section 4).
ADDRESSES = ("recipient", "from_address", "reply_to")

_KINDS: dict[str, EventKind] = {"event": "event", "page": "page", "screen": "screen"}
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_body(content_type: bytes, raw: bytes) -> Body:
    """The body as nested data, from JSON or a form; an empty body is an empty object.

    A form that opens with a brace is read as JSON: ``curl -d '{…}'`` says form unless told otherwise, and no key
    begins with a brace.
    """
    if not raw:
        return {}
    if content_type[:33].lower() == FORM_TYPE and not raw.lstrip().startswith(b"{"):
        body: Json = parse_form(raw)
        has_nul = b"%00" in raw or b"\0" in raw
    else:
        body = _json(raw)
        has_nul = b"\\u0000" in raw
    if has_nul and _holds_nul(body):
        raise RequestError("the body holds a NUL character, which no text can: leave it out")
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object, not {_shown(body)}")
    return body


def _json(raw: bytes) -> Json:
    try:
        return cast("Json", _decode(raw))
    except RecursionError:
        raise RequestError(JSON_DEPTH.message.format(value=JSON_DEPTH.value)) from None
    except UnicodeDecodeError:
        raise RequestError("the body is not UTF-8 text") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None


def path_identifier(raw: bytes) -> Identifier:
    """The person a raw path segment names, by its shape: ``cio_…`` is a cio_id, with ``@`` an email, else an id."""
    try:
        text = (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError:
        raise RequestError("the identifier in the path is not UTF-8 text: percent-encode its UTF-8 bytes") from None
    if text.startswith(CIO_PREFIX):
        return _identifier("cio_id", text[4:])
    return _identifier("email" if "@" in text else "id", text)


def _identifier(kind: IdentifierKind, value: str) -> Identifier:
    if not value:
        raise RequestError(f"{kind} attribute cannot be an empty string")
    if "\0" in value:
        raise RequestError(f"the {kind} holds a NUL character, which no text can: leave it out")
    (EMAIL_BYTES if kind == "email" else ID_BYTES).check(len(value.encode()))
    return Identifier(kind, value)


def identify_fact(person: Identifier, body: Body) -> Identify:
    """``PUT /customers/{identifier}``: control keys are taken out, what remains are the attributes.

    Null and the empty string remain: they are removals. As body identifiers they name nobody and count as absent,
    but for an empty ``id``, which is refused as in the original.
    """
    body_id, body_email = _body_id(body.pop("id", None)), _body_email(body.pop("email", None))
    anonymous_id = _anonymous_id(body.pop("anonymous_id", None))
    time_us, rescaled = read_time(body.pop("_timestamp", None), "_timestamp")
    update_only = _flag(body.pop("_update", None), "_update")
    body.pop("cio_id", None)
    body.pop("cio_relationships", None)
    ATTRIBUTES_PER_CALL.check(len(body))
    encoded = _stored(body)
    # As a whole shorter than the shortest limit: each name and value is, too.
    if len(encoded) > ATTRIBUTE_NAME_BYTES.value:
        _check_attributes(body)
    if "" in body:
        raise RequestError("attribute name cannot be blank", path="$")
    return Identify(
        person=person,
        attributes=encoded,
        body_id=body_id,
        body_email=body_email,
        anonymous_id=anonymous_id,
        time_us=time_us,
        update_only=update_only,
        rescaled=rescaled,
    )


def _check_attributes(body: Body) -> None:
    for name, value in body.items():
        ATTRIBUTE_NAME_BYTES.check(len(name.encode()))
        size = len(value.encode()) if isinstance(value, str) else len(_encode(value))
        ATTRIBUTE_VALUE_BYTES.check(size, path=f"$.{name}", subject=name)


def event_fact(person: Identifier, body: Body) -> Track:
    """``POST /customers/{identifier}/events``."""
    time_us, rescaled = read_time(body.get("timestamp"), "timestamp")
    return Track(
        person=person,
        name=_event_name(body.get("name")),
        kind=_event_kind(body.get("type")),
        data=_event_data(body.get("data")),
        time_us=time_us,
        event_id=_event_id(body.get("id")),
        rescaled=rescaled,
    )


def anonymous_fact(body: Body) -> TrackAnonymous:
    """``POST /events``; without an ``anonymous_id`` nobody can ever claim it (the original's invite event)."""
    time_us, rescaled = read_time(body.get("timestamp"), "timestamp")
    data = body.get("data")
    addresses = {name: body[name] for name in ADDRESSES if body.get(name) is not None}
    if addresses and (data is None or isinstance(data, dict)):
        data = {**addresses, **(data or {})}
    return TrackAnonymous(
        anonymous_id=_anonymous_id(body.get("anonymous_id")),
        name=_event_name(body.get("name")),
        kind=_event_kind(body.get("type")),
        data=_event_data(data),
        time_us=time_us,
        event_id=_event_id(body.get("id")),
        rescaled=rescaled,
    )


def delete_fact(person: Identifier) -> DeletePerson:
    """``DELETE /customers/{identifier}``; a body says nothing."""
    return DeletePerson(person=person)


def members_fact(segment_id: int, id_type: str, body: Body, *, add: bool) -> ChangeMembers:
    """``POST /segments/{id}/add_customers`` and ``remove_customers``; entries of another shape are ignored."""
    if id_type not in ("id", "email", "cio_id"):
        raise RequestError(f"id_type must be id, email or cio_id, not {_shown(id_type)}")
    ids = body.get("ids")
    if not isinstance(ids, list) or not ids:
        raise RequestError("ids must be a list of identifiers, with at least one", path="$.ids")
    MEMBERS_PER_CALL.check(len(ids), path="$.ids")
    texts = [str(value) if type(value) is int else value for value in ids]
    people = [_member(id_type, text) for text in texts if isinstance(text, str) and text]
    return ChangeMembers(segment_id=segment_id, people=tuple(one for one in people if one is not None), add=add)


def _member(kind: MemberKind, text: str) -> Identifier | None:
    if kind == "email" and "@" not in text:
        return None
    if kind == "cio_id":
        text = text.removeprefix(CIO_PREFIX)
    return _identifier(kind, text) if text else None


def read_time(value: Json, name: str) -> tuple[int | None, bool]:
    """A time of the request in microseconds and whether it was in milliseconds or less; null is no time.

    Unix seconds as number or text, or ISO 8601 with a zone. What is there but cannot be read is refused: it must
    never become "now" (design section 7).
    """
    if value is None:
        return None, False
    try:
        if type(value) is int or type(value) is float:
            return from_unix(value)
        if isinstance(value, str):
            return from_text(value)
    except TimeUnreadable:
        pass
    raise RequestError(
        f"{name} must be a time: unix seconds, or ISO 8601 with a zone like 2013-01-28T05:10:15Z, not {_shown(value)}",
        path=f"$.{name}",
    )


def _event_name(value: Json) -> str:
    if value is None:
        raise RequestError("event name must not be blank", path="$.name")
    if not isinstance(value, str):
        raise RequestError(f"event name must be a string, not {_shown(value)}", path="$.name")
    name = value.strip()
    if not name:
        raise RequestError("event name must not be blank", path="$.name")
    EVENT_NAME_BYTES.check(len(name.encode()), path="$.name")
    return name


def _event_kind(value: Json) -> EventKind:
    return _KINDS.get(value, "event") if isinstance(value, str) else "event"


def _event_data(value: Json) -> bytes:
    if value is None:
        return b"{}"
    if not isinstance(value, dict):
        raise RequestError("event data must be a hash", path="$.data")
    data = _stored(value)
    EVENT_DATA_BYTES.check(len(data), path="$.data")
    return data


def _event_id(value: Json) -> str | None:
    """ULIDs and UUIDs are the same in any case, so one case is kept."""
    if value is None:
        return None
    # The letters a pattern may take for ASCII ones in another case (the Kelvin sign) are none.
    if not isinstance(value, str) or not value.isascii() or not is_event_id(value):
        raise RequestError(f"event id must be a ULID or a UUID, not {_shown(value)}", path="$.id")
    return value.lower()


def _body_id(value: Json) -> str | None:
    if value is None:
        return None
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise RequestError("id attribute must be a string value", path="$.id")
    return _identifier("id", value).value


def _body_email(value: Json) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RequestError("email attribute must be a string value", path="$.email")
    return _identifier("email", value).value


def _anonymous_id(value: Json) -> str | None:
    if value is None or value == "":
        return None
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise RequestError("anonymous_id must be a string value", path="$.anonymous_id")
    ID_BYTES.check(len(value.encode()), path="$.anonymous_id")
    return value


def _flag(value: Json, name: str) -> bool:
    match value:
        case None | False | 0 | "" | "false" | "0":
            return False
        case True | 1 | "true" | "1":
            return True
        case _:
            raise RequestError(f"{name} must be true or false, not {_shown(value)}", path=f"$.{name}")


def _stored(value: Body) -> bytes:
    """An object as it is kept: compact JSON, checked for its depth."""
    try:
        text = _encode(value)
    except RecursionError:
        raise RequestError(JSON_DEPTH.message.format(value=JSON_DEPTH.value)) from None
    # With fewer brackets than levels allowed it cannot be too deep, and need not be measured.
    if text.count(b"{") + text.count(b"[") > JSON_DEPTH.value:
        JSON_DEPTH.check(_depth(value))
    return text


def _depth(value: Json) -> int:
    """How deep objects and lists are nested; level by level, for the depth is not yet known to be small."""
    depth = 0
    level: list[Json] = [value]
    while holders := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for holder in holders for inner in _inside(holder)]
    return depth


def _inside(value: Json) -> Collection[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _holds_nul(value: Json) -> bool:
    """Is there a NUL in any text or key? Asked only when the raw body gives reason to."""
    level: list[Json] = [value]
    while level:
        if any("\0" in item for item in level if isinstance(item, str)):
            return True
        if any("\0" in key for item in level if isinstance(item, dict) for key in item):
            return True
        level = [inner for item in level for inner in _inside(item)]
    return False


def _shown(value: Json) -> str:
    """A value as the sender wrote it, cut to a length for an error text."""
    text = _encode(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
