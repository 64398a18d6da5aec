"""When the loop applies what it accepted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backstory.core.error import BackstoryError, Busy
from backstory.core.fact import Identifier, Receipt, Track
from backstory.core.limit import BACKLOG_BYTES, BACKLOG_FACTS
from backstory.engine.inbox import FACT_BYTES, Inbox, Ticket
from backstory.engine.loop import APPLY_FACTS, GATHER_US, SYNC_EVERY_US, TRIM_EVERY_US, TRIM_FACTS
from tests.live import Live


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "default")
    yield live
    live.close()


def event(number: int) -> Track:
    return Track(person=Identifier("id", "ann"), name=f"event {number}")


def refuse(error: BackstoryError) -> None:
    raise error


def submit(live: Live, count: int = 1) -> list[str]:
    """Facts in one ticket that nobody waits for; returns what was told, as it grows."""
    told: list[str] = []
    facts = [event(number) for number in range(count)]
    live.workspace.submit(facts, on_accept=lambda: told.append("accepted"), on_error=refuse)
    return told


def test_facts_that_nobody_waits_for_gather(live: Live) -> None:
    """They are accepted at once, and applied together when a turn brings nothing new."""
    loop, state = live.workspace.loop, live.workspace.folder.state
    before = state.position
    for _ in range(3):
        told = submit(live)
        loop.turn(gather=True)
        assert told == ["accepted"]
    assert (state.position, loop.backlog) == (before, 3)
    loop.turn(gather=True)
    assert (state.position, loop.backlog) == (before + 3, 0)


def test_many_facts_are_applied_at_once(live: Live) -> None:
    """As many as are applied in one go need not gather any more."""
    submit(live, APPLY_FACTS)
    live.workspace.loop.turn(gather=True)
    assert live.workspace.loop.backlog == 0


def test_old_facts_are_applied(live: Live) -> None:
    """However many come: the oldest waits for a moment only."""
    submit(live)
    live.workspace.loop.turn(gather=True)
    live.clock.advance(GATHER_US)
    submit(live)
    live.workspace.loop.turn(gather=True)
    assert live.workspace.loop.backlog == 0


def test_whoever_waits_is_not_kept_waiting(live: Live) -> None:
    """A fact whose sender waits is applied in the turn that accepts it, with all before it."""
    submit(live)
    live.workspace.loop.turn(gather=True)
    receipts: list[Receipt] = []
    live.workspace.submit([event(1)], on_applied=receipts.extend, on_error=refuse)
    live.workspace.loop.turn(gather=True)
    assert [receipt.result for receipt in receipts] == ["applied"]
    assert live.workspace.loop.backlog == 0


def test_work_sees_what_was_accepted_before_it(live: Live) -> None:
    """Work for the loop comes after the facts that were there first."""
    seen: list[int] = []
    submit(live)
    live.workspace.loop.turn(gather=True)
    position = live.workspace.folder.journal.position()
    live.workspace._inbox.put_work(lambda: seen.append(live.workspace.folder.state.position))  # pyright: ignore[reportPrivateUsage]
    live.workspace.loop.turn(gather=True)
    assert seen == [position]


def test_what_gathers_survives_a_crash(live: Live) -> None:
    """It is in the journal."""
    submit(live, 2)
    live.workspace.loop.turn(gather=True)
    live.crash()
    assert live.workspace.folder.state.rows("SELECT name FROM event ORDER BY seq") == [("event 0",), ("event 1",)]


@pytest.mark.parametrize("fact", [event(1), Track(person=Identifier("id", "ann"), name="long", data=b"x" * 1_000_000)])
def test_the_backlog_is_bounded_by_facts_and_by_bytes(fact: Track) -> None:
    """What is one too many is refused until something was applied; many short facts weigh as few long ones."""
    count = 1 if len(fact.data) > 2 else 50_000
    inbox, taken = Inbox(), list[Ticket]()

    def put(times: int = 1) -> None:
        for _ in range(times):
            inbox.put(Ticket([fact] * count, None, None, refuse))

    with pytest.raises(Busy):
        put(1000)
    while tickets := inbox.take(0, 1)[0]:
        taken += tickets
        inbox.backlog += count
    assert len(taken) in (BACKLOG_FACTS.value // count, BACKLOG_BYTES.value // (len(fact.data) + FACT_BYTES))
    with pytest.raises(Busy):
        put()
    inbox.backlog -= count
    inbox.release(taken[:1])
    put()


def test_a_turn_stores_one_leaf(live: Live) -> None:
    """What is to be kept of segments is written over several turns: between them the loop is free for facts."""
    for number in range(4):
        live.segment({"event": {"name": f"event {number}"}})
    live.track("ann", "event 1")
    stored = "SELECT count(*) FROM leaf"
    assert live.workspace.folder.state.rows(stored) == [(0,)]
    live.advance(SYNC_EVERY_US + 1)
    found = [live.workspace.folder.state.rows(stored)[0][0]]
    for _ in range(6):
        live.workspace.loop.turn()
        found.append(live.workspace.folder.state.rows(stored)[0][0])
    # One for each segment, and since when people are known.
    assert found == [1, 2, 3, 4, 5, 5, 5]


def test_what_would_not_fit_is_refused_before_it_is_read() -> None:
    """A batch by its size, when nearly as many facts wait as may; a small one still fits."""
    inbox = Inbox()
    inbox.check_room(500 * 1024)
    inbox.backlog = BACKLOG_FACTS.value - 100
    inbox.check_room(1024)
    with pytest.raises(Busy):
        inbox.check_room(500 * 1024)


def kept_from(live: Live) -> int:
    """The position of the first fact that the journal still has, or the next one's."""
    journal = live.workspace.folder.journal
    return next((entry.position for entry in journal.read_from(0)), journal.position())


def test_the_journal_goes_a_little_at_a_time(live: Live) -> None:
    """However many facts came since the last time; all of them in the end."""
    live.workspace.loop.turn()
    began = kept_from(live)
    for _ in range(5):
        live.send(*map(event, range(TRIM_FACTS // 2)))
    live.clock.advance(TRIM_EVERY_US + 1)
    live.workspace.loop.turn()
    live.workspace.loop.turn()
    steps = [kept_from(live)]
    while steps[-1] < live.workspace.folder.state.position:
        live.workspace.loop.turn()
        steps.append(kept_from(live))
    taken = [after - before for before, after in zip([began, *steps], steps, strict=False)]
    assert all(0 < count <= TRIM_FACTS for count in taken)


def test_the_journal_goes_up_to_what_is_said_to_be_durable(live: Live) -> None:
    """Where somebody else sees to that, as a log takes its time: nothing goes before they say so."""
    asked: list[int] = []
    loop, state = live.workspace.loop, live.workspace.folder.state
    loop.turn()
    began = kept_from(live)
    loop.make_durable = lambda: asked.append(state.position)
    live.send(event(1))
    durable = state.position
    live.send(event(2))
    live.clock.advance(TRIM_EVERY_US + 1)
    for _ in range(3):
        loop.turn()
    assert (len(asked), kept_from(live)) == (1, began)
    loop.durable(durable)
    loop.turn()
    assert kept_from(live) == durable


def test_the_journal_goes_while_the_backlog_never_ends(live: Live) -> None:
    """What was applied of it: else it would grow for as long as more comes than is applied."""
    live.workspace.loop.turn()
    for _ in range(6):
        submit(live, APPLY_FACTS)
    for _ in range(12):
        live.clock.advance(TRIM_EVERY_US + 1)
        live.workspace.loop.turn()
        submit(live, APPLY_FACTS)
        assert live.workspace.loop.backlog
    assert kept_from(live) > 0
