"""Fields: the small readers of definitions, which take JSON as sent and say where it is not what was expected.

Every reader takes the value and its path and raises ``FieldError`` with that path, what was expected, what was found
and, where a word looks misspelt, what was probably meant.
"""

import difflib
from collections.abc import Callable
from typing import TypeVar

from backstory.core import limit, template
from backstory.core.error import RequestError
from backstory.core.operand import Json, shown

W = TypeVar("W", bound=str)


class FieldError(RequestError):
    """A definition cannot be read; ``path`` says where, ``message`` what was expected."""


def read_object(value: Json, path: str, keys: tuple[str, ...], *, needed: tuple[str, ...] = ()) -> dict[str, Json]:
    """An object with no other keys; null counts as absent."""
    if not isinstance(value, dict):
        raise wrong(f"an object with {', '.join(keys)}", value, path)
    for key in value:
        if key not in keys:
            raise FieldError(f"unknown key {shown(key)}{_meant(key, keys)}", path=path)
    for key in needed:
        if value.get(key) is None:
            raise FieldError(f'"{key}" is missing', path=path)
    return {key: item for key, item in value.items() if item is not None}


def read_text(fields: dict[str, Json], key: str, path: str, bound: limit.Limit | None = None) -> str:
    """Text that is not blank, within a limit of characters."""
    value, here = fields.get(key), f"{path}.{key}"
    if not isinstance(value, str) or not value.strip():
        raise wrong("text", value, here)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FieldError(f"{shown(value)} is not valid Unicode text", path=here) from None
    if bound is not None:
        bound.check(len(value), path=here)
    return value


def read_template(fields: dict[str, Json], key: str, path: str, bound: limit.Limit | None = None) -> str:
    """Text with Liquid in it that can be read."""
    text = read_text(fields, key, path, bound)
    limit.MESSAGE_BODY_BYTES.check(len(text.encode()), path=f"{path}.{key}")
    template.check(text, path=f"{path}.{key}")
    return text


def check_templates(value: Json, path: str) -> None:
    """Every text inside a JSON value is a template that can be read."""
    match value:
        case str():
            template.check(value, path=path)
        case list():
            for i, item in enumerate(value):
                check_templates(item, f"{path}[{i}]")
        case dict():
            for key, item in value.items():
                check_templates(item, f"{path}.{key}")
        case _:
            pass


def read_whole(value: Json, path: str, expected: str, *, least: int) -> int:
    """A whole number from ``least`` on; true and 5.0 are none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise wrong(expected, value, path)
    return value


def read_flag(value: Json, path: str) -> bool:
    if not isinstance(value, bool):
        raise wrong("true or false", value, path)
    return value


def read_word(value: Json, words: tuple[W, ...], path: str) -> W:
    """One of a few words."""
    for word in words:
        if value == word:
            return word
    meant = _meant(value, words) if isinstance(value, str) else f"; expected one of {', '.join(words)}"
    raise FieldError(f"{shown(value)} is not known here{meant}", path=path)


def placed(read: Callable[[str], object], text: str, path: str) -> None:
    """Run a reader of text that knows no paths, and give its refusal one."""
    try:
        read(text)
    except RequestError as error:
        raise FieldError(error.message, path=path) from None


def wrong(expected: str, value: Json, path: str) -> FieldError:
    return FieldError(f"expected {expected}; found {shown(value)}", path=path)


def _meant(word: str, words: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word.lower(), words, n=1)
    hint = f"; did you mean {close[0]}?" if close else ";"
    return f"{hint} expected one of {', '.join(words)}"
