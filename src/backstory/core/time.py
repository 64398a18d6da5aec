"""Times are integers of microseconds since 1970 (``_us``); the wire's unix seconds may carry fractions.

Sources: design sections 2 and 7 (milliseconds and microseconds are recognised by their size).
"""

import math
import re
from datetime import UTC, datetime, tzinfo

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

# Unix seconds from here on are milliseconds (the year 5138 in seconds), from there on microseconds.
MILLISECONDS_FROM = 10**11
MICROSECONDS_FROM = 10**14
# 9999-12-31: what lies behind it is no date that a person meant.
LATEST_US = 253_402_300_799 * SECOND_US

_DECIMAL = re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?\Z")
_ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?\s?([Zz]|[+-]\d\d(:?\d\d)?)\Z")

_YEAR = re.compile(r"(19|20)\d\d\Z")
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?\Z")


class TimeUnreadable(ValueError):
    """The value is no time we can read."""


def from_unix(value: int | float) -> tuple[int, bool]:
    """Read unix seconds; returns (microseconds, taken_as_smaller_unit).

    A size of 1e11 or more is read as milliseconds, of 1e14 or more as microseconds (design section 7).
    Raises ``TimeUnreadable`` for NaN, infinities and years past 9999.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise TimeUnreadable(f"{value} is not a time")
    size = abs(value)
    if size >= MICROSECONDS_FROM:
        us, rescaled = round(value), True
    elif size >= MILLISECONDS_FROM:
        us, rescaled = round(value * 1000), True
    elif isinstance(value, int):
        us, rescaled = value * SECOND_US, False
    else:
        us, rescaled = round(value * SECOND_US), False
    if abs(us) > LATEST_US:
        raise TimeUnreadable(f"{value} lies outside the years 1 to 9999")
    return us, rescaled


def from_text(text: str) -> tuple[int, bool]:
    """Read unix seconds or ISO 8601 with a zone, as text; returns (microseconds, taken_as_smaller_unit)."""
    stripped = text.strip()
    if _DECIMAL.match(stripped):
        return _from_decimal(stripped)
    if _ISO.match(stripped):
        return _from_iso(stripped), False
    raise TimeUnreadable(f"{text!r} is neither unix seconds nor ISO 8601 with a zone")


def from_asked(text: str) -> int:
    """Read a time that somebody asks about, as ``from_text`` does, in microseconds.

    Raises ``TimeUnreadable`` for a bare year too: as unix seconds it would be a moment of the first hour of 1970.
    """
    year = text.strip()
    if _YEAR.match(year):
        raise TimeUnreadable(f"{text!r} reads like a year: write {year}-01-01T00:00:00Z, or {year}.0 for unix seconds")
    return from_text(text)[0]


def is_local(text: str) -> bool:
    """Is this a date, or a date and a time of day, and nothing says in which zone?"""
    return bool(_LOCAL.match(text.strip()))


def is_written_out(text: str) -> bool:
    """Is this a date, or a date and a time of day, as ISO 8601 writes them, in a zone or in none?"""
    stripped = text.strip()
    return bool(_LOCAL.match(stripped) or _ISO.match(stripped))


def from_local(text: str, zone: tzinfo) -> tuple[int, bool]:
    """Read a date (its midnight) or a date and a time of day in a zone; returns (microseconds, stands_twice).

    Of a time that the clocks of the zone show twice the first is meant. Raises ``TimeUnreadable``, also for a time that
    they never show.
    """
    try:
        moment = datetime.fromisoformat(text.strip().upper()).replace(tzinfo=zone)
        us = us_of(moment)
        shown = datetime.fromtimestamp(us // SECOND_US, zone)
    except (ValueError, OverflowError) as error:
        raise TimeUnreadable(f"{text!r} is not a valid date: {error}") from None
    if shown.replace(tzinfo=None) != moment.replace(tzinfo=None, microsecond=0):
        raise TimeUnreadable(f"{text!r} never was: the clocks of {zone} jumped over it")
    return us, us_of(moment.replace(fold=1)) != us


def _from_decimal(text: str) -> tuple[int, bool]:
    whole, _, fraction = text.partition(".")
    if not fraction or abs(int(whole)) >= MILLISECONDS_FROM:
        return from_unix(int(whole) if not fraction else float(text))
    micros = int((fraction + "000000")[:6])
    sign = -1 if whole.startswith("-") else 1
    us = int(whole) * SECOND_US + sign * micros
    if abs(us) > LATEST_US:
        raise TimeUnreadable(f"{text} lies outside the years 1 to 9999")
    return us, False


def _from_iso(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.upper().replace(" +", "+").replace(" Z", "Z"))
    except ValueError as error:
        raise TimeUnreadable(f"{text!r} is not a valid date: {error}") from None
    return us_of(moment)


def us_of(moment: datetime) -> int:
    """Microseconds of an aware datetime, exactly."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND_US + delta.microseconds


def to_unix(us: int) -> int:
    """Whole unix seconds, as the published shapes show times."""
    return us // SECOND_US


def to_iso(us: int) -> str:
    """ISO 8601 in UTC, for people."""
    return datetime.fromtimestamp(us // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
