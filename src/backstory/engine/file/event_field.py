"""The fields of a line of an event file, taken from bytes: pieces of the scanner, compiled.

Each takes a value that ``engine.file.event_row`` would read without a word of doubt and says where it ends, or says -1.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

import numpy as np

from backstory.core.limit import EMAIL_BYTES, EVENT_ID_BYTES, EVENT_NAME_BYTES, ID_BYTES
from backstory.engine.file.json_token import digits_end, stands, text_end
from backstory.engine.file.kernel import piece

# What is found in a line: the items of ``found``.
F_WHO_AT, F_WHO_LEN, F_EMAIL, F_KIND, F_TIMED, F_TIME, F_ID_AT, F_ID_LEN, F_NAME_AT, F_NAME_LEN, FOUND = range(11)
# Fields as bits; a pair of data has none.
PAIR, WHO, NAME, TIME, EVENT_ID, KIND, DATA = 0, 1, 2, 4, 8, 16, 32
# Whom a field, or the import, lets an identifier name.
BY_ANY, BY_ID, BY_EMAIL = 0, 1, 2
# The kinds of events by their numbers here.
KINDS = ("event", "page", "screen")

_EMAIL_MAX, _ID_MAX, _NAME_MAX = EMAIL_BYTES.value, ID_BYTES.value, EVENT_NAME_BYTES.value
_EVENT_ID_MAX = EVENT_ID_BYTES.value


@piece
def field_of(body, at, length):
    """Which field a key is, as its bit; 0: another one, -1: needs a closer look. With it, who it may name."""
    first = body[at]
    if first == 99 and stands(body, at, length, b"customer_id"):
        return WHO, BY_ANY
    if first == 105 and stands(body, at, length, b"id"):
        return WHO, BY_ID
    if first == 101 and stands(body, at, length, b"email"):
        return WHO, BY_EMAIL
    if first == 110 and stands(body, at, length, b"name"):
        return NAME, 0
    if first == 116 and stands(body, at, length, b"timestamp"):
        return TIME, 0
    if first == 101 and stands(body, at, length, b"event_id"):
        return EVENT_ID, 0
    if first == 116 and stands(body, at, length, b"type"):
        return KIND, 0
    if first == 100 and stands(body, at, length, b"data"):
        return DATA, 0
    if first == 100 and length >= 5 and stands(body, at, 5, b"data."):
        return -1, 0
    return 0, 0


@piece
def take_field(body, at, size, field, who, identifier, found):
    """Take the value of a field of the line: the place behind it, or -1."""
    if field == WHO:
        return _person(body, at, size, who, identifier, found)
    if field == NAME:
        return _name(body, at, size, found)
    if field == TIME:
        return _time(body, at, size, found)
    if field == EVENT_ID:
        return _event_id(body, at, size, found)
    return _kind(body, at, size, found)


@piece
def _person(body, at, size, who, identifier, found):
    """The person: behind the value, or -1. ``who``: what the field may name."""
    if identifier != BY_ANY and who not in (BY_ANY, identifier):
        return -1
    by_email = who == BY_EMAIL or identifier == BY_EMAIL
    if body[at] != 34:
        end = digits_end(body, at, size)
        if by_email or end == at or end - at > 15 or body[at] == 48:
            return -1
        found[F_WHO_AT], found[F_WHO_LEN], found[F_EMAIL] = at, end - at, 0
        return end
    begin = at + 1
    end, _ = text_end(body, begin, size)
    length = end - begin
    if length <= 0 or body[begin] < 33 or body[begin] > 126:
        return -1
    if who == BY_ANY and identifier == BY_ANY:
        if length >= 4 and stands(body, begin, 4, b"cio_"):
            return -1
        for place in range(begin, end):
            by_email |= body[place] == 64
    if by_email:
        for place in range(begin, end):
            if body[place] < 33 or body[place] > 126:
                return -1
    if length > (_EMAIL_MAX if by_email else _ID_MAX):
        return -1
    found[F_WHO_AT], found[F_WHO_LEN], found[F_EMAIL] = begin, length, by_email
    return end + 1


@piece
def _name(body, at, size, found):
    """The name of the event: behind the value, or -1."""
    if body[at] != 34:
        return -1
    begin = at + 1
    end, _ = text_end(body, begin, size)
    length = end - begin
    if length <= 0 or length > _NAME_MAX or not (33 <= body[begin] <= 126 and 33 <= body[end - 1] <= 126):
        return -1
    found[F_NAME_AT], found[F_NAME_LEN] = begin, length
    return end + 1


@piece
def _event_id(body, at, size, found):
    """The id of the event: behind the value, or -1."""
    if body[at] != 34:
        end = digits_end(body, at, size)
        if end == at or end - at > 15 or body[at] == 48:
            return -1
        found[F_ID_AT], found[F_ID_LEN] = at, end - at
        return end
    end, _ = text_end(body, at + 1, size)
    length = end - at - 1
    if length <= 0 or length > _EVENT_ID_MAX:
        return -1
    found[F_ID_AT], found[F_ID_LEN] = at + 1, length
    return end + 1


@piece
def _kind(body, at, size, found):
    """The kind of the event: behind the value, or -1."""
    if body[at] != 34:
        return -1
    end, _ = text_end(body, at + 1, size)
    length = end - at - 1
    if length > 0 and stands(body, at + 1, length, b"event"):
        found[F_KIND] = 0
    elif length > 0 and stands(body, at + 1, length, b"page"):
        found[F_KIND] = 1
    elif length > 0 and stands(body, at + 1, length, b"screen"):
        found[F_KIND] = 2
    else:
        return -1
    return end + 1


@piece
def _time(body, at, size, found):
    """The time in microseconds, from unix seconds or ISO 8601 in UTC: behind the value, or -1."""
    if body[at] == 34:
        return _iso(body, at + 1, size, found)
    begin = at
    at = digits_end(body, at, size)
    if at == begin or at - begin > 11 or (at - begin > 1 and body[begin] == 48):
        return -1
    seconds = _whole(body, begin, at)
    micros = 0
    if at < size and body[at] == 46:
        # A fraction is read as a double by the strict lane: exact to the microsecond below 2**32 seconds.
        point = at
        at = digits_end(body, at + 1, size)
        if at == point + 1 or at - point > 7 or seconds >= 1 << 32:
            return -1
        micros = _whole(body, point + 1, at) * _ten_to(6 - (at - point - 1))
    if at < size and (body[at] == 101 or body[at] == 69):
        return -1
    found[F_TIME], found[F_TIMED] = seconds * 1_000_000 + micros, 1
    return at


@piece
def _whole(body, at, end):
    value = 0
    while at < end:
        value = value * 10 + (np.int64(body[at]) - 48)
        at += 1
    return value


@piece
def _ten_to(power):
    value = 1
    for _ in range(power):
        value *= 10
    return value


@piece
def _iso(body, at, size, found):
    """``YYYY-MM-DDTHH:MM:SS[.ffffff]Z`` from behind its quote: behind the closing one, or -1."""
    if at + 21 > size:
        return -1
    for step in range(19):
        byte = body[at + step]
        if step in (4, 7):
            good = byte == 45
        elif step == 10:
            good = byte == 84
        elif step in (13, 16):
            good = byte == 58
        else:
            good = 48 <= byte <= 57
        if not good:
            return -1
    year, month, day = _whole(body, at, at + 4), _whole(body, at + 5, at + 7), _whole(body, at + 8, at + 10)
    hour, minute = _whole(body, at + 11, at + 13), _whole(body, at + 14, at + 16)
    second = _whole(body, at + 17, at + 19)
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= _month_days(year, month):
        return -1
    if hour > 23 or minute > 59 or second > 59:
        return -1
    at += 19
    micros = 0
    if body[at] == 46:
        end = digits_end(body, at + 1, size)
        if end == at + 1 or end - at > 7:
            return -1
        micros = _whole(body, at + 1, end) * _ten_to(6 - (end - at - 1))
        at = end
    if at + 1 >= size or body[at] != 90 or body[at + 1] != 34:
        return -1
    seconds = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    found[F_TIME], found[F_TIMED] = seconds * 1_000_000 + micros, 1
    return at + 2


@piece
def _month_days(year, month):
    if month == 2:
        return 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    return 30 if month in (4, 6, 9, 11) else 31


@piece
def _days(year, month, day):
    """Days since 1970. Source: Hinnant, "chrono-compatible low-level date algorithms", days_from_civil."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
