"""Times in zones and units, and the types that columns were told to have."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backstory.core.time import from_text
from backstory.engine.file.event_row import read_event
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.row_value import RowError, pinned_value, read_time

BERLIN = RowShape(zone=ZoneInfo("Europe/Berlin"))
TOLD = RowShape(zone=ZoneInfo("Europe/Berlin"), dates="dmy", comma=True)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-06-01", "2024-05-31T22:00:00Z"),
        ("2024-01-15 08:30", "2024-01-15T07:30:00Z"),
        ("2024-06-01T12:00:00.25", "2024-06-01T10:00:00.25Z"),
        ("2024-06-01T12:00:00Z", "2024-06-01T12:00:00Z"),
        ("1717243200", "2024-06-01T12:00:00Z"),
    ],
)
def test_a_time_without_a_zone_is_read_in_the_one_that_was_told(text: str, same: str) -> None:
    """Others say theirs."""
    assert read_time(text, "when", BERLIN) == (from_text(same)[0], "")


def test_times_that_the_clocks_skip_or_show_twice() -> None:
    """The one is an error, the other is told."""
    with pytest.raises(RowError, match="never was: the clocks of Europe/Berlin jumped over it"):
        read_time("2024-03-31 02:30", "when", BERLIN)
    time_us, warning = read_time("2024-10-27 02:30", "when", BERLIN)
    assert time_us == from_text("2024-10-27T00:30:00Z")[0]
    assert "show it twice; the first one was taken" in warning


def test_without_a_zone_nothing_is_guessed() -> None:
    """The flag is named."""
    for text in ("2024-06-01", "2024-06-01 12:00"):
        with pytest.raises(RowError, match="says no zone: name it with --zone"):
            read_time(text, "when", RowShape())
    with pytest.raises(RowError, match="not a valid date"):
        read_time("2024-02-30", "when", BERLIN)


@pytest.mark.parametrize(
    ("value", "unit", "us"),
    [
        (86_400_000, "milliseconds", 86_400_000_000),
        ("1717243200123", "milliseconds", 1_717_243_200_123_000),
        (1.5, "seconds", 1_500_000),
        ("1717243200.000001", "seconds", 1_717_243_200_000_001),
        (1_717_243_200_123_456, "microseconds", 1_717_243_200_123_456),
        ("2024-06-01T12:00:00Z", "milliseconds", 1_717_243_200_000_000),
    ],
)
def test_a_unit_that_was_told_is_taken_without_a_doubt(value: Any, unit: Any, us: int) -> None:
    """Small and large numbers alike, exactly; text with a date says itself what it is."""
    assert read_time(value, "when", RowShape(unit=unit)) == (us, "")


@pytest.mark.parametrize(
    ("value", "kind", "is_now"),
    [
        ("00123", "string", "00123"), (123, "string", "123"), (True, "string", "true"), ("NaN", "string", "NaN"),
        ("12.50", "number", 12.5), ("007", "number", 7), ("12345678901234567890", "number", 12345678901234567890),
        (-3, "number", -3), ("Yes", "boolean", True), ("0", "boolean", False), (1, "boolean", True),
        ('{"a": [1]}', "json", {"a": [1]}), ("12", "json", 12), ([1], "json", [1]),
        ("2024-06-01T12:00:00Z", "time", 1717243200), ("2024-06-01", "time", 1717192800),
        ("1717243200500", "milliseconds", 1717243200.5), ("", "number", ""),
    ],
)  # fmt: skip
def test_a_type_that_was_told_is_what_values_become(value: Any, kind: Any, is_now: Any) -> None:
    """Where they can be that."""
    found = pinned_value(value, kind, "c", BERLIN)
    assert (found, type(found)) == (is_now, type(is_now))


@pytest.mark.parametrize(
    ("value", "kind"),
    [("NULL", "number"), ("NaN", "number"), ("1/2", "number"), ("1_0", "number"), ("maybe", "boolean"), ("{", "json"),
     ("soon", "time"), ([], "number"), (1.5, "boolean")],
)  # fmt: skip
def test_what_cannot_be_that_is_an_error(value: Any, kind: Any) -> None:
    """With the column and the value."""
    with pytest.raises(RowError, match=r"^c: "):
        pinned_value(value, kind, "c", BERLIN)


@pytest.mark.parametrize(
    ("value", "kind", "is_now"),
    [
        ("12,50", "number", 12.5), (" 3,00 ", "number", 3), ("007,5", "number", 7.5), (1.5, "number", 1.5),
        ("31.12.1980", "time", 347065200), ("31/12/1980 12:30:15+00:00", "seconds", 347113815), ("7", "time", 7),
        ("1980-12-31", "time", 347065200),
    ],
)  # fmt: skip
def test_numbers_and_dates_are_read_as_they_were_told_to_be_written(value: Any, kind: Any, is_now: Any) -> None:
    """With a decimal comma, with the day first; what is as JSON and ISO 8601 have it is read too."""
    found = pinned_value(value, kind, "c", TOLD)
    assert (found, type(found)) == (is_now, type(is_now))


@pytest.mark.parametrize(
    ("value", "kind"),
    [("1.234,50", "number"), ("1.5", "number"), ("1,2,3", "number"), ("12/31/1980", "time"), ("30.02.1980", "time"),
     ("31.12.80", "time")],
)  # fmt: skip
def test_what_is_written_otherwise_than_told_is_an_error(value: Any, kind: Any) -> None:
    """With the value as it stands there: nothing is guessed."""
    with pytest.raises(RowError) as error:
        pinned_value(value, kind, "c", TOLD)
    assert error.value.value == value


def test_data_of_json_lines_is_told_its_type_by_dotted_names() -> None:
    """Inside of objects too; the row itself stays as it was."""
    row: dict[str, Any] = {"customer_id": "1", "name": "x", "data": {"zip": 1234, "more": {"n": "5"}}, "flag": "yes"}
    shape = RowShape(types={"data.zip": "string", "data.more.n": "number", "flag": "boolean", "data.none.x": "number"})
    assert read_event(row, 1, shape).data == b'{"flag":true,"more":{"n":5},"zip":"1234"}'
    assert row["data"]["zip"] == 1234
