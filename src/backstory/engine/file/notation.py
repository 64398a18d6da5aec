"""Numbers and dates written otherwise than JSON and ISO 8601 write them: a decimal comma, days or months first.

``1,500`` is one and a half here and fifteen hundred there, ``01/02/2024`` is in February here and in January there:
which one is meant has to be told, and is never guessed. Whoever tells it is taken at their word: what does not fit is
no number and no date.
"""

import re
from collections.abc import Iterable
from typing import Literal, get_args

# ``dmy``: the day stands first; ``mdy``: the month does.
DateOrder = Literal["dmy", "mdy"]
DecimalMark = Literal["point", "comma"]
DECIMAL_MARKS: tuple[DecimalMark, ...] = get_args(DecimalMark)
DATE_ORDERS: tuple[DateOrder, ...] = get_args(DateOrder)

# As many digits as a double keeps, in whole numbers those that would be written the same again.
COMMA_NUMBER = r"(?:0|-?[1-9][0-9]{0,14}|-?(?:0|[1-9][0-9]{0,5}),[0-9]{1,9}|-?[1-9][0-9]{6,8},[0-9]{1,6})"
_COMMA_NUMBER = re.compile(COMMA_NUMBER + r"\Z")
_DATE = re.compile(
    r"(?P<first>[0-9]{1,2})(?P<mark>[./-])(?P<second>[0-9]{1,2})(?P=mark)(?P<year>[0-9]{4})"
    r"(?:,?[Tt ] ?(?P<hour>[0-9]{1,2}):(?P<rest>[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)(?: ?(?P<half>[AaPp][Mm]))?"
    r"(?P<zone>\s?(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?))?)?\Z"
)
_HALF_DAY_H = 12
_DAYS, _MONTHS = 31, 12


def comma_number(text: str) -> int | float | None:
    """A number with a decimal comma, or a whole one (``1,00`` is 1); None for any other text."""
    if not _COMMA_NUMBER.match(text):
        return None
    number = float(text.replace(",", "."))
    return int(number) if number.is_integer() else number


def iso_date(text: str, order: DateOrder) -> str:
    """A date, with or without a time of day and a zone, as ISO 8601 writes it; any other text as it is.

    Whether there is such a day shows when it is read.
    """
    found = _DATE.match(text.strip())
    if found is None:
        return text
    day, month = (found["first"], found["second"]) if order == "dmy" else (found["second"], found["first"])
    date = f"{found['year']}-{month:0>2}-{day:0>2}"
    if found["hour"] is None:
        return date
    hour = int(found["hour"])
    if found["half"] is not None:
        if not 1 <= hour <= _HALF_DAY_H:
            return text
        hour = hour % _HALF_DAY_H + (_HALF_DAY_H if found["half"].lower() == "pm" else 0)
    return f"{date}T{hour:02}:{found['rest']}{found['zone'] or ''}"


def are_comma_numbers(texts: Iterable[str]) -> bool:
    """Might these be numbers with a decimal comma: all of them numbers, and some with one?"""
    known = list(texts)
    return any("," in text for text in known) and all(map(_COMMA_NUMBER.match, known))


def orders_of(texts: Iterable[str]) -> list[DateOrder]:
    """The orders in which all of these could be dates; none where one of them is no such date, or there is none."""
    most_first = most_second = 0
    for text in texts:
        found = _DATE.match(text.strip())
        if found is None:
            return []
        first, second = int(found["first"]), int(found["second"])
        if not first or not second:
            return []
        most_first, most_second = max(most_first, first), max(most_second, second)
    fits = {"dmy": (most_first, most_second), "mdy": (most_second, most_first)}
    return [order for order in DATE_ORDERS if most_first and fits[order][0] <= _DAYS and fits[order][1] <= _MONTHS]
