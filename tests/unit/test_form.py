"""Form bodies with bracketed keys."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstory.core.error import RequestError
from backstory.core.limit import FORM_PAIRS, JSON_DEPTH
from backstory.edge.form import parse_form


@pytest.mark.parametrize(
    ("body", "data"),
    [
        ("", {}),
        ("&&", {}),
        ("a=1", {"a": "1"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a=1&a=2", {"a": "2"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=x+y%20z%2B", {"a": "x y z+"}),
        ("name=purchased&data[price]=23.45", {"name": "purchased", "data": {"price": "23.45"}}),
        ("data%5Bprice%5D=23.45", {"data": {"price": "23.45"}}),
        ("data%5bprice%5d=007", {"data": {"price": "007"}}),
        ("d[a][b][c]=1&d[a][x]=2", {"d": {"a": {"b": {"c": "1"}, "x": "2"}}}),
        ("d[0]=a&d[1]=b", {"d": {"0": "a", "1": "b"}}),
        ("t[]=a&t[]=b", {"t": ["a", "b"]}),
        ("d[t][]=a&d[t][]=b", {"d": {"t": ["a", "b"]}}),
        ("i[][s]=1&i[][q]=2&i[][s]=3", {"i": [{"s": "1", "q": "2"}, {"s": "3"}]}),
        ("i[][t][]=1&i[][t][]=2", {"i": [{"t": ["1", "2"]}]}),
        ("i[][a][b]=1&i[][a][c]=2&i[][a][b]=3", {"i": [{"a": {"b": "1", "c": "2"}}, {"a": {"b": "3"}}]}),
        ("t[][]=a&t[][]=b", {"t": [["a"], ["b"]]}),
        ("a%5Bb]=%C3%A9", {"a": {"b": "é"}}),
        ("=1", {"": "1"}),
        ("a]=1", {"a]": "1"}),
    ],
)
def test_brackets_nest(body: str, data: dict[str, Any]) -> None:
    """Brackets make objects, empty brackets lists, and every value stays text."""
    assert parse_form(body.encode()) == data


@pytest.mark.parametrize(
    "body",
    [
        "a[b=1",
        "a[b]c=1",
        "a[b]]=1",
        "a[[b]]=1",
        "a[b[c]]=1",
        "[a]=1",
        "a=1&a[b]=2",
        "a[b]=1&a=2",
        "a[]=1&a[b]=2",
        "a[b]=1&a[]=2",
        "a[b]=1&a[b][c]=2",
        "a[]=1&a=2",
        "a=%FF",
        "%FF=1",
    ],
)
def test_contradictions_are_refused(body: str) -> None:
    """Malformed and contradicting keys, and bytes that are no text, are refused with words."""
    with pytest.raises(RequestError, match="form"):
        parse_form(body.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    """A form is text."""
    with pytest.raises(RequestError, match="UTF-8"):
        parse_form(b"a=\xff")


def test_depth_has_a_limit() -> None:
    """As deep as data may be nested, and no deeper; a very long row of brackets costs nothing."""
    parse_form(b"a" + b"[b]" * (JSON_DEPTH.value - 1) + b"=1")
    for levels in (JSON_DEPTH.value, 100_000):
        with pytest.raises(RequestError, match="nested"):
            parse_form(b"a" + b"[b]" * levels + b"=1")


def test_pairs_have_a_limit() -> None:
    """As many pairs as allowed, and no more."""
    parse_form(b"&".join([b"a=1"] * FORM_PAIRS.value))
    with pytest.raises(RequestError, match="pairs"):
        parse_form(b"&".join([b"a=1"] * (FORM_PAIRS.value + 1)))


@given(st.dictionaries(st.text(st.characters(exclude_characters="[]", codec="utf-8"), min_size=1), st.text()))
def test_flat_forms_survive(data: dict[str, str]) -> None:
    """What a client encodes comes out as it went in."""
    assert parse_form(urlencode(data).encode()) == data


@given(st.text(alphabet="ab[]=&", max_size=40))
def test_any_form_is_read_or_refused(body: str) -> None:
    """Whatever the brackets, the answer is data or a refusal."""
    try:
        assert isinstance(parse_form(body.encode()), dict)
    except RequestError:
        pass
