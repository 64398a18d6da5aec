"""Rows of event files, judged one by one: what counts as an event, and what is said about a row that is none."""

from typing import Any

import msgspec
import pytest

from backstory.core.time import SECOND_US
from backstory.engine.file.event_row import EventRow, RowError, RowShape, read_event
from backstory.engine.file.row_value import decode_line

PLAIN: dict[str, Any] = {"customer_id": "ann", "name": "bought"}
NOW_S = 1_717_243_200


def read(shape: RowShape | None = None, **changes: Any) -> EventRow:
    """A plain row with some fields changed; a field set to ... is left out."""
    row = {name: value for name, value in {**PLAIN, **changes}.items() if value is not ...}
    return read_event(row, 7, shape or RowShape())


def wrong(shape: RowShape | None = None, **changes: Any) -> RowError:
    with pytest.raises(RowError) as caught:
        read(shape, **changes)
    return caught.value


def line(text: bytes) -> EventRow:
    return read_event(decode_line(text), 1, RowShape())


# -- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b'{"customer_id":"ann","name":"bought"',
        b'{"customer_id":"ann","name":"bought",}',
        b'{"customer_id":"ann","name":"bought"} x',
        b'{"customer_id":"ann","name":"bought","data":{"a":NaN}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":Infinity}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":01}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":.5}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":1e400}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":"\\ud800"}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":"\\udc00x"}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":"\xff"}}',
        b'{"customer_id":"ann","name":"bought","data":{"a":"\t"}}',
        b"{'customer_id':'ann'}",
        b"ann,bought",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_json_is_told_so(text: bytes) -> None:
    """Bulk readers let some of these pass; nothing lenient is inherited from them."""
    with pytest.raises(RowError, match="is not valid JSON: ") as caught:
        decode_line(text)
    assert caught.value.field == ""


@pytest.mark.parametrize("text", [b'["customer_id"]', b'"ann"', b"1", b"null", b"true"])
def test_a_line_that_is_no_object_is_told_so(text: bytes) -> None:
    """A row is an object."""
    with pytest.raises(RowError, match="is not a JSON object"):
        decode_line(text)


@pytest.mark.parametrize(("inside", "key"), [(b'"name":"seen"', "name"), (b'"data":{"n":1,"n":2}', "n")])
def test_repeated_keys_are_refused(inside: bytes, key: str) -> None:
    """As in the body of a live call."""
    with pytest.raises(RowError, match=f"{key}: the key is there twice in one object"):
        line(b'{"customer_id":"ann","name":"bought",' + inside + b"}")


def test_blanks_between_and_behind_mean_nothing() -> None:
    """A carriage return at the end of a line is one of them."""
    row = line(b' { "customer_id" : "ann" , "name" : "bought" , "data" : { "b" : [ 1 , 2 ] , "a" : 1 } } \r')
    assert row.data == b'{"a":1,"b":[1,2]}'


# -- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "identifier", "found"),
    [
        ({"customer_id": "ann"}, None, ("id", "ann")),
        ({"customer_id": 7}, None, ("id", "7")),
        ({"customer_id": 12345678901234567890}, None, ("id", "12345678901234567890")),
        ({"customer_id": "Ann@X.org "}, None, ("email", "Ann@X.org")),
        ({"customer_id": "cio_a3000001"}, None, ("cio_id", "a3000001")),
        ({"customer_id": ..., "id": "ann@x.org"}, None, ("id", "ann@x.org")),
        ({"customer_id": ..., "id": "cio_a3000001"}, None, ("id", "cio_a3000001")),
        ({"customer_id": ..., "email": "ann@x.org"}, None, ("email", "ann@x.org")),
        ({"customer_id": "", "id": None, "email": "ann@x.org"}, None, ("email", "ann@x.org")),
        ({"customer_id": "00001"}, None, ("id", "00001")),
        ({"customer_id": "ann@x.org"}, "id", ("id", "ann@x.org")),
        ({"customer_id": "cio_a3000001"}, "id", ("id", "cio_a3000001")),
        ({"customer_id": "ann@x.org"}, "email", ("email", "ann@x.org")),
        ({"customer_id": "ann", "email": "ann@x.org"}, "email", ("email", "ann@x.org")),
        ({"customer_id": "ann", "id": "bob"}, "id", ("id", "bob")),
    ],
)
def test_the_person_is_found_by_column_and_shape(
    changes: dict[str, Any], identifier: Any, found: tuple[str, str]
) -> None:
    """``customer_id`` says by its shape what it is, unless the import says; then ``id``, then ``email``."""
    row = read(RowShape(identifier=identifier), **changes)
    assert (row.person_kind, row.person) == found


def test_an_id_has_at_most_150_bytes() -> None:
    """One byte more is an error that shows the beginning of the value; bytes are counted, not letters."""
    assert read(customer_id="x" * 150).person == "x" * 150
    error = wrong(customer_id="x" * 151)
    assert (error.field, error.value) == ("customer_id", "x" * 151)
    assert str(error) == f'customer_id: is longer than 150 bytes (found "{"x" * 80}…)'
    assert read(customer_id="é" * 75).person == "é" * 75
    assert wrong(customer_id="é" * 75 + "x").field == "customer_id"
    assert read(customer_id=..., email="x" * 248 + "@x.org").person_kind == "email"
    assert wrong(customer_id=..., email="x" * 249 + "@x.org").reason == "is longer than 254 bytes"


@pytest.mark.parametrize("value", [1.5, True, [1], {"id": "ann"}])
def test_an_identifier_is_text_or_a_whole_number(value: Any) -> None:
    """Anything else is no identifier, and never becomes one by being printed."""
    assert str(wrong(customer_id=value)).startswith("customer_id: must be text or a whole number (found ")


@pytest.mark.parametrize("value", ["   ", "a\0b", "cio_", " @ \0"])
def test_an_identifier_is_not_blank_and_holds_no_nul(value: str) -> None:
    """What the live path refuses is refused here too."""
    assert wrong(customer_id=value).field == "customer_id"


def test_a_row_without_a_person_is_an_error() -> None:
    """It says which fields would do."""
    assert str(wrong(customer_id=...)) == "customer_id: names no person: give one of customer_id, id, email"
    assert str(wrong(RowShape(identifier="id"), customer_id=...)) == "id: names no person: give one of id, customer_id"


# -- name, kind, id ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [..., None, "", "   "])
def test_a_missing_name_is_an_error(value: Any) -> None:
    """An event is nothing without its name."""
    assert wrong(name=value).field == "name"


@pytest.mark.parametrize("value", [1, True, ["bought"]])
def test_a_name_is_text(value: Any) -> None:
    """The error shows what was there."""
    assert str(wrong(name=value)) == f"name: must be text (found {msgspec.json.encode(value).decode()})"


def test_a_name_has_at_most_100_bytes_without_the_blanks_around_it() -> None:
    """As in a live call."""
    assert read(name=" " + "x" * 100 + "\t").name == "x" * 100
    assert wrong(name="x" * 101).reason == "is longer than 100 bytes"
    assert wrong(name="a\0b").field == "name"


def test_the_kind_is_event_unless_it_is_page_or_screen() -> None:
    """Any other type is an event, as in a live call."""
    assert [read(type=value).kind for value in ("event", "page", "screen", "click", None, 3, ...)] == [
        "event", "page", "screen", "event", "event", "event", "event"
    ]  # fmt: skip


def test_an_event_id_has_at_most_150_bytes() -> None:
    """Any text of 1 to 150 bytes, kept as it is; a whole number is its digits."""
    assert read(event_id="x" * 150).event_id == "x" * 150
    assert wrong(event_id="x" * 151).reason == "is longer than 150 bytes"
    assert [read(event_id=value).event_id for value in (" a ", 12, "", None)] == [" a ", "12", None, None]
    assert wrong(event_id=1.5).field == "event_id"
    assert wrong(event_id=True).field == "event_id"
    assert wrong(event_id="a\0").field == "event_id"


# -- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "time_us"),
    [
        (NOW_S, NOW_S * SECOND_US),
        (NOW_S + 0.25, NOW_S * SECOND_US + 250_000),
        (str(NOW_S), NOW_S * SECOND_US),
        (f" {NOW_S}.000001 ", NOW_S * SECOND_US + 1),
        ("2024-06-01T12:00:00Z", NOW_S * SECOND_US),
        ("2024-06-01 14:00:00.5+02:00", NOW_S * SECOND_US + 500_000),
        (0, 0),
        (-1.5, -1_500_000),
        (None, None),
        ("", None),
        (..., None),
    ],
)
def test_times_are_unix_seconds_or_iso_8601_with_a_zone(value: Any, time_us: int | None) -> None:
    """A row without a time names none."""
    row = read(timestamp=value)
    assert (row.time_us, row.warning) == (time_us, "")


@pytest.mark.parametrize("value", [NOW_S * 1000, f"{NOW_S}000", NOW_S * 10**6, str(NOW_S * 10**6)])
def test_milliseconds_and_microseconds_are_told_by_their_size(value: Any) -> None:
    """They are taken, with a warning."""
    row = read(timestamp=value)
    assert row.time_us == NOW_S * SECOND_US
    assert row.warning == "timestamp: was taken as milliseconds or microseconds"


@pytest.mark.parametrize(
    "value",
    ["abc", "2024-06-01", "2024-06-01T12:00:00", "2024-02-30T12:00:00Z", "1e9", "0x10", True, [1], {}, 1e300, "9" * 25],
)
def test_a_time_that_cannot_be_read_is_an_error(value: Any) -> None:
    """Never "now": the error says field, value and what a time is."""
    error = wrong(timestamp=value)
    assert (error.field, error.value) == ("timestamp", value)
    assert str(error).startswith("timestamp: cannot be read: ")
    assert str(error).endswith(f"(found {msgspec.json.encode(value).decode()})")


def test_another_column_can_hold_the_time() -> None:
    """Then ``timestamp`` is a column like any other, and its errors name the column."""
    shape = RowShape(time_column="when")
    row = read(shape, when=5, timestamp="abc")
    assert (row.time_us, row.data) == (5_000_000, b'{"timestamp":"abc"}')
    assert wrong(shape, when="soon").field == "when"


# -- data -------------------------------------------------------------------------------------------------------------


def test_numbers_stay_what_they_are_by_value() -> None:
    """Each in its one form, so that equal data is equal text."""
    row = line(
        b'{"customer_id":"ann","name":"bought","data":'
        b'{"e":1E2,"d":1.10,"c":1.5,"b":1.0,"a":-0.0,"f":0.00001,"g":12345678901234567890123,"h":1e22}}'
    )
    assert row.data == (
        b'{"a":0,"b":1,"c":1.5,"d":1.1,"e":100,"f":0.00001,"g":12345678901234567890123,"h":1e22}'
    )


def test_columns_that_mean_nothing_else_are_data() -> None:
    """So are dotted ones, below the name before the dot; what is not used as the person is data as well."""
    row = read(**{"data.price": 3, "data.place.city": "Ulm", "colour": "red", "data": {"n": 1}, "email": "a@x.org"})
    assert row.data == b'{"colour":"red","email":"a@x.org","n":1,"place":{"city":"Ulm"},"price":3}'


def test_a_column_below_a_plain_value_is_an_error() -> None:
    """Neither of the two is quietly dropped."""
    assert wrong(**{"data.a": 1, "data.a.b": 2}).field == "data.a.b"
    assert wrong(**{"data.a.b": 2, "data.a": 1}).field == "data.a"
    assert wrong(**{"data": {"a": 1}, "data.a": 2}).field == "data.a"
    assert wrong(data={"a": 1}, a=2).field == "a"


@pytest.mark.parametrize("value", [1, "x", [], True])
def test_data_is_an_object(value: Any) -> None:
    """Or nothing."""
    assert wrong(data=value).field == "data"
    assert read(data=None).data == b"{}"


def test_data_has_limits() -> None:
    """100,000 bytes and 64 levels, as in a live call."""
    assert len(read(data={"a": "x" * 99_992}).data) == 100_000
    assert wrong(data={"a": "x" * 99_993}).reason == "is longer than 100000 bytes"
    deep: Any = 1
    for _ in range(63):
        deep = [deep]
    assert read(data={"a": deep}).data.count(b"[") == 63
    assert wrong(data={"a": [deep]}).reason == "is nested deeper than 64 levels"
    assert wrong(data={"a": {"b": "x\0"}}).reason == "holds a NUL character"
    assert wrong(data={"a\0": 1}).reason == "holds a NUL character"


# -- other forms of rows ----------------------------------------------------------------------------------------------


def test_columns_can_be_renamed() -> None:
    """``--map`` gives a column the name of a field, or of data."""
    shape = RowShape(columns={"user": "customer_id", "what": "name", "at": "timestamp", "sum": "data.price"})
    row = read_event({"user": "ann", "what": "bought", "at": 5, "sum": 2}, 1, shape)
    assert (row.person, row.name, row.time_us, row.data) == ("ann", "bought", 5_000_000, b'{"price":2}')


def test_two_columns_cannot_be_the_same_field() -> None:
    """Neither is quietly dropped."""
    assert wrong(RowShape(columns={"user": "customer_id"}), user="bob").field == "customer_id"


def test_track_v2_items_are_rows_too() -> None:
    """Type person, action event, page or screen, one identifier, attributes."""
    item: dict[str, Any] = {
        "type": "person", "action": "page", "identifiers": {"email": "ann@x.org"}, "name": "/home", "timestamp": 5,
        "id": "e1", "attributes": {"n": 1},
    }  # fmt: skip
    row = read_event(item, 1, RowShape())
    assert (row.kind, row.person_kind, row.person) == ("page", "email", "ann@x.org")
    assert (row.name, row.time_us, row.event_id, row.data) == ("/home", 5_000_000, "e1", b'{"n":1}')
    cio = read_event({**item, "identifiers": {"cio_id": "a3000001"}}, 1, RowShape())
    assert (cio.person_kind, cio.person) == ("cio_id", "a3000001")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "object"}, "type"),
        ({"action": "delete"}, "action"),
        ({"action": ["event"]}, "action"),
        ({"identifiers": {}}, "identifiers"),
        ({"identifiers": {"id": "a", "email": "b"}}, "identifiers"),
        ({"identifiers": {"phone": "1"}}, "identifiers"),
        ({"attributes": 3}, "attributes"),
    ],
)
def test_a_wrong_track_v2_item_says_where(changes: dict[str, Any], field: str) -> None:
    """The field of the item, not one of ours."""
    item = {"type": "person", "action": "event", "identifiers": {"id": "ann"}, "name": "bought", **changes}
    with pytest.raises(RowError) as caught:
        read_event(item, 1, RowShape())
    assert caught.value.field == field


def test_every_error_names_field_value_and_reason() -> None:
    """Long values are cut, texts are in quotes, numbers are not."""
    assert str(wrong(timestamp="abc")) == (
        "timestamp: cannot be read: it is neither unix seconds nor ISO 8601 with a zone (found \"abc\")"
    )
    assert str(wrong(event_id=1.5)) == "event_id: must be text or a whole number (found 1.5)"
