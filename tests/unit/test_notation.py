"""Numbers with a decimal comma, and dates with the day or the month first, against plain readings of them."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstory.engine.file.notation import DATE_ORDERS, DateOrder, are_comma_numbers, comma_number, iso_date, orders_of


@given(st.decimals(-999_999, 999_999, places=6), st.integers(0, 6))
def test_a_number_with_a_decimal_comma_is_the_one_with_a_point(number: Decimal, places: int) -> None:
    """To the last digit."""
    text = f"{number:.{places}f}"
    assert comma_number(text.replace(".", ",")) == (None if text == "-0" else float(text))


def test_what_is_whole_is_a_whole_number() -> None:
    """Each number has one form; other texts are none."""
    assert [comma_number(text) for text in ("2,00", "-0,0", "7")] == [2, 0, 7]
    assert all(isinstance(comma_number(text), int) for text in ("2,00", "-0,0", "7"))
    assert [comma_number(text) for text in ("", "1.5", "1,", "07", "1,5x", "1,5\n")] == [None] * 6


@given(
    st.integers(-30_610_224_000, 253_402_300_799),
    st.sampled_from(DATE_ORDERS),
    st.sampled_from("./-"),
    st.sampled_from(("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S%p", ", %H:%M")),
)
def test_dates_are_those_a_plain_reader_finds(second: int, order: DateOrder, mark: str, hours: str) -> None:
    """In either order, with or without a time of day, also by the twelve hours of it."""
    form = mark.join(("%d", "%m", "%Y") if order == "dmy" else ("%m", "%d", "%Y")) + hours
    text = datetime.fromtimestamp(second, UTC).strftime(form)
    plain = datetime.strptime(text, form).replace(tzinfo=UTC)
    assert datetime.fromisoformat(iso_date(text, order)).replace(tzinfo=UTC) == plain
    assert iso_date(text + "Z", order).endswith("Z")


@given(st.text("0123456789./-: TZapm+", max_size=22), st.sampled_from(DATE_ORDERS))
def test_what_is_no_such_date_stays_as_it_is(text: str, order: DateOrder) -> None:
    """Whatever else is made of it would be guessed."""
    changed = iso_date(text, order)
    if changed != text:
        assert orders_of([text]) or not _is_moment(changed)


def _is_moment(text: str) -> bool:
    with suppress(ValueError):
        datetime.fromisoformat(text)
        return True
    return False


@pytest.mark.parametrize(
    ("texts", "orders"),
    [
        (["01.02.2024", "3.4.2024"], ["dmy", "mdy"]),
        (["01.02.2024", "31.12.1980"], ["dmy"]),
        (["01/02/2024", "12/31/1980 2:30 PM"], ["mdy"]),
        (["31/12/1980", "12/31/1980"], []),
        (["01.02.2024", "soon"], []),
        (["1.2.24"], []),
        ([], []),
    ],
)
def test_the_orders_in_which_dates_may_be_written_are_told(texts: list[str], orders: list[str]) -> None:
    """By all of them together."""
    assert orders_of(texts) == orders


def test_numbers_with_a_decimal_comma_are_told_by_one_that_has_it() -> None:
    """Where no comma is, there is nothing to tell."""
    assert are_comma_numbers(["1", "2,50"])
    assert not are_comma_numbers(["1", "2"])
    assert not are_comma_numbers(["1,5", "x"])
    assert not are_comma_numbers([])
