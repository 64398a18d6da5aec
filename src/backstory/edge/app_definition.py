"""What the definitions of segments and campaigns have in common: reading them and pointing at mistakes.

A definition that was read from the API can be written back: the keys only the server sets are left out,
a key nobody knows is refused, so that a misspelt one cannot pass for a choice.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from backstory.core.condition import Json
from backstory.core.error import NotFoundError, RequestError
from backstory.core.limit import NAME_CHARACTERS
from backstory.edge.app_answer import UnprocessableError
from backstory.engine.port import Reader

T = TypeVar("T")

# What a user wrote for other ends may look like a condition; it is none.
_NOT_CONDITIONS = frozenset({"where", "value", "attributes", "body", "headers"})


def known_keys(value: dict[str, Json], *, ours: frozenset[str], server: frozenset[str], path: str) -> dict[str, Json]:
    """The keys a caller may set; raises ``RequestError`` at one that does not exist."""
    for key in value:
        if key not in ours and key not in server:
            raise RequestError(f"{key!r} is not known here; known are {', '.join(sorted(ours))}", path=f"{path}.{key}")
    return {key: item for key, item in value.items() if key in ours}


def name_of(value: Json, *, path: str) -> str:
    """A name: not blank, of limited length, without blanks around it."""
    if not isinstance(value, str) or not value.strip():
        raise RequestError("name cannot be blank", path=path)
    name = value.strip()
    NAME_CHARACTERS.check(len(name), path=path)
    return name


def text_of(value: Json, *, path: str) -> str:
    """A text; null is the empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RequestError(f"a text is expected here, not {type(value).__name__}", path=path)
    return value


def judged(parse: Callable[[Json, str], T], value: Json, path: str) -> T:
    """Parse a definition; a mistake in it is 422 with its path (design section 8)."""
    try:
        return parse(value, path)
    except RequestError as error:
        raise UnprocessableError(error.message, path=error.path or path) from None


def check_segments(reader: Reader, value: Json, path: str, *, error: type[RequestError] = UnprocessableError) -> None:
    """Raise ``error`` at the first segment in a definition that does not exist."""
    for segment_id, place in segments_named(value, path):
        try:
            reader.segment(segment_id)
        except NotFoundError:
            raise error(f"there is no segment {segment_id}", path=place) from None


def segments_named(value: Json, path: str = "$") -> Iterator[tuple[int, str]]:
    """Every ``{"segment": {"id": n}}`` inside a definition, with the path of its id."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from segments_named(item, f"{path}[{place}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "segment" and isinstance(item, dict) and isinstance(item.get("id"), int):
                yield int(str(item["id"])), f"{path}.segment.id"
            elif key not in _NOT_CONDITIONS:
                yield from segments_named(item, f"{path}.{key}")
