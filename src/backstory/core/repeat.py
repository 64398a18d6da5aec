"""Keys that an object of JSON has twice: nobody could say which of the two was meant, and readers take the last."""

import json
from collections.abc import Collection

from backstory.core.condition import Json


def count_keys(value: Json) -> int:
    """How many keys all objects in a value have together. Deep data is cut off: it is refused elsewhere."""
    if not isinstance(value, dict):
        return 0 if not isinstance(value, list) else _count_deep(value)
    count = len(value)
    for inner in value.values():
        if isinstance(inner, dict):
            count += len(inner)
            for deeper in inner.values():
                if deeper.__class__ is dict or deeper.__class__ is list:
                    count += _count_deep(deeper)
        elif inner.__class__ is list:
            count += _count_deep(inner)
    return count


def _count_deep(value: Json) -> int:
    count = 0
    level: list[Json] = [value]
    while level:
        count += sum(len(item) for item in level if isinstance(item, dict))
        level = [inner for item in level for inner in _inside(item) if isinstance(inner, dict | list)]
    return count


def _inside(value: Json) -> Collection[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def maybe_repeated(raw: bytes, keys: int) -> bool:
    """Could an object in valid JSON ``raw`` have a key twice, when its objects show ``keys`` keys? No is certain.

    Each key is followed by a colon, right behind its quote or behind blanks; such pairs inside texts only raise the
    count.
    """
    if raw.count(b":") == keys:
        return False
    colons = raw.count(b'":') + raw.count(b" :") + raw.count(b"\t:") + raw.count(b"\n:") + raw.count(b"\r:")
    return colons != keys


def repeated_key(raw: bytes) -> str | None:
    """A key that an object in valid JSON has twice; None when none has."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        body = dict(pairs)
        if len(body) != len(pairs):
            names = [name for name, _ in pairs]
            found.append(next(name for name in names if names.count(name) > 1))
        return body

    json.loads(raw, object_pairs_hook=look)
    return found[0] if found else None
