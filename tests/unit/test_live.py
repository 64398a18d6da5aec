"""Things the live engine once got wrong, each as small as it can be shown."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backstory.core.condition import Json
from backstory.core.fact import ChangeMembers, DeleteSegment, Identifier, Identify, TrackAnonymous
from backstory.core.time import HOUR_US, SECOND_US
from tests.live import NOW_US, Live


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "default")
    yield live
    live.close()


def event(name: str, last_s: int | None = None, **more: Json) -> Json:
    within: dict[str, Json] = {} if last_s is None else {"within": {"last_s": last_s}}
    return {"event": {"name": name, **within, **more}}


def attribute(field: str, operator: str, value: Json = None) -> Json:
    return {"attribute": {"field": field, "operator": operator, **({} if value is None else {"value": value})}}


def test_a_path_identifier_may_stand_in_the_body_too(live: Live) -> None:
    """A new id given in path and body relabels the person whom the body's email names."""
    live.send(Identify(person=Identifier("email", "ann@x.org")))
    (receipt,) = live.send(Identify(person=Identifier("id", "ann"), body_id="ann", body_email="ann@x.org"))
    assert receipt.result == "applied"
    view = live.workspace.reader.person("id", "ann")
    assert view is not None
    assert view.email == "ann@x.org"


def test_a_value_sent_again_covers_later_paths(live: Live) -> None:
    """The same whole with a newer time replaces the path that lay over it, and the segment hears of it."""
    segment_id = live.segment(attribute("address.city", "eq", "Rome"))
    live.identify("ann", NOW_US - 30 * SECOND_US, address={"city": "Oslo"})
    live.identify("ann", NOW_US - 20 * SECOND_US, **{"address.city": "Rome"})
    assert live.members(segment_id) == {"ann"}
    live.identify("ann", NOW_US - 10 * SECOND_US, address={"city": "Oslo"})
    assert live.members(segment_id) == set()


def test_a_name_with_brackets_is_heard_of(live: Live) -> None:
    """An attribute whose very name has brackets moves segments over the field of that name."""
    segment_id = live.segment(attribute("tags[0]", "eq", "a"))
    live.identify("ann")
    live.identify("ann", **{"tags[0]": "a"})
    assert live.members(segment_id) == {"ann"}


def test_at_least_none_is_a_question_too(live: Live) -> None:
    """A window with a count of at least 0 holds for everybody, whatever they did."""
    segment_id = live.segment(event("seen", 60, count={"at_least": 0}))
    live.track("ann", "seen")
    live.identify("bob")
    live.advance(HOUR_US)
    assert live.members(segment_id) == {"ann", "bob"}


def test_a_manual_change_settles_each_segment_once(live: Live) -> None:
    """What follows from a manual segment in two ways is judged when both are known, so nobody comes and goes."""
    manual = live.segment(None)
    inside = live.segment({"segment": {"id": manual}})
    outside = live.segment({"not": {"segment": {"id": manual}}})
    never = live.segment({"and": [{"segment": {"id": inside}}, {"segment": {"id": outside}}]})
    live.identify("ann")
    live.send(ChangeMembers(segment_id=manual, people=(Identifier("id", "ann"),), add=True))
    assert live.members(inside) == {"ann"}
    assert live.transitions(never) == []


def test_moments_long_past_move_nobody(live: Live) -> None:
    """A new definition makes the clockwork look again at the leaves, but not at what is over."""
    either = live.segment({"or": [event("seen", 60), event("bought", 300)]})
    live.advance(300 * SECOND_US)
    live.track("ann", "seen", NOW_US + 150 * SECOND_US)
    live.track("ann", "bought", NOW_US - 50 * SECOND_US)
    live.segment(event("other", 60))
    live.advance(SECOND_US)
    assert live.transitions(either) == []


def test_the_first_windows_do_not_live_through_history(live: Live) -> None:
    """A segment made long after its events starts with now: nothing of the past is lived through again."""
    live.track("ann", "seen", NOW_US - 150 * SECOND_US)
    live.track("ann", "bought", NOW_US - 350 * SECOND_US)
    either = live.segment({"or": [event("seen", 60), event("bought", 300)]})
    live.advance(SECOND_US)
    assert live.transitions(either) == []


def test_two_things_changing_at_one_moment_make_no_third(live: Live) -> None:
    """Where one part begins to hold at the very moment another ends, nobody is inside for no time."""
    edge_us = NOW_US + 60 * SECOND_US
    until_edge = {"not": attribute("due", "timestamp_lt", 0)}
    after_window = live.segment({"and": [event("seen", 60, count={"at_most": 0}), until_edge]})
    after_arrival = live.segment({"and": [event("arrived"), until_edge]})
    live.identify("ann", due=(edge_us - 1) / SECOND_US)
    live.track("ann", "seen", NOW_US)
    live.track("ann", "arrived", edge_us)
    live.advance(HOUR_US)
    moments_us = [at_us for *_, at_us in live.transitions(after_window) + live.transitions(after_arrival)]
    assert all(at_us < edge_us for at_us in moments_us)


def test_an_old_scan_does_not_fill_a_new_leaf(live: Live) -> None:
    """A leaf let go of and asked for again while its history is being scanned is told of what came in between."""
    pieces: list[Callable[[], None]] = []
    live.workspace.builder.run_on_loop = pieces.append
    first = live.segment(event("seen"))
    live.send(DeleteSegment(segment_id=first))
    live.track("ann", "seen")
    second = live.segment(event("seen"))
    for piece in pieces:
        live.workspace.call(piece)
    assert live.members(second) == {"ann"}


def test_a_date_passed_during_a_build_counts(live: Live) -> None:
    """Who was judged before a moment that came while the rest was built is judged again when the segment is there."""
    pieces: list[Callable[[], None]] = []
    live.workspace.builder.run_on_loop = pieces.append
    live.identify("ann", due=NOW_US / SECOND_US + 5)
    overdue = live.segment(attribute("due", "timestamp_lt", 0))
    live.advance(60 * SECOND_US)
    for piece in pieces:
        live.workspace.call(piece)
    assert live.members(overdue) == {"ann"}


def test_a_clock_in_doubt_lets_no_time_pass(live: Live) -> None:
    """Facts are accepted by the time that went by before somebody set the clock, until the clock is accepted."""
    segment_id = live.segment(event("seen", 60))
    live.track("ann", "seen")
    live.clock.jump(365 * 24 * HOUR_US)
    live.track("bob", "seen")
    assert live.members(segment_id) == {"ann", "bob"}
    live.advance(SECOND_US)
    assert live.members(segment_id) == {"ann", "bob"}
    live.workspace.accept_clock()
    live.advance(SECOND_US)
    assert live.members(segment_id) == set()


@pytest.mark.parametrize("known_before", [False, True])
def test_what_a_claim_moves_is_as_old_as_what_it_brings(live: Live, known_before: bool) -> None:
    """Whoever makes a person or finds one by the call that claims: all that is claimed is judged together, once."""
    bought, not_sold = live.segment(event("bought")), live.segment({"not": event("sold")})
    if known_before:
        live.identify("ann")
        live.advance(SECOND_US)
    for age_us in (2 * HOUR_US, 9 * HOUR_US, HOUR_US):
        fact = TrackAnonymous(anonymous_id="b1", name="bought", time_us=NOW_US - age_us)
        assert live.send(fact)[0].result == "applied"
    live.send(Identify(person=Identifier("id", "ann"), anonymous_id="b1"))
    first_us = NOW_US - 9 * HOUR_US
    assert [row[1:3] for row in live.transitions(bought)] == [(True, first_us)]
    if not known_before:
        assert [row[1:3] for row in live.transitions(not_sold)] == [(True, first_us)]
