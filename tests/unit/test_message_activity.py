"""Segments over what happened to messages: live, built later, taken back, after a restart, as of any day."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backstory.core.condition import Json
from backstory.core.fact import ReportMetric
from backstory.core.time import SECOND_US
from tests.unit.campaign_world import World

SENT: Json = {"message": {"metric": "sent", "channel": "email"}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.identify("ann")
    world.identify("bob")
    yield world
    world.close()


def inside(world: World, segment_id: int, as_of_us: int | None = None) -> set[str]:
    found, _ = world.workspace.reader.members(segment_id, start="", limit=100, as_of_us=as_of_us)
    return {identity["id"] or "" for identity in found}


def test_who_was_sent_a_message_is_in_from_that_moment(world: World) -> None:
    """Created, attempted and sent are reached one after the other; another campaign's messages do not count."""
    first, other = world.campaign(), world.campaign({"event": {"name": "signed_up"}})
    created = world.segment({"message": {"metric": "created", "campaign_id": first}})
    sent, foreign = world.segment(SENT), world.segment({"message": {"metric": "created", "campaign_id": other}})
    world.track("ann")
    assert (inside(world, created), inside(world, sent), inside(world, foreign)) == ({"ann"}, set(), set())
    world.send()
    assert inside(world, sent) == {"ann"}


def test_a_segment_made_later_has_the_messages_of_before(world: World) -> None:
    """Built from the ledger: the same people as if it had always been there, and it goes on from there."""
    world.campaign(None, frequency={"mode": "every"})
    world.track("ann")
    world.track("bob")
    world.send()
    twice = world.segment({"message": {"metric": "sent", "count": {"at_least": 2}}})
    assert inside(world, twice) == set()
    world.track("bob")
    world.send()
    assert inside(world, twice) == {"bob"}


def test_messages_during_the_build_count_once(world: World) -> None:
    """What happens between the scan and its feeding is neither lost nor counted twice."""
    world.campaign(None, frequency={"mode": "every"})
    world.track("ann")
    world.send()
    pieces: list[object] = []
    builder = world.workspace.builder
    run, builder.run_on_loop = builder.run_on_loop, pieces.append
    once = world.segment({"message": {"metric": "sent", "count": {"exactly": 1}}})
    twice = world.segment({"message": {"metric": "sent", "count": {"exactly": 2}}})
    builder.work_off()
    world.track("ann")
    world.send()
    while pieces:
        run(pieces.pop(0))  # type: ignore[arg-type]
        # What a fact moved meanwhile is looked up before the end.
        builder.work_off()
    assert (inside(world, once), inside(world, twice)) == (set(), {"ann"})


def test_a_window_over_messages_ends_by_the_clock(world: World) -> None:
    """Ten seconds after the message nobody is in; "not sent in ten seconds" then takes them in."""
    world.campaign()
    recent = world.segment({"message": {"metric": "sent", "within": {"last_s": 10}}})
    quiet = world.segment({"message": {"metric": "sent", "performed": False, "within": {"last_s": 10}}})
    world.track("ann", ago_s=60)
    world.send()
    sent_us = world.workspace.folder.state.now_us
    world.elapse_until(sent_us + 9_999_999)
    assert (inside(world, recent), inside(world, quiet)) == ({"ann"}, {"bob"})
    world.elapse_until(sent_us + 10_000_000)
    assert (inside(world, recent), inside(world, quiet)) == (set(), {"ann", "bob"})


def test_a_retried_message_has_not_failed(world: World) -> None:
    """The metric is taken back, and so is the membership; a restart finds the same."""
    world.campaign()
    failed = world.segment({"message": {"metric": "failed"}})
    world.track("ann")
    (delivery,) = world.claim()
    world.report(delivery, "failed", reason="no such mailbox")
    assert inside(world, failed) == {"ann"}
    world.retry(delivery.delivery_id)
    assert inside(world, failed) == set()
    world.checkpoint()
    world.crash()
    assert inside(world, failed) == set()


def test_messages_are_remembered_across_restarts_and_days(world: World) -> None:
    """After a crash the members are the same; as of a moment before the sending nobody was in."""
    world.campaign()
    sent = world.segment(SENT)
    world.track("ann")
    before_us = world.workspace.folder.state.now_us
    world.elapse(5)
    world.send()
    world.crash()
    assert inside(world, sent) == {"ann"}
    now_us = world.workspace.folder.state.now_us
    assert (inside(world, sent, before_us), inside(world, sent, now_us)) == (set(), {"ann"})


def test_a_metric_told_of_late_moves_people_at_its_own_time(world: World) -> None:
    """Opened an hour ago, heard of now: in the segment since then."""
    world.campaign()
    opened = world.segment({"message": {"metric": "opened"}})
    world.track("ann")
    (delivery_id,) = world.send()
    world.elapse(7200)
    now_us = world.clock.now_us()
    world.apply(ReportMetric(delivery_id=delivery_id, metric="opened", time_us=now_us - 3600 * SECOND_US))
    rows = world.workspace.folder.state.rows(
        "SELECT effective_us, at_us FROM transition WHERE segment_id = ?", (opened,)
    )
    assert [(row[0], row[1] >= now_us) for row in rows] == [(now_us - 3600 * SECOND_US, True)]


def test_a_stopped_campaign_drops_what_waits(world: World) -> None:
    """Dropped messages are an activity of their people too."""
    campaign_id = world.campaign()
    dropped = world.segment({"message": {"metric": "dropped"}})
    world.track("ann")
    world.stop(campaign_id)
    assert inside(world, dropped) == {"ann"}


def test_the_deleted_are_in_no_segment_of_messages(world: World) -> None:
    """Their deliveries stay in the ledger and count for nobody."""
    world.campaign()
    sent = world.segment(SENT)
    world.track("ann")
    world.send()
    world.delete("ann")
    assert inside(world, sent) == set()
    assert inside(world, world.segment({"message": {"metric": "sent"}})) == set()
