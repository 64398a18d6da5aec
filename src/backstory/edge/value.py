"""Values of requests, read and checked: bodies, identifiers, times, names, data.

Knows limits, texts and identifiers by shape; nothing of paths, headers or answers, nothing of what is stored.
What cannot be taken raises ``RequestError`` with the text of ``api-surface.md`` section 2 where it has one.
"""

import re
from collections.abc import Collection
from typing import cast
from urllib.parse import unquote_to_bytes

import msgspec

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.event import is_event_id
from backstory.core.fact import EventKind, Identifier, IdentifierKind
from backstory.core.limit import (
    ATTRIBUTE_NAME_BYTES,
    ATTRIBUTE_VALUE_BYTES,
    EMAIL_BYTES,
    EVENT_DATA_BYTES,
    EVENT_NAME_BYTES,
    ID_BYTES,
    JSON_DEPTH,
)
from backstory.core.repeat import count_keys, maybe_repeated, repeated_key
from backstory.core.time import TimeUnreadable, from_text, from_unix
from backstory.edge.form import parse_form

Body = dict[str, Json]

FORM_TYPE = b"application/x-www-form-urlencoded"
CIO_PREFIX = "cio_"
SHOWN_CHARACTERS = 60
# Text of so many characters is within every limit of bytes, whatever the characters are.
SHORT_ID, SHORT_NAME = 37, 25

_KINDS: dict[str, EventKind] = {"event": "event", "page": "page", "screen": "screen"}
_PHONE = re.compile(r"\+[1-9][0-9]{1,14}\Z", re.ASCII)
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
        body = parse_form(raw)
        if b"%00" in raw or b"\0" in raw:
            refuse_nul(body)
        return body
    return read_object(raw)


def read_object(raw: bytes) -> Body:
    """A JSON object without NUL and without repeated keys; no bytes at all are an empty one."""
    if not raw:
        return {}
    body = read_json(raw)
    if b"\\u0000" in raw:
        refuse_nul(body)
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object, not {shown(body)}")
    # As many colons as keys: a flat object, which has none of them twice.
    if raw.count(b":") != len(body) and maybe_repeated(raw, count_keys(body)):
        refuse_repeated(raw)
    return body


def refuse_nul(body: Json) -> None:
    """Raise for a NUL in any text or key; asked only when the raw body gives reason to."""
    if _holds_nul(body):
        raise RequestError("the body holds a NUL character, which no text can: leave it out")


def refuse_repeated(raw: bytes) -> None:
    """Raise for a key that an object has twice."""
    name = repeated_key(raw)
    if name is not None:
        raise RequestError(f"the key {shown(name)} is there twice in one object: send it once")


def read_json(raw: bytes) -> Json:
    """Any JSON value; raises ``RequestError`` that says where it breaks."""
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
    return person_by_shape(text)


def identifier(kind: IdentifierKind, value: str) -> Identifier:
    """An identifier, checked for its length; a phone for its form."""
    if not value:
        raise RequestError(f"{kind} attribute cannot be an empty string")
    if "\0" in value:
        raise RequestError(f"the {kind} holds a NUL character, which no text can: leave it out")
    if kind == "phone" and not is_phone(value):
        raise RequestError(f"a phone is + and up to 15 digits (E.164), not {shown(value)}")
    (EMAIL_BYTES if kind == "email" else ID_BYTES).check(len(value.encode()))
    return Identifier(kind, value)


def read_person(value: Json, path: str = "$.identifiers") -> Identifier:
    """The person that ``identifiers`` name: exactly one of id, email, phone, cio_id (with or without ``cio_``)."""
    if not isinstance(value, dict):
        named = "is missing: it must" if value is None else "must"
        raise RequestError(
            f"{path.rpartition('.')[2]} {named} be an object with exactly one of id, email, phone, cio_id", path=path
        )
    if len(value) != 1:
        value = {kind: text for kind, text in value.items() if text is not None}
    if len(value) != 1:
        raise RequestError(
            f"name the person by exactly one of id, email, phone, cio_id, not by {len(value)} identifiers", path=path
        )
    (kind, text) = next(iter(value.items()))
    if type(text) is int:
        text = str(text)
    inner = f"{path}.{kind}"
    if not isinstance(text, str):
        raise RequestError(f"{kind} must be a string, not {shown(text)}", path=inner)
    try:
        match kind:
            case "id" | "email" | "phone":
                return identifier(kind, text)
            case "cio_id":
                return identifier("cio_id", text.removeprefix(CIO_PREFIX))
            case _:
                pass
    except RequestError as error:
        raise type(error)(error.message, path=inner) from None
    raise RequestError(f"a person is named by id, email, phone or cio_id, not by {shown(kind)}", path=path)


def is_phone(text: str) -> bool:
    """Is it a phone number in E.164 form, the only one that can identify somebody?"""
    return _PHONE.match(text) is not None


def short_person(kind: str, value: str) -> Identifier | None:
    """An identifier that is surely within its limits, for the fast ways of batches; None when that takes a look."""
    if not 0 < len(value) <= SHORT_ID:
        return None
    if kind == "id":
        return Identifier("id", value)
    if kind == "email":
        return Identifier("email", value)
    return None


def short_name(value: str) -> str | None:
    """The name of an event that is surely within its limit, trimmed; None when that takes a look."""
    return (value.strip() or None) if len(value) <= SHORT_NAME else None


def person_by_shape(text: str) -> Identifier:
    """The person a text names: ``cio_…`` is a cio_id, with ``@`` an email, else an id."""
    if text.startswith(CIO_PREFIX):
        return identifier("cio_id", text[4:])
    return identifier("email" if "@" in text else "id", text)


def check_attributes(body: Body, encoded: bytes) -> None:
    """Names and values of attributes within their limits; ``encoded`` is the body as it is kept."""
    # No name and no value is longer than all of it together.
    if len(encoded) <= ATTRIBUTE_NAME_BYTES.value:
        return
    if len(encoded) <= ATTRIBUTE_VALUE_BYTES.value and max(map(len, body), default=0) <= SHORT_ID:
        return
    for name, value in body.items():
        ATTRIBUTE_NAME_BYTES.check(len(name.encode()))
        size = len(value.encode()) if isinstance(value, str) else len(_encode(value))
        ATTRIBUTE_VALUE_BYTES.check(size, path=f"$.{name}", subject=name)


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
        f"{name} must be a time: unix seconds, or ISO 8601 with a zone like 2013-01-28T05:10:15Z, not {shown(value)}",
        path=f"$.{name}",
    )


def read_event_name(value: Json) -> str:
    """The name of an event, trimmed; raises when it is missing, blank or too long."""
    if value is None:
        raise RequestError("event name must not be blank", path="$.name")
    if not isinstance(value, str):
        raise RequestError(f"event name must be a string, not {shown(value)}", path="$.name")
    name = value.strip()
    if not name:
        raise RequestError("event name must not be blank", path="$.name")
    EVENT_NAME_BYTES.check(len(name.encode()), path="$.name")
    return name


def read_event_kind(value: Json) -> EventKind:
    """Event, page or screen; whatever else is said means an event."""
    return _KINDS.get(value, "event") if isinstance(value, str) else "event"


def read_event_data(value: Json, path: str = "$.data") -> bytes:
    """The data of an event as compact JSON; null is no data."""
    if value is None:
        return b"{}"
    if not isinstance(value, dict):
        raise RequestError("event data must be a hash", path=path)
    data = stored(value)
    EVENT_DATA_BYTES.check(len(data), path=path)
    return data


def read_event_id(value: Json) -> str | None:
    """ULIDs and UUIDs are the same in any case, so one case is kept."""
    if value is None:
        return None
    # The letters a pattern may take for ASCII ones in another case (the Kelvin sign) are none.
    if not isinstance(value, str) or not value.isascii() or not is_event_id(value):
        raise RequestError(f"event id must be a ULID or a UUID, not {shown(value)}", path="$.id")
    return value.lower()


def read_id(value: Json) -> str | None:
    """An id inside a body; null is none, a number its text."""
    if value is None:
        return None
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise RequestError("id attribute must be a string value", path="$.id")
    return identifier("id", value).value


def read_email(value: Json) -> str | None:
    """An email inside a body; null and the empty string are none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RequestError("email attribute must be a string value", path="$.email")
    return identifier("email", value).value


def read_anonymous_id(value: Json) -> str | None:
    """An anonymous id; null and the empty string are none, a number its text."""
    if value is None or value == "":
        return None
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise RequestError("anonymous_id must be a string value", path="$.anonymous_id")
    ID_BYTES.check(len(value.encode()), path="$.anonymous_id")
    return value


def read_cio_id(value: Json) -> str | None:
    """The cio_id in a body, with or without ``cio_``; what cannot be one names nobody."""
    if not isinstance(value, str) or len(value) > ID_BYTES.value:
        return None
    return value.removeprefix(CIO_PREFIX) or None


def read_flag(value: Json, name: str) -> bool:
    """True or false in the forms that occur; null is false."""
    match value:
        case None | False | 0 | "" | "false" | "0":
            return False
        case True | 1 | "true" | "1":
            return True
        case _:
            raise RequestError(f"{name} must be true or false, not {shown(value)}", path=f"$.{name}")


def stored(value: Body) -> bytes:
    """An object as it is kept: compact JSON, checked for its depth."""
    try:
        text = _encode(value)
    except RecursionError:
        raise RequestError(JSON_DEPTH.message.format(value=JSON_DEPTH.value)) from None
    # With fewer brackets than levels allowed it cannot be too deep, and need not be measured.
    if len(text) > JSON_DEPTH.value and text.count(b"{") + text.count(b"[") > JSON_DEPTH.value:
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
    level: list[Json] = [value]
    while level:
        if any("\0" in item for item in level if isinstance(item, str)):
            return True
        if any("\0" in key for item in level if isinstance(item, dict) for key in item):
            return True
        level = [inner for item in level for inner in _inside(item)]
    return False


def shown(value: Json) -> str:
    """A value as the sender wrote it, cut to a length for an error text."""
    text = _encode(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
