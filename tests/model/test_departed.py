"""A row whose person goes away between its reading and its commit."""

from collections import Counter
from pathlib import Path
from threading import Event

import msgspec

from backstory.core.fact import DeletePerson, FinishImport, Identifier, Identify, MergePeople, StartImport
from backstory.engine.backfill.event_import import EventImport
from backstory.engine.backfill.import_job import Chunking, Job, row_of
from backstory.engine.file.event_row import RowShape
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.source import Place, Source
from backstory.engine.verify import verify
from backstory.store.manifest import read_files
from backstory.store.people import cio_id_of
from tests.live import Live
from tests.model.imported import json_lines, names_of, written
from tests.model.strategy import NOW_S


def job_of(live: Live, options: BackfillOptions, chunking: Chunking | None = None) -> Job:
    """An import that has begun."""
    receipt = live.send(StartImport(options=msgspec.json.encode(options), fingerprint="a"))[0]
    assert receipt.subject is not None
    return Job(live.workspace, row_of(live.workspace, receipt.subject), options, chunking)


def test_somebody_deleted_while_rows_come_in_keeps_none_of_them(tmp_path: Path) -> None:
    """Between the reading of a chunk and its commit: the rows are counted, told of in the log, and in no history."""
    live = Live(tmp_path / "default")
    live.segment({"event": {"name": "bought"}})
    for person in ("gone", "stays"):
        live.track(person, "seen")
    number = names_of(live.workspace)
    rows = [
        {"customer_id": who, "name": "bought", "timestamp": NOW_S - at} for at in range(3) for who in ("gone", "stays")
    ]
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "a.jsonl", json_lines(rows)),))
    job = job_of(live, options)
    job.begin_file(0, Path(options.paths[0]))
    importer, source = EventImport(job, RowShape()), Source(Path(options.paths[0]), Place(0, 0, 0))
    chunk = next(source.chunks())
    importer.look(chunk)
    staged = importer.json_chunk(chunk)
    live.send(DeletePerson(person=Identifier("id", "gone")))
    importer.commit(staged, 0)
    importer.close()
    source.close()
    counts = job.saved.counts
    assert (counts.rows, counts.created, counts.skipped) == (6, 3, 3)
    events = live.workspace.folder.history.events_of(list(number))
    assert Counter((number[event[0]], event[2]) for event in events)["stays None", "bought"] == 3
    assert not [event for event in events if number[event[0]] == "gone None" and event[2] == "bought"]
    log, _ = live.workspace.reader.activities(
        "id", "gone", types=None, name=None, deleted=True, before=None, limit=10, everything=True
    )
    assert "3 events" in str([entry.data for entry in log if entry.type == "failed_event"])
    # What was written while they were still there is gone, too.
    folder = live.workspace.folder
    assert {path.name for path in folder.parts_path.iterdir()} == set(folder.state.read(read_files))
    live.send(FinishImport(import_id=job.import_id, state="imported"))
    assert verify.run(live.workspace, lambda line: None).ok
    live.close()


def test_a_chunk_whose_people_are_deleted_over_and_over_comes_in(tmp_path: Path) -> None:
    """Somebody of it goes, and somebody is merged, behind every commit: after a few tries nothing comes in between."""
    live = Live(tmp_path / "default")
    live.segment({"event": {"name": "bought"}})
    everybody = [f"p{at}" for at in range(200)]
    for person in (*everybody, "heir"):
        live.identify(person)
    rows = [{"customer_id": who, "name": "bought", "timestamp": NOW_S - at} for at in range(3) for who in everybody]
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "a.jsonl", json_lines(rows)),))
    job = job_of(live, options)
    job.begin_file(0, Path(options.paths[0]))
    importer, source = EventImport(job, RowShape()), Source(Path(options.paths[0]), Place(0, 0, 0))
    chunk = next(source.chunks())
    importer.look(chunk)
    staged = importer.json_chunk(chunk)
    going, merged, enough = iter(everybody), 0, Event()

    def somebody_goes() -> None:
        nonlocal merged
        if enough.is_set():
            return
        gone, other = Identifier("id", next(going)), Identifier("id", next(going))
        live.send(DeletePerson(person=gone), MergePeople(primary=Identifier("id", "heir"), secondary=other))
        merged += not job.saved.counts.rows
        live.workspace.context.after_commit.append(somebody_goes)

    live.workspace.context.after_commit.append(somebody_goes)
    importer.commit(staged, 0)
    # It is said to the loop, which may be about to take one more.
    enough.set()
    importer.close()
    source.close()
    counts = job.saved.counts
    assert counts.rows == counts.created + counts.skipped == 600
    # One of the two who went last before the commit, and behind each try at least one.
    assert counts.skipped == 3 * merged >= 9
    folder = live.workspace.folder
    assert {path.name for path in folder.parts_path.iterdir()} == set(folder.state.read(read_files))
    live.send(FinishImport(import_id=job.import_id, state="imported"))
    assert verify.run(live.workspace, lambda line: None).ok
    live.close()


def test_a_row_is_about_who_has_its_name_when_it_is_read(tmp_path: Path) -> None:
    """Also where everybody was read when the import began, for a first line that then went another way."""
    live = Live(tmp_path / "default")
    for who in ("one", "two"):
        live.identify(who)
    number = {name.split()[0]: person for person, name in names_of(live.workspace).items()}

    def has(who: str, email: str) -> None:
        person = Identifier("cio_id", cio_id_of(number[who]))
        assert live.send(Identify(person=person, attributes=b"{}", body_email=email))[0].result == "applied"

    has("one", "a@example.com")
    # The fast lane leaves the first line to the strict one, for what is escaped in it.
    first = json_lines([{"email": "a@example.com", "name": "first", "timestamp": NOW_S}]).replace(b"a@", b"\\u0061@")
    second = json_lines([{"id": "one", "name": "second", "timestamp": NOW_S}])
    third = json_lines([{"email": "a@example.com", "name": "third", "timestamp": NOW_S}])
    paths = (written(tmp_path, "a.jsonl", first + second), written(tmp_path, "b.jsonl", third))
    options = BackfillOptions(kind="events", paths=paths)
    job = job_of(live, options, Chunking(fast_bytes_min=0))
    importer = EventImport(job, RowShape())
    for file, path in enumerate(map(Path, paths)):
        job.begin_file(file, path)
        source = Source(path, Place(0, 0, 0))
        chunk = next(source.chunks())
        if not file:
            importer.look(chunk)
        importer.commit(importer.json_chunk(chunk), file)
        importer.settle()
        source.close()
        has("one", "b@example.com")
        has("two", "a@example.com")
    importer.close()
    events = live.workspace.folder.history.events_of(list(number.values()))
    assert {event[2]: event[0] for event in events} == {
        "first": number["one"], "second": number["one"], "third": number["two"],
    }  # fmt: skip
    live.close()


def test_events_of_somebody_who_came_to_be_since_people_were_read_are_theirs(tmp_path: Path) -> None:
    """A live call makes somebody between two chunks; the import, which has read everybody before, finds them."""
    live = Live(tmp_path / "default")
    live.identify("known")
    rows = [{"customer_id": who, "name": "bought", "timestamp": NOW_S} for who in ("known", "new", "newer")]
    options = BackfillOptions(kind="events", paths=(written(tmp_path, "a.jsonl", json_lines(rows)),))
    job = job_of(live, options, Chunking(fast_bytes_min=0))
    job.begin_file(0, Path(options.paths[0]))
    importer, source = EventImport(job, RowShape()), Source(Path(options.paths[0]), Place(0, 0, 0))
    for at, chunk in enumerate(source.chunks(len(json_lines(rows[1:2])))):
        if not at:
            importer.look(chunk)
        importer.commit(importer.json_chunk(chunk), 0)
        live.identify("new")
    importer.close()
    source.close()
    number = names_of(live.workspace)
    events = live.workspace.folder.history.events_of(list(number))
    bought = Counter(number[event[0]] for event in events if event[2] == "bought")
    assert bought == {"known None": 1, "new None": 1, "newer None": 1}
    live.close()
