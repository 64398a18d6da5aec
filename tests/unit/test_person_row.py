"""Rows of people files, judged one by one: what an identify call would say, and what is wrong with a row."""

from typing import Any

import pytest

from backstory.core.fact import Identifier
from backstory.engine.file.event_row import RowError, RowShape
from backstory.engine.file.person_row import PersonRow, read_person


def read(row: dict[str, Any], *, clear: bool = False, **shape: Any) -> PersonRow:
    return read_person(row, 7, RowShape(**shape), clear=clear)


def wrong(row: dict[str, Any], **shape: Any) -> RowError:
    with pytest.raises(RowError) as caught:
        read(row, **shape)
    return caught.value


@pytest.mark.parametrize(
    ("row", "identifier", "path", "body"),
    [
        ({"id": "ann"}, None, ("id", "ann"), []),
        ({"id": 7}, None, ("id", "7"), []),
        ({"id": "ann", "email": "Ann@x.org "}, None, ("id", "ann"), [("email", "Ann@x.org")]),
        ({"id": "", "email": "a@x.org"}, None, ("email", "a@x.org"), []),
        ({"customer_id": "ann"}, None, ("id", "ann"), []),
        ({"customer_id": "a@x.org"}, None, ("email", "a@x.org"), []),
        ({"customer_id": "cio_a3000001", "id": ""}, None, ("cio_id", "a3000001"), []),
        ({"customer_id": "cio_a3000001", "id": "ann"}, None, ("cio_id", "a3000001"), [("id", "ann")]),
        ({"customer_id": "cio_a3000001", "email": "a@x.org"}, None, ("cio_id", "a3000001"), [("email", "a@x.org")]),
        ({"id": "ann", "email": "a@x.org"}, "email", ("email", "a@x.org"), [("id", "ann")]),
        ({"customer_id": "a@x.org", "id": "ann"}, "email", ("email", "a@x.org"), [("id", "ann")]),
        ({"customer_id": "ann", "email": "a@x.org"}, "id", ("id", "ann"), [("email", "a@x.org")]),
        ({"id": "ann", "customer_id": "ann"}, None, ("id", "ann"), []),
        ({"id": "ann", "customer_id": "a@x.org"}, None, ("id", "ann"), [("email", "a@x.org")]),
        ({"identifiers": {"id": "ann"}, "attributes": {"id": "b"}}, None, ("id", "ann"), [("id", "b")]),
        ({"identifiers": {"cio_id": "a3"}, "attributes": {"id": "a"}}, None, ("cio_id", "a3"), [("id", "a")]),
    ],
)
def test_the_person_is_found_by_column_and_shape(
    row: dict[str, Any], identifier: Any, path: tuple[Any, str], body: list[tuple[Any, str]]
) -> None:
    """``id``, else ``customer_id``, else ``email``, unless the import says; every other one is given to the person."""
    found = read(row, identifier=identifier)
    assert found.path == Identifier(*path)
    assert found.body == tuple(Identifier(*named) for named in body)
    assert found.attributes == {}


def test_identifiers_have_limits() -> None:
    """150 bytes for an id, 254 for an email; a NUL or nothing but blanks is none."""
    assert read({"id": "x" * 150}).path.value == "x" * 150
    assert wrong({"id": "x" * 151}).field == "id"
    assert wrong({"id": "ann", "email": "x" * 249 + "@x.org"}).field == "email"
    assert wrong({"id": "a\0"}).field == "id"
    assert wrong({"id": "  "}).field == "id"
    assert wrong({"id": 1.5}).value == 1.5
    assert wrong({"id": True}).field == "id"
    assert str(wrong({"plan": "pro"})) == "id: names no person: give one of id, customer_id, email"


def test_attributes_are_canonical_json_by_name() -> None:
    """Numbers as the live path stores them; what is nested too."""
    row = read({"id": "ann", "plan": "pro", "age": 7, "rate": 1.10, "ok": True, "tags": ["b", {"d": 1, "c": 2}]})
    assert row.attributes == {
        "plan": b'"pro"', "age": b"7", "rate": b"1.1", "ok": b"true", "tags": b'["b",{"c":2,"d":1}]',
    }  # fmt: skip


def test_control_keys_are_no_attributes() -> None:
    """They mean something else in an identify call."""
    control = {"_timestamp": 5, "_update": True, "anonymous_id": "x", "cio_relationships": {}, "cio_id": "y"}
    row = read({"id": "ann", **control})
    assert row.attributes == {}
    assert row.time_us == 5_000_000


def test_empty_text_is_left_out_or_removes() -> None:
    """As ``--on-empty`` says; null always removes."""
    given = {"id": "ann", "plan": "", "age": None}
    assert read(given).attributes == {"age": None}
    assert read(given, clear=True).attributes == {"plan": None, "age": None}


def test_the_time_is_in_timestamp_or_in_the_column_named() -> None:
    """Seconds or ISO 8601 with a zone; smaller units are told by size, with a warning."""
    assert read({"id": "ann", "_timestamp": "2024-06-01T12:00:00Z"}).time_us == 1_717_243_200_000_000
    assert read({"id": "ann"}).time_us is None
    assert read({"id": "ann", "_timestamp": ""}).time_us is None
    named = read({"id": "ann", "changed": "5", "_timestamp": "junk"}, time_column="changed")
    assert (named.time_us, named.attributes) == (5_000_000, {"changed": b'"5"'})
    assert read({"identifiers": {"id": "ann"}, "attributes": {}, "timestamp": 5}).time_us == 5_000_000
    rescaled = read({"id": "ann", "_timestamp": 1_717_243_200_000})
    assert rescaled.time_us == 1_717_243_200_000_000
    assert rescaled.warning == "_timestamp: was taken as milliseconds or microseconds"


@pytest.mark.parametrize("value", ["abc", "2024-06-01", True, [], 1e300])
def test_a_time_that_cannot_be_read_is_an_error(value: Any) -> None:
    """Never "now"; the error names the column."""
    assert wrong({"id": "ann", "_timestamp": value}).field == "_timestamp"
    assert wrong({"id": "ann", "changed": value}, time_column="changed").field == "changed"
    assert wrong({"identifiers": {"id": "ann"}, "attributes": {}, "timestamp": value}).field == "timestamp"


def test_attributes_have_limits() -> None:
    """Those of an identify call."""
    assert read({"id": "ann", "a" * 150: 1}).attributes == {"a" * 150: b"1"}
    assert "attribute names have 1 to 150 bytes" in str(wrong({"id": "ann", "a" * 151: 1}))
    assert "attribute names have 1 to 150 bytes" in str(wrong({"id": "ann", "": 1}))
    assert read({"id": "ann", "a": "x" * 1000}).attributes == {"a": b'"' + b"x" * 1000 + b'"'}
    assert wrong({"id": "ann", "a": "x" * 1001}).reason == "is longer than 1000 bytes"
    assert len(read({"id": "ann", "a": '"' * 1000}).attributes["a"] or b"") == 2002
    assert read({"id": "ann", "a": "é" * 500}).attributes["a"] is not None
    assert wrong({"id": "ann", "a": "é" * 501}).reason == "is longer than 1000 bytes"
    assert wrong({"id": "ann", "a": ["x" * 997]}).reason == "is longer than 1000 bytes"
    assert len(read({"id": "ann", **{f"a{n}": 1 for n in range(300)}}).attributes) == 300
    assert "more than 300 attributes" in str(wrong({"id": "ann", **{f"a{n}": 1 for n in range(301)}}))
    assert wrong({"id": "ann", "a": "x\0"}).reason == "holds a NUL character"
    assert wrong({"id": "ann", "a\0": "x"}).reason == "holds a NUL character"


def test_deep_values_are_refused() -> None:
    """They cannot be deeper than a live call may send them."""
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    assert read({"id": "ann", "a": deep[0]}).attributes["a"] is not None
    assert wrong({"id": "ann", "a": deep}).reason == "is nested deeper than 64 levels"


def test_columns_can_be_renamed() -> None:
    """``--map``; two columns cannot be one attribute."""
    assert read({"No": "ann", "Plan": "pro"}, columns={"No": "id", "Plan": "plan"}).attributes == {"plan": b'"pro"'}
    assert wrong({"id": "ann", "a": 1, "b": 2}, columns={"b": "a"}).field == "a"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"identifiers": {"id": "a", "email": "b"}, "attributes": {}}, "identifiers"),
        ({"identifiers": {}, "attributes": {}}, "identifiers"),
        ({"type": "object", "identifiers": {"id": "a"}, "attributes": {}}, "type"),
        ({"action": "delete", "identifiers": {"id": "a"}, "attributes": {}}, "action"),
        ({"identifiers": {"id": "a"}, "attributes": 3}, "attributes"),
    ],
)
def test_a_wrong_track_v2_item_says_where(row: dict[str, Any], field: str) -> None:
    """Only identify items are people."""
    assert wrong(row).field == field
