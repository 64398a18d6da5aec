"""Values of Parquet files and databases as JSON: nothing is rounded, guessed or lost.

Numbers stay numbers where a number of JSON says the same; what JSON has no word for becomes text: ``NaN``, times in
ISO 8601 (without a zone where they have none), decimals of more than fifteen digits, bytes that are no text as ``\\x``
and hexadecimal digits.
"""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from backstory.core.condition import Json

EXACT_DIGITS = 15
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def plain(value: Any) -> Json:
    """A value as JSON."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else _NO_NUMBERS[str(value)]
        case Decimal():
            return _decimal(value)
        case datetime():
            return _moment(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray():
            return _bytes(bytes(value))
        case UUID():
            return str(value)
        case Mapping():
            return {str(key): plain(one) for key, one in cast("Mapping[Any, Any]", value).items()}
        case list() | tuple() | set() | frozenset():
            return [plain(one) for one in cast("list[Any]", value)]
        case _:
            return str(value)


def _decimal(value: Decimal) -> Json:
    if not value.is_finite() or len(value.as_tuple().digits) > EXACT_DIGITS:
        return str(value)
    return int(value) if value == value.to_integral_value() else float(value)


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "\\x" + value.hex()
