"""Attribute tests against values: what matches, what is missing, and when the clock changes it."""

import pytest

from backstory.core.comparison import holds, next_change_us, read_path, where_holds
from backstory.core.condition import And, AttributeTest, EventTest, InSegment, Json, Not, Where, parse, parse_where
from backstory.core.error import InvariantError
from backstory.core.time import SECOND_US

NOON_S = 1_717_243_200
NOON_US = NOON_S * SECOND_US


def read_test(operator: str, *values: Json) -> AttributeTest:
    """A test as the parser makes it."""
    body: dict[str, Json] = {"field": "x", "operator": operator}
    body.update(zip(("value", "value2"), values, strict=False))
    condition = parse({"attribute": body})
    assert isinstance(condition, AttributeTest)
    return condition


def passes(operator: str, operand: Json, value: Json) -> bool:
    """Does one value pass?"""
    operands = [] if operand is None else [operand]
    return holds(read_test(operator, *operands), [value], NOON_US)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("plan", ["pro"]),
        ("none", []),
        ("empty", [""]),
        ("null", []),
        ("address.city", ["Oslo"]),
        ("address.zip", []),
        ("address.city.name", []),
        ("dotted.name", ["exact"]),
        ("tags", [["a", None, "b"]]),
        ("tags[]", ["a", "b"]),
        ("tags[0]", ["a"]),
        ("tags[1]", []),
        ("tags[2]", ["b"]),
        ("tags[3]", []),
        ("tags.0", []),
        ("plan[]", []),
        ("plan[0]", []),
        ("address[]", []),
        ("orders[].sku", ["A", "B"]),
        ("orders[1].sku", ["B"]),
        ("orders[].lines[].n", [1, 2]),
        ("grid[0][]", [1, 2]),
        ("grid[][1]", [2, 4]),
        ("grid[1][0]", [3]),
        ("odd[", ["bracket"]),
        ("address..city", []),
        ("tags[-1]", []),
        ("tags[x]", []),
        ("[]", []),
        ("[0].plan", []),
        (".plan", []),
    ],
)
def test_a_path_finds_its_values(field: str, values: list[Json]) -> None:
    """The exact key comes first, then a.b, a[] and a[0]; nulls and what is not there are missing."""
    document: dict[str, Json] = {
        "plan": "pro",
        "empty": "",
        "null": None,
        "address": {"city": "Oslo"},
        "dotted.name": "exact",
        "dotted": {"name": "nested"},
        "tags": ["a", None, "b"],
        "orders": [{"sku": "A", "lines": [{"n": 1}]}, {"sku": "B", "lines": [{"n": 2}, {"m": 3}]}, 5],
        "grid": [[1, 2], [3, 4]],
        "odd[": "bracket",
    }
    assert read_path(document, field) == values


PASSES: list[tuple[str, Json, list[Json], list[Json]]] = [
    ("exists", None, ["a", 0, False, [], {}], ["", None]),
    ("eq", "Straße", ["straße", "STRASSE"], ["strasze", "straße ", 1, None, ["Straße"]]),
    ("eq", "5", ["5", 5, 5.0], ["5.0", "05", 6, True]),
    ("eq", 5, [5, 5.0, "5", "5.0", "05", "+5"], ["5 ", "five", "5e0", "", True, [5]]),
    ("eq", 23.45, [23.45, "23.45", "23.450"], ["23.46", 23.450001]),
    ("eq", True, [True, "true", "TRUE"], [False, 1, "1", "yes", 1.0]),
    ("eq", False, [False, "False"], [True, 0, "", "0"]),
    ("eq", "true", [True, "True"], [False, 1]),
    ("eq", 1, [1, "1"], [True, "true"]),
    ("eq", 9007199254740993, [9007199254740993, "9007199254740993"], [9007199254740992, 9007199254740992.0]),
    ("in", ["pro", 5, True], ["PRO", 5, "5.0", True, "TRUE"], ["free", 6, False, 1, "1", ["pro"]]),
    ("in", ["5", "false"], [5, "5", False, "FALSE"], ["5.0", True, 0]),
    ("contains", "BAK", ["The Bakery", "bak"], ["shop", 5, ["bak"], {"bak": 1}]),
    ("contains", "3.4", [23.45, "23.45"], [2345]),
    ("starts_with", "75", ["75001", 75001], ["0750", 57, [75]]),
    ("starts_with", "tr", [True, "Tree"], [False]),
    ("ends_with", "@X.org", ["a@x.ORG"], ["a@x.org.uk"]),
    ("gt", 5, [6, 5.1, "5.1", 10**400], [5, "5", "five", True, None, [6]]),
    ("gt", 0, [1], [True]),
    ("lt", "5", [4, "4.99", -1, "-1"], [5, "5.0", "1e0", "½"]),
    ("ge", 5, [5, "5.0", 6], [4.999, "4"]),
    ("le", 5, [5, "5.0", 4], [5.001, "6"]),
    ("is_timestamp", None, [0, NOON_S, 0.5, "0", f"{NOON_S}.5", 4102444800, 99_999_999_999],
     [-1, 10**11, NOON_S * 1000, "2024-06-01T12:00:00Z", "", True, [NOON_S], "soon"]),
    ("timestamp_gt", 0, [NOON_S + 1, NOON_S + 0.000001], [NOON_S, NOON_S * 1000, "2030-01-01T00:00:00Z"]),
    ("timestamp_gt", -3600, [NOON_S - 3599], [NOON_S - 3600, 0]),
    ("timestamp_lt", 0, [NOON_S - 1, 0, NOON_S - 0.000001], [NOON_S, -5]),
    ("timestamp_lt", 3600, [NOON_S + 3599.999999], [NOON_S + 3600]),
    ("timestamp_gta", NOON_S, [NOON_S + 0.5], [NOON_S, NOON_S - 1, NOON_S * 1000]),
    ("timestamp_lta", NOON_S, [NOON_S - 0.5, 0], [NOON_S, -1]),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "operand", "yes", "no"), PASSES)
def test_what_passes(operator: str, operand: Json, yes: list[Json], no: list[Json]) -> None:
    """Each operator takes the values it should and no other; its negation takes exactly the others."""
    assert [value for value in yes if not passes(operator, operand, value)] == []
    assert [value for value in no if passes(operator, operand, value)] == []


@pytest.mark.parametrize("operator", ["exists", "eq", "in", "contains", "starts_with", "ends_with", "is_timestamp"])
@pytest.mark.parametrize("values", [[], [None], [""], ["a"], ["b", "a"], [NOON_S], [["a"]]])
def test_a_negated_operator_is_not_the_operator(operator: str, values: list[Json]) -> None:
    """"!op" holds exactly when "op" does not, also when everything is missing."""
    operands: dict[str, list[Json]] = {"exists": [], "is_timestamp": [], "in": [["a"]]}
    negated, plain = (read_test(name, *operands.get(operator, ["a"])) for name in (f"!{operator}", operator))
    assert holds(negated, values, NOON_US) is not holds(plain, values, NOON_US)


def test_two_bounds_are_both_inside() -> None:
    """bw and timestamp_bw take their bounds in."""
    numbers = [4.999, 5, "6.5", 7, 7.001]
    assert [holds(read_test("bw", 5, 7), [value], NOON_US) for value in numbers] == [False, True, True, True, False]
    times = [9.999999, 10, "15", 20, 20.000001]
    found = [holds(read_test("timestamp_bw", 10, 20), [value], NOON_US) for value in times]
    assert found == [False, True, True, True, False]


def test_of_many_values_any_may_match() -> None:
    """One matching item is enough; for a negation one matching item is too many."""
    assert holds(read_test("eq", "a"), ["b", None, "A"], NOON_US)
    assert not holds(read_test("!eq", "a"), ["b", None, "A"], NOON_US)
    assert holds(read_test("!eq", "a"), ["b", None], NOON_US)


@pytest.mark.parametrize(
    ("operator", "offset", "values", "change_us"),
    [
        # After two hours ago: true until the value is two hours old, false at that very moment.
        ("timestamp_gt", -7200, [NOON_S], NOON_US + 7200 * SECOND_US),
        ("timestamp_gt", 3600, [NOON_S + 3601], NOON_US + SECOND_US),
        ("timestamp_gt", 3600, [NOON_S + 3600], None),
        ("timestamp_gt", 0, [NOON_S - 5, NOON_S + 7, "1717243203"], NOON_US + 7 * SECOND_US),
        # Before an hour from now: false until an hour is left, true one microsecond later.
        ("timestamp_lt", 3600, [NOON_S + 3600], NOON_US + 1),
        ("timestamp_lt", 3600, [NOON_S + 7200], NOON_US + 3600 * SECOND_US + 1),
        ("timestamp_lt", 3600, [NOON_S + 7200, NOON_S + 7300], NOON_US + 3600 * SECOND_US + 1),
        ("timestamp_lt", 3600, [NOON_S + 3599.999999], None),
        ("timestamp_lt", -0.5, [NOON_S], NOON_US + 500_001),
        ("timestamp_gt", 0, [None, "soon", NOON_S * 1000, -5, True], None),
        ("timestamp_lt", 0, [], None),
        ("timestamp_gta", NOON_S, [NOON_S + 5], None),
        ("is_timestamp", None, [NOON_S + 5], None),
        ("eq", 5, [5], None),
    ],
)
def test_the_next_change_is_exact(operator: str, offset: Json, values: list[Json], change_us: int | None) -> None:
    """The first microsecond at which the truth differs is foretold; None when the clock changes nothing."""
    test = read_test(operator, *([] if offset is None else [offset]))
    assert next_change_us(test, values, NOON_US) == change_us
    if change_us is not None:
        now = holds(test, values, NOON_US)
        assert holds(test, values, change_us - 1) is now
        assert holds(test, values, change_us) is not now
        assert next_change_us(test, values, change_us) is None


def where(value: Json) -> Where:
    return parse_where(value, path="$.where")


def test_where_is_plain_logic_over_event_data() -> None:
    """and, or and not over tests of the data; a missing property passes only negations."""
    tree = where({"and": [
        {"or": [
            {"attribute": {"field": "price", "operator": "gt", "value": 100}},
            {"attribute": {"field": "vip", "operator": "eq", "value": True}},
        ]},
        {"not": {"attribute": {"field": "items[].sku", "operator": "eq", "value": "gift"}}},
    ]})  # fmt: skip
    assert where_holds(tree, {"price": "101"}, NOON_US)
    assert where_holds(tree, {"vip": "true", "items": [{"sku": "A"}]}, NOON_US)
    assert not where_holds(tree, {"price": 101, "items": [{"sku": "A"}, {"sku": "GIFT"}]}, NOON_US)
    assert not where_holds(tree, {}, NOON_US)


def test_where_takes_the_moment_given() -> None:
    """A relative timestamp is judged as of the moment passed, for an event its own time."""
    tree = where({"attribute": {"field": "arrives", "operator": "timestamp_lt", "value": 60}})
    assert where_holds(tree, {"arrives": NOON_S + 59}, NOON_US)
    assert not where_holds(tree, {"arrives": NOON_S + 59}, NOON_US - 2 * SECOND_US)


def test_what_was_never_checked_is_our_own_mistake() -> None:
    """Trees that no parser would make are refused loudly."""
    with pytest.raises(InvariantError):
        holds(AttributeTest("x", "gt", b'"five"'), [5], NOON_US)
    with pytest.raises(InvariantError):
        holds(AttributeTest("x", "resembles", b"5"), [5], NOON_US)
    for inside in (InSegment(7), EventTest("purchased")):
        with pytest.raises(InvariantError):
            where_holds(And((Not(inside),)), {}, NOON_US)
