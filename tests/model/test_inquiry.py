"""Questions about the past against the oracle: counts over time, as it was known then, explanations, intervals."""

import tempfile
from pathlib import Path
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core import oracle
from backstory.core.condition import Condition, Json, to_json
from backstory.core.fact import Fact, Identifier, Identify, Track
from backstory.core.time import SECOND_US
from backstory.engine.answer import inquiry
from backstory.engine.backfill import backfill
from backstory.engine.file.options import BackfillOptions
from backstory.store.people import cio_id_of
from tests.hunt import examples
from tests.live import Live
from tests.model.imported import json_lines
from tests.model.naive import Naive
from tests.model.strategy import KINDS, NAMES, NOW_US, attributes, conditions, encoded, event_data, past_us

people = st.sampled_from(("ann", "bob"))
Told = tuple[str, str, str, int, dict[str, Json]]
told = st.one_of(
    st.tuples(people, st.sampled_from(KINDS), st.sampled_from(NAMES), past_us, event_data),
    st.tuples(people, st.just("write"), st.just(""), past_us, attributes),
)
moments = st.lists(past_us.map(lambda age_us: NOW_US - age_us), min_size=1, max_size=5, unique=True).map(sorted)


def fact(one: Told) -> Identify | Track:
    person, kind, name, age_us, body = one
    who = Identifier("id", person)
    if kind == "write":
        return Identify(person=who, attributes=encoded(body), time_us=NOW_US - age_us)
    return Track(person=who, name=name, kind=kind, data=encoded(body), time_us=NOW_US - age_us)  # pyright: ignore[reportArgumentType]


def tell(naive: Naive, one: Identify | Track, accept_us: int) -> None:
    if isinstance(one, Identify):
        naive.identify(one, accept_us)
    else:
        naive.track(one, accept_us)


@settings(max_examples=examples(40), deadline=None)
@given(
    condition=conditions((1,)), other=conditions(), facts=st.lists(told, max_size=8), points=moments,
    cut=st.integers(0, 8),
)  # fmt: skip
def test_the_past_is_what_the_oracle_says(
    condition: Condition, other: Condition, facts: list[Told], points: list[int], cut: int
) -> None:
    """Points of a history, members as known at a moment, explanations and intervals of everybody."""
    with tempfile.TemporaryDirectory() as folder:
        live, naive, then = Live(Path(folder) / "default"), Naive(), Naive()
        live.segment(to_json(other))
        naive.segments[1] = then.segments[1] = other
        known_at_us = live.now_us
        for number, one in enumerate(facts):
            accept_us = max(live.now_us, live.workspace.folder.state.now_us + 1)
            live.send(cast("Fact", fact(one)))
            tell(naive, fact(one), accept_us)
            if number < cut:
                tell(then, fact(one), accept_us)
                known_at_us = accept_us
        check(live, naive, then, condition, points, known_at_us if facts[:cut] else None)
        live.close()


@settings(max_examples=examples(25), deadline=None)
@given(condition=conditions((1,)), other=conditions(), facts=st.lists(told, max_size=8), points=moments)
def test_the_past_of_imports_is_what_the_oracle_says(
    condition: Condition, other: Condition, facts: list[Told], points: list[int]
) -> None:
    """The same where history lies in parts."""
    with tempfile.TemporaryDirectory() as folder:
        live, naive = Live(Path(folder) / "default"), Naive()
        live.segment(to_json(other))
        naive.segments[1] = other
        for kind in ("people", "events"):
            rows = [row(one) for one in facts if (one[1] == "write") == (kind == "people")]
            path = Path(folder) / f"{kind}.jsonl"
            path.write_bytes(json_lines(rows))
            if rows:
                backfill.run(live.workspace, BackfillOptions(kind=kind, paths=(str(path),)), lambda progress: None)  # pyright: ignore[reportArgumentType]
                for one in facts:
                    if (one[1] == "write") == (kind == "people"):
                        tell(naive, fact(one), live.now_us)
        check(live, naive, naive, condition, points, None)
        live.close()


def row(one: Told) -> dict[str, Json]:
    person, kind, name, age_us, body = one
    time_us = NOW_US - age_us
    whole, rest = divmod(time_us, SECOND_US)
    seconds: Json = whole if rest == 0 else f"{whole}.{rest:06}"
    if kind == "write":
        return {**body, "id": person, "_timestamp": seconds}
    return {"person": person, "id": person, "kind": kind, "name": name, "timestamp": seconds, "data": body}


def check(
    live: Live, naive: Naive, then: Naive, condition: Condition, points: list[int], known_at_us: int | None
) -> None:
    workspace, segments = live.workspace, naive.segments
    now_us = workspace.folder.state.now_us
    histories = [person.history() for person in naive.people]
    expected = [len(oracle.members(condition, histories, at_us, segments)) for at_us in points]
    assert inquiry.counts(workspace, condition, points, None) == expected
    if known_at_us is not None:
        known = [person.history() for person in then.people]
        for at_us in points:
            found = set(inquiry.preview(workspace, condition, at_us, known_at_us))
            assert found == oracle.members(condition, known, at_us, segments)
    segment_id = live.segment(to_json(condition))
    for history in histories:
        past = inquiry.past_of(workspace, history.person).get(segment_id, [])
        for at_us in points:
            member = oracle.member(condition, history, at_us, segments)
            found = workspace.reader.explain(
                "cio_id", cio_id_of(history.person), segment_id, as_of_us=at_us, known_at_us=None
            )
            assert found.member == member
            assert found.next_change_us == oracle.next_change(condition, history, at_us, segments)
            assert any(begin <= at_us and (end is None or at_us < end) for begin, end in past) == member
        present = workspace.reader.explain(
            "cio_id", cio_id_of(history.person), segment_id, as_of_us=None, known_at_us=None
        )
        assert present.member == (history.person in workspace.segments.segments[segment_id].members)
        assert present.at_us == max(now_us, workspace.folder.state.now_us)
