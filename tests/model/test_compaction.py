"""History rewritten while it is made: nobody can tell, whatever comes in between."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from backstory.core.time import DAY_US, SECOND_US
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions
from backstory.engine.verify import verify
from backstory.store.compaction import Sizes
from tests.hunt import examples
from tests.live import NOW_US, Live
from tests.model.imported import Row, bring_in, json_lines, written
from tests.model.test_engine import Life

# So small that a handful of facts is rewritten again and again.
SIZES = Sizes(tail_rows=2, move_rows=3, part_rows=12, run_rows=12)
SMALL = Chunking(
    bytes_max=400, event_rows_max=3, people_rows_max=3, blocks_from=0, block_rows_min=1, part_rows=4
)
PEOPLE = ("ann", "bob", "eve")
SEGMENTS: tuple[Any, ...] = (
    {"event": {"name": "bought", "count": {"at_least": 2}}},
    {"event": {"name": "bought", "within": {"last_s": 60}}},
    {"event": {"name": "seen", "performed": False, "within": {"last_s": 20}}},
    {"event": {"name": "bought", "where": {"attribute": {"field": "n", "operator": "gt", "value": 1}}}},
    {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
)


class Rewritten(Life):
    """The life of a workspace whose history is rewritten now and then."""

    @rule(tasks=st.integers(1, 4))
    def compact(self, tasks: int) -> None:
        """History moves into parts and into larger ones."""
        compactor = self.workspace.compactor
        compactor.sizes = SIZES
        for _ in range(tasks):
            before = {part.part_id for part in self.workspace.folder.history.parts}
            compactor.step()
            if not before <= {part.part_id for part in self.workspace.folder.history.parts}:
                # What replaces parts is synced before they are deleted: no power cut takes it back.
                self.snapshot = None


TestRewritten = Rewritten.TestCase
TestRewritten.settings = settings(
    max_examples=examples(8),
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
    deadline=None,
    report_multiple_bugs=False,
)

ages_s = st.sampled_from((0, 1, 19, 21, 59, 61, 90_000, -5))
events = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(PEOPLE),
        "name": st.sampled_from(("bought", "seen")),
        "data": st.fixed_dictionaries({"n": st.integers(0, 2)}),
    },
    optional={"age_s": ages_s, "event_id": st.sampled_from(("one", "two"))},
)
people = st.fixed_dictionaries({"id": st.sampled_from(PEOPLE), "plan": st.sampled_from(("free", "pro"))})
steps = st.one_of(
    st.tuples(st.just("event"), events),
    st.tuples(st.just("person"), people),
    st.tuples(st.just("events"), st.lists(events, min_size=1, max_size=8)),
    st.tuples(st.just("people"), st.lists(people, min_size=1, max_size=8)),
    st.tuples(st.just("wait"), st.sampled_from((1, 20, 60))),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("checkpoint"), st.none()),
)


@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=st.lists(st.tuples(steps, st.integers(0, 3)), min_size=3, max_size=14))
def test_reads_are_the_same_with_and_without(plan: list[tuple[tuple[str, Any], int]]) -> None:
    """Live facts, imports, restarts: whoever asks gets the same answers from rewritten history."""
    with tempfile.TemporaryDirectory(prefix="backstory-model-") as folder:
        root = Path(folder)
        plain, rewritten = Live(root / "plain"), Live(root / "rewritten")
        for live in (plain, rewritten):
            for condition in SEGMENTS:
                live.segment(condition)
        for number, ((kind, value), tasks) in enumerate(plan):
            answers = [act(live, root, number, kind, value) for live in (plain, rewritten)]
            assert answers[0] == answers[1]
            rewritten.workspace.compactor.sizes = SIZES
            for _ in range(tasks):
                rewritten.workspace.compactor.step()
            if tasks:
                assert reads(plain, number) == reads(rewritten, number)
        assert verify.run(rewritten.workspace, lambda line: None).ok
        named = {part.path for part in rewritten.workspace.folder.history.parts}
        named |= {run.run.path for run in rewritten.workspace.folder.keys.runs}
        assert {path.name for path in rewritten.workspace.folder.parts_path.iterdir()} == named
        plain.close()
        rewritten.close()


def act(live: Live, root: Path, number: int, kind: str, value: Any) -> object:
    """Do a step of the plan; returns what it said of it."""
    match kind:
        case "event":
            age_s = value.get("age_s")
            time_us = None if age_s is None else live.now_us - age_s * SECOND_US
            event_id = value.get("event_id")
            receipt = live.track(
                value["customer_id"], value["name"], time_us, event_id=event_id and f"{event_id:0<26}", **value["data"]
            )
            return receipt.result, receipt.reason
        case "person":
            return live.identify(value["id"], plan=value["plan"]).result
        case "events" | "people":
            rows = [row_of(row) for row in value]
            path = written(root, f"{number}.jsonl", json_lines(rows))
            options = BackfillOptions(kind=kind, paths=(path,), triggers="none")  # pyright: ignore[reportArgumentType]
            summary = bring_in(live, options, SMALL)
            return summary.created, summary.duplicate, summary.updated, summary.unchanged, summary.stale
        case "wait":
            live.advance(value * SECOND_US)
        case "crash":
            live.crash()
        case "restart":
            live.reopen()
        case _:
            live.workspace.loop.commit(live.workspace.applier.checkpoint_some)
    return None


def row_of(row: Row) -> Row:
    """A row of a file; its time counts from the beginning of the test, so that files repeat what others brought."""
    named = {name: one for name, one in row.items() if name != "age_s"}
    return {**named, "timestamp": NOW_US // SECOND_US - row["age_s"]} if "age_s" in row else named


def reads(live: Live, turn: int) -> object:
    """What can be asked about history; at each turn about another moment, and about another person's log."""
    reader = live.workspace.reader
    numbers = sorted(live.workspace.segments.segments)
    found = live.workspace.folder.history
    everybody = list(live.workspace.segments.alive)
    age_us = (SECOND_US, 40 * SECOND_US, 2 * DAY_US)[turn % 3]
    return {
        "members": [live.members(number) for number in numbers],
        "as of": [reader.member_count(number, live.now_us - age_us) for number in numbers],
        "log": [page(live, who, turn % 2 == 0) for who in (None, PEOPLE[turn % 3])],
        "events": sorted(found.events_of(everybody)),
        "writes": sorted(found.writes_of(everybody)),
        "since": sorted(set(found.people_since(live.now_us - 30 * SECOND_US))),
    }


def page(live: Live, who: str | None, everything: bool) -> object:
    """The whole log of a person, or of all, in pages of three."""
    shown: list[Any] = []
    cursor: str | None = None
    if who is not None and live.workspace.reader.person("id", who) is None:
        return None
    while cursor != "":
        views, cursor = live.workspace.reader.activities(
            "id" if who else None, who, types=None, name=None, deleted=False, before=cursor, limit=3,
            everything=everything,
        )
        # Inner numbers depend on when the rows of a chunk are told to segments, beside the writing of the next one.
        shown += [msgspec.structs.replace(view, id="") if view.import_id else view for view in views]
    return shown
