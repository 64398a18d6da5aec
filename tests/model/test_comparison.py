"""The fast comparison against the oracle's, over random values; and the next change, over random clocks."""

from typing import cast

import msgspec
from hypothesis import assume, example, given
from hypothesis import strategies as st

from backstory.core import oracle
from backstory.core.comparison import holds, next_change_us, read_path, where_holds
from backstory.core.condition import (
    And,
    AttributeTest,
    Condition,
    EventTest,
    Json,
    Last,
    Not,
    Or,
    Where,
    parse,
    to_json,
)
from backstory.core.operand import OPERATORS
from backstory.core.time import SECOND_US
from backstory.core.value_array import holds_each

NOW_S = 1_717_243_200
NOW_US = NOW_S * SECOND_US

# Few values that often meet: the same thing as text, number, boolean; the edges of what a timestamp is.
WORDS = ["a", "A", "ab", "Ab", "ß", "SS", "5", "5.0", "05", "+5", "-5", "0", "1e5", "true", "FALSE", "23.45", "½", ""]
SECONDS = [0, 1, 5, NOW_S, NOW_S - 1, NOW_S + 1, NOW_S + 0.5, NOW_S + 0.000001, 10**11, 10**11 - 1, NOW_S * 1000, -1]
texts = st.sampled_from(WORDS) | st.sampled_from(SECONDS).map(str) | st.text(max_size=4)
integers = st.sampled_from([0, 1, 5, -5, 10**20]) | st.integers(NOW_S - 5, NOW_S + 5) | st.integers()
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([5.0, 23.45, -0.0, 1.0])
seconds = st.sampled_from(SECONDS) | st.integers(NOW_S - 3, NOW_S + 3) | st.floats(NOW_S - 3, NOW_S + 3)
scalars = st.one_of(st.none(), st.booleans(), texts, integers, floats, seconds)
keys = st.sampled_from(["a", "b", "c", "a.b", "a[]", "x"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
documents = st.dictionaries(keys, values, max_size=4)
FIELDS = ["a", "b", "x", "a.b", "a.b.c", "a[]", "a[0]", "a[1].b", "a[].b", "a[][]", "a[", "a..b", "[]", "a.b[]"]
fields = st.sampled_from(FIELDS)
moments_us = st.integers(NOW_US - 10 * SECOND_US, NOW_US + 10 * SECOND_US) | st.sampled_from([0, NOW_US])


@st.composite
def attribute_tests(draw: st.DrawFn) -> AttributeTest:
    """Any test the parser makes."""
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    body: dict[str, Json] = {"field": draw(fields), "operator": operator}
    operand_scalars = st.one_of(st.booleans(), texts.filter(bool), integers, floats)
    match OPERATORS[operator]:
        case "none":
            pass
        case "scalar":
            body["value"] = draw(operand_scalars)
        case "text":
            body["value"] = draw(texts.filter(bool))
        case "list":
            body["value"] = draw(st.lists(operand_scalars, min_size=1, max_size=4))
        case "number":
            body["value"] = draw(integers | floats | seconds)
        case "offset":
            body["value"] = draw(st.integers(-10, 10) | st.floats(-10, 10) | st.sampled_from([-0.5, 0, 0.000001]))
        case "moment":
            body["value"] = draw(seconds.filter(lambda value: value < 10**11))
        case "numbers" | "moments" as operand:
            usual = integers | floats if operand == "numbers" else seconds.filter(lambda value: value < 10**11)
            body["value"] = cast("list[Json]", sorted([draw(usual), draw(usual)]))
    condition = parse({"attribute": body})
    assert isinstance(condition, AttributeTest)
    return condition


def all_of(children: list[Condition]) -> Condition:
    return And(tuple(children))


def any_of(children: list[Condition]) -> Condition:
    return Or(tuple(children))


def trees(leaves: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    """Trees of logic over these leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(all_of, st.lists(inner, min_size=1, max_size=3)),
            st.builds(any_of, st.lists(inner, min_size=1, max_size=3)),
        ),
        max_leaves=4,
    )


wheres = cast("st.SearchStrategy[Where]", trees(attribute_tests()))


@given(attribute_tests(), documents, moments_us)
@example(AttributeTest("a", "eq", b"1"), {"a": True}, NOW_US)
@example(AttributeTest("a[]", "!eq", b'"a"'), {"a": [None, "A"]}, NOW_US)
@example(AttributeTest("a", "timestamp_gt", b"0"), {"a": NOW_S}, NOW_US)
def test_the_fast_comparison_says_what_the_oracle_says(
    test: AttributeTest, document: dict[str, Json], now_us: int
) -> None:
    """For any test, any document and any moment, both give one answer."""
    assert holds(test, read_path(document, test.field), now_us) == oracle.attribute_true(test, document, now_us)


# As people have them: mostly of one sort.
sorts = st.sampled_from([texts, integers, floats, seconds, seconds.map(str), integers | floats, scalars, values])


@given(attribute_tests(), sorts.flatmap(lambda one: st.lists(one | st.none(), max_size=6)), moments_us)
@example(AttributeTest("a", "timestamp_lt", b"1e300"), [1, 2], NOW_US)
@example(AttributeTest("a", "timestamp_gt", b"-1e300"), [1, 2], NOW_US)
@example(AttributeTest("a", "gt", b"9007199254740993"), [9007199254740992, 9007199254740993], NOW_US)
@example(AttributeTest("a", "timestamp_lt", b"0"), [9_999_999_999, 0.5], 9_999_999_999_000_001)
@example(AttributeTest("a", "!contains", b'"x"'), ["x", None, "y"], NOW_US)
def test_many_values_at_once_are_judged_as_each_alone(test: AttributeTest, found: list[Json], now_us: int) -> None:
    """Whatever they are, all of one sort or not."""
    alone = [holds(test, [] if value is None else [value], now_us) for value in found]
    assert holds_each(test, found, now_us).tolist() == alone


@given(wheres, documents, moments_us)
def test_where_says_what_the_oracle_says(where: Where, data: dict[str, Json], time_us: int) -> None:
    """For any tree over any event data, both give one answer."""
    assert where_holds(where, data, time_us) == oracle.where_true(where, data, time_us)


@st.composite
def relative_tests(draw: st.DrawFn) -> AttributeTest:
    """Tests that look at the clock; negated ones too, which no parser makes but the algebra allows."""
    operator = draw(st.sampled_from(["timestamp_gt", "timestamp_lt", "!timestamp_gt", "!timestamp_lt"]))
    offset = draw(st.integers(-5, 5) | st.floats(-5, 5) | st.sampled_from([-0.5, 0.000001, -0.000001]))
    return AttributeTest("a", operator, msgspec.json.encode(offset))


@given(relative_tests(), st.lists(scalars | seconds, max_size=4), moments_us, st.data())
def test_the_next_change_is_the_first(
    test: AttributeTest, found: list[Json], now_us: int, data: st.DataObject
) -> None:
    """The truth stays up to the moment foretold and differs at it; without one it stays for ever."""
    now = holds(test, found, now_us)
    change_us = next_change_us(test, found, now_us)
    if change_us is None:
        later_us = data.draw(st.integers(now_us, NOW_US * 100))
        assert holds(test, found, later_us) == now
    else:
        assert change_us > now_us
        between_us = data.draw(st.integers(now_us, change_us - 1))
        assert holds(test, found, between_us) == now
        assert holds(test, found, change_us - 1) == now
        assert holds(test, found, change_us) != now


@given(attribute_tests(), st.lists(scalars, max_size=3), moments_us, st.integers(0, 10**18))
def test_only_relative_tests_change_by_time(
    test: AttributeTest, found: list[Json], now_us: int, ahead_us: int
) -> None:
    """Every other test says the same at any moment, and foretells nothing."""
    assume(test.operator not in ("timestamp_gt", "timestamp_lt"))
    assert next_change_us(test, found, now_us) is None
    assert holds(test, found, now_us) == holds(test, found, now_us + ahead_us)


@given(relative_tests(), st.sampled_from(SECONDS), st.integers(0, 20), moments_us)
def test_the_oracle_foretells_the_same_change(
    test: AttributeTest, value: float, written_ago_s: int, now_us: int
) -> None:
    """For a person with one value, comparison and oracle name the same next moment."""
    assume(not test.operator.startswith("!"))
    since_us = now_us - written_ago_s * SECOND_US
    history = oracle.PersonHistory(
        person=1, identifiers={}, events=[], writes=[(since_us, {"a": value})], exists_since_us=since_us
    )
    assert oracle.next_change(test, history, now_us, {}) == next_change_us(test, [value], now_us)


@st.composite
def event_tests(draw: st.DrawFn) -> EventTest:
    """Event conditions as the parser makes them."""
    body: dict[str, Json] = {"name": draw(st.sampled_from(["e", "f"]))}
    if draw(st.booleans()):
        body["within"] = {"last_s": draw(st.integers(1, 10**9) | st.floats(0.000001, 3e9))}
    elif draw(st.booleans()):
        moment = st.integers(-(10**10), 10**10) | st.floats(-1e10, 1e10)
        body["within"] = {draw(st.sampled_from(["from", "to"])): draw(moment)}
    if draw(st.booleans()):
        form = draw(st.sampled_from(["at_least", "at_most", "exactly"]))
        body["count"] = {form: draw(st.integers(0, 1000))}
    else:
        body["performed"] = draw(st.booleans())
    if draw(st.booleans()):
        body["where"] = to_json(cast("Condition", draw(wheres)))
    condition = parse({"event": body})
    assert isinstance(condition, EventTest)
    return condition


@given(trees(attribute_tests() | event_tests()))
def test_printing_and_reading_keeps_every_condition(condition: Condition) -> None:
    """parse(to_json(c)) == c, to the microsecond and the byte, also through JSON text."""
    text = msgspec.json.encode(to_json(condition))
    assert parse(cast("Json", msgspec.json.decode(text))) == condition


@given(st.integers(1, 3_155_760_000 * SECOND_US))
def test_every_window_survives_printing(last_us: int) -> None:
    """A window of any number of microseconds is the same after printing and reading."""
    condition = EventTest("e", window=Last(last_us))
    assert parse(to_json(condition)) == condition


@given(trees(attribute_tests()), st.lists(st.tuples(moments_us, documents), min_size=1, max_size=4), moments_us)
def test_the_next_change_of_the_oracle_is_the_first(
    condition: Condition, writes: list[tuple[int, dict[str, Json]]], at_us: int
) -> None:
    """What the oracle foretells it also says: the same until then, different at it."""
    history = oracle.PersonHistory(
        person=1, identifiers={}, events=[], writes=writes, exists_since_us=min(time_us for time_us, _ in writes)
    )
    now = oracle.member(condition, history, at_us, {})
    change_us = oracle.next_change(condition, history, at_us, {})
    if change_us is None:
        assert oracle.member(condition, history, at_us + 10**15, {}) == now
    else:
        assert oracle.member(condition, history, change_us - 1, {}) == now
        assert oracle.member(condition, history, change_us, {}) != now
