"""Campaigns in the real engine: what starts journeys, moves and ends them, what is sent, what a crash leaves."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.fact import EffectOutcome, SetCampaignState
from backstory.core.time import HOUR_US, MINUTE_US, SECOND_US
from backstory.engine.apply.campaign import BEGIN_AT_ONCE
from backstory.engine.apply.journey import CIRCLE
from tests.unit.campaign_world import MAIL, PURCHASED, World, eq

HOUR_S = 3600
LIMIT_S = 72 * HOUR_S
DELAY: dict[str, Json] = {"type": "delay", "seconds": HOUR_S}
EVERY: dict[str, Json] = {"mode": "every"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def of_segment(segment_id: int, transition: str = "entered") -> dict[str, Json]:
    return {"segment": {"id": segment_id, "transition": transition}}


def update(**attributes: Json) -> dict[str, Json]:
    return {"type": "attribute_update", "attributes": attributes}


# -- the 72 hours ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ago_s", "mails"), [(LIMIT_S - 60, 1), (LIMIT_S, 1), (LIMIT_S + 1e-6, 0), (LIMIT_S + 1, 0), (LIMIT_S * 100, 0)]
)
def test_an_event_is_fresh_for_72_hours(world: World, ago_s: float, mails: int) -> None:
    """An event of up to 72 hours ago starts a journey, an older one never; both are kept."""
    world.identify("ann")
    world.campaign()
    happened_us = world.accept_us - round(ago_s * SECOND_US)
    world.track("ann", ago_s=ago_s)
    assert len(world.messages()) == mails
    assert world.log("ann").count("event") == 1
    assert [journey.effective_us for journey in world.journeys()] == [happened_us] * mails


def test_a_segment_entered_long_ago_starts_nothing(world: World) -> None:
    """An event of four days ago puts somebody into a segment, and the campaign holds back; one of today does not."""
    segment_id = world.segment({"event": {"name": "purchased"}})
    world.campaign(of_segment(segment_id))
    world.identify("old", ago_s=LIMIT_S * 2)
    world.identify("new", ago_s=LIMIT_S * 2)
    world.track("old", ago_s=LIMIT_S + 1)
    world.track("new", ago_s=LIMIT_S - 1)
    assert world.workspace.reader.member_count(segment_id) == 2
    assert world.mailed() == ["new"]
    accepted_us = world.workspace.folder.state.now_us
    assert world.journeys()[0].effective_us == accepted_us - (LIMIT_S - 1) * SECOND_US


def test_a_late_value_enters_at_its_own_time(world: World) -> None:
    """An attribute that became true an hour ago makes the entry an hour old."""
    segment_id = world.segment(eq("plan", "pro"))
    world.campaign(of_segment(segment_id))
    world.identify("ann", ago_s=2 * HOUR_S)
    happened_us = world.accept_us - HOUR_US
    world.identify("ann", ago_s=HOUR_S, plan="pro")
    assert [journey.effective_us for journey in world.journeys()] == [happened_us]


def test_an_event_of_the_future_triggers_when_its_time_comes(world: World) -> None:
    """It starts nothing when it is accepted, and a journey at its moment, however far away that was."""
    world.identify("ann")
    world.campaign()
    happens_us = world.accept_us + LIMIT_S * 2 * SECOND_US
    world.track("ann", ago_s=-LIMIT_S * 2)
    world.elapse_until(happens_us - 1)
    assert world.messages() == []
    world.elapse_until(happens_us)
    assert world.mailed() == ["ann"]
    assert world.journeys()[0].effective_us == happens_us


# -- what triggers ----------------------------------------------------------------------------------------------------


def test_only_what_comes_after_the_start_counts(world: World) -> None:
    """Events accepted before the start, or while the campaign is stopped, start nothing, however fresh they are."""
    world.identify("ann")
    campaign_id = world.campaign(None, MAIL, state="draft", frequency=EVERY)
    world.track("ann", n=1)
    world.start(campaign_id)
    world.track("ann", n=2)
    world.stop(campaign_id)
    world.track("ann", n=3)
    world.start(campaign_id)
    assert len(world.journeys()) == 1
    world.track("ann", n=4)
    assert len(world.journeys()) == 2


def test_where_looks_at_the_data_of_the_event(world: World) -> None:
    """Only events whose data satisfies the filter, and only of the name and the kind."""
    world.campaign({"event": {"name": "purchased", "where": eq("product", "shoes")}}, frequency=EVERY)
    for product in ("shoes", "Shoes", "hats", None):
        world.track("ann", product=product)
    world.track("ann", "viewed", product="shoes")
    assert len(world.journeys()) == 2


def test_an_event_of_somebody_unknown_starts_a_journey(world: World) -> None:
    """The event makes the person, and the mail that cannot be addressed fails with the reason."""
    world.campaign(None, {**MAIL, "to": "{{ customer.email }}"})
    world.track("new")
    (message,) = world.messages()
    assert message.state == "failed"
    assert message.failure is not None
    assert "email" in message.failure
    (journey,) = world.journeys()
    assert (journey.state, journey.failure) == ("finished", message.failure)


def test_leaving_a_segment_starts_a_journey(world: World) -> None:
    """Somebody who leaves starts in the campaign that waits for it, and not in the one that waits for entries."""
    segment_id = world.segment(eq("plan", "pro"))
    leaving, entering = world.campaign(of_segment(segment_id, "left")), world.campaign(of_segment(segment_id))
    world.identify("ann", plan="pro")
    assert (len(world.journeys(leaving)), len(world.journeys(entering))) == (0, 1)
    world.identify("ann", plan="free")
    assert (len(world.journeys(leaving)), len(world.journeys(entering))) == (1, 1)


def test_leaving_by_the_clock_starts_a_journey_at_its_moment(world: World) -> None:
    """Nobody has to call: an hour after the purchase its window is over."""
    segment_id = world.segment({"event": {"name": "purchased", "within": {"last_s": HOUR_S}}})
    world.campaign(of_segment(segment_id, "left"))
    world.identify("ann")
    world.track("ann")
    accepted_us = world.workspace.folder.state.now_us
    world.elapse(2 * HOUR_S)
    (journey,) = world.journeys()
    assert (journey.started_us, journey.effective_us) == (accepted_us + HOUR_US, accepted_us + HOUR_US)


def test_people_put_into_a_manual_segment_start(world: World) -> None:
    """Manual segments trigger as others do."""
    segment_id = world.segment()
    world.identify("ann")
    world.campaign(of_segment(segment_id))
    world.put_into(segment_id, "ann", "nobody")
    assert world.mailed() == ["ann"]


def test_current_members_start_only_if_asked_for(world: World) -> None:
    """Those inside at the start begin with include_current, and wait for nothing without it."""
    segment_id = world.segment(eq("plan", "pro"))
    world.identify("ann", plan="pro")
    world.identify("bob", plan="free")
    later = world.campaign(of_segment(segment_id))
    now = world.campaign(of_segment(segment_id), MAIL, include_current=True)
    assert (world.mailed(later), world.mailed(now)) == ([], ["ann"])
    world.identify("bob", plan="pro")
    assert (world.mailed(later), world.mailed(now)) == (["bob"], ["ann", "bob"])


def test_current_members_start_some_at_a_time(world: World) -> None:
    """A large segment does not hold facts up: the first begin with the campaign, others follow, also over a crash."""
    segment_id = world.segment()
    names = [f"p{number}" for number in range(2 * BEGIN_AT_ONCE + 3)]
    world.apply(*(world.identify_fact(name) for name in names))
    for low in range(0, len(names), 500):
        world.put_into(segment_id, *names[low : low + 500])
    campaign = world.campaign(of_segment(segment_id), MAIL, include_current=True)
    assert BEGIN_AT_ONCE <= len(begun(world, campaign)) < len(names)
    world.identify("late")
    world.put_into(segment_id, "late")
    world.crash()
    for _ in range(3):
        world.elapse(0)
    found = begun(world, campaign)
    late_us = found.pop("late")
    assert sorted(found) == sorted(names)
    assert max(found.values()) == min(found.values()) < late_us


def begun(world: World, campaign: int) -> dict[str, int]:
    """Who has a journey, and since when they were where that began."""
    journeys, _ = world.workspace.reader.journeys(campaign, start="", limit=5000)
    return {one.identifiers["id"] or "": one.effective_us for one in journeys}


def test_a_campaign_stopped_early_takes_in_nobody_more(world: World) -> None:
    """Who had not begun when it was stopped does not begin."""
    segment_id = world.segment()
    names = [f"p{number}" for number in range(3 * BEGIN_AT_ONCE)]
    world.apply(*(world.identify_fact(name) for name in names))
    for low in range(0, len(names), 500):
        world.put_into(segment_id, *names[low : low + 500])
    campaign = world.campaign(of_segment(segment_id), MAIL, include_current=True)
    world.apply(SetCampaignState(campaign_id=campaign, state="stopped"))
    before = begun(world, campaign)
    world.elapse(0)
    world.elapse(0)
    assert begun(world, campaign) == before
    assert len(before) < len(names)


# -- frequency --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frequency", "starts"),
    [
        ({"mode": "once"}, 1),
        ({"mode": "every"}, 4),
        ({"mode": "every", "min_interval_s": HOUR_S}, 3),
        ({"mode": "every", "min_interval_s": 2 * HOUR_S}, 2),
    ],
)
def test_the_frequency_says_how_often_a_person_starts(world: World, frequency: Json, starts: int) -> None:
    """Once for ever, every time, or at least so far apart, counted from the last start."""
    world.campaign(None, MAIL, frequency=frequency)
    world.identify("ann")
    for wait_s in (1, HOUR_S - 60, 60, HOUR_S):
        world.elapse(wait_s)
        world.track("ann")
    world.track("bob")
    assert world.mailed().count("ann") == starts
    assert world.mailed().count("bob") == 1


# -- filters ----------------------------------------------------------------------------------------------------------


def test_a_filter_lets_in_who_matches_within_30_minutes(world: World) -> None:
    """An identify that comes after the event still lets the person in, up to the 30th minute and not at it."""
    world.campaign(PURCHASED, MAIL, filter=eq("plan", "pro"))
    for person in ("now", "soon", "last", "late"):
        world.identify(person, plan="pro" if person == "now" else "free")
    for person in ("now", "soon", "last", "late"):
        world.track(person)
    assert world.mailed() == ["now"]
    _, _, last, late = world.journeys()
    world.elapse(60)
    world.identify("soon", plan="pro")
    world.elapse_until(last.started_us + 30 * MINUTE_US - 1)
    world.identify("last", plan="pro")
    world.elapse_until(late.started_us + 30 * MINUTE_US)
    world.identify("late", plan="pro")
    assert world.mailed() == ["now", "soon", "last"]
    assert [journey.state for journey in world.journeys()] == ["finished", "finished", "finished", "exited"]
    assert world.decisions()[-1] == ("journey", "exited", "the filter did not hold within 30 minutes")


def test_a_segment_campaign_judges_its_filter_at_once(world: World) -> None:
    """There is no second look where no event came."""
    segment_id = world.segment(eq("plan", "pro"))
    world.campaign(of_segment(segment_id), MAIL, filter=eq("vip", True))
    world.identify("ann", plan="pro")
    world.identify("ann", vip=True)
    world.identify("bob", plan="pro", vip=True)
    assert world.mailed() == ["bob"]


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_filter_may_ask_for_a_segment(world: World, dynamic: bool) -> None:
    """Membership decides, also of a segment over events, and entering it later lets the person in."""
    segment_id = world.segment({"event": {"name": "viewed"}} if dynamic else None)
    world.campaign(PURCHASED, MAIL, filter={"segment": {"id": segment_id}})
    for person in ("in", "later", "out"):
        world.identify(person)

    def enter(person: str) -> None:
        world.track(person, "viewed") if dynamic else world.put_into(segment_id, person)

    enter("in")
    for person in ("in", "later", "out"):
        world.track(person)
    assert world.mailed() == ["in"]
    enter("later")
    assert world.mailed() == ["in", "later"]


def test_a_filter_may_ask_for_events(world: World) -> None:
    """What the person did is read from their history, the event that triggers included."""
    twice: dict[str, Json] = {"event": {"name": "purchased", "count": {"at_least": 2}}}
    world.campaign(PURCHASED, MAIL, filter=twice)
    world.track("ann", n=1, ago_s=LIMIT_S * 2)
    world.track("ann", n=2)
    world.track("bob", n=1)
    assert world.mailed() == ["ann"]
    world.track("bob", n=2)
    assert world.mailed() == ["ann", "bob"]
    assert [journey.state for journey in world.journeys()] == ["finished", "finished"]


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_delay_ends_exactly(world: World) -> None:
    """A microsecond before its end nothing is sent, at its end it is, though nobody calls."""
    world.campaign(None, DELAY, MAIL)
    world.track("ann", ago_s=60)
    world.identify("ann")
    (journey,) = world.journeys()
    assert journey.steps[0].reason.startswith("until 2024-06-01T13:00:00")
    world.elapse_until(journey.started_us + HOUR_US - 1)
    assert world.messages() == []
    world.elapse_until(journey.started_us + HOUR_US)
    assert [message.created_us for message in world.messages()] == [journey.started_us + HOUR_US]


def test_a_condition_takes_one_of_two_ways(world: World) -> None:
    """Judged when the person comes to it, and said in the ledger."""
    fork: dict[str, Json] = {"type": "condition", "if": eq("plan", "pro"), "then": [MAIL], "else": [DELAY, MAIL]}
    world.campaign(None, fork, update(done=True))
    world.identify("pro", plan="pro")
    world.identify("free", plan="free")
    world.track("pro")
    world.track("free")
    assert world.mailed() == ["pro"]
    assert world.attributes("pro")["done"] is True
    world.elapse(HOUR_S + 1)
    assert world.mailed() == ["pro", "free"]
    branches = [reason for kind, _, reason in world.decisions() if kind == "condition"]
    assert branches == ["then", "else"]


def test_a_step_that_writes_attributes_moves_segments(world: World) -> None:
    """The next step sees them, another campaign starts by them, and the change is in the log."""
    segment_id = world.segment(eq("stage", "buyer"), name="Buyers")
    first = world.campaign(None, update(stage="{{ event.role }}", old=None), {**MAIL, "body": "{{ customer.stage }}"})
    second = world.campaign(of_segment(segment_id), {**MAIL, "subject": "Welcome to {{ trigger.segment.name }}"})
    world.identify("ann", old=1)
    world.track("ann", role="buyer")
    assert world.attributes("ann") == {"stage": "buyer"}
    assert [message.body for message in world.messages(first)] == ["buyer"]
    assert [message.subject for message in world.messages(second)] == ["Welcome to Buyers"]
    assert world.log("ann").count("attribute_change") == 2


def test_a_renamed_segment_is_called_by_its_new_name(world: World) -> None:
    """Templates see the name a segment has when they are filled in."""
    segment_id = world.segment(eq("plan", "pro"), name="Old")
    world.campaign(of_segment(segment_id), {**MAIL, "subject": "{{ trigger.segment.name }}"})
    world.identify("ann", plan="pro")
    world.segment(eq("plan", "pro"), name="New", segment_id=segment_id)
    world.identify("bob", plan="pro")
    assert [message.subject for message in world.messages()] == ["Old", "New"]


def test_a_step_wins_against_what_made_it_act(world: World) -> None:
    """A campaign that takes away the very value by which somebody came in succeeds, again and again."""
    segment_id = world.segment(eq("send_me", True))
    world.campaign(of_segment(segment_id), MAIL, update(send_me=None), frequency=EVERY)
    for expected in (1, 2, 3):
        world.identify("ann", send_me=True)
        assert "send_me" not in world.attributes("ann")
        assert len(world.messages()) == expected
    assert world.workspace.reader.member_count(segment_id) == 0


def test_campaigns_that_call_each_other_stop(world: World) -> None:
    """Two campaigns that undo each other's work for ever are cut off, with the reason in the ledger."""
    segment_id = world.segment(eq("on", True))
    entered = world.campaign(of_segment(segment_id), update(on=False), frequency=EVERY)
    left = world.campaign(of_segment(segment_id, "left"), update(on=True), frequency=EVERY)
    world.identify("ann", on=True)
    reasons = [reason for number in (entered, left) for _, _, reason in world.decisions(number)]
    assert reasons.count(CIRCLE) == 1
    assert len(world.journeys(entered)) + len(world.journeys(left)) < 30


def test_a_step_that_lets_in_another_journey_moves_it_once(world: World) -> None:
    """Journeys that wake together and change each other are each advanced once."""
    world.campaign(None, DELAY, update(vip=True), frequency=EVERY)
    waiting = world.campaign(PURCHASED, MAIL, filter=eq("vip", True), frequency=EVERY)
    world.identify("ann")
    world.track("ann", n=1)
    world.elapse_until(world.journeys()[0].started_us + HOUR_US - 30 * MINUTE_US)
    world.track("ann", n=2)
    world.elapse(HOUR_S)
    assert [journey.state for journey in world.journeys(waiting)] == ["exited", "finished"]
    entered = [decision for _, decision, _ in world.decisions(waiting)].count("entered")
    assert entered == len(world.messages(waiting)) == 1


def test_a_webhook_is_queued_with_what_it_posts(world: World) -> None:
    """The body is filled in; no address of the person is needed."""
    body: dict[str, Json] = {"who": "{{ customer.id }}", "price": "{{ event.price }}"}
    world.campaign(None, {"type": "webhook", "url": "https://example.com/hook", "body": body})
    world.track("ann", price=9)
    (message,) = world.messages()
    assert (message.type, message.state, message.recipient) == ("webhook", "queued", "https://example.com/hook")
    assert msgspec.json.decode(message.body) == {"who": "ann", "price": "9"}


def test_the_unsubscribed_get_nothing_and_go_on(world: World) -> None:
    """Their mail is skipped with the reason, what follows happens."""
    world.campaign(None, MAIL, update(reached=True))
    world.identify("ann", unsubscribed=True)
    world.track("ann")
    assert world.messages() == []
    assert ("email", "skipped", "unsubscribed") in world.decisions()
    assert world.attributes("ann")["reached"] is True


def test_a_missing_variable_fails_the_message(world: World) -> None:
    """It is not sent; the message, the journey and the log say so, and the journey goes on."""
    world.campaign(None, {**MAIL, "body": "Hello {{ customer.first_name }}"}, update(reached=True))
    world.identify("ann")
    world.track("ann")
    (message,) = world.messages()
    assert message.state == "failed"
    assert message.failure is not None
    assert "first_name" in message.failure
    assert world.claim() == []
    assert world.log("ann")[-1] == "attribute_change"
    assert "failed_email" in world.log("ann")
    refused = world.retry(message.delivery_id)
    assert (refused.result, "first_name" in refused.reason) == ("conflict", True)


# -- ends -------------------------------------------------------------------------------------------------------------


def test_stopping_drops_what_was_not_sent_and_ends_journeys(world: World) -> None:
    """Those inside leave with the reason, queued messages are dropped; starting again brings neither back."""
    campaign_id = world.campaign(None, MAIL, DELAY, MAIL)
    other = world.campaign(None, MAIL)
    world.identify("ann")
    world.track("ann")
    world.stop(campaign_id)
    assert [message.state for message in world.messages(campaign_id)] == ["dropped"]
    assert [message.state for message in world.messages(other)] == ["queued"]
    assert world.journeys()[0].state == "exited"
    assert world.decisions()[-1] == ("journey", "exited", "the campaign was stopped")
    world.start(campaign_id)
    world.elapse(2 * HOUR_S)
    assert len(world.messages(campaign_id)) == 1
    assert len(world.claim()) == 1


def test_stopping_ends_the_wait_for_a_filter(world: World) -> None:
    """Who waits for the filter is not let in after the stop."""
    campaign_id = world.campaign(PURCHASED, MAIL, filter=eq("plan", "pro"))
    world.track("ann")
    world.stop(campaign_id)
    world.identify("ann", plan="pro")
    world.elapse(HOUR_S)
    assert world.messages() == []
    assert world.decisions() == [("journey", "exited", "the campaign was stopped")]


def test_an_attempt_that_fails_after_the_stop_is_not_repeated(world: World) -> None:
    """What was being attempted when the campaign was stopped has its one attempt; a user may still retry it."""
    campaign_id = world.campaign()
    world.identify("ann")
    world.track("ann")
    (delivery,) = world.claim()
    world.stop(campaign_id)
    world.report(delivery, "attempted", reason="451 later", again_in_s=10)
    (failed,) = world.messages()
    assert failed.state == "failed"
    assert failed.failure == "451 later; not tried again by itself, as the campaign was stopped"
    assert world.retry(delivery.delivery_id).result == "applied"


def test_deleting_a_person_ends_their_journeys(world: World) -> None:
    """Nothing of theirs is sent or goes on, and leaving a segment by it starts nothing."""
    segment_id = world.segment(eq("plan", "pro"))
    waiting = world.campaign(None, MAIL, DELAY, MAIL)
    leaving = world.campaign(of_segment(segment_id, "left"))
    world.identify("ann", plan="pro")
    world.identify("bob", plan="pro")
    world.track("ann")
    world.track("bob")
    world.delete("ann")
    world.elapse(2 * HOUR_S)
    assert [message.state for message in world.messages(waiting)] == ["dropped", "queued", "queued"]
    assert [journey.state for journey in world.journeys(waiting)] == ["exited", "finished"]
    assert ("journey", "exited", "the person was deleted") in world.decisions(waiting)
    assert world.journeys(leaving) == []


def test_a_filter_is_not_judged_while_its_person_is_deleted(world: World) -> None:
    """Leaving the segments on the way out lets nobody in."""
    segment_id = world.segment(eq("plan", "pro"))
    world.campaign(PURCHASED, MAIL, filter={"not": {"segment": {"id": segment_id}}})
    world.identify("ann", plan="pro")
    world.track("ann")
    world.delete("ann")
    assert world.messages() == []


# -- editing ----------------------------------------------------------------------------------------------------------


def test_the_steps_of_a_running_campaign_are_not_edited(world: World) -> None:
    """Its journeys stand at numbered steps: it must be stopped first. Name, filter and frequency may change."""
    campaign_id = world.campaign(None, DELAY, MAIL)
    world.track("ann")
    (refused,) = world.apply(world.campaign_fact(None, MAIL, DELAY, campaign_id=campaign_id))
    assert refused.result == "conflict"
    assert "stop it first" in refused.reason
    edited = world.campaign_fact(
        None, DELAY, MAIL, campaign_id=campaign_id, name="New", filter=eq("a", 1), frequency=EVERY
    )
    assert world.apply(edited)[0].result == "applied"
    assert world.workspace.reader.campaign(campaign_id).definition["name"] == "New"
    assert world.journeys()[0].state == "active"
    world.stop(campaign_id)
    assert world.apply(world.campaign_fact(None, MAIL, DELAY, campaign_id=campaign_id))[0].result == "applied"


def test_an_edited_trigger_is_in_force_at_once(world: World) -> None:
    """What a running campaign waits for follows its definition."""
    campaign_id = world.campaign(None, MAIL, frequency=EVERY)
    world.apply(world.campaign_fact({"event": {"name": "viewed"}}, MAIL, campaign_id=campaign_id, frequency=EVERY))
    world.track("ann")
    assert world.journeys() == []
    world.track("ann", "viewed")
    assert len(world.journeys()) == 1


def test_a_campaign_names_segments_that_exist(world: World) -> None:
    """Also in its filter and in its conditions."""
    fork: dict[str, Json] = {"type": "condition", "if": {"segment": {"id": 9}}}
    for fact in (
        world.campaign_fact(of_segment(9)),
        world.campaign_fact(None, fork),
        world.campaign_fact(None, MAIL, filter={"not": {"segment": {"id": 9}}}),
    ):
        assert world.apply(fact)[0].reason == "there is no segment 9"


# -- sending ----------------------------------------------------------------------------------------------------------


def test_what_is_sent_shows_in_the_log(world: World) -> None:
    """Queued, attempted, sent: the message has the times, the person's log the entries."""
    world.campaign()
    world.identify("ann")
    world.track("ann")
    (delivery,) = world.claim()
    assert world.states() == ["attempting"]
    assert world.claim() == []
    world.report(delivery, "attempted", reason="451 later", again_in_s=10)
    assert world.states() == ["queued"]
    world.elapse(11)
    assert world.send() == [delivery.delivery_id]
    (message,) = world.messages()
    assert (message.state, message.failure) == ("sent", None)
    assert set(message.metrics_us) == {"created", "attempted", "sent"}
    assert world.log("ann")[-2:] == ["attempted_email", "sent_email"]
    assert world.report(delivery, "failed").result == "dropped"


def test_a_further_attempt_is_announced_at_its_time(world: World) -> None:
    """Whoever sends is woken when a message is ready, when a retry is due, and after a restart too."""
    woken: list[int] = []
    world.workspace.when_ready(lambda: woken.append(world.clock.now_us()))
    world.campaign(None, MAIL, MAIL)
    world.identify("ann")
    world.track("ann")
    assert len(woken) == 1
    for delivery in world.claim():
        world.report(delivery, "attempted", reason="451 later", again_in_s=100)
    world.crash()
    woken.clear()
    world.workspace.when_ready(lambda: woken.append(world.clock.now_us()))
    world.elapse(99.9)
    assert (woken, world.claim()) == ([], [])
    world.elapse(0.1)
    assert len(woken) == 1
    assert len(world.claim()) == 2


def test_a_retry_has_all_attempts_again(world: World) -> None:
    """A message that was given up starts anew when a user asks, and one that was sent does not."""
    world.campaign()
    world.identify("ann")
    world.track("ann")
    for attempt in range(3):
        (delivery,) = world.claim()
        assert delivery.attempts == attempt
        world.report(delivery, "attempted", again_in_s=1)
        world.elapse(2)
    (delivery,) = world.claim()
    world.report(delivery, "failed", reason="given up")
    assert world.states() == ["failed"]
    assert world.retry(delivery.delivery_id).result == "applied"
    (again,) = world.claim()
    assert (again.delivery_id, again.attempts) == (delivery.delivery_id, 0)
    world.report(again)
    assert world.states() == ["sent"]
    assert set(world.messages()[0].metrics_us) == {"created", "attempted", "sent"}
    assert world.retry(delivery.delivery_id).result == "conflict"
    assert world.retry("nothing").result == "dropped"


def test_who_has_unsubscribed_since_is_not_mailed_by_a_retry(world: World) -> None:
    """Nor is somebody who was deleted."""
    world.campaign()
    for person in ("ann", "bob"):
        world.identify(person)
        world.track(person)
    for delivery in world.claim():
        world.report(delivery, "failed")
    world.identify("ann", unsubscribed=True)
    world.delete("bob")
    reasons = [world.retry(message.delivery_id).reason for message in world.messages()]
    assert reasons == ["the person has unsubscribed since", "the person was deleted"]


def test_nothing_is_handed_out_while_the_clock_is_in_doubt(world: World) -> None:
    """Sending and timers wait until somebody says that the clock is right; facts are accepted."""
    woken: list[bool] = []
    world.workspace.when_ready(lambda: woken.append(True))
    world.campaign(None, MAIL, DELAY, MAIL)
    world.identify("ann")
    world.track("ann")
    woken.clear()
    world.clock.jump(2 * HOUR_US)
    world.elapse(1)
    assert world.claim() == []
    assert len(world.messages()) == 1
    assert any("backstory clock accept" in fault for fault in world.workspace.faults)
    assert world.workspace.accept_clock() == 2 * HOUR_US
    assert woken
    assert (world.workspace.faults, world.workspace.accept_clock()) == ([], 0)
    world.elapse(1)
    assert len(world.claim()) == 2


# -- crashes ----------------------------------------------------------------------------------------------------------


def told(world: World) -> object:
    """Everything campaigns decided, as it is shown."""
    return [
        (world.journeys(campaign.campaign_id), world.messages(campaign.campaign_id))
        for campaign in world.workspace.reader.campaigns()
    ]


def test_a_replay_decides_the_same(world: World) -> None:
    """Facts accepted before a crash and applied after it make the same journeys and deliveries, by the same names."""
    segment_id = world.segment(eq("plan", "pro"))
    world.campaign(None, DELAY, MAIL, frequency=EVERY)
    world.campaign(of_segment(segment_id), update(seen=True), MAIL)
    world.campaign(PURCHASED, MAIL, filter=eq("vip", True))
    world.identify("ann", plan="free")
    world.checkpoint()
    facts = [
        world.track_fact("ann", n=1),
        world.identify_fact("ann", plan="pro"),
        world.track_fact("bob", ago_s=60),
        world.identify_fact("bob", vip=True, plan="pro"),
        world.track_fact("ann", n=2),
    ]
    world.elapse(1)
    replayed = world.copy(*facts)
    world.apply(*facts)
    assert len(world.messages()) == 3
    assert told(replayed) == told(world)
    for each in (replayed, world):
        each.workspace.loop.turn()
    world.elapse(2 * HOUR_S)
    replayed.workspace.loop.turn()
    assert len(world.messages()) == 6
    assert told(replayed) == told(world)
    replayed.close()


def test_nothing_is_sent_twice_after_a_crash(world: World) -> None:
    """What was sent and reported stays sent, whether or not the report had been applied."""
    world.campaign(None, MAIL, frequency=EVERY)
    world.identify("ann")
    world.track("ann", n=1)
    world.track("ann", n=2)
    first, second = world.claim()
    world.report(first)
    world.crash(EffectOutcome(delivery_id=second.delivery_id, outcome="sent"))
    assert world.states() == ["sent", "sent"]
    assert world.claim() == []


def test_an_attempt_without_an_outcome_is_in_doubt_after_a_crash(world: World) -> None:
    """It is listed and not repeated by itself; a user's retry sends it under the same name."""
    world.campaign()
    world.identify("ann")
    world.track("ann")
    (delivery,) = world.claim()
    world.crash()
    (message,) = world.messages()
    assert (message.state, message.delivery_id) == ("in_doubt", delivery.delivery_id)
    assert message.failure is not None
    assert "whether it was sent is not known" in message.failure
    assert world.claim() == []
    world.crash()
    assert world.states() == ["in_doubt"]
    assert world.retry(message.delivery_id).result == "applied"
    assert world.send() == [delivery.delivery_id]
    assert world.states() == ["sent"]


def test_what_waits_survives_a_crash(world: World) -> None:
    """Delays, filters and frequencies go on where they were."""
    delayed = world.campaign(None, DELAY, MAIL)
    filtered = world.campaign(PURCHASED, MAIL, filter=eq("vip", True))
    world.track("ann")
    world.track("bob")
    world.identify("ann")
    world.identify("bob")
    world.crash()
    world.identify("ann", vip=True)
    assert world.mailed(filtered) == ["ann"]
    world.elapse(40 * 60)
    world.crash()
    world.identify("bob", vip=True)
    assert world.mailed(filtered) == ["ann"]
    world.elapse(20 * 60 + 1)
    assert world.mailed(delayed) == ["ann", "bob"]
    world.track("ann", n=2)
    assert len(world.journeys(delayed)) == 2
