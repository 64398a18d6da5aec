"""Many items of a batch taken at once, where one look says that nothing is unusual in any of them.

The theory: text without a backslash holds every string as it is. So when what was decoded is encoded again and has as
many colons, no key stood twice; and when objects encoded again are the very bytes that came, they are kept as they were
sent. Whoever is not sure says None, and the items go one by one.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from backstory.core.limit import BATCH_ITEM_BYTES, JSON_DEPTH

T = TypeVar("T")
# What is unusual in one item is not certain of its neighbours: so many are judged together.
ITEMS_AT_ONCE = 128

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[dict[str, object]]).decode


def items_at_once(items: Sequence[msgspec.Raw]) -> list[list[bytes]]:
    """The items in groups, in order."""
    return [
        [bytes(item) for item in items[start : start + ITEMS_AT_ONCE]] for start in range(0, len(items), ITEMS_AT_ONCE)
    ]


def colons(texts: Sequence[bytes | msgspec.Raw]) -> int:
    """How many colons there are in all of these."""
    return b"".join(texts).count(b":")


def read_plain(items: list[bytes], decode: Callable[[bytes], list[T]]) -> list[T] | None:
    """All items decoded, each within its limit and with every key once; ``decode`` must refuse unknown keys."""
    if max(map(len, items)) > BATCH_ITEM_BYTES.value:
        return None
    text = b"[%s]" % b",".join(items)
    if b"\\" in text:
        return None
    try:
        read = decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return read if _encode(read).count(b":") == text.count(b":") else None


def _brackets(text: bytes) -> int:
    """How many objects and lists begin in a text: at least as many as lie inside each other."""
    return text.count(b"{") + text.count(b"[")


def are_as_stored(objects: Sequence[bytes]) -> bool:
    """Are these texts, which hold no backslash, objects as ``stored`` makes them of what they say?"""
    text = b"[%s]" % b",".join(objects)
    if _brackets(text) - len(objects) > JSON_DEPTH.value and max(map(_brackets, objects)) > JSON_DEPTH.value:
        return False
    try:
        found: list[Any] = _decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return _encode(found) == text
