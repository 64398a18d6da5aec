"""Windows in time and counts of occurrences: what an event or message condition asks beside its name.

How they are read from JSON and printed again; what they mean is said by ``leaf`` fast and by ``oracle`` slowly.
Source: design section 8.
"""

from datetime import UTC, datetime, timedelta
from typing import assert_never

from msgspec import Struct

from backstory.core import limit, operand
from backstory.core.operand import ConditionError, Json, shown
from backstory.core.time import MILLISECONDS_FROM, SECOND_US, from_unix

_COUNT_KEYS = ("at_least", "at_most", "exactly", "between")
_WINDOW_KEYS = ("last_s", "from", "to")


class Last(Struct, frozen=True, tag="last"):
    """The last so many microseconds: now - last_us < t <= now."""

    last_us: int


class Between(Struct, frozen=True, tag="between"):
    """Two fixed moments: from_us <= t < to_us; None leaves that side open."""

    from_us: int | None
    to_us: int | None


Window = Last | Between


def read_count(value: Json, path: str) -> tuple[int, int | None]:
    """The bounds (at least, at most) of a ``count``; once or more when there is none."""
    if value is None:
        return 1, None
    fields = operand.fields_of(value, path, _COUNT_KEYS)
    if len(fields) != 1:
        raise ConditionError(f"expected exactly one of {', '.join(_COUNT_KEYS)}; found {shown(value)}", path=path)
    form, bound = next(iter(fields.items()))
    here = f"{path}.{form}"
    if form != "between":
        times = _times(bound, here)
        return (times, None) if form == "at_least" else (0 if form == "at_most" else times, times)
    if not isinstance(bound, list) or len(bound) != 2:
        raise ConditionError(f"expected two whole numbers [least, most], found {shown(bound)}", path=here)
    low, high = (_times(item, f"{here}[{i}]") for i, item in enumerate(bound))
    operand.in_order(low, high, here)
    return low, high


def _times(value: Json, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConditionError(f"expected a whole number of times from 0, found {shown(value)}", path=path)
    operand.check(limit.CONDITION_COUNT, value, path)
    return value


def read_window(value: Json, path: str) -> Window | None:
    """The window of a ``within``."""
    if value is None:
        return None
    fields = {key: item for key, item in operand.fields_of(value, path, _WINDOW_KEYS).items() if item is not None}
    if not fields or ("last_s" in fields and len(fields) > 1):
        raise ConditionError(f'expected either "last_s" or "from" and "to", found {shown(value)}', path=path)
    if "last_s" in fields:
        last_us = operand.stretch_us(fields["last_s"], f"{path}.last_s")
        if last_us <= 0:
            raise ConditionError(f"expected more than 0 seconds, found {shown(value)}", path=f"{path}.last_s")
        return Last(last_us)
    from_us = operand.moment_us(fields["from"], f"{path}.from") if "from" in fields else None
    to_us = operand.moment_us(fields["to"], f"{path}.to") if "to" in fields else None
    if from_us is not None and to_us is not None and from_us >= to_us:
        raise ConditionError('"from" must lie before "to", which is not part of the window', path=path)
    return Between(from_us, to_us)


def print_count(at_least: int, at_most: int | None) -> Json:
    """As ``read_count`` reads it."""
    if at_most is None:
        return {"at_least": at_least}
    if at_least == at_most:
        return {"exactly": at_least}
    return {"at_most": at_most} if at_least == 0 else {"between": [at_least, at_most]}


def print_window(window: Window) -> Json:
    """As ``read_window`` reads it."""
    match window:
        case Last(last_us):
            return {"last_s": last_us // SECOND_US if last_us % SECOND_US == 0 else last_us / SECOND_US}
        case Between(from_us, to_us):
            return {key: _print_moment(us) for key, us in (("from", from_us), ("to", to_us)) if us is not None}
        case _:
            assert_never(window)


def _print_moment(us: int) -> int | float | str:
    """Unix seconds; ISO 8601 where a number would not be read as the same moment."""
    seconds = us // SECOND_US if us % SECOND_US == 0 else us / SECOND_US
    if abs(seconds) < MILLISECONDS_FROM and from_unix(seconds)[0] == us:
        return seconds
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()
