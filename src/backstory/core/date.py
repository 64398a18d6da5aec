"""Dates as templates show them: the ``date`` filter of Liquid, in UTC.

Our own because python-liquid's reads the clock and the zone of the machine, guesses at formats, and lets a format ask
for a field as wide as memory.
"""

import datetime as dt
import re

from backstory.core.time import SECOND_US, TimeUnreadable, from_text, from_unix

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DATE_ONLY = re.compile(r"\d{4}-\d\d-\d\d")
_DIRECTIVE = re.compile(r"%([-^]?)([aAbBcdDeFHIjlmMpPrRsSTuUVwWxXyYzZL%])")


def show(value: object, form: str, now_us: int | None) -> str:
    """A time in a format of Ruby's ``strftime``; what is no time stays as it is.

    Takes unix seconds, ISO 8601 with a zone, a date alone (its midnight), and ``now``.
    """
    moment = _moment(value, now_us)
    if moment is None:
        return "" if value is None else str(value)

    def directive(match: re.Match[str]) -> str:
        return _directive(moment, match[1], match[2])

    return _DIRECTIVE.sub(directive, form)


def _moment(value: object, now_us: int | None) -> dt.datetime | None:
    try:
        match value:
            case "now" | "today":
                us = now_us
            case bool():
                us = None
            case int() | float():
                us = from_unix(value)[0]
            case str() if _DATE_ONLY.fullmatch(value.strip()):
                us = from_text(f"{value.strip()}T00:00:00Z")[0]
            case str():
                us = from_text(value)[0]
            case _:
                us = None
        return None if us is None else _EPOCH + dt.timedelta(microseconds=us)
    except (TimeUnreadable, OverflowError):
        return None


def _directive(moment: dt.datetime, flag: str, letter: str) -> str:
    match letter:
        case "s":
            text = str((moment - _EPOCH) // dt.timedelta(microseconds=SECOND_US))
        case "L":
            text = f"{moment.microsecond // 1000:03}"
        case "e":
            text = f"{moment.day:2}"
        case "l":
            text = f"{(moment.hour - 1) % 12 + 1:2}"
        case "P":
            text = moment.strftime("%p").lower()
        case "Z":
            text = "UTC"
        case "Y":
            text = f"{moment.year:04}"
        case _:
            text = moment.strftime(f"%{letter}")
    match flag:
        case "-":
            return text.lstrip("0 ") or "0"
        case "^":
            return text.upper()
        case _:
            return text
