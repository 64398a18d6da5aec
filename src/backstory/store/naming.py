"""Does a text name somebody who is gone? Told by keyed hashes of its words: of the names themselves none is kept.

What an entry or a row says as a value of its own is found, and words inside sentences. It knows no tables.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from backstory.core.condition import Json

Hashed = Callable[[str, str], bytes]
_WORD = re.compile(r"[^\s'\"`,;()\[\]{}<>]+")
# Longer texts are no names.
NAME_CHARACTERS_MAX = 300
_CIO_ID = re.compile(r"[0-9a-f]{8}\Z")


class Naming:
    """Names by their hashes, each with the moment until when it named somebody who is gone."""

    def __init__(self, until_us: dict[bytes, int], hashed: Hashed) -> None:
        self._until_us = until_us
        self._hashed = hashed

    def __bool__(self) -> bool:
        return bool(self._until_us)

    def latest_us(self, value: str) -> int | None:
        """Until when a text, or a word in it, named somebody gone; None: it never did."""
        found = [until_us for one in _words(value) for until_us in self._moments(one)]
        return max(found, default=None)

    def _moments(self, value: str) -> Iterator[int]:
        for kind in kinds_of(value):
            name = value.strip().lower() if kind == "email" else value
            until_us = self._until_us.get(self._hashed(kind, name))
            if until_us is not None:
                yield until_us

    def in_json(self, text: str) -> int | None:
        """The same of all values in a JSON text; of one that is none, of its words."""
        try:
            value: Json = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return self.latest_us(text)
        return self.in_values(texts_in(value))

    def in_values(self, texts: Iterable[str]) -> int | None:
        found = [until_us for one in texts if (until_us := self.latest_us(one)) is not None]
        return max(found, default=None)


def kinds_of(value: str) -> list[str]:
    """As which identifiers a text may have been meant."""
    kinds = ["id", "anonymous_id"]
    if "@" in value:
        kinds.append("email")
    if value[:1] == "+" or value[:1].isdigit():
        kinds.append("phone")
    if _CIO_ID.match(value):
        kinds.append("cio_id")
    return kinds


def texts_in(value: Json) -> Iterator[str]:
    """All texts and whole numbers in a value, keys too."""
    match value:
        case str():
            yield value
        case bool() | None | float():
            return
        case int():
            yield str(value)
        case list():
            for one in value:
                yield from texts_in(one)
        case dict():
            for name, one in value.items():
                yield name
                yield from texts_in(one)


def _words(value: str) -> Iterator[str]:
    if 0 < len(value) <= NAME_CHARACTERS_MAX:
        yield value
    for found in _WORD.finditer(value):
        word = found.group()
        if word != value and len(word) <= NAME_CHARACTERS_MAX:
            yield word
            bare = word.rstrip(".:!?")
            if bare != word:
                yield bare
