"""Metrics of deliveries: recorded once, told in the log, and what an unsubscribe does to its person."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from backstory.core.fact import Identifier, PutDevice, Receipt, ReportMetric
from backstory.core.metric import REPORTED
from backstory.store.ledger import DeliveryRow
from tests.live import NOW_US, Live

S = 1_000_000


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "w")
    world.identify("a")
    person = world.workspace.folder.people.find(Identifier("id", "a"))
    assert person is not None
    row = DeliveryRow(
        delivery_id="d1",
        seq=1,
        journey_id=1,
        campaign_id=7,
        action_id=1,
        person=person,
        kind="email",
        state="sent",
        body=b"{}",
        attempts=1,
        created_us=NOW_US - 100 * S,
        ready_us=None,
        metrics='{"sent":1}',
        failure=None,
        trigger_event_id=None,
    )
    world.workspace.call(lambda: world.workspace.folder.ledger.add_delivery(row))
    yield world
    world.close()


def report(live: Live, metric: str, delivery_id: str = "d1", time_us: int | None = None, **more: object) -> Receipt:
    fact = ReportMetric(delivery_id=delivery_id, metric=metric, time_us=time_us, **more)  # pyright: ignore[reportArgumentType]
    return live.send(fact)[0]


def metrics(live: Live) -> dict[str, int]:
    row = live.workspace.folder.ledger.delivery("d1")
    assert row is not None
    return msgspec.json.decode(row.metrics)


def types(live: Live) -> list[str]:
    rows = live.workspace.folder.state.rows("SELECT type FROM activity WHERE delivery_id = 'd1' ORDER BY seq")
    return [row[0] for row in rows]


@pytest.mark.parametrize("metric", REPORTED)
def test_a_metric_is_recorded_and_told_once(live: Live, metric: str) -> None:
    """The first report is applied, the second is a duplicate and leaves no second entry."""
    assert report(live, metric, time_us=NOW_US - S).result == "applied"
    assert report(live, metric, time_us=NOW_US).result == "duplicate"
    assert metrics(live) == {"sent": 1, metric: NOW_US - S}
    assert types(live) == [f"{metric}_email"]


def test_the_earliest_time_counts(live: Live) -> None:
    """Reports in any order end in the same time."""
    report(live, "opened", time_us=NOW_US)
    report(live, "opened", time_us=NOW_US - 5 * S)
    assert metrics(live)["opened"] == NOW_US - 5 * S


def test_what_is_unknown_leaves_a_trace(live: Live) -> None:
    """Neither a delivery nor a metric that we do not know is an error; both can be seen."""
    assert report(live, "opened", "nobody").result == "dropped"
    assert report(live, "sung").result == "dropped"
    rows = live.workspace.folder.state.rows("SELECT data FROM activity WHERE type = 'failed_metric'")
    assert len(rows) == 2


def test_the_reason_of_a_failure_is_kept(live: Live) -> None:
    """Why a message bounced is part of its delivery."""
    report(live, "bounced", reason="mailbox full")
    row = live.workspace.folder.ledger.delivery("d1")
    assert row is not None
    assert (row.state, row.failure) == ("sent", "mailbox full")


def test_an_unsubscribe_changes_its_person(live: Live) -> None:
    """It sets the attribute and is attributed to the delivery."""
    assert report(live, "unsubscribed", unsubscribe=True).result == "applied"
    view = live.workspace.reader.person("id", "a")
    assert view is not None
    assert view.attributes == {"unsubscribed": True}
    assert types(live) == ["unsubscribed_email"]


def test_a_bounce_of_a_push_marks_the_device(live: Live) -> None:
    """The device keeps what became of the last thing sent to it."""
    live.send(PutDevice(person=Identifier("id", "a"), token="tok", platform="ios", time_us=NOW_US - 9 * S))
    report(live, "bounced", device_token="tok")
    ((_, record),) = live.workspace.folder.devices.of_person(0)
    assert record.document["_last_status"].value == b'"bounced"'
