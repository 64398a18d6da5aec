"""Explain, preview, history and manual members over the App API, on a real workspace; and the commands behind them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from backstory.core.condition import Json
from backstory.core.fact import Identifier, MergePeople, PutDevice
from backstory.core.time import DAY_US, SECOND_US
from backstory.edge.app import app_api
from backstory.edge.cli import main
from backstory.edge.cli_command import Runtime
from backstory.edge.transport import InProcess
from tests.live import NOW_US, Live

BOUGHT: Json = {"event": {"name": "bought", "count": {"at_least": 2}, "within": {"last_s": 864_000}}}
NOW_S = NOW_US // SECOND_US


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "workspaces" / "default")
    yield live
    live.close()


@pytest.fixture
def client(live: Live) -> Iterator[httpx.Client]:
    app = app_api(live.workspace, lambda scope: True, trusted=True)
    with httpx.Client(transport=InProcess(app), base_url="http://backstory", timeout=None) as client:
        yield client


def days_ago(days: float) -> int:
    return NOW_US - round(days * DAY_US)


def get(client: httpx.Client, path: str, **query: Any) -> Any:
    answer = client.get(path, params=query)
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture
def buyers(live: Live) -> int:
    """Ann bought nine, five and one days ago and has been a member by the first two since; bob bought once."""
    live.identify("ann", days_ago(20), plan="pro")
    for days, event_id in ((9, "e9"), (5, "e5"), (1, "e1")):
        live.track("ann", "bought", days_ago(days), event_id=f"01890a5d-ac96-774b-bcce-b302099a80{event_id}")
    live.track("bob", "bought", days_ago(2))
    return live.segment({"and": [BOUGHT, {"attribute": {"field": "plan", "operator": "eq", "value": "PRO"}}]})


def test_explain_names_the_events_the_value_and_the_next_change(client: httpx.Client, buyers: int) -> None:
    """Two of three events have to leave the window of ten days before ann leaves: the second does it."""
    found = get(client, f"/v1/customers/ann/segments/{buyers}/explain")
    assert (found["member"], found["exists"]) == (True, True)
    assert found["next_change_at"] == days_ago(5) // SECOND_US + 864_000
    bought, plan = found["tree"]["children"]
    assert bought["count"] == 3
    assert [one["event_id"][-2:] for one in bought["because"]] == ["e1", "e5", "e9"]
    assert bought["because"][0]["at"] == days_ago(1) // SECOND_US
    assert plan["because"] == [
        {"attribute": "plan", "values": ["pro"], "at": days_ago(20) // SECOND_US, "import_id": None}
    ]
    assert plan["condition"] == {"attribute": {"field": "plan", "operator": "eq", "value": "PRO"}}


def test_explain_as_of_a_day_and_as_known_then(client: httpx.Client, buyers: int) -> None:
    """As of six days ago one event was in the window, and the next change is the second event."""
    found = get(client, f"/v1/customers/ann/segments/{buyers}/explain", as_of=days_ago(6) // SECOND_US)
    assert (found["member"], found["tree"]["children"][0]["count"]) == (False, 1)
    assert found["next_change_at"] == days_ago(5) // SECOND_US
    answer = client.get(f"/v1/customers/ann/segments/{buyers}/explain", params={"known_at": NOW_S - 1})
    assert answer.status_code == 404
    early = get(client, f"/v1/customers/ann/segments/{buyers}/explain", as_of=days_ago(30) // SECOND_US)
    assert (early["member"], early["exists"]) == (False, False)


def test_explain_tells_who_was_put_into_a_manual_segment(client: httpx.Client, live: Live, buyers: int) -> None:
    """By itself and inside another segment, as of a day too; taken out, it says so."""
    manual = live.segment(None)
    over = live.segment({"not": {"segment": {"id": manual}}})
    path, whole = f"/v1/segments/{manual}/members", f"/v1/customers/ann/segments/{manual}/explain"
    assert (get(client, whole)["member"], get(client, whole)["tree"]["because"]) == (False, [])
    client.post(path, json={"ids": ["ann"]})
    added = get(client, whole)
    assert (added["member"], added["tree"]["condition"]) == (True, {"segment": {"id": manual}})
    (because,) = added["tree"]["because"]
    assert (because["by_hand"], because["at"] >= NOW_S) == ("added", True)
    (below,) = get(client, f"/v1/customers/ann/segments/{over}/explain")["tree"]["children"]
    assert below["because"] == [because]
    assert get(client, whole, as_of=NOW_S - 1)["member"] is False
    client.post(f"{path}/remove", json={"ids": ["ann"]})
    (because,) = get(client, whole)["tree"]["because"]
    assert because["by_hand"] == "removed"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/customers/ann/segments/77/explain", 404),
        ("/v1/customers/nobody/segments/1/explain", 404),
        ("/v1/customers/nobody/segments/history", 404),
        ("/v1/customers/ann/segments/1/explain?as_of=yesterday", 400),
        ("/v1/segments/77/history", 404),
        ("/v1/segments/1/history?step=0", 400),
        ("/v1/segments/1/history?step=1", 400),
        ("/v1/segments/1/history?start=9&end=8", 400),
    ],
)
def test_what_cannot_be_asked_is_refused(client: httpx.Client, buyers: int, path: str, status: int) -> None:
    """Unknown people and segments, times that are none, too many points."""
    assert client.get(path).status_code == status


def test_a_preview_counts_and_keeps_nothing(client: httpx.Client, live: Live, buyers: int) -> None:
    """Now, as of a day, with a sample; a wrong condition is 422 with its place."""
    once: Json = {"event": {"name": "bought"}}
    answer = client.post("/v1/segments/preview", json={"conditions": once, "limit": 1}).json()
    assert (answer["count"], [one["id"] for one in answer["sample"]]) == (2, ["ann"])
    as_of = client.post("/v1/segments/preview", json={"conditions": once, "as_of": days_ago(3) // SECOND_US})
    assert as_of.json()["count"] == 1
    wrong = client.post("/v1/segments/preview", json={"conditions": {"event": {"nam": "x"}}})
    assert wrong.status_code == 422
    assert "$.conditions.event" in wrong.text
    assert 'did you mean \\"name\\"' in wrong.text
    assert client.post("/v1/segments/preview", json={"conditions": once, "limit": -1}).status_code == 400
    assert client.post("/v1/segments/preview", json={}).status_code == 422
    assert len(get(client, "/v1/segments")["segments"]) == 1


def test_a_history_is_the_count_as_of_each_point(client: httpx.Client, buyers: int) -> None:
    """Every point is what ``customer_count`` says as of that moment."""
    start, end = days_ago(12) // SECOND_US, NOW_S
    points = get(client, f"/v1/segments/{buyers}/history", start=start, end=end, step=43_200)["points"]
    assert [point["at"] for point in points] == list(range(start, end + 1, 43_200))
    for point in points:
        count = get(client, f"/v1/segments/{buyers}/customer_count", as_of=point["at"])["count"]
        assert point["count"] == count
    assert sorted({point["count"] for point in points}) == [0, 1]
    assert len(get(client, f"/v1/segments/{buyers}/history")["points"]) == 31


def test_the_history_of_a_person_has_every_interval(client: httpx.Client, live: Live, buyers: int) -> None:
    """In valid time: in with the second purchase, and in still; a past stretch has its end."""
    recent = live.segment({"event": {"name": "bought", "within": {"last_s": 86_400}}})
    found = get(client, "/v1/customers/ann/segments/history")["segments"]
    by_id = {one["id"]: one["intervals"] for one in found}
    assert by_id[buyers] == [{"from": days_ago(5) // SECOND_US, "to": None}]
    ended = [(row["from"], row["to"]) for row in by_id[recent]]
    assert ended == [(days_ago(d) // SECOND_US, days_ago(d - 1) // SECOND_US) for d in (9, 5, 1)]


def test_known_at_leaves_out_what_came_later(client: httpx.Client, live: Live, buyers: int) -> None:
    """An old purchase that arrives today counts as of its day, but not as that day was known before."""
    before_s = live.workspace.folder.state.now_us // SECOND_US + 1
    live.advance(10 * SECOND_US)
    live.track("carl", "bought", days_ago(4))
    once = live.segment({"event": {"name": "bought"}})
    as_of = days_ago(3) // SECOND_US
    assert get(client, f"/v1/segments/{once}/customer_count", as_of=as_of)["count"] == 2
    assert get(client, f"/v1/segments/{once}/customer_count", as_of=as_of, known_at=before_s)["count"] == 1
    never = live.segment({"not": {"event": {"name": "sold"}}})
    assert get(client, f"/v1/segments/{never}/customer_count")["count"] == 3
    assert get(client, f"/v1/segments/{never}/customer_count", known_at=before_s)["count"] == 2


def test_transitions_tell_who_since_when_and_by_what(client: httpx.Client, live: Live, buyers: int) -> None:
    """Ann was moved by the build, with the moment of her second purchase; she leaves by the clock."""
    live.advance(6 * DAY_US)
    (left, entered) = get(client, f"/v1/segments/{buyers}/transitions")["transitions"]
    assert entered["customer"]["id"] == "ann"
    assert (entered["transition"], entered["by"]) == ("entered", "build")
    assert entered["effective_at"] == days_ago(5) // SECOND_US
    assert NOW_S <= entered["processed_at"] < NOW_S + 1
    assert (left["transition"], left["by"]) == ("left", "change")
    assert left["effective_at"] == left["processed_at"] == days_ago(5) // SECOND_US + 864_000
    first = get(client, f"/v1/segments/{buyers}/transitions", limit=1)
    assert get(client, f"/v1/segments/{buyers}/transitions", start=first["next"])["transitions"] == [entered]
    assert client.get(f"/v1/segments/{buyers}/transitions", params={"start": "x"}).status_code == 400
    assert client.get("/v1/segments/77/transitions").status_code == 404


def test_a_manual_segment_takes_lists_and_csv(client: httpx.Client, live: Live, buyers: int) -> None:
    """People are put in and taken out by any identifier; unknown ones are counted; clearing empties it."""
    manual = live.segment(None)
    path = f"/v1/segments/{manual}/members"
    assert client.post(path, json={"ids": ["ann", "nobody"]}).json() == {
        "segment_id": manual, "added": 1, "unchanged": 0, "unknown": 1,
    }  # fmt: skip
    assert client.post(path, content=b"name,id\r\nBob,bob\r\n,\r\n").json()["added"] == 1
    assert live.members(manual) == {"ann", "bob"}
    assert client.post(f"{path}/remove", json={"ids": ["ann"]}).json()["removed"] == 1
    assert client.delete(path).json() == {"segment_id": manual, "removed": 1}
    assert live.members(manual) == set()
    assert client.post(path, content=b"name\nBob\n").status_code == 400
    assert client.post(path, json={"ids": [True]}).status_code == 400
    assert client.post(f"/v1/segments/{buyers}/members", json={"ids": ["ann"]}).status_code == 422


def test_a_manual_segment_counts_whom_a_call_moved(client: httpx.Client, live: Live, buyers: int) -> None:
    """Who is in already is not put in, and who is not in is not taken out: they are unchanged."""
    path = f"/v1/segments/{live.segment(None)}/members"

    def told(body: dict[str, int]) -> list[int]:
        return [body.get(key, 0) for key in ("added", "removed", "unchanged", "unknown")]

    assert told(client.post(path, json={"ids": ["ann", "ann"]}).json()) == [1, 0, 0, 0]
    assert told(client.post(path, json={"ids": ["ann", "bob", "nobody"]}).json()) == [1, 0, 1, 1]
    assert told(client.post(f"{path}/remove", json={"ids": ["bob"]}).json()) == [0, 1, 0, 0]
    assert told(client.post(f"{path}/remove", json={"ids": ["ann", "bob", "nobody"]}).json()) == [0, 1, 1, 1]


def test_a_manual_segment_has_a_past(client: httpx.Client, live: Live, buyers: int) -> None:
    """As of a day it holds who had been put in by then, and so do segments over it; the past of a person shows it."""
    manual = live.segment(None)
    over = live.segment({"not": {"segment": {"id": manual}}})
    path = f"/v1/segments/{manual}/members"
    days = [NOW_S + day * 86_400 for day in range(5)]
    client.post(path, json={"ids": ["ann"]})
    live.advance(DAY_US)
    client.post(path, content=b"id\nbob\nann\n")
    live.advance(DAY_US)
    client.post(f"{path}/remove", json={"ids": ["ann"]})
    live.advance(DAY_US)
    client.delete(path)
    live.advance(DAY_US)

    def counted(segment_id: int, **query: int) -> list[int]:
        counts = f"/v1/segments/{segment_id}/customer_count"
        return [get(client, counts, as_of=day + 9, **query)["count"] for day in days[:4]]

    assert counted(manual) == [1, 2, 1, 0]
    assert counted(over) == [1, 0, 1, 2]
    assert counted(manual, known_at=days[1] - 9) == [1, 1, 1, 1]
    points = get(client, f"/v1/segments/{manual}/history", start=days[0] + 9, end=days[3] + 9)["points"]
    assert [point["count"] for point in points] == [1, 2, 1, 0]
    then = get(client, f"/v1/segments/{manual}/membership", as_of=days[2] + 9)["identifiers"]
    assert [one["id"] for one in then] == ["bob"]
    found = get(client, "/v1/customers/ann/segments/history")["segments"]
    (placed,) = [one["intervals"] for one in found if one["id"] == manual]
    (interval,) = placed
    assert NOW_S <= interval["from"] < NOW_S + 1
    assert days[2] <= interval["to"] < days[2] + 1
    why = get(client, f"/v1/customers/ann/segments/{over}/explain", as_of=days[1] + 9)
    assert why["member"] is False
    assert live.members(manual) == set()
    live.reopen()
    assert [one.entered for one in live.workspace.reader.transitions(manual, start="", limit=9)[0]] == [
        False, False, True, True,
    ]  # fmt: skip


def run(live: Live, *words: str, input: str | None = None) -> str:
    """A command on the workspace that is open."""
    app = app_api(live.workspace, lambda scope: True, trusted=True)

    class Nobody:
        def close(self) -> None: ...

    def serve(*_: object) -> None:
        raise AssertionError("nobody serves here")

    def opens(*_: object) -> Any:
        return Nobody(), app

    runtime = Runtime(environment={}, open_folder=opens, open_aside=opens, serve=serve)  # type: ignore[arg-type]
    result = CliRunner().invoke(main, [*words, "--data", str(live.path.parents[1])], obj=runtime, input=input)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands_tell_in_words(live: Live, buyers: int, tmp_path: Path) -> None:
    """Explain as a tree, preview, history and the past of a person as columns; members by file."""
    told = run(live, "segments", "explain", str(buyers), "ann")
    assert told.startswith(f"ann is in segment {buyers} as of 2024-06-01 12:00:00")
    assert "yes  all of" in told
    assert "3 in the window" in told
    assert "plan is pro since 2024-05-12 12:00:00Z" in told
    assert "is not in" in run(live, "segments", "explain", str(buyers), "bob")
    live.send(PutDevice(person=Identifier("id", "ann"), token="t", platform="ios"))
    apple = str(live.segment({"device": {"platform": "ios"}}))
    told = run(live, "segments", "explain", apple, "ann")
    assert "1 that pass" in told
    assert "window" not in told
    assert run(live, "segments", "preview", "--conditions", '{"event": {"name": "b*"}}').startswith("2 people\n")
    assert len(run(live, "segments", "history", str(buyers)).splitlines()) == 32
    assert "now" in run(live, "segments", "of", "ann")
    assert "entered" in run(live, "segments", "log", str(buyers)).splitlines()[1]
    manual = str(live.segment(None))
    path = tmp_path / "people.csv"
    path.write_text("id\nann\nnobody\n")
    assert run(live, "segments", "add", manual, "--csv", str(path)) == "1 added, 1 unknown and left out\n"
    # The columns of an import of members do as well.
    path.write_text("customer_id,email\nann,\n")
    assert run(live, "segments", "remove", manual, "--csv", str(path)) == "1 removed\n"
    assert run(live, "segments", "add", manual, "--csv", str(path)) == "1 added\n"
    path.write_text("email\nnobody@example.com\n")
    assert run(live, "segments", "add", manual, "--csv", str(path)) == "0 added, 1 unknown and left out\n"
    assert run(live, "segments", "add", manual, "bob") == "1 added\n"
    assert run(live, "segments", "remove", manual, "bob") == "1 removed\n"
    assert run(live, "segments", "clear", manual, "--yes") == "1 removed\n"


def test_a_merge_brings_the_past_in_manual_segments(client: httpx.Client, live: Live, buyers: int) -> None:
    """As of each day the survivor was where either was put last; they are in now, since then, as the log tells too."""
    manual = live.segment(None)
    over = live.segment({"not": {"segment": {"id": manual}}})
    path = f"/v1/segments/{manual}/members"
    days = [NOW_S + day * 86_400 for day in range(5)]
    for call, body in ((path, ["bob"]), (f"{path}/remove", ["bob"]), (path, ["bob"])):
        client.post(call, json={"ids": body})
        live.advance(DAY_US)
    live.send(MergePeople(primary=Identifier("id", "ann"), secondary=Identifier("id", "bob")))
    live.advance(DAY_US)

    def counted(segment_id: int, **query: int) -> list[int]:
        counts = f"/v1/segments/{segment_id}/customer_count"
        return [get(client, counts, as_of=day + 9, **query)["count"] for day in days[:4]]

    assert live.members(manual) == {"ann"}
    assert (counted(manual), counted(over)) == ([1, 0, 1, 1], [0, 1, 0, 0])
    assert counted(manual, known_at=days[1] - 9) == [1, 1, 1, 1]
    entered = [one for one in get(client, f"/v1/segments/{manual}/transitions")["transitions"]
               if one["customer"]["id"] == "ann"]
    assert [(one["transition"], int(one["effective_at"])) for one in entered] == [("entered", days[2])]
    client.post(f"{path}/remove", json={"ids": ["ann"]})
    found = get(client, "/v1/customers/ann/segments/history")["segments"]
    (placed,) = [one["intervals"] for one in found if one["id"] == manual]
    assert [(int(one["from"]), int(one["to"])) for one in placed] == [(days[0], days[1]), (days[2], days[4])]


def test_who_was_in_a_manual_segment_stays_in_it_after_a_merge(client: httpx.Client, live: Live, buyers: int) -> None:
    """Though the other was taken out last; a restart changes nothing."""
    manual = live.segment(None)
    path = f"/v1/segments/{manual}/members"
    for call, body in ((path, ["ann", "bob"]), (f"{path}/remove", ["bob"])):
        client.post(call, json={"ids": body})
        live.advance(DAY_US)
    live.send(MergePeople(primary=Identifier("id", "ann"), secondary=Identifier("id", "bob")))
    for _ in range(2):
        assert live.members(manual) == {"ann"}
        count = live.workspace.reader.member_count
        moments_us = (NOW_US + SECOND_US, NOW_US + DAY_US + SECOND_US, None)
        assert [count(manual, moment_us) for moment_us in moments_us] == [1, 0, 1]
        live.reopen()
