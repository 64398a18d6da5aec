"""The journey machine: who starts, when they go on, what is decided and what is done, once."""

from collections.abc import Callable
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core import journey as machine
from backstory.core.campaign import Campaign, parse
from backstory.core.condition import Condition, InSegment
from backstory.core.journey import (
    Advance,
    CallWebhook,
    Journey,
    SendEmail,
    UpdateAttributes,
    leave,
    may_start,
    namespace,
    start,
)
from backstory.core.operand import Json
from backstory.core.time import MINUTE_US, SECOND_US
from backstory.core.trigger import Cause, EventCause, SegmentCause

NOW_US = 1_714_557_600_000_000  # 2024-05-01T10:00:00Z
EMAIL: dict[str, Json] = {"type": "email", "from": "s@x.org", "subject": "Hi {{ customer.name }}", "body": "Hello"}
HOUR: Json = {"type": "delay", "seconds": 3600}
HOOK: Json = {"type": "webhook", "url": "https://x.org/key", "body": {"id": "{{ customer.id }}"}}
UPDATE: Json = {"type": "attribute_update", "attributes": {"welcomed": True, "by": "{{ customer.name }}"}}
ADA: dict[str, Json] = {"id": "7", "email": "ada@x.org", "name": "Ada"}
PURCHASE = EventCause(name="purchased", time_us=NOW_US - 5_500_000, event_id="e1", data=b'{"price":9.5}')
ENTERED = SegmentCause(segment_id=7, transition="entered")


def inside(*segments: int) -> Callable[[Condition], bool]:
    """What holds for a person who is in these segments."""
    return lambda condition: isinstance(condition, InSegment) and condition.segment_id in segments


def branch(segment: int, then: list[Json], otherwise: list[Json]) -> Json:
    """A condition step that asks for a segment."""
    return {"type": "condition", "if": {"segment": {"id": segment}}, "then": then, "else": otherwise}


def campaign(*steps: Json, **changes: Json) -> Campaign:
    """A campaign on an event."""
    return parse({"name": "c", "trigger": {"event": {"name": "purchased"}}, "steps": list(steps), **changes})


def begin(made: Campaign, cause: Cause = PURCHASE) -> Journey:
    """A journey that has not moved."""
    return start(made, cause, journey_id=4, campaign_id=2, person=9, now_us=NOW_US, effective_us=NOW_US - 5_500_000)


def advance(
    journey: Journey,
    made: Campaign,
    after_s: float = 0,
    *,
    holds: Callable[[Condition], bool] = inside(),
    customer: dict[str, Json] = ADA,
    previous_starts_us: tuple[int, ...] = (),
) -> Advance:
    """Advance a journey so many seconds after its start."""
    return machine.advance(
        journey,
        made,
        now_us=NOW_US + round(after_s * SECOND_US),
        holds=holds,
        customer=customer,
        segment_name="VIP",
        previous_starts_us=previous_starts_us,
    )


def told(step: Advance) -> list[tuple[int, str, str, str]]:
    """The decisions, without their times."""
    return [(one.action_id, one.type, one.decision, one.reason) for one in step.decisions]


def test_a_journey_sends_waits_and_finishes() -> None:
    """Steps run until a delay; after it the rest, and every decision says why."""
    made = campaign(EMAIL, HOUR, HOOK)
    first = advance(begin(made), made)
    assert told(first) == [
        (1, "email", "send", "to ada@x.org"),
        (2, "delay", "waiting", "until 2024-05-01T11:00:00Z"),
    ]
    assert [type(effect) for effect in first.effects] == [SendEmail]
    assert first.journey.state == "active"
    assert first.journey.wake_us == NOW_US + 3_600_000_000

    second = advance(first.journey, made, 3600)
    assert told(second) == [(3, "webhook", "send", "to x.org"), (0, "journey", "finished", "")]
    assert [type(effect) for effect in second.effects] == [CallWebhook]
    assert second.journey.state == "finished"
    assert second.journey.wake_us is None


def test_messages_are_composed_and_named() -> None:
    """An effect has the whole message and the name of its delivery; the decision has the same name."""
    made = campaign(EMAIL)
    step = advance(begin(made), made)
    [effect] = step.effects
    assert isinstance(effect, SendEmail)
    assert effect.email.subject == "Hi Ada"
    assert effect.delivery_id == f"2-4-1-{NOW_US:x}" == step.decisions[0].delivery_id
    assert advance(begin(made), made) == step


@pytest.mark.parametrize("after_s", [0, 1, 3599.999999])
def test_coming_too_early_changes_nothing(after_s: float) -> None:
    """A wake before its time, or a change of the person, does not shorten a delay."""
    made = campaign(HOUR, EMAIL)
    waiting = advance(begin(made), made).journey
    assert advance(waiting, made, after_s) == Advance(waiting)


def test_delays_follow_each_other_from_when_they_are_reached() -> None:
    """A late wake moves what comes after it."""
    made = campaign(HOUR, HOUR, EMAIL)
    waiting = advance(begin(made), made).journey
    later = advance(waiting, made, 5000).journey
    assert later.wake_us == NOW_US + (5000 + 3600) * SECOND_US
    assert advance(later, made, 8600).journey.state == "finished"


def test_a_shortened_delay_releases_and_a_longer_one_holds() -> None:
    """The length of a delay is today's, counted from when the person came to it."""
    made = campaign(HOUR, EMAIL)
    waiting = advance(begin(made), made).journey
    shorter = campaign({"type": "delay", "seconds": 60}, EMAIL)
    assert advance(waiting, shorter, 61).journey.state == "finished"
    longer = campaign({"type": "delay", "seconds": 7200}, EMAIL)
    held = advance(waiting, longer, 3600)
    assert told(held) == [(1, "delay", "waiting", "until 2024-05-01T12:00:00Z")]
    assert held.journey.wake_us == NOW_US + 7200 * SECOND_US


@pytest.mark.parametrize("value", ["TRUE", 1])
def test_the_unsubscribed_get_no_mail_and_go_on(value: Json) -> None:
    """An opt-out skips the mail, not the journey; a webhook is no message to the person."""
    made = campaign(EMAIL, HOOK)
    step = advance(begin(made), made, customer={**ADA, "unsubscribed": value})
    assert told(step)[:2] == [(1, "email", "skipped", "unsubscribed"), (2, "webhook", "send", "to x.org")]
    assert [type(effect) for effect in step.effects] == [CallWebhook]
    assert step.decisions[0].delivery_id == ""


def test_a_message_that_cannot_be_made_fails_and_the_journey_goes_on() -> None:
    """A missing variable fails this message, with its reason and its name, and no other."""
    made = campaign(EMAIL, HOOK, UPDATE, {**EMAIL, "subject": "Hi"})
    step = advance(begin(made), made, customer={"email": "ada@x.org"})
    failed = [(one.action_id, one.decision) for one in step.decisions]
    assert failed == [(1, "failed"), (2, "failed"), (3, "failed"), (4, "send"), (0, "finished")]
    assert "customer.name is missing" in step.decisions[0].reason
    assert step.decisions[0].delivery_id == f"2-4-1-{NOW_US:x}"
    assert [effect.action_id for effect in step.effects] == [4]


@pytest.mark.parametrize(
    ("segments", "actions"),
    [((), [1, 5, 6]), ((1,), [1, 2, 4, 6]), ((1, 2), [1, 2, 3, 6]), ((2,), [1, 5, 6])],
)
def test_branches_join_again(segments: tuple[int, ...], actions: list[int]) -> None:
    """A condition takes one way, and both ways lead to what follows it."""
    made = campaign(branch(1, [branch(2, [HOOK], [HOOK])], [HOOK]), HOOK)
    step = advance(begin(made), made, holds=inside(*segments))
    assert [one.action_id for one in step.decisions] == [*actions, 0]
    assert step.decisions[0].reason == ("then" if 1 in segments else "else")


def test_an_empty_branch_is_passed() -> None:
    """A way without steps leads straight on, out of a branch too, and at the end of a journey."""
    made = campaign(branch(1, [branch(2, [], [])], []))
    assert [one.reason for one in advance(begin(made), made, holds=inside(1)).decisions] == ["then", "else", ""]
    assert advance(begin(made), made).journey.state == "finished"


def test_a_delay_inside_a_branch_is_kept() -> None:
    """Who waits inside a branch goes on there, whatever the condition says by then."""
    made = campaign(branch(1, [HOUR, EMAIL], [HOOK]))
    waiting = advance(begin(made), made, holds=inside(1)).journey
    assert [effect.action_id for effect in advance(waiting, made, 3600).effects] == [3]


def test_attributes_are_set_before_the_next_step() -> None:
    """After an update the journey stops at once, so that the next step sees it."""
    made = campaign(UPDATE, EMAIL)
    first = advance(begin(made), made)
    assert first.effects == (
        UpdateAttributes(action_id=1, attributes=b'{"by":"Ada","welcomed":true}', time_us=NOW_US),
    )
    assert told(first) == [(1, "attribute_update", "updated", "by, welcomed")]
    assert (first.journey.state, first.journey.wake_us) == ("active", NOW_US)
    assert advance(first.journey, made).journey.state == "finished"


def test_an_update_before_a_delay_does_not_shorten_it() -> None:
    """Stopping for an update is not waiting."""
    made = campaign(UPDATE, HOUR, EMAIL)
    second = advance(advance(begin(made), made).journey, made)
    assert told(second) == [(2, "delay", "waiting", "until 2024-05-01T11:00:00Z")]
    assert advance(second.journey, made, 3599) == Advance(second.journey)


def test_an_update_as_the_last_step_finishes() -> None:
    """Nothing is left to see it."""
    made = campaign(UPDATE)
    assert advance(begin(made), made).journey.state == "finished"


FILTERED = campaign(EMAIL, filter={"segment": {"id": 3}})


def test_without_a_filter_a_journey_is_entered_at_once() -> None:
    """The start is what the frequency counts."""
    made = campaign(EMAIL)
    assert begin(made).entered_us == NOW_US


def test_a_filter_that_holds_lets_in() -> None:
    """The filter is the first decision."""
    step = advance(begin(FILTERED), FILTERED, holds=inside(3))
    assert [one.decision for one in step.decisions] == ["entered", "send", "finished"]
    assert step.journey.entered_us == NOW_US
    assert step.journey.filter_until_us is None


@pytest.mark.parametrize("after_s", [0.5, 60, 1799, 1800])
def test_an_event_campaign_waits_30_minutes_for_its_filter(after_s: float) -> None:
    """An identify that comes a little later still lets the person in, to the last moment."""
    waiting = advance(begin(FILTERED), FILTERED)
    assert waiting.decisions == ()
    assert waiting.journey.state == "filtering"
    assert waiting.journey.wake_us == NOW_US + 30 * MINUTE_US
    entered = advance(waiting.journey, FILTERED, after_s, holds=inside(3))
    assert entered.journey.state == "finished"
    assert entered.journey.entered_us == NOW_US + round(after_s * SECOND_US)


@pytest.mark.parametrize(("after_s", "holds"), [(1800, inside()), (1800.000001, inside(3)), (9999, inside())])
def test_a_filter_that_does_not_hold_in_time_sends_away(after_s: float, holds: Callable[[Condition], bool]) -> None:
    """After the 30 minutes it is too late, even if it holds by then."""
    step = advance(advance(begin(FILTERED), FILTERED).journey, FILTERED, after_s, holds=holds)
    assert told(step) == [(0, "journey", "exited", "the filter did not hold within 30 minutes")]
    assert (step.journey.state, step.journey.entered_us, step.journey.wake_us) == ("exited", None, None)


def test_a_segment_campaign_judges_its_filter_once() -> None:
    """There is no grace: the filter holds at the start or never."""
    made = campaign(EMAIL, trigger={"segment": {"id": 7}}, filter={"segment": {"id": 3}})
    step = advance(begin(made, ENTERED), made)
    assert told(step) == [(0, "journey", "exited", "the filter did not hold")]
    assert advance(begin(made, ENTERED), made, holds=inside(3)).journey.state == "finished"


def test_two_journeys_that_wait_for_a_filter_do_not_both_enter() -> None:
    """The frequency is looked at again when a filter lets somebody in."""
    waiting = advance(begin(FILTERED), FILTERED).journey
    step = advance(waiting, FILTERED, 60, holds=inside(3), previous_starts_us=(NOW_US + 5,))
    assert told(step) == [(0, "journey", "exited", "once per person; they started at 2024-05-01T10:00:00Z")]
    assert step.effects == ()


@pytest.mark.parametrize(
    ("frequency", "previous_s", "allowed"),
    [
        ({"mode": "once"}, [], True),
        ({"mode": "once"}, [-10_000_000], False),
        ({"mode": "every"}, [-1, 0], True),
        ({"mode": "every", "min_interval_s": 60}, [], True),
        ({"mode": "every", "min_interval_s": 60}, [-59], False),
        ({"mode": "every", "min_interval_s": 60}, [-60], True),
        ({"mode": "every", "min_interval_s": 60}, [-30, -90], False),
    ],
)
def test_the_frequency(frequency: Json, previous_s: list[int], allowed: bool) -> None:
    """Once is once for ever; an interval counts from the last start."""
    made = campaign(EMAIL, frequency=frequency)
    starts = [NOW_US + seconds * SECOND_US for seconds in previous_s]
    refusal = may_start(made, previous_starts_us=starts, now_us=NOW_US)
    assert (refusal is None) is allowed


def test_leaving_ends_a_journey_once() -> None:
    """A journey that is left does nothing more, and one that is over cannot be left."""
    made = campaign(HOUR, EMAIL)
    waiting = advance(begin(made), made).journey
    left = leave(waiting, now_us=NOW_US, reason="the campaign was stopped")
    assert told(left) == [(0, "journey", "exited", "the campaign was stopped")]
    assert leave(left.journey, now_us=NOW_US, reason="again") == Advance(left.journey)
    assert advance(left.journey, made, 9999) == Advance(left.journey)


def test_a_step_that_is_gone_ends_the_journey() -> None:
    """Who stood at a step that an edit took away leaves, and the ledger says why."""
    made = campaign(EMAIL, EMAIL, HOUR, EMAIL)
    waiting = advance(begin(made), made).journey
    step = advance(waiting, campaign(EMAIL), 3600)
    assert told(step) == [(0, "journey", "exited", "the step it stood at is no longer in the campaign")]


def test_what_templates_see() -> None:
    """Event campaigns see the event, segment campaigns the segment, both the person."""
    by_event = namespace(PURCHASE, ADA)
    assert by_event == {
        "customer": {**ADA, "devices": []},
        "objects": {},
        "event": {"price": 9.5},
        "trigger": {"price": 9.5},
        "event_name": "purchased",
        "event_id": "e1",
        "event_timestamp": 1_714_557_594,
    }
    assert namespace(EventCause(name="a", time_us=0), ADA)["event_id"] is None
    assert namespace(ENTERED, ADA, "VIP") == {
        "customer": {**ADA, "devices": []},
        "objects": {},
        "trigger": {"segment": {"id": 7, "name": "VIP"}, "transition": "entered"},
    }


def test_a_segment_campaign_has_no_event() -> None:
    """``event`` in a segment campaign is a missing variable; ``trigger`` is the segment."""
    wrong: Json = {**EMAIL, "subject": "{{ event.price }}"}
    right: Json = {**EMAIL, "subject": "{{ trigger.segment.name }} {{ trigger.transition }}"}
    made = campaign(wrong, right, trigger={"segment": {"id": 7}})
    step = advance(begin(made, ENTERED), made)
    assert "event.price is missing" in step.decisions[0].reason
    [effect] = step.effects
    assert isinstance(effect, SendEmail)
    assert effect.email.subject == "VIP entered"


def test_a_journey_survives_being_stored() -> None:
    """A journey reads back as what it was, at every stop."""
    made = campaign(UPDATE, HOUR, EMAIL, filter={"segment": {"id": 3}})
    journey = begin(made)
    for after_s in (0, 10, 10, 3610):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(journey), type=Journey) == journey
        journey = advance(journey, made, after_s, holds=inside(3) if after_s else inside()).journey
    assert journey.state == "finished"


STEPS = st.recursive(
    st.sampled_from([EMAIL, HOOK, UPDATE, HOUR]),
    lambda inner: st.builds(branch, st.integers(1, 3), st.lists(inner, max_size=3), st.lists(inner, max_size=3)),
    max_leaves=12,
)
# Seconds since the last wake, the segments the person is in by then, and whether they may be sent mail.
WAKE = st.tuples(st.sampled_from([0, 1, 60, 1799, 1800, 3600, 5000]), st.sets(st.integers(1, 4)), st.booleans())
WAKES = st.lists(WAKE, max_size=25)


@settings(deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=5), st.booleans(), st.sampled_from([PURCHASE, ENTERED]), WAKES)
def test_no_action_acts_twice_in_one_journey(
    steps: list[Json], filtered: bool, cause: Cause, wakes: list[tuple[int, set[int], bool]]
) -> None:
    """Whenever and however often a journey is woken, and whatever holds by then, an action acts at most once.

    The same wakes give the same journey, the ledger only goes forward, and a journey that is over stays so.
    """
    trigger: Json = {"event": {"name": "a"}} if isinstance(cause, EventCause) else {"segment": {"id": 7}}
    made = campaign(*steps, trigger=trigger, **({"filter": {"segment": {"id": 4}}} if filtered else {}))
    journey, seconds = begin(made, cause), 0
    acted: list[int] = []
    decided: list[int] = []
    names: list[str] = []
    for after_s, segments, subscribed in wakes:
        seconds += after_s
        customer: dict[str, Json] = {**ADA, "unsubscribed": not subscribed}
        was_over = journey.state in ("finished", "exited")
        wake = partial(advance, made=made, after_s=seconds, holds=inside(*segments), customer=customer)
        step = wake(journey)
        assert step == wake(journey)
        assert step.journey.cursor == 0 or step.journey.cursor >= journey.cursor
        # Who is asked again at the same moment, with nothing to apply, says nothing new.
        if not any(isinstance(effect, UpdateAttributes) for effect in step.effects) and step.journey.state == "active":
            assert wake(step.journey) == Advance(step.journey)
        if was_over:
            assert step == Advance(journey)
        acted += [effect.action_id for effect in step.effects]
        names += [effect.delivery_id for effect in step.effects if not isinstance(effect, UpdateAttributes)]
        decided += [one.action_id for one in step.decisions if one.action_id]
        journey = step.journey
        over = journey.state in ("finished", "exited")
        assert over == (journey.wake_us is None)
    assert len(acted) == len(set(acted))
    assert len(names) == len(set(names))
    assert decided == sorted(set(decided))
