"""Purging: the plan, what it takes out of files, and that nobody else notices."""

from itertools import pairwise
from pathlib import Path

import msgspec

from backstory.core.fact import DeletePerson, Identifier, Identify, MergePeople, PutCampaign, SetCampaignState
from backstory.core.time import DAY_US
from backstory.engine.file.options import BackfillOptions
from backstory.engine.redaction import redact_report
from backstory.engine.verify import verify
from backstory.store.naming import Naming
from backstory.store.purge import Departed, Stage, plan
from tests.live import Live
from tests.model.imported import bring_in, json_lines, written
from tests.unit.campaign_world import MAIL, PURCHASED

KEEP_US = 100


def waiting(number: int, gone_us: int) -> Departed:
    return Departed(number=number, gone_us=gone_us, stage=Stage.WAITING)


def purge_all(live: Live) -> int:
    """Let the background do what is due; returns in how many pieces."""
    count = 0
    while live.workspace.purger.step():
        count += 1
    return count


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def gone(live: Live, person: str) -> None:
    assert live.send(DeletePerson(person=Identifier("id", person)))[0].result == "applied"


def test_a_purge_begins_before_the_set_time_and_takes_others_along() -> None:
    """At nine tenths of the time, with everybody who has waited for eight tenths of it; never earlier."""
    people = [waiting(1, 0), waiting(2, 10), waiting(3, 11)]
    assert plan(people, 89, KEEP_US) is None
    task = plan(people, 90, KEEP_US)
    assert task is not None
    assert (task.stage, task.numbers, task.overdue) == (Stage.WAITING, (1, 2), False)


def test_who_is_under_way_is_finished_first() -> None:
    """The least advanced of them first; those who wait, even over their time, are the next round."""
    people = [
        Departed(number=1, gone_us=0, stage=Stage.FILES), Departed(number=-2, gone_us=0, stage=Stage.NAMES),
        waiting(3, 0),
    ]  # fmt: skip
    task = plan(people, 98, KEEP_US)
    assert task is not None
    assert (task.stage, task.numbers, task.people, task.overdue) == (Stage.NAMES, (-2,), [], True)


def test_everything_of_somebody_deleted_is_gone_within_the_set_time(tmp_path: Path) -> None:
    """No byte before the time is a promise; none after it is kept: tables, parts, journal, free pages, mail."""
    live = Live(tmp_path / "default")
    for person in ("ann", "bob"):
        live.identify(person, email=f"{person}@secret.example", note=f"{person}-note" * 300)
        for number in range(50):
            live.track(person, "bought", live.now_us - number, thing=f"{person}-thing")
    gone(live, "ann")
    live.advance(26 * DAY_US)
    assert purge_all(live) == 0
    live.advance(2 * DAY_US)
    assert purge_all(live) > 0
    found = everything_in(tmp_path)
    assert b"bob-note" in found
    for word in (b"ann@secret", b"ann-note", b"ann-thing"):
        assert word not in found, word
    assert live.workspace.purger.progress().stages == {}
    assert live.track("ann", "bought", live.now_us - 60 * DAY_US).result == "dropped"
    assert verify.run(live.workspace, lambda line: None).ok
    live.close()


def test_one_transaction_takes_out_only_so_many_rows(tmp_path: Path) -> None:
    """Somebody with a long history leaves in pieces, between which others have their turn."""
    live = Live(tmp_path / "default")
    for number in range(1_000):
        live.track("ann", "bought", live.now_us - number)
    gone(live, "ann")
    purger, left = live.workspace.purger, [1_000]
    while purger.step(by_us=live.workspace.folder.state.now_us):
        left.append(live.workspace.folder.state.rows("SELECT count(*) FROM event")[0][0])
    assert max(before - after for before, after in pairwise(left)) <= 400
    assert left[-1] == 0
    live.close()


def test_what_was_merged_goes_with_the_survivor_and_not_before(tmp_path: Path) -> None:
    """The survivor keeps what the other brought; when the survivor is deleted, all of it goes."""
    live = Live(tmp_path / "default")
    live.identify("ann", note="ann-note")
    live.identify("bob", email="bob@secret.example", other="bob-other")
    live.send(MergePeople(primary=Identifier("id", "ann"), secondary=Identifier("id", "bob")))
    live.advance(60 * DAY_US)
    assert purge_all(live) == 0
    gone(live, "ann")
    live.advance(30 * DAY_US)
    assert purge_all(live) > 0
    found = everything_in(tmp_path)
    for word in (b"ann-note", b"bob@secret", b"bob-other"):
        assert word not in found, word
    live.close()


def test_a_name_that_is_used_again_is_somebody_new(tmp_path: Path) -> None:
    """The purge of who had it before takes nothing from who has it now, and refuses what is older, as before."""
    live = Live(tmp_path / "default")
    live.identify("ann", note="first-life")
    gone(live, "ann")
    between_us = live.now_us - 1
    live.advance(DAY_US)
    live.identify("ann", note="second-life")
    live.advance(30 * DAY_US)
    assert purge_all(live) > 0
    assert b"first-life" not in everything_in(tmp_path)
    live.workspace.loop.turn()
    assert live.track("ann", "bought", between_us).result == "dropped"
    assert live.track("ann", "bought").result == "applied"
    assert b"second-life" in everything_in(tmp_path)
    live.close()


def test_parts_and_runs_lose_their_rows_and_imports_still_add_up(tmp_path: Path) -> None:
    """History that came by an import, of somebody deleted and of somebody merged, leaves; the counts are explained."""
    live = Live(tmp_path / "default")
    people = ("ann", "bob", "eve")
    rows = [{"customer_id": who, "name": "bought", "event_id": f"{who}-{n}"} for n in range(4) for who in people]
    path = written(tmp_path, "a.jsonl", json_lines(rows))
    bring_in(live, BackfillOptions(kind="events", paths=(path,)))
    Path(path).unlink()
    live.send(MergePeople(primary=Identifier("id", "eve"), secondary=Identifier("id", "bob")))
    gone(live, "ann")
    live.workspace.purger.run()
    folder = live.workspace.folder
    assert sum(part.rows for part in folder.history.parts) == 8
    assert sum(run.run.rows for run in folder.keys.runs) == 8
    assert verify.run(live.workspace, lambda line: None).ok
    gone(live, "eve")
    live.workspace.purger.run()
    assert not folder.history.parts
    assert not list(folder.parts_path.iterdir())
    assert verify.run(live.workspace, lambda line: None).ok
    live.close()


def test_mail_and_its_text_go(tmp_path: Path) -> None:
    """A message stays a number in the counts of its campaign: its text goes, in the ledger and in the mailbox."""
    live = Live(tmp_path / "default")
    definition: dict[str, object] = {
        "name": "thanks", "trigger": PURCHASED, "steps": [{**MAIL, "body": "for {{ customer.email }} only"}],
    }  # fmt: skip
    (receipt,) = live.send(PutCampaign(definition=msgspec.json.encode(definition)))
    assert receipt.subject is not None, receipt
    live.send(SetCampaignState(campaign_id=receipt.subject, state="running"))
    live.send(Identify(person=Identifier("id", "ann"), body_email="ann@secret.example"))
    live.track("ann", "purchased")
    (delivery,) = live.workspace.claim(10)
    mailbox = tmp_path / "default" / "mailbox"
    mailbox.mkdir()
    (mailbox / f"{delivery.delivery_id}.eml").write_text("To: ann@secret.example")
    (mailbox / "another.eml").write_text("To: bob@example.com")
    gone(live, "ann")
    live.workspace.purger.run()
    assert [path.name for path in mailbox.iterdir()] == ["another.eml"]
    assert b"ann@secret" not in everything_in(tmp_path)
    assert live.workspace.folder.state.rows("SELECT count(*) FROM delivery")[0][0] == 1
    live.close()


def _naming(*names: str) -> Naming:
    return Naming({f"{kind}:{name}".encode(): 10 for name in names for kind in ("id", "email")}, _hashed)


def _hashed(kind: str, value: str) -> bytes:
    return f"{kind}:{value}".encode()


def test_a_row_of_a_report_is_overwritten_where_it_stands(tmp_path: Path) -> None:
    """The report keeps its length, its other rows and its form, also where a cell goes over several lines."""
    path = tmp_path / "import-1-errors.csv"
    body = 'id,note,line,error\nann,"one\ntwo",2,the note is too long\nbob,"x ""y""",3,the note is odd\n'
    path.write_text(body)
    assert redact_report(path, _naming("ann"), 5) == 1
    lines = path.read_text().split("\n")
    assert (lines[0], lines[1].rstrip(), lines[2:]) == (
        "id,note,line,error", ",,2,forgotten", ['bob,"x ""y""",3,the note is odd', ""]
    )  # fmt: skip
    assert len(path.read_text()) == len(body)
    assert redact_report(path, _naming("ann"), 5) == 0
    assert redact_report(path, _naming("bob"), 11) == 0


def test_a_line_of_json_is_overwritten_too(tmp_path: Path) -> None:
    """Names count wherever they stand in it, in sentences too, and in lines that were not JSON at all."""
    path = tmp_path / "import-1-errors.jsonl"
    rows = [
        {"id": 7, "line": 1, "error": "the plan is not what it was"},
        {"data": {"to": ["A@x.example "]}, "line": 2, "error": "the plan is not what it was"},
        {"text": "{broken a@x.example", "line": 3, "error": "this is not JSON, whatever it is"},
        {"id": "other", "line": 4, "error": "nobody has the id 'seven'"},
    ]
    path.write_bytes(json_lines(rows))
    size = path.stat().st_size
    assert redact_report(path, _naming("7", "a@x.example", "seven"), 5) == 4
    assert [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] == [
        {"line": number, "error": "forgotten"} for number in (1, 2, 3, 4)
    ]
    assert path.stat().st_size == size


def test_an_anonymous_id_in_a_file_of_people_leaves_a_warning(tmp_path: Path) -> None:
    """The row goes in without it, and the report says that only a call claims; in CSV as in JSON lines."""
    live = Live(tmp_path / "default")
    bodies = {"a.csv": b"id,plan,anonymous_id\n1,pro,cookie\n2,pro,\n"}
    bodies["a.jsonl"] = json_lines([{"id": "3", "anonymous_id": "cookie", "plan": "pro"}, {"id": "4", "plan": "pro"}])
    for name, body in bodies.items():
        summary = bring_in(live, BackfillOptions(kind="people", paths=(written(tmp_path, name, body),)))
        assert (summary.created, summary.warnings) == (2, 1)
        assert summary.warning_file is not None
        assert "anonymous_id" in Path(summary.warning_file).read_text()
    assert live.workspace.folder.state.rows("SELECT count(*) FROM claim")[0][0] == 0
    view = live.workspace.reader.person("id", "1")
    assert view is not None
    assert view.attributes == {"plan": "pro"}
    live.close()
