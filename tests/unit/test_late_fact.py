"""Late events and since when what they change is true: not before anything else that the segment asks for."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.fact import ChangeMembers, Identifier, IdentifyObject, ObjectKey, Relate, ReportMetric, Track
from backstory.core.time import DAY_US
from backstory.store.ledger import DeliveryRow
from tests.live import NOW_US, Live

ANN = Identifier("id", "ann")
ACME = ObjectKey(type_id=1, object_id="acme")
PRO: Json = {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "world")
    world.identify("ann", NOW_US - 300 * DAY_US)
    world.identify("bob", NOW_US - 300 * DAY_US)
    assert world.segment(None) == 1
    world.send(IdentifyObject(object=ACME, attributes=b'{"plan": "free"}'))
    world.send(Relate(object=ACME, person=ANN, attributes=b"{}"))
    world.send(ChangeMembers(segment_id=1, people=(Identifier("id", "bob"),), add=True))
    person = world.workspace.folder.people.find(ANN)
    assert person is not None
    row = DeliveryRow(
        delivery_id="d1", seq=1, journey_id=1, campaign_id=7, action_id=1, person=person, kind="email", state="sent",
        body=b"{}", attempts=1, created_us=NOW_US, ready_us=None, metrics='{"sent":1}', failure=None,
        trigger_event_id=None,
    )  # fmt: skip
    world.workspace.call(lambda: world.workspace.folder.ledger.add_delivery(row))
    world.advance(10 * DAY_US)
    yield world
    world.close()


def attribute(live: Live) -> None:
    live.identify("ann", plan="pro")


def object_of(live: Live) -> None:
    live.send(IdentifyObject(object=ACME, attributes=msgspec.json.encode({"plan": "pro"})))


def message(live: Live) -> None:
    live.send(ReportMetric(delivery_id="d1", metric="opened", time_us=None))


def placed(live: Live) -> None:
    live.send(ChangeMembers(segment_id=1, people=(ANN,), add=True))


@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("happen", "condition"),
    [
        (attribute, PRO),
        (object_of, {"relationship": {"object_type_id": 1, "where": PRO}}),
        (message, {"message": {"metric": "opened", "channel": "email"}}),
        (placed, {"segment": {"id": 1}}),
    ],
)
def test_a_late_event_moves_nobody_before_what_else_is_asked(
    live: Live, happen: Callable[[Live], None], condition: Json, count: int, *, asked_before: bool
) -> None:
    """Whether a segment asked for it already when it happened, or only since; alone or with other events."""
    both: Json = {"and": [condition, {"event": {"name": "buy"}}]}
    segment_id = live.segment(both) if asked_before else 0
    live.advance(DAY_US)
    happen(live)
    happened_us = live.workspace.folder.state.now_us
    live.advance(DAY_US)
    segment_id = segment_id or live.segment(both)
    live.advance(DAY_US)
    live.workspace.applier.bursts.at_least = 3
    late = [Track(person=ANN, name="buy", data=b"{}", time_us=happened_us - DAY_US + at) for at in range(count)]
    live.send(*late)
    assert live.members(segment_id) == {"ann"}
    assert [(entered, us) for _, entered, us, _ in live.transitions(segment_id)] == [(True, happened_us)]
