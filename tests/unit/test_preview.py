"""Previews: what an import would do, against what it then does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstory.core.error import RequestError
from backstory.core.fact import PutCampaign, SetCampaignState
from backstory.core.time import SECOND_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions, Progress
from backstory.engine.preview import preview
from backstory.engine.preview.preview import Rehearsal
from backstory.engine.preview.preview_view import Preview
from backstory.engine.preview.rehearsal import opened, rehearse, rehearse_in
from backstory.store.folder import REPLICAS
from backstory.store.reading import NotWritten
from backstory.store.replica import make_replica
from tests.live import Live
from tests.model.imported import csv_text, json_lines, state, written

HOUR_US = 3_600_000_000
BOUGHT: dict[str, Any] = {"event": {"name": "purchased", "within": {"last_s": 60}}}
EVENTS: dict[str, Any] = {"event": {"name": "purchased", "count": {"at_least": 2}}}


@pytest.fixture
def live(tmp_path: Path) -> Any:
    live = Live(tmp_path / "w")
    yield live
    live.close()


def ignore(progress: Progress) -> None:
    pass


def seen(live: Live, options: BackfillOptions) -> Preview:
    return preview.preview(live.workspace, options, ignore, rehearse=rehearse)


def campaign(live: Live, trigger: Any, *steps: Any, **more: Any) -> int:
    definition = {"name": "c", "trigger": trigger, "frequency": {"mode": "every"}, "steps": list(steps), **more}
    (receipt,) = live.send(PutCampaign(definition=msgspec.json.encode(definition)))
    assert receipt.subject is not None
    live.send(SetCampaignState(campaign_id=receipt.subject, state="running"))
    return receipt.subject


MAIL = {"type": "email", "from": "a@x.org", "subject": "s", "body": "b"}


def events(live: Live, *ages_h: float) -> bytes:
    now_s = live.now_us // 10**6
    return json_lines(
        {"id": f"p{at}", "name": "purchased", "timestamp": now_s - int(h * 3600)} for at, h in enumerate(ages_h)
    )


def test_a_preview_says_what_the_run_does_and_changes_nothing(live: Live, tmp_path: Path) -> None:
    """Counts, segments, attributes, errors: the same as afterwards; the workspace and its folder stay as they were."""
    live.identify("a", live.now_us - HOUR_US, plan="free", age=3)
    live.identify("b", live.now_us - HOUR_US, plan="pro")
    pro = live.segment({"attribute": {"field": "plan", "operator": "eq", "value": "pro"}})
    rows = [
        {"id": "a", "plan": "pro", "age": 3},
        {"id": "b", "plan": "free", "age": ""},
        {"id": "c", "plan": "pro", "age": 5},
        {"id": "", "plan": "pro", "age": 5},
    ]
    options = BackfillOptions(kind="people", paths=(written(tmp_path, "p.csv", csv_text(rows)),))
    before = state(live)
    said = seen(live, options)
    assert state(live) == before
    assert not list((live.path / REPLICAS).iterdir())
    assert [(one.id, one.enter, one.leave, one.members) for one in said.segments] == [(pro, 2, 1, 2)]
    plan = next(one for one in said.attributes if one.name == "plan")
    assert (plan.new_people, plan.changed, plan.overwritten) == (1, 2, 2)
    assert {(one.before, one.after, one.people) for one in plan.changes} == {("free", "pro", 1), ("pro", "free", 1)}
    assert [one.line for one in said.error_samples] == [5]
    done = backfill.run(live.workspace, options, ignore)
    for name in ("rows", "created", "updated", "unchanged", "stale", "errors", "people_created"):
        assert getattr(said, name) == getattr(done, name), name
    assert live.members(pro) == {"a", "c"}


def test_rows_with_errors_are_told_with_their_file(live: Live, tmp_path: Path) -> None:
    """Of a single file the line is enough; the files come in the order in which they are read."""
    good, bad = {"id": "a", "plan": "pro"}, {"id": "", "plan": "pro"}
    paths = tuple(written(tmp_path, f"p{at}.csv", csv_text([good] * (at % 2) + [bad])) for at in range(11))
    said = seen(live, BackfillOptions(kind="people", paths=paths))
    assert [(one.file, one.line) for one in said.error_samples] == [
        (f"p{at}.csv", 2 + at % 2) for at in range(len(said.error_samples))
    ]
    assert [one.file for one in seen(live, BackfillOptions(kind="people", paths=paths[:1])).error_samples] == [""]


def lines_by_outcome(said: Preview) -> dict[str, list[tuple[str, int, str]]]:
    return {
        outcome: [(one.file, one.line, one.text) for one in rows] for outcome, rows in said.samples.items() if rows
    }


@pytest.mark.parametrize("packed", [False, True])
def test_each_outcome_is_told_with_its_first_rows(live: Live, tmp_path: Path, packed: bool) -> None:
    """People who are new, changed, the same or newer; whoever is passed over: the lines as they stand in the file."""
    live.identify("same", live.now_us - HOUR_US, plan="pro")
    live.identify("other", live.now_us - HOUR_US, plan="pro")
    live.identify("newer", live.now_us, plan="pro")
    old = live.now_us // SECOND_US - 1800
    header, lines = "id,plan,_timestamp", [f"new{at},free,{old}" for at in range(9)]
    lines += [f"same,pro,{old}", "", f"other,free,{old}", f"newer,free,{old}", 'odd,"fr""ee",0']
    body = "\n".join([header, *lines]).encode()
    path = written(tmp_path, f"p.csv{'.gz' if packed else ''}", body)
    said = lines_by_outcome(seen(live, BackfillOptions(kind="people", paths=(path,))))
    assert said == {
        "created": [("", 2 + at, lines[at]) for at in range(5)],
        "unchanged": [("", 11, lines[9])],
        "updated": [("", 13, lines[11])],
        "stale": [("", 14, lines[12])],
    }
    only = seen(live, BackfillOptions(kind="people", paths=(path,), rows="only_existing"))
    assert lines_by_outcome(only)["skipped"] == [("", 2 + at, lines[at]) for at in range(5)]
    new = seen(live, BackfillOptions(kind="people", paths=(path,), rows="only_new"))
    assert lines_by_outcome(new)["skipped"] == [("", 11, lines[9]), ("", 13, lines[11]), ("", 14, lines[12])]


@pytest.mark.parametrize("fast", [False, True])
def test_repeats_are_told_with_their_first_rows(live: Live, tmp_path: Path, fast: bool) -> None:
    """Events that are there already, by id or by what they say, in the file they stand in."""
    live.identify("p", live.now_us - HOUR_US)
    live.track("p", "bought", live.now_us - HOUR_US, event_id="one")
    now_s = live.now_us // SECOND_US
    rows = [{"customer_id": "p", "name": "bought", "timestamp": now_s - 60 - at} for at in range(3)]
    rows.append({"customer_id": "p", "name": "bought", "timestamp": now_s, "event_id": "one"})
    first, second = json_lines(rows), json_lines([rows[1], {**rows[0], "customer_id": "stranger"}])
    paths = (written(tmp_path, "a.jsonl", first), written(tmp_path, "b.jsonl", second))
    backfill.run(live.workspace, BackfillOptions(kind="events", paths=paths[:1]), ignore)

    def tried(one: Rehearsal, on_progress: Callable[[Progress], None]) -> Preview:
        return rehearse(one, on_progress, chunking=Chunking(fast=fast, fast_bytes_min=0))

    asked = BackfillOptions(kind="events", paths=paths, rows="only_existing")
    said = lines_by_outcome(preview.preview(live.workspace, asked, ignore, rehearse=tried))
    texts = [text.decode() for text in (first + second).splitlines()]
    assert said == {
        "duplicate": [("a.jsonl", 1 + at, texts[at]) for at in range(4)],
        # Said a second time by one import, it happened twice.
        "created": [("b.jsonl", 1, texts[4])],
        "skipped": [("b.jsonl", 2, texts[5])],
    }


def test_campaigns_are_previewed_under_each_policy(live: Live, tmp_path: Path) -> None:
    """Recent events start journeys under recent, all of them under all, none under none; messages are counted."""
    for at in range(3):
        live.identify(f"p{at}", email=f"p{at}@x.org")
    number = campaign(live, {"event": {"name": "purchased"}}, MAIL, {"type": "delay", "seconds": 60}, MAIL)
    path = written(tmp_path, "e.jsonl", events(live, 1, 100, 200))
    said = seen(live, BackfillOptions(kind="events", paths=(path,)))
    assert [(one.id, one.policy, one.journeys, one.messages, one.messages_later_at_most) for one in said.campaigns] == [
        (number, "recent", 1, 1, 1),
        (number, "none", 0, 0, 0),
        (number, "all", 3, 3, 3),
    ]
    assert said.held_back.event == 2
    backfill.run(live.workspace, BackfillOptions(kind="events", paths=(path,), triggers="all"), ignore)
    assert live.workspace.folder.state.rows("SELECT count(*) FROM journey") == [(3,)]
    assert live.workspace.folder.state.rows("SELECT count(*) FROM delivery") == [(3,)]


def test_messages_that_would_fail_are_told(live: Live, tmp_path: Path) -> None:
    """Whoever has no address is written to in vain: so many messages, and why one of them fails; then it is so."""
    live.identify("p0", email="p0@x.org")
    number = campaign(live, {"event": {"name": "purchased"}}, MAIL)
    path = written(tmp_path, "e.jsonl", events(live, 100, 200, 300))
    said = seen(live, BackfillOptions(kind="events", paths=(path,)))
    told = {one.policy: (one.messages, one.messages_failed, "email" in one.failure) for one in said.campaigns}
    assert told == {"recent": (0, 0, False), "none": (0, 0, False), "all": (3, 2, True)}
    backfill.run(live.workspace, BackfillOptions(kind="events", paths=(path,), triggers="all"), ignore)
    failed = "SELECT campaign_id, count(*) FROM delivery WHERE state = 'failed' GROUP BY 1"
    assert live.workspace.folder.state.rows(failed) == [(number, 2)]


def test_segment_campaigns_are_previewed(live: Live, tmp_path: Path) -> None:
    """Who newly enters a segment by fresh events starts; by old ones only under all."""
    segment = live.segment({"event": {"name": "purchased"}})
    number = campaign(live, {"segment": {"id": segment, "transition": "entered"}}, MAIL)
    said = seen(live, BackfillOptions(kind="events", paths=(written(tmp_path, "e.jsonl", events(live, 1, 100)),)))
    assert {(one.id, one.policy): one.journeys for one in said.campaigns} == {
        (number, "recent"): 1,
        (number, "none"): 0,
        (number, "all"): 2,
    }


@pytest.mark.parametrize("policy", ["recent", "none", "all"])
@pytest.mark.parametrize("frequency", ["once", "every"])
def test_what_rows_of_the_future_may_start_is_counted_apart(
    live: Live, tmp_path: Path, policy: Any, frequency: str
) -> None:
    """Event and segment campaigns: never fewer than then start, and here just as many; nothing under none."""
    dear: dict[str, Any] = {"attribute": {"field": "n", "operator": "gt", "value": 1}}
    segment = live.segment(BOUGHT)
    over = live.segment({"not": {"segment": {"id": segment}}})
    often: dict[str, Any] = {"frequency": {"mode": frequency}}
    numbers = [
        campaign(live, {"event": {"name": "purchased"}}, MAIL, **often),
        campaign(live, {"event": {"name": "purchased", "where": dear}}, MAIL, **often),
        campaign(live, {"segment": {"id": segment, "transition": "entered"}}, MAIL, **often),
        campaign(live, {"segment": {"id": over, "transition": "left"}}, MAIL, **often),
        campaign(live, {"event": {"name": "seen"}}, MAIL, **often),
    ]
    live.advance(SECOND_US)
    soon = live.now_us // SECOND_US + 100
    rows = [("ann", 0, 1), ("ann", 500, 2), ("bob", 900, 3), ("cid", 0, 0)]
    lines = [
        {"customer_id": who, "name": "purchased", "timestamp": soon + after, "n": n} for who, after, n in rows
    ]
    path = written(tmp_path, "e.jsonl", json_lines(lines))
    asked = BackfillOptions(kind="events", paths=(path,), triggers=policy)
    said = seen(live, asked)
    foreseen = {one.id: one.journeys_later_at_most for one in said.campaigns if one.policy == policy}
    assert {one.journeys for one in said.campaigns} == {0}
    backfill.run(live.workspace, asked, ignore)
    assert live.workspace.folder.state.rows("SELECT count(*) FROM journey") == [(0,)]
    live.advance(2000 * SECOND_US)
    began = dict(live.workspace.folder.state.rows("SELECT campaign_id, count(*) FROM journey GROUP BY 1"))
    each = [0, 0, 0, 0, 0] if policy == "none" else [3, 2, 3, 3, 0] if frequency == "once" else [4, 2, 4, 4, 0]
    assert [foreseen[number] for number in numbers] == [began.get(number, 0) for number in numbers] == each


def test_a_process_of_its_own_says_the_same(live: Live, tmp_path: Path) -> None:
    """The rehearsal in another process, as a server has it done, answers alike and tells how far it is."""
    live.segment(EVENTS)
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "e.jsonl", events(live, 1, 2, 300)),))
    told: list[Progress] = []
    aside = preview.preview(live.workspace, options, told.append)
    here = seen(live, options)
    assert msgspec.structs.replace(aside, seconds=0) == msgspec.structs.replace(here, seconds=0)
    assert told


def test_a_second_preview_of_an_imported_file_finds_nothing_to_do(live: Live, tmp_path: Path) -> None:
    """What is in already is a duplicate in the preview as well, without campaigns there are none in it."""
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "e.jsonl", events(live, 1, 2)),))
    backfill.run(live.workspace, options, ignore)
    said = seen(live, options)
    assert (said.created, said.duplicate, said.campaigns) == (0, 2, [])


def test_history_that_nobody_reads_is_not_written(live: Live, tmp_path: Path) -> None:
    """Where no campaign waits, the replica has no part of the run's events, and whoever asks for them hears it."""
    now_s = live.now_us // SECOND_US
    rows = [{"id": "p", "name": "bought", "timestamp": now_s - at} for at in range(9)]
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "e.jsonl", json_lines(rows)),))
    replica = make_replica(live.workspace.folder)
    tried = Rehearsal(path=str(replica), options=options, now_us=live.now_us, trigger_age_us=0)
    with opened(replica, live.now_us, trigger_hours=72.0) as workspace:
        assert rehearse_in(workspace, tried, ignore).created == 9
        assert not list(workspace.folder.parts_path.glob("*.parquet"))
        with pytest.raises(NotWritten):
            workspace.folder.history.events_of([0])


def test_history_that_turns_out_to_be_read_is_kept_the_second_time(live: Live, tmp_path: Path) -> None:
    """A rehearsal that misses it is done once more, and then it is there."""
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "e.jsonl", events(live, 1, 2)),))
    kept: list[bool] = []

    def tried(one: Rehearsal, on_progress: Callable[[Progress], None]) -> Preview:
        kept.append(one.keep)
        with opened(Path(one.path), one.now_us, trigger_hours=72.0) as workspace:
            said = rehearse_in(workspace, one, on_progress)
            assert len(workspace.folder.history.events_of([0])) == 1
            return said

    assert preview.preview(live.workspace, options, ignore, rehearse=tried).created == 2
    assert kept == [False, True]


def test_what_the_run_would_refuse_the_preview_refuses(live: Live, tmp_path: Path) -> None:
    """A misspelt column is told before anything is copied."""
    path = written(tmp_path, "p.csv", b"id,plan\na,b\n")
    with pytest.raises(RequestError, match="no file has a column"):
        seen(live, BackfillOptions(kind="people", paths=(path,), time="wen"))


def test_an_interrupted_preview_leaves_nothing(live: Live, tmp_path: Path) -> None:
    """Whoever asked for it goes away: the replica goes too, and the workspace works on."""

    def leave(progress: Progress) -> None:
        raise RequestError("gone")

    options = BackfillOptions(kind="events", paths=(written(tmp_path, "e.jsonl", events(live, 1)),))
    with pytest.raises(RequestError, match="gone"):
        preview.preview(live.workspace, options, leave)
    assert not list((live.path / REPLICAS).iterdir())
    assert live.track("p0", "purchased").result == "applied"

