"""Reading and printing conditions: every form, every mistake with its path, every limit."""

import json
import re
from pathlib import Path
from typing import cast

import pytest

from backstory.core import comparison, limit, oracle
from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    ConditionError,
    EventTest,
    InSegment,
    Json,
    Last,
    Not,
    Or,
    attributes_in,
    events_in,
    parse,
    parse_where,
    segments_in,
    to_json,
)
from backstory.core.error import RequestError
from backstory.core.operand import OPERATORS
from backstory.core.time import SECOND_US
from tools import operators

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "conditions.md"
EXAMPLES = cast("list[Json]", [
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
])
PRO: Json = {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}}
IS_PRO = AttributeTest("plan", "eq", b'"pro"')


def attribute(operator: str, *values: Json) -> Json:
    """A test of the field ``x``."""
    test: dict[str, Json] = {"field": "x", "operator": operator}
    test.update(zip(("value", "value2"), values, strict=False))
    return {"attribute": test}


def event(**more: Json) -> Json:
    """A condition over the event ``purchased``."""
    return {"event": {"name": "purchased", **more}}


def refused(value: Json, **options: str) -> ConditionError:
    """The error with which a condition is refused."""
    with pytest.raises(ConditionError) as caught:
        parse(value, **options)
    return caught.value


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        (PRO, IS_PRO),
        ({"and": [PRO, {"segment": {"id": 7}}]}, And((IS_PRO, InSegment(7)))),
        ({"or": [PRO]}, Or((IS_PRO,))),
        ({"not": PRO}, Not(IS_PRO)),
        (event(), EventTest("purchased")),
        (event(kind="page", performed=True), EventTest("purchased", kind="page")),
        (event(performed=False), EventTest("purchased", performed=False)),
        (event(count={"at_least": 3}), EventTest("purchased", at_least=3)),
        (event(count={"at_most": 3}), EventTest("purchased", at_least=0, at_most=3)),
        (event(count={"exactly": 3}), EventTest("purchased", at_least=3, at_most=3)),
        (event(count={"exactly": 0}), EventTest("purchased", at_least=0, at_most=0)),
        (event(count={"between": [2, 5]}), EventTest("purchased", at_least=2, at_most=5)),
        (event(within={"last_s": 3}), EventTest("purchased", window=Last(3_000_000))),
        (event(within={"last_s": 0.25}), EventTest("purchased", window=Last(250_000))),
        (event(within={"from": 10, "to": 20.5}), EventTest("purchased", window=Between(10_000_000, 20_500_000))),
        (event(within={"from": "1970-01-01T00:00:10Z"}), EventTest("purchased", window=Between(10_000_000, None))),
        (event(within={"to": "20"}), EventTest("purchased", window=Between(None, 20_000_000))),
        (event(where=PRO), EventTest("purchased", where=IS_PRO)),
        (event(where={"not": {"or": [PRO]}}), EventTest("purchased", where=Not(Or((IS_PRO,))))),
        (event(where=None, within=None, count=None, kind=None, performed=None), EventTest("purchased")),
        ({"event": {"name": " purchased "}}, EventTest("purchased")),
        (attribute("bw", 1, 2), AttributeTest("x", "bw", b"1", b"2")),
        (attribute("bw", [1, 2]), AttributeTest("x", "bw", b"1", b"2")),
        (attribute("gt", "23.45"), AttributeTest("x", "gt", b"23.45")),
        (attribute("gt", 5.0), AttributeTest("x", "gt", b"5")),
        (attribute("eq", "5.0"), AttributeTest("x", "eq", b'"5.0"')),
        (attribute("in", ["a", 1, True]), AttributeTest("x", "in", b'["a",1,true]')),
        (attribute("exists"), AttributeTest("x", "exists")),
        (attribute("timestamp_gta", "1970-01-01T00:00:10.5Z"), AttributeTest("x", "timestamp_gta", b"10.5")),
    ],
)
def test_each_form_is_read(value: Json, condition: Condition) -> None:
    """Every form of the language becomes its node, defaults filled in and operands in one form."""
    assert parse(value) == condition


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        ({"attribute": {"field": "plan", "operator": "eq", "value": "pro", "inverse": True}}, Not(IS_PRO)),
        ({"attribute": {"field": "plan", "operator": "eq", "value": "pro", "inverse": False}}, IS_PRO),
        ({"segment": {"id": 7, "inverse": True}}, Not(InSegment(7))),
        (event(inverse=True), Not(EventTest("purchased"))),
        (event(inverse=True, performed=False), Not(EventTest("purchased", performed=False))),
    ],
)
def test_inverse_inside_a_test_is_not(value: Json, condition: Condition) -> None:
    """The original's "inverse" inside a wrapped node is not(...)."""
    assert parse(value) == condition


@pytest.mark.parametrize("value", [None, "", True])
def test_the_published_filter_may_carry_a_value_beside_exists(value: Json) -> None:
    """The public Filter shape is read as it is: a value beside exists says nothing."""
    assert parse({"attribute": {"field": "x", "operator": "exists", "value": value}}) == AttributeTest("x", "exists")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_document_is_read(example: Json) -> None:
    """Each JSON block of docs/conditions.md parses, prints, and parses again to the same."""
    condition = parse(example)
    assert parse(to_json(condition)) == condition


@pytest.mark.parametrize("example", operators.EXAMPLES, ids=lambda example: example.operator)
def test_the_table_of_operators_says_what_is_so(example: operators.Example) -> None:
    """The fast code and the oracle say of each value what the table says."""
    test = parse(example.condition)
    assert isinstance(test, AttributeTest)
    now_us = operators.NOW_S * SECOND_US
    cases = [(value, True) for value in example.holds] + [(value, False) for value in example.fails]
    for value, expected in cases:
        values: dict[str, Json] = {} if value == operators.MISSING else {"x": value}
        history = oracle.PersonHistory(
            person=0, identifiers={}, events=[], writes=[(0, values)], exists_since_us=0
        )
        assert comparison.holds(test, comparison.read_path(values, "x"), now_us) == expected, value
        assert oracle.member(test, history, now_us, {}) == expected, value


def test_the_table_has_every_operator() -> None:
    """Each operator once."""
    assert sorted(example.operator for example in operators.EXAMPLES) == sorted(OPERATORS)


def test_the_document_has_an_example_of_every_operator() -> None:
    """Each operator and each form of count stands in docs/conditions.md."""
    text = json.dumps(EXAMPLES)
    assert not [operator for operator in OPERATORS if f'"operator": "{operator}"' not in text]
    assert not [form for form in ("at_least", "at_most", "exactly", "between", "last_s") if f'"{form}"' not in text]


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (event(kind="event", performed=True, count={"at_least": 1}), event()),
        (event(count={"between": [3, 3]}), event(count={"exactly": 3})),
        (event(count={"between": [0, 3]}), event(count={"at_most": 3})),
        (event(count={"at_least": 0}), event(count={"at_least": 0})),
        (event(within={"from": "1970-01-01T00:00:10.5Z"}), event(within={"from": 10.5})),
        (event(within={"last_s": 3.0}), event(within={"last_s": 3})),
        (attribute("bw", ["1", 2.5]), attribute("bw", 1, 2.5)),
        (attribute("exists", ""), attribute("exists")),
        (event(inverse=True), {"not": event()}),
    ],
)
def test_there_is_one_printed_form(value: Json, printed: Json) -> None:
    """Whatever was written, the canonical form is printed, without defaults."""
    assert to_json(parse(value)) == printed


@pytest.mark.parametrize("moment_us", [1, 1_717_243_200_123_457, -1, 99_999_999_999_999_999, 253_402_300_799_999_999])
def test_moments_survive_printing_to_the_microsecond(moment_us: int) -> None:
    """Where a number could not be read as the same moment, ISO 8601 is printed."""
    condition = EventTest("purchased", window=Between(moment_us, None))
    assert parse(to_json(condition)) == condition


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (None, "", "exactly one of the keys"),
        ([], "", "exactly one of the keys"),
        ({}, "", "exactly one of the keys"),
        ({"and": [PRO], "or": [PRO]}, "", "exactly one of the keys"),
        ({"field": "plan", "operator": "eq", "value": "pro"}, "", 'did you mean {"attribute": …}?'),
        ({"evnt": {}}, "", 'did you mean "event"?'),
        ({"message": {"metric": "open"}}, ".message.metric", 'did you mean "opened"?'),
        ({"message": {}}, ".message.metric", "null is not a metric of messages"),
        ({"message": {"metric": "sent", "chanel": "email"}}, ".message", 'did you mean "channel"?'),
        ({"message": {"metric": "sent", "channel": "mail"}}, ".message.channel", 'did you mean "email"?'),
        ({"message": {"metric": "sent", "campaign_id": "3"}}, ".message.campaign_id", "expected a number of one"),
        ({"message": {"metric": "sent", "performed": False, "count": {"at_least": 2}}}, ".message.count", "no count"),
        ({"and": []}, ".and", "one or more conditions, found []"),
        ({"or": PRO}, ".or", "one or more conditions"),
        ({"not": [PRO]}, ".not", "takes one condition, not a list"),
        ({"and": [PRO, {"or": [PRO, 5]}]}, ".and[1].or[1]", "found 5"),
        ({"segment": 7}, ".segment", "expected an object with the keys id, inverse"),
        ({"segment": {"id": "7"}}, ".segment.id", 'expected the number of a segment, found "7"'),
        ({"segment": {"id": True}}, ".segment.id", "found true"),
        ({"segment": {"id": 7, "inverse": 1}}, ".segment.inverse", "expected true or false, found 1"),
        ({"attribute": {"operator": "exists"}}, ".attribute.field", 'expected "field" as text, found null'),
        ({"attribute": {"field": " ", "operator": "exists"}}, ".attribute.field", 'expected "field" as text'),
        ({"attribute": {"field": "x", "operater": "eq"}}, ".attribute", 'did you mean "operator"?'),
        ({"attribute": {"field": "x"}}, ".attribute.operator", "null is not an operator; expected one of: eq"),
        (attribute("containz", "a"), ".attribute.operator", 'did you mean "contains"?'),
        (attribute("timestamp_after", 1), ".attribute.operator", "did you mean"),
        (attribute("EQ", 1), ".attribute.operator", 'did you mean "eq"?'),
        (attribute("gte", 1), ".attribute.operator", 'did you mean "ge"?'),
        (attribute("not_in", [1]), ".attribute.operator", 'did you mean "!in"?'),
        (attribute("!gt", 1), ".attribute.operator", 'put "gt" inside {"not": …}'),
        ({"event": {"name": ""}}, ".event.name", 'expected "name" as text, found ""'),
        ({"event": {"name": 5}}, ".event.name", "found 5"),
        ({"event": "purchased"}, ".event", "expected an object"),
        (event(kind="pages"), ".event.kind", 'did you mean "page"?'),
        (event(performed="no"), ".event.performed", "expected true or false"),
        (event(performed=False, count={"at_least": 1}), ".event.count", "takes no count"),
        (event(cuont={"at_least": 1}), ".event", 'did you mean "count"?'),
        (event(count=3), ".event.count", "expected an object"),
        (event(count={}), ".event.count", "exactly one of at_least, at_most, exactly, between"),
        (event(count={"at_least": 1, "at_most": 2}), ".event.count", "exactly one of"),
        (event(count={"atleast": 1}), ".event.count", 'did you mean "at_least"?'),
        (event(count={"at_least": -1}), ".event.count.at_least", "whole number of times from 0, found -1"),
        (event(count={"at_least": 1.5}), ".event.count.at_least", "found 1.5"),
        (event(count={"at_least": True}), ".event.count.at_least", "found true"),
        (event(count={"between": [1]}), ".event.count.between", "two whole numbers"),
        (event(count={"between": [1, "2"]}), ".event.count.between[1]", 'found "2"'),
        (event(count={"between": [5, 2]}), ".event.count.between", "the lower bound 5 lies above the upper bound 2"),
        (event(within=30), ".event.within", "expected an object"),
        (event(within={}), ".event.within", 'either "last_s" or "from" and "to"'),
        (event(within={"from": None}), ".event.within", 'either "last_s" or "from" and "to"'),
        (event(within={"last_s": 3, "from": 1}), ".event.within", 'either "last_s" or'),
        (event(within={"last": 3}), ".event.within", 'did you mean "last_s"?'),
        (event(within={"last_s": 0}), ".event.within.last_s", "more than 0 seconds"),
        (event(within={"last_s": -5}), ".event.within.last_s", "more than 0 seconds"),
        (event(within={"last_s": "soon"}), ".event.within.last_s", 'expected a number, found "soon"'),
        (event(within={"from": 20, "to": 20}), ".event.within", '"from" must lie before "to"'),
        (event(within={"from": "yesterday"}), ".event.within.from", "unix seconds or ISO 8601"),
        (event(within={"to": True}), ".event.within.to", "unix seconds or ISO 8601"),
        (event(within={"to": 1717243200000}), ".event.within.to", "did you mean 1717243200 (seconds)?"),
        (event(where=[PRO]), ".event.where", "exactly one of the keys and, or, not, attribute"),
        (event(where={}), ".event.where", "exactly one of the keys"),
        (event(where={"segment": {"id": 7}}), ".event.where.segment", "cannot stand inside where"),
        (event(where={"and": [event()]}), ".event.where.and[0].event", "cannot stand inside where"),
        (event(where={"and": [attribute("gt", "a")]}), ".event.where.and[0].attribute.value", 'found "a"'),
    ],
)
def test_a_mistake_is_told_with_its_path(value: Json, path: str, message: str) -> None:
    """Every mistake names where it is, what was expected or found, and what was probably meant."""
    error = refused(value)
    assert error.path == f"$.conditions{path}"
    assert message in error.message
    assert isinstance(error, RequestError)


WRONG_OPERANDS: list[tuple[str, list[Json], str, str]] = [
    ("eq", [], ".value", "found null; to ask for a missing value"),
    ("eq", [""], ".value", '"!exists"'),
    ("eq", [["a"]], ".value", 'found ["a"]'),
    ("eq", [{"a": 1}], ".value", 'found {"a":1}'),
    ("eq", [float("inf")], ".value", "expected a number"),
    ("eq", ["a", "b"], ".value2", "only bw and timestamp_bw take a second value"),
    ("exists", ["x"], ".value", "exists takes no value"),
    ("exists", [False], ".value", "exists takes no value, found false"),
    ("exists", [1], ".value", "exists takes no value, found 1"),
    ("is_timestamp", [5], ".value", "is_timestamp takes no value"),
    ("contains", [""], ".value", "contains takes a text"),
    ("starts_with", [5], ".value", "starts_with takes a text, found 5"),
    ("!ends_with", [None], ".value", "!ends_with takes a text, found null"),
    ("gt", ["five"], ".value", 'expected a number, found "five"'),
    ("gt", [True], ".value", "expected a number, found true"),
    ("le", [None], ".value", "expected a number"),
    ("lt", ["1e5"], ".value", "expected a number"),
    ("ge", [float("nan")], ".value", "expected a number"),
    ("in", ["a"], ".value", "a list of one or more values"),
    ("in", [[]], ".value", "a list of one or more values"),
    ("!in", [["a", None]], ".value[1]", "found null"),
    ("in", [["a", ["b"]]], ".value[1]", 'found ["b"]'),
    ("bw", [1], ".value", '"value" and "value2"'),
    ("bw", [[1, 2, 3]], ".value", '"value" as a list of two'),
    ("bw", [[1, 2], 3], ".value", '"value" and "value2"'),
    ("bw", [1, "x"], ".value2", 'found "x"'),
    ("bw", [[1, "x"]], ".value[1]", 'found "x"'),
    ("bw", [3, 2], ".value", "lies above"),
    ("timestamp_gt", ["2024-01-01T00:00:00Z"], ".value", "expected a number"),
    ("timestamp_lt", [-3_155_760_001], ".value", "a hundred years"),
    ("timestamp_gta", [1717243200000], ".value", "did you mean 1717243200 (seconds)?"),
    ("timestamp_gta", ["2024-01-01"], ".value", "ISO 8601 with a zone"),
    ("timestamp_lta", ["9000-01-01T00:00:00Z"], ".value", "behind every timestamp"),
    ("timestamp_bw", [20, 10], ".value", "lies above"),
    ("timestamp_bw", [10], ".value", '"value" and "value2"'),
]


@pytest.mark.parametrize(("operator", "values", "path", "message"), WRONG_OPERANDS)
def test_each_operator_checks_its_values(operator: str, values: list[Json], path: str, message: str) -> None:
    """An operand of the wrong type is refused where it stands."""
    error = refused(attribute(operator, *values))
    assert error.path == f"$.conditions.attribute{path}"
    assert message in error.message


def test_the_path_begins_where_the_caller_says() -> None:
    """A filter inside a campaign is told with the campaign's path."""
    assert refused({"and": [1]}, path="$.campaign.filter").path == "$.campaign.filter.and[0]"
    with pytest.raises(ConditionError) as caught:
        parse_where({"or": [{"segment": {"id": 1}}]}, path="$.campaign.trigger.event.where")
    assert caught.value.path == "$.campaign.trigger.event.where.or[0].segment"


def test_long_values_are_cut_in_messages() -> None:
    """A message stays readable when a megabyte was sent, and tells of text that is none."""
    assert len(refused(attribute("gt", "a" * 10_000)).message) < 200
    assert "not valid Unicode" in refused(attribute("eq", "\ud800")).message
    assert "not a condition" in refused({"\ud800": 1}).message


def nested(depth: int) -> Json:
    """A tree of so many levels."""
    value: Json = PRO
    for _ in range(depth - 1):
        value = {"not": value}
    return value


def test_depth_has_a_limit() -> None:
    """A tree of the allowed depth is read, one level more is refused; where counts on."""
    most = limit.CONDITION_DEPTH.value
    parse(nested(most))
    assert "nested deeper" in refused(nested(most + 1)).message
    parse(event(where=nested(most - 1)))
    assert "nested deeper" in refused(event(where=nested(most))).message


def test_nodes_have_a_limit() -> None:
    """A tree of the allowed size is read, one node more is refused; where counts too."""
    most = limit.CONDITION_NODES.value
    parse({"and": [PRO] * (most - 1)})
    error = refused({"and": [PRO] * most})
    assert error.path == f"$.conditions.and[{most - 1}]"
    assert "more than 200 nodes" in error.message
    parse(event(where={"or": [PRO] * (most - 2)}))
    refused(event(where={"or": [PRO] * (most - 1)}))


def test_counts_windows_lists_and_text_have_limits() -> None:
    """Each limit is tried at its edge and one past it."""
    times, window = limit.CONDITION_COUNT.value, limit.CONDITION_WINDOW_S.value
    values, size = limit.CONDITION_VALUES.value, limit.CONDITION_TEXT_BYTES.value
    edges: list[tuple[Json, Json]] = [
        (event(count={"exactly": times}), event(count={"exactly": times + 1})),
        (event(within={"last_s": window}), event(within={"last_s": window + 0.5})),
        (attribute("timestamp_gt", -window), attribute("timestamp_gt", -window - 1)),
        (attribute("in", list(range(values))), attribute("in", list(range(values + 1)))),
        (attribute("eq", "a" * size), attribute("eq", "a" * (size + 1))),
        (attribute("contains", "ä" * (size // 2)), attribute("contains", "ä" * (size // 2 + 1))),
        ({"event": {"name": "a" * size}}, {"event": {"name": "a" * (size + 1)}}),
    ]
    for at, past in edges:
        parse(at)
        assert "longer than" in refused(past).message or "greater than" in refused(past).message


def test_equal_tests_are_one_leaf() -> None:
    """Tests that mean the same are equal and hash alike, however they were written."""
    one = parse({"and": [attribute("bw", [1, 2]), event(count={"between": [2, 2]}, where=attribute("in", ["a"]))]})
    two = parse({"and": [attribute("bw", 1.0, "2"), event(count={"exactly": 2}, where=attribute("in", ["a"]))]})
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two, parse({"or": [PRO]}), parse({"and": [PRO]})}) == 3


def test_what_a_condition_reads_is_known() -> None:
    """Segments, attributes and events are found at any depth; fields inside where are event data, not attributes."""
    condition = parse({
        "or": [
            {"not": {"segment": {"id": 7}}},
            {"segment": {"id": 8}},
            {"and": [PRO, attribute("exists")]},
            event(kind="page", where={"attribute": {"field": "price", "operator": "gt", "value": 1}}),
            {"event": {"name": "visited", "performed": False}},
        ]
    })
    assert segments_in(condition) == {7, 8}
    assert attributes_in(condition) == {"plan", "x"}
    assert events_in(condition) == {("page", "purchased"), ("event", "visited")}
