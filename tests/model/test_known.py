"""What was known at a moment, against copies of the naive workspace taken then, over imports that went and came."""

import copy
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from backstory.core import oracle
from backstory.core.condition import Condition, parse, to_json
from backstory.core.error import ConflictError
from backstory.core.time import SECOND_US
from backstory.engine.answer import inquiry
from backstory.engine.file.options import BackfillOptions
from backstory.engine.undo import undo
from backstory.store.people import cio_id_of
from tests.hunt import examples
from tests.live import Live
from tests.model.imported import bring_in, json_lines, written
from tests.model.naive import Naive
from tests.model.strategy import NOW_US, conditions
from tests.model.test_inquiry import Told, fact, moments, row, tell, told

# ("call", what), ("import", what), ("undo" or "redo", which)
Step = tuple[str, Any]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), told),
        st.tuples(st.just("import"), st.lists(told, min_size=1, max_size=4)),
        st.tuples(st.sampled_from(("undo", "undo", "redo")), st.integers(0, 2)),
    ),
    max_size=8,
)
SOON: Told = ("ann", "event", "bought", 60 * SECOND_US, {})
PLAN: Told = ("ann", "write", "", 60 * SECOND_US, {"p": "a"})
BOTH = parse({"and": [{"event": {"name": "bought"}}, {"attribute": {"field": "p", "operator": "eq", "value": "a"}}]})


class Then:
    """A workspace, the naive one beside it, and copies of that as it was after each step."""

    def __init__(self, folder: Path, other: Condition) -> None:
        self.folder = folder
        self.live, self.naive = Live(folder / "default"), Naive()
        self.naive.segments[self.live.segment(to_json(other))] = other
        self.imports: list[int] = []
        self.past: list[tuple[int, Naive]] = []

    def live_through(self, number: int, step: Step) -> None:
        self.live.advance(SECOND_US)
        kind, what = step
        match kind:
            case "call":
                self.live.send(fact(what))
                tell(self.naive, fact(what), self.live.now_us)
            case "import":
                # Nothing repeats what another import says: which of the two counts then is not told any more.
                self.bring([(*one[:4], one[4] if one[1] == "write" else {**one[4], "step": number}) for one in what])
            case _:
                self.turn(kind, what)
        self.past.append((self.live.workspace.folder.state.now_us, copy.deepcopy(self.naive)))

    def bring(self, what: list[Told]) -> None:
        """One file, of people or of events."""
        kind = "people" if what[0][1] == "write" else "events"
        some = [one for one in what if (one[1] == "write") == (kind == "people")]
        path = written(self.folder, f"{len(self.imports)}.jsonl", json_lines([row(one) for one in some]))
        self.imports.append(bring_in(self.live, BackfillOptions(kind=kind, paths=(path,))).import_id)
        self.naive.source = self.imports[-1]
        for one in some:
            tell(self.naive, fact(one), self.live.now_us)
        self.naive.source = 0

    def turn(self, kind: str, which: int) -> None:
        """An import is taken back, or in again."""
        numbers = [one for one in self.imports if (one in self.naive.out) == (kind == "redo")]
        if numbers:
            number = numbers[which % len(numbers)]
            try:
                (undo.undo if kind == "undo" else undo.redo)(self.live.workspace, number)
            except ConflictError:
                return
            (self.naive.undo if kind == "undo" else self.naive.redo)(number)


@settings(max_examples=examples(30), deadline=None)
@given(condition=conditions((1,)), other=conditions(), some=steps, points=moments)
@example(
    condition=BOTH, other=BOTH, points=[NOW_US],
    some=[("call", ("bob", *SOON[1:])), ("call", ("ann", "event", "seen", 0, {})), ("import", [SOON]),
          ("import", [PLAN]), ("undo", 0), ("undo", 0), ("redo", 0), ("redo", 0), ("undo", 1)],
)  # fmt: skip
def test_what_was_known_is_what_the_oracle_said_then(
    condition: Condition, other: Condition, some: list[Step], points: list[int]
) -> None:
    """Members and explanations of all who are here today, at every moment of the workspace's life."""
    with tempfile.TemporaryDirectory() as folder:
        world = Then(Path(folder), other)
        for number, step in enumerate(some):
            world.live_through(number, step)
        workspace, naive = world.live.workspace, world.naive
        segment_id = world.live.segment(to_json(condition))
        here = {person.number: person for person in naive.people}
        for known_at_us, then in world.past:
            # Identity is always today's.
            known = [person for person in then.people if person.number in here]
            for person in known:
                person.identifiers = here[person.number].identifiers
            histories = [person.history() for person in known]
            for at_us in points:
                expected = oracle.members(condition, histories, at_us, naive.segments)
                assert set(inquiry.preview(workspace, condition, at_us, known_at_us)) == expected
                for history in histories:
                    found = workspace.reader.explain(
                        "cio_id", cio_id_of(history.person), segment_id, as_of_us=at_us, known_at_us=known_at_us
                    )
                    assert found.member == (history.person in expected)
        world.live.close()
