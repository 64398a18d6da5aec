"""Values of rows, judged strictly: times in their zone and unit, types that columns were told to have."""

from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import msgspec

from backstory.core.condition import Json
from backstory.core.repeat import count_keys, maybe_repeated, repeated_key
from backstory.core.time import LATEST_US, SECOND_US, TimeUnreadable, from_local, from_text, from_unix, is_local
from backstory.engine.file.notation import comma_number, iso_date
from backstory.engine.file.row_shape import PinnedType, RowShape, TimeUnit

SHOWN_CHARACTERS = 80
UNITS_US: Mapping[TimeUnit, int] = {"seconds": SECOND_US, "milliseconds": 1000, "microseconds": 1}
# What programs write for "nothing" into a cell of text. As an identifier it makes one out of everybody who has none.
NOTHING_WORDS = frozenset(("nan", "null", "none", "undefined"))
# What nobody sees at the ends of an identifier, which makes somebody else of it.
BLANKS = " \t"
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class RowError(ValueError):
    """What is wrong with a row: the field, the value received (None: nothing to show), the reason."""

    def __init__(self, field: str, value: Json, reason: str) -> None:
        super().__init__(field, value, reason)
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        shown = "" if self.value is None else f" (found {_shown(self.value)})"
        return (f"{self.field}: " if self.field else "") + self.reason + shown


class NotHere(RowError):
    """A good item that says something else than what this import reads: it is passed over, and counted as skipped."""

    def __init__(self, what: str) -> None:
        super().__init__("", None, f"says something about {what}, which this import does not read")


class Settled(NotHere):
    """A row of a retry that was mended before, or that a later one of the same line stands in for."""


def _shown(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS + 1] + "…"


def doubt_of(name: str, text: str | None) -> str:
    """What to say of an identifier that reads like some program's "nothing", or has blanks at its ends; else ""."""
    if text is None:
        return ""
    if text.strip(BLANKS) != text:
        return f"{name}: the blanks at the ends of {text!r} were taken as part of it; take them out if they are not"
    if text.lower() not in NOTHING_WORDS:
        return ""
    return f"{name}: the text {text!r} was taken for what it says; if it stands for nothing, leave the cell empty"


def read_time(value: Json, name: str, shape: RowShape | None = None) -> tuple[int | None, str]:
    """A row's own time in microseconds (None: it names none) and a warning; raises ``RowError``, naming ``name``.

    The ``shape`` knows the zone of times that name none, and the unit of numbers.
    """
    if value is None or value == "":
        return None, ""
    unit, zone = (None, None) if shape is None else (shape.unit, shape.zone)
    told = value
    if shape is not None and shape.dates is not None and isinstance(value, str):
        value = iso_date(value, shape.dates)
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TimeUnreadable("it is neither a number nor text")
        if isinstance(value, str) and is_local(value):
            if zone is None:
                raise TimeUnreadable("it says no zone: name it with --zone, such as UTC or Europe/Berlin")
            time_us, twice = from_local(value, zone)
            return time_us, f"{name}: the clocks of {zone} show it twice; the first one was taken" if twice else ""
        number = None if unit is None else _number(value)
        if unit is not None and number is not None:
            time_us = round(number * UNITS_US[unit])
            if abs(time_us) > LATEST_US:
                raise TimeUnreadable(f"as {unit} it lies outside the years 1 to 9999")
            return time_us, ""
        time_us, rescaled = from_text(value) if isinstance(value, str) else from_unix(value)
    except TimeUnreadable as error:
        # The value is told once, by the error of the row, which cuts it where it is long.
        said = str(error).removeprefix(repr(value))
        what = said if said == str(error) else f"it{said}"
        raise RowError(name, told, f"cannot be read: {what}") from None
    return time_us, f"{name}: was taken as milliseconds or microseconds" if rescaled else ""


def _number(value: int | float | str) -> Fraction | None:
    """A number exactly, also one in a text; None for other texts."""
    try:
        return Fraction(repr(value) if isinstance(value, float) else value)
    except (ValueError, ZeroDivisionError):
        return None


def pinned_row(row: Mapping[str, Json], shape: RowShape) -> dict[str, Json]:
    """A row whose columns are what they were told to be; those of its data by dotted names. Raises ``RowError``."""
    pinned = dict(row)
    for name, kind in shape.types.items():
        holder, last = pinned, name
        if name not in pinned:
            *steps, last = name.split(".")
            for step in steps:
                below = holder.get(step)
                if not isinstance(below, dict):
                    break
                holder[step] = holder = dict(below)
        if holder.get(last) is not None:
            holder[last] = pinned_value(holder[last], kind, name, shape)
    return pinned


def pinned_value(value: Json, kind: PinnedType, name: str, shape: RowShape) -> Json:
    """A value as the type its column was told to have; raises ``RowError`` when it cannot be that. "" stays."""
    if value == "":
        return value
    match kind:
        case "string":
            return value if isinstance(value, str) else msgspec.json.encode(value).decode()
        case "number":
            return _as_comma_number(value, name) if shape.comma and isinstance(value, str) else _as_number(value, name)
        case "boolean":
            text = str(value).strip().lower()
            if text not in _TRUTH:
                raise RowError(name, value, "is not true or false")
            return _TRUTH[text]
        case "json":
            return _as_json(value, name)
        case "time":
            time_us, _ = read_time(value, name, RowShape(zone=shape.zone, dates=shape.dates))
        case _:
            time_us, _ = read_time(value, name, RowShape(zone=shape.zone, dates=shape.dates, unit=kind))
    assert time_us is not None
    return time_us // SECOND_US if time_us % SECOND_US == 0 else time_us / SECOND_US


def _as_comma_number(text: str, name: str) -> Json:
    """A point in it would stand between thousands, or is a mistake: it is no number then."""
    number = comma_number(text.strip())
    if number is not None:
        return number
    try:
        return _as_number("" if "." in text else text.replace(",", ".", 1), name)
    except RowError:
        raise RowError(name, text, "is not a number with a decimal comma") from None


def _as_number(value: Json, name: str) -> Json:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    whole = text.removeprefix("-")
    if whole.isascii() and whole.isdigit():
        return int(text)
    number = _number(text)
    if number is None or "/" in text or "_" in text:
        raise RowError(name, value, "is not a number")
    return float(number)


def _as_json(value: Json, name: str) -> Json:
    if not isinstance(value, str):
        return value
    try:
        return cast("Json", msgspec.json.decode(value))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RowError(name, value, f"is not JSON: {error}") from None


def decode_line(text: bytes) -> dict[str, Json]:
    """A line of a JSON lines file; raises ``RowError``."""
    try:
        row = msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise RowError("", None, f"is not valid JSON: {error}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise RowError("", None, f"is not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise RowError("", None, "is not a JSON object")
    body = cast("dict[str, Json]", row)
    if maybe_repeated(text, count_keys(body)) and (name := repeated_key(text)) is not None:
        raise RowError(name, None, "the key is there twice in one object")
    return body
