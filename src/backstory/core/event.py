"""Events: their stored form, their canonical data, and the key that says which two are the same event.

With an id, an event is (person, id); without one but with an explicit time it is (person, kind, name, time,
canonical data, ordinal within its source). Without id and time it matches nothing. Source: design section 7.
The key is an XXH64, the same on every machine and in every version. It is a match only together with the person, so
96 bits decide.
"""

import re
from collections.abc import Sequence
from typing import cast

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from backstory.core.condition import Json
from backstory.core.fact import Track

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z", re.IGNORECASE | re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z", re.IGNORECASE | re.ASCII)
_EXACT_FLOAT = 2.0**53

_sorted_encoder = msgspec.json.Encoder(order="sorted")
_json_decoder = msgspec.json.Decoder()


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event of one person. ``data`` is JSON text; ``key`` None means: equal to nothing."""

    seq: int
    person: int
    name: str
    kind: str
    time_us: int
    accept_us: int
    data: bytes
    event_id: str | None
    key: int | None
    import_id: int
    duplicate: bool = False


def is_event_id(text: str) -> bool:
    """Is it a ULID or a UUID, the forms the Track API takes?"""
    return bool(_ULID.match(text) or _UUID.match(text))


def normal_id(event_id: str) -> str:
    """ULIDs and UUIDs are the same in any case; every other id is exact."""
    return event_id.lower() if is_event_id(event_id) else event_id


def canonical(data: bytes) -> bytes:
    """JSON with sorted keys, no blanks, and each number in its one form (1.0 is 1)."""
    return canonical_of(_json_decoder.decode(data))


def canonical_of(value: object) -> bytes:
    """The same of JSON that is decoded already."""
    return _sorted_encoder.encode(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT_FLOAT else value
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in cast("dict[str, Json]", value).items()}
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[Json]", value)]
    return value


def id_key(event_id: str) -> int:
    """The key of an event that carries an id, as a signed 64-bit integer."""
    return _key(b"i" + normal_id(event_id).encode())


def content_key(kind: str, name: str, time_us: int, canonical_data: bytes) -> int:
    """The key of an event without id but with an explicit time, as a signed 64-bit integer."""
    return _key(_content(kind, name, time_us, canonical_data))


def _content(kind: str, name: str, time_us: int, canonical_data: bytes) -> bytes:
    return b"c%s\x1f%s\x1f%d\x1f%s" % (kind.encode(), name.encode(), time_us, canonical_data)


def event_keys(facts: Sequence[Track]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The key of each event of a person, and whether it has one (0 where it has none)."""
    found: list[int] = []
    keyed: list[bool] = []
    for fact in facts:
        event_id = fact.event_id
        if event_id is not None:
            # Ids in small letters, nearly all there are, are in their normal form.
            text = event_id if event_id == event_id.lower() else normal_id(event_id)
            message = b"i" + text.encode()
        elif fact.time_us is not None:
            message = _content(fact.kind, fact.name, fact.time_us, canonical(fact.data))
        else:
            keyed.append(False)
            continue
        keyed.append(True)
        found.append(xxhash.xxh64_intdigest(message))
    has = np.array(keyed, dtype=bool)
    keys = np.zeros(len(keyed), np.int64)
    keys[has] = np.array(found, np.uint64).view(np.int64)
    return keys, has


def _key(text: bytes) -> int:
    key = xxhash.xxh64_intdigest(text)
    return key - (1 << 64) if key >> 63 else key
