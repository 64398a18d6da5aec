"""Random conditions and facts for the model tests: few names, few values and few moments, so that they often meet."""

from typing import cast

import msgspec
from hypothesis import strategies as st

from backstory.core.condition import AttributeTest, Between, Condition, EventTest, InSegment, Json, Last, Where, parse
from backstory.core.time import SECOND_US
from tests.model.test_comparison import trees

NOW_S = 1_717_243_200
NOW_US = NOW_S * SECOND_US

NAMES = ("bought", "seen")
# Each stands for one of them, for both, or for neither.
PATTERNS = ("*", "b*", "*ee*", "s*x")
KINDS = ("event", "event", "event", "page")
# Windows that overlap each other and the ages of events below.
WINDOWS_S = (1, 5, 20, 60, 300)
AGES_S = (0, 1, 4, 5, 6, 19, 20, 21, 60, 61, 299, 300, 301, 90_000)

seconds = st.sampled_from(AGES_S)
# A microsecond to either side of a whole second: the edges of windows.
nudges_us = st.sampled_from((0, 0, 0, -1, 1))
past_us = st.builds(lambda age_s, nudge_us: max(age_s * SECOND_US + nudge_us, 0), seconds, nudges_us)


def encoded(value: Json) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def attribute_test(field: str, operator: str, value: Json = None) -> AttributeTest:
    """As the parser makes it."""
    body: dict[str, Json] = {"field": field, "operator": operator}
    if value is not None:
        body["value"] = value
    condition = parse({"attribute": body})
    assert isinstance(condition, AttributeTest)
    return condition


near_s = st.builds(lambda age_s, sign: NOW_S + sign * age_s, seconds, st.sampled_from((-1, 1)))
scalars = st.sampled_from(("a", "b", "A", "", 0, 1, 1.0, 2, "1", True, None, [1, 2], ["a"]))
attribute_values = st.one_of(scalars, near_s, st.dictionaries(st.sampled_from("xy"), scalars, max_size=2))
attributes = st.dictionaries(st.sampled_from(("p", "q", "q.x", "q.x.y", "q[]", "when")), attribute_values, max_size=3)
event_data = st.dictionaries(st.sampled_from(("n", "when")), st.one_of(scalars, near_s), max_size=2)

fields = st.sampled_from(("p", "q", "q.x", "q[]", "q.x.y", "when", "id", "email", "cio_id"))
attribute_tests = st.one_of(
    st.builds(attribute_test, fields, st.sampled_from(("exists", "!exists"))),
    st.builds(attribute_test, fields, st.sampled_from(("eq", "!eq", "gt", "le")), st.sampled_from((0, 1, 2, "1"))),
    st.builds(attribute_test, fields, st.sampled_from(("eq", "!eq")), st.sampled_from(("a", "B", "ann", True))),
    st.builds(
        attribute_test,
        st.sampled_from(("when", "p", "q.x")),
        st.sampled_from(("timestamp_gt", "timestamp_lt")),
        st.sampled_from((0, -5, 5, -60, 300)),
    ),
    st.builds(attribute_test, st.sampled_from(("when", "p")), st.sampled_from(("timestamp_gta",)), near_s),
)
wheres = cast(
    "st.SearchStrategy[Where]",
    trees(
        st.one_of(
            st.builds(attribute_test, st.just("n"), st.sampled_from(("eq", "!eq", "ge")), st.sampled_from((0, 1, 2))),
            st.builds(attribute_test, st.just("n"), st.sampled_from(("exists", "!exists"))),
            st.builds(
                attribute_test,
                st.just("when"),
                st.sampled_from(("timestamp_gt", "timestamp_lt")),
                st.sampled_from((0, -5, 5, 300)),
            ),
        )
    ),
)
lasts = st.sampled_from(WINDOWS_S).map(lambda last_s: Last(last_s * SECOND_US))
moments_us = near_s.map(lambda moment_s: moment_s * SECOND_US)
betweens = st.one_of(
    st.builds(Between, moments_us, st.none()),
    st.builds(Between, st.none(), moments_us),
    st.builds(lambda a, b: Between(min(a, b), max(a, b) + 1), moments_us, moments_us),
)
windows = st.one_of(st.none(), lasts, lasts, betweens)


@st.composite
def event_tests(draw: st.DrawFn, *, where: bool = True) -> EventTest:
    """An event test as the parser makes it: a count, or (not) performed."""
    form = draw(st.sampled_from(("performed", "not performed", "least", "most", "exactly", "between")))
    low, high = sorted((draw(st.integers(0, 3)), draw(st.integers(0, 3))))
    at_least, at_most = {
        "least": (high, None),
        "most": (0, high),
        "exactly": (high, high),
        "between": (low, high),
    }.get(form, (1, None))
    return EventTest(
        name=draw(st.sampled_from((*NAMES, *NAMES, *PATTERNS))),
        kind=draw(st.sampled_from(KINDS)),
        performed=form != "not performed",
        at_least=at_least,
        at_most=at_most,
        where=draw(st.one_of(st.none(), wheres)) if where else None,
        window=draw(windows),
    )


def conditions(segment_ids: tuple[int, ...] = ()) -> st.SearchStrategy[Condition]:
    """Trees over events, attributes and these segments."""
    leaves: list[st.SearchStrategy[Condition]] = [event_tests(), event_tests(), attribute_tests]
    if segment_ids:
        leaves.append(st.sampled_from(segment_ids).map(InSegment))
    return trees(st.one_of(leaves))
