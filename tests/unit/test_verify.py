"""Verify finds every planted fault, accuses nobody wrongly, and a folder with a missing or damaged file still opens."""

import json
import shutil
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstory.core.fact import (
    ChangeMembers,
    DeletePerson,
    Fact,
    Identifier,
    Identify,
    MergePeople,
    PutSegment,
    SuppressPerson,
    Track,
    TrackAnonymous,
)
from backstory.core.person import register
from backstory.core.time import SECOND_US
from backstory.engine.backfill import backfill
from backstory.engine.clock import ManualClock
from backstory.engine.file.options import BackfillOptions
from backstory.engine.verify import verify
from backstory.engine.verify.finding import TOLD_MAX, Findings, Verdict
from backstory.engine.verify.person import fold
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.people import cio_id_of

NOW_US = 1_700_000_000 * SECOND_US
PEOPLE = 40
PRICEY = {"field": "price", "operator": "gt", "value": 4}
UNSEEN = {"event": {"name": "seen", "performed": False, "within": {"last_s": 100}}}
CONDITIONS: list[dict[str, Any] | None] = [
    {"event": {"name": "bought", "within": {"last_s": 500}}},
    {"event": {"name": "bought", "count": {"at_least": 2}, "where": {"attribute": PRICEY}}},
    {"or": [{"attribute": {"field": "plan", "operator": "eq", "value": "pro"}}, {"segment": {"id": 1}}]},
    {"and": [{"not": {"segment": {"id": 3}}}, UNSEEN]},
    {"attribute": {"field": "expires", "operator": "timestamp_lt", "value": 50}},
    None,
    {"not": {"segment": {"id": 6}}},
]
BY_HAND = 6


class World:
    """A workspace with imported and live history, dynamic and manual segments, and stored leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(NOW_US)
        self.workspace = self.open()

    def open(self, folder: Path | None = None) -> Workspace:
        workspace = open_workspace((folder or self.folder) / "workspace", clock=self.clock, threads=False)
        workspace.builder.work_off()
        return workspace

    def reopen(self) -> None:
        """Close in order and start again."""
        self.workspace.close()
        self.workspace = self.open()

    def crash(self, name: str = "crashed") -> None:
        """Go on with what lay on the disk at this moment."""
        shutil.copytree(self.folder / "workspace", self.folder / name / "workspace")
        self.workspace.close()
        self.folder = self.folder / name
        self.workspace = self.open()

    def send(self, *facts: Fact) -> None:
        self.workspace.apply(list(facts))
        self.workspace.builder.work_off()

    def wait(self, seconds: float) -> None:
        self.clock.advance(round(seconds * SECOND_US))
        self.workspace.loop.turn()

    def store_leaves(self) -> None:
        self.workspace.call(self.workspace.applier.checkpoint_all)

    def sql(self, text: str, *parameters: object) -> None:
        """Change ``state.db`` behind everybody's back."""
        self.workspace.call(lambda: self.workspace.folder.state.db.execute(text, parameters))

    def bring_in(self, rows: list[dict[str, Any]]) -> None:
        """Import events."""
        path = self.folder / f"events-{len(list(self.folder.iterdir()))}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = BackfillOptions(kind="events", paths=(str(path),), triggers="none")
        backfill.run(self.workspace, options, lambda progress: None)

    def part(self, suffix: str = ".parquet") -> Path:
        """A file of the imported history."""
        return next(path for path in self.workspace.folder.parts_path.iterdir() if path.suffix == suffix)

    def verify(self) -> tuple[Verdict, list[dict[str, Any]]]:
        """What verify says, and the differences it tells."""
        lines: list[dict[str, Any]] = []
        verdict = verify.run(self.workspace, lines.append)
        result = {"ok": verdict.ok, "checked": verdict.checked, "found": verdict.differences}
        assert lines[-1] == {"result": result}
        return verdict, [line["difference"] for line in lines if "difference" in line]

    def found(self) -> list[dict[str, Any]]:
        """The differences; there are some."""
        verdict, differences = self.verify()
        assert not verdict.ok
        assert verdict.differences >= len(differences) > 0
        return differences

    def kinds(self) -> set[str]:
        return {difference["what"] for difference in self.found()}

    @property
    def somebody(self) -> int:
        """A living person with a document."""
        return self.workspace.segments.alive[5]

    def members(self, segment_id: int) -> list[int]:
        return list(self.workspace.segments.segments[segment_id].members)


def who(number: int) -> Identifier:
    return Identifier("id", f"p{number}")


def bought(number: int, ago_s: float, **data: object) -> Track:
    return Track(
        person=who(number), name="bought", time_us=NOW_US - round(ago_s * SECOND_US), data=msgspec.json.encode(data)
    )


def wrote(number: int, ago_s: float, **attributes: object) -> Identify:
    time_us = NOW_US - round(ago_s * SECOND_US)
    return Identify(person=who(number), attributes=msgspec.json.encode(attributes), time_us=time_us)


def event_row(number: int) -> dict[str, Any]:
    return {
        "customer_id": f"p{number % PEOPLE}",
        "name": ("bought", "seen")[number % 2],
        "timestamp": NOW_US // SECOND_US - 7 * number,
        "data": {"price": number % 9},
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as every test finds it."""
    world = World(tmp_path_factory.mktemp("template"))
    for number, condition in enumerate(CONDITIONS, start=1):
        world.send(PutSegment(name=str(number), conditions=condition and msgspec.json.encode(condition)))
    world.bring_in([event_row(number) for number in range(300)])
    world.send(*(fact for number in range(PEOPLE + 5) for fact in facts_of(number)))
    world.send(ChangeMembers(segment_id=BY_HAND, people=(who(1), who(2)), add=True), DeletePerson(person=who(3)))
    world.send(bought(4, -40, price=5), wrote(5, -30, plan="pro"), wrote(99, -50, plan="pro"))
    world.workspace.close()
    return world.folder


def facts_of(number: int) -> list[Fact]:
    plan = ("pro", "free", None)[number % 3]
    return [
        wrote(number, number, plan=plan, expires=NOW_US // SECOND_US + number * 5),
        wrote(number, 90, plan="old", home={"city": "x"}),
        bought(number, 30 * number, price=number),
        wrote(number, 20, **{"home.city": "y"}),
    ]


@pytest.fixture
def world(template: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    world = World(tmp_path)
    yield world
    world.workspace.close()


def test_a_clean_workspace_has_no_differences(world: World) -> None:
    """Nothing differs: as it is, after time has passed, after a restart, after a crash."""
    assert world.verify() == (verify.Verdict(ok=True, checked=world.verify()[0].checked, differences=0), [])
    world.wait(120)
    assert world.verify()[0].ok
    world.reopen()
    assert world.verify()[0].ok
    world.send(bought(6, 3), Track(person=Identifier("email", "new@x.org"), name="seen"))
    world.crash()
    assert world.verify()[0].ok
    assert world.workspace.faults == []


def test_a_changed_value_in_a_document_is_found(world: World) -> None:
    """A register that no write accounts for is told with both values."""
    people = world.workspace.folder.people
    person = world.somebody
    document = people.document(person)
    document["plan"] = register("stolen", document["plan"].time_us)
    world.workspace.call(lambda: people.set_document(person, document))
    (found,) = [one for one in world.found() if one["what"] == "attribute"]
    assert found["attribute"] == "plan"
    assert "stolen" in found["problem"]


def test_a_document_that_cannot_be_read_is_found(world: World) -> None:
    """Bytes that are no document are a difference, and the others are compared all the same."""
    alive = world.workspace.segments.alive
    world.workspace.call(lambda: world.workspace.folder.people.set_document(alive[9], {}))
    world.sql("UPDATE person SET document = x'c1' WHERE person = ?", world.somebody)
    assert {"document", "attribute"} <= world.kinds()


@pytest.mark.parametrize("segment_id", [1, 2, 3, 4, 5, 7])
def test_a_flipped_membership_is_found(world: World, segment_id: int) -> None:
    """A person who is in a segment and must not be, or the other way round."""
    members = world.workspace.segments.segments[segment_id].members
    person = world.somebody
    (members.discard if person in members else members.add)(person)
    (found,) = [one for one in world.found() if one["what"] == "membership" and one["segment"] == segment_id]
    assert found["person"] == cio_id_of(person)


def test_a_flipped_manual_membership_is_found(world: World) -> None:
    """A manual segment is what is stored of it."""
    world.workspace.segments.segments[BY_HAND].members.add(world.somebody)
    (found, *_) = world.found()
    assert (found["what"], found["segment"]) == ("membership", BY_HAND)


def test_a_member_who_does_not_exist_is_found(world: World) -> None:
    """A deleted person is in nothing."""
    (gone,) = world.workspace.folder.state.rows("SELECT person FROM deleted")
    world.workspace.segments.segments[1].members.add(gone[0])
    assert [one["problem"] for one in world.found()] == ["is a member and does not exist"]


def test_a_lost_person_is_found(world: World) -> None:
    """A person whom memory knows and the state does not."""
    world.sql("DELETE FROM person WHERE person = ?", world.somebody)
    assert "person" in world.kinds()


def test_a_removed_part_is_found(world: World) -> None:
    """Also where the file goes while the server runs; what hangs on it is not accused."""
    world.part().unlink()
    assert world.kinds() == {"part"}


def test_a_damaged_part_is_found(world: World) -> None:
    """One byte is enough, wherever it is."""
    path = world.part()
    body = bytearray(path.read_bytes())
    for at in (0, len(body) // 3, len(body) - 1):
        path.write_bytes(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        assert world.kinds() == {"part"}
    path.write_bytes(body[:-1])
    assert world.kinds() == {"part"}
    path.write_bytes(body)
    assert world.verify()[0].ok


def test_wrong_words_about_a_part_are_found(world: World) -> None:
    """The manifest's rows and times are those of the file."""
    world.sql("UPDATE part SET rows = rows + 1")
    assert "rows" in world.found()[0]["problem"]
    world.sql("UPDATE part SET rows = rows - 1, low_us = low_us + 1")
    assert "times" in world.found()[0]["problem"]


@pytest.mark.parametrize("harm", ["remove", "flip"])
def test_a_lost_or_damaged_key_run_is_found(world: World, harm: str) -> None:
    """Runs of keys have checksums too."""
    path = world.part(".keys")
    body = path.read_bytes()
    path.unlink()
    if harm == "flip":
        path.write_bytes(bytes([body[0] ^ 1]) + body[1:])
    assert world.kinds() == {"key run"}


def test_a_damaged_leaf_page_is_found(world: World) -> None:
    """A page that has lost its checksum."""
    world.sql("UPDATE leaf_page SET body = zeroblob(length(body)) WHERE page = 0")
    assert world.kinds() == {"leaf"}


def test_a_wrong_leaf_page_is_found(world: World) -> None:
    """A page with its checksum that is not what history comes to: of events, of attributes, of the earliest times."""
    for kind in ("event%", "attribute%", "known"):
        (row,) = world.workspace.folder.state.rows(
            "SELECT leaf_id, page, body FROM leaf_page JOIN leaf USING (leaf_id) WHERE key LIKE ? AND page = 0 LIMIT 1",
            (kind,),
        )
        body = bytearray(row[2])
        body[8 * 12 : 8 * 13] = bytes(8)
        change = "UPDATE leaf_page SET body = ?, checksum = ? WHERE leaf_id = ? AND page = ?"
        world.sql(change, bytes(body), zlib.crc32(body), *row[:2])
        assert world.kinds() == {"leaf"}
        world.sql(change, row[2], zlib.crc32(row[2]), *row[:2])
    assert world.verify()[0].ok


@pytest.mark.parametrize("name", ["rows", "created", "errors"])
def test_a_changed_import_count_is_found(world: World, name: str) -> None:
    """Rows in are rows accounted for."""
    path = f"$.summary.{name}"
    world.sql("UPDATE import SET progress = json_set(progress, ?, json_extract(progress, ?) + 1)", path, path)
    (first, *_) = world.found()
    assert (first["what"], first["import_id"]) == ("import", 1)


def test_counts_that_add_up_and_are_not_true_are_found(world: World) -> None:
    """The events an import says it made are in history."""
    change = "json_set(progress, '$.summary.created', 299, '$.summary.skipped', 1)"
    world.sql(f"UPDATE import SET progress = {change}")
    (found,) = world.found()
    assert "299" in found["problem"]


def test_a_lost_fact_is_found(world: World) -> None:
    """What was accepted was applied or refused."""
    world.workspace.folder.state.position -= 1
    assert world.kinds() == {"fact"}
    world.workspace.folder.state.position += 1


def test_a_file_nobody_names_is_a_note(world: World) -> None:
    """An import may be writing it."""
    (world.workspace.folder.parts_path / "9.new").write_bytes(b"")
    lines: list[dict[str, Any]] = []
    assert verify.run(world.workspace, lines.append).ok
    assert [line["note"]["file"] for line in lines if "note" in line] == ["9.new"]


def test_many_differences_of_a_kind_are_counted() -> None:
    """The first are told one by one, the rest with their number."""
    lines: list[dict[str, Any]] = []
    findings = Findings(lines.append)
    for number in range(TOLD_MAX + 5):
        findings.difference("attribute", "differs", person=number)
    assert findings.verdict().differences == TOLD_MAX + 5
    assert len(lines) == TOLD_MAX + 2
    assert lines[-2]["difference"]["problem"] == "5 more like these"


def test_the_fold_takes_the_newest_then_values_then_the_larger_text() -> None:
    """The rule of equal times, in any order."""
    writes: list[Any] = [(1, {"a": 1, "b": None, "c": 5}), (1, {"a": 2, "b": ""}), (0, {"b": 3}), (2, {"c": ""})]
    expected = {"a": (1, True, b"2"), "b": (1, False, b""), "c": (2, False, b"")}
    assert fold(writes) == fold(writes[::-1]) == expected


def test_a_running_server_is_not_accused(tmp_path: Path) -> None:
    """Facts that come while everything is compared are no differences."""
    workspace = open_workspace(tmp_path, clock=ManualClock(NOW_US))
    for condition in CONDITIONS[:3]:
        workspace.apply([PutSegment(name="", conditions=msgspec.json.encode(condition))])
    done = threading.Event()
    errors: list[object] = []

    def live() -> None:
        number = 0
        while not done.is_set() or number < 50:
            number += 1
            plan = ("pro", "free")[number // 7 % 2]
            facts: list[Fact] = [bought(number % 9, 0, n=number), wrote(number % 9, -number / 1e6, plan=plan)]
            if number % 13 == 0:
                facts.append(DeletePerson(person=who(number % 9)))
            try:
                workspace.apply(facts)
            except Exception as error:
                errors.append(error)
                return

    thread = threading.Thread(target=live)
    thread.start()
    lines: list[dict[str, Any]] = []
    try:
        verdicts = [verify.run(workspace, lines.append) for _ in range(15)]
    finally:
        done.set()
        thread.join()
        workspace.close()
    assert not errors
    assert all(verdict.ok for verdict in verdicts), [line for line in lines if "difference" in line]


# -- opening what is not whole ------------------------------------------------------------------------------------


def test_a_folder_without_a_part_opens_and_says_so(world: World) -> None:
    """What does not need the part goes on; the fault is in health and in verify."""
    before = world.members(1)
    world.part().unlink()
    world.reopen()
    assert world.workspace.reader.health()["status"] == "degraded"
    assert {"fault", "part"} <= world.kinds()
    world.send(wrote(11, 1, plan="pro"), bought(12, 400))
    assert world.members(1) == before


def test_segments_that_need_a_lost_part_stay_unbuilt(world: World) -> None:
    """A leaf that has to be made anew waits for its history; a live event and a crash change nothing of that."""
    world.workspace.close()
    parts = list((world.folder / "workspace" / "parts").glob("*.parquet"))
    kept = {path: path.read_bytes() for path in parts}
    world.workspace = world.open()
    world.sql("DELETE FROM leaf")
    world.sql("DELETE FROM leaf_page")
    world.workspace.checkpoint.held += 1
    for path in parts:
        path.unlink()
    world.crash()
    assert "segment" in world.kinds()
    assert not world.workspace.await_built(1, timeout_s=0)
    world.send(bought(13, 600))
    world.workspace.close()
    for path, body in kept.items():
        (world.folder / "workspace" / "parts" / path.name).write_bytes(body)
    world.workspace = world.open()
    assert world.verify() == (world.verify()[0], [])
    assert world.workspace.faults == []


def test_a_folder_without_a_key_run_opens_and_counts_nothing_twice(world: World) -> None:
    """The keys are read from the parts: an event that was imported is known all the same."""
    world.part(".keys").unlink()
    world.reopen()
    row = event_row(2)
    again = Track(
        person=Identifier("id", row["customer_id"]),
        name=row["name"],
        time_us=row["timestamp"] * SECOND_US,
        data=msgspec.json.encode(row["data"]),
    )
    assert [receipt.result for receipt in world.workspace.apply([again])] == ["duplicate"]
    assert world.kinds() == {"fault", "key run"}


def test_a_damaged_leaf_page_is_built_again_and_told(world: World) -> None:
    """The next start makes the leaf from history; verify says that it had to."""
    world.sql("UPDATE leaf_page SET body = zeroblob(length(body))")
    world.workspace.checkpoint.held += 1
    world.crash()
    assert world.kinds() == {"fault", "leaf"}
    world.reopen()
    assert world.verify()[0].ok


# -- what stored leaves were not told -----------------------------------------------------------------------------


def test_an_event_that_came_to_count_after_the_leaves_were_stored_counts(world: World) -> None:
    """It is older than the leaf by its number, and was in the future when the leaf was stored."""
    world.send(bought(200, -300, price=9), bought(200, -300, price=8))
    world.store_leaves()
    inside = len(world.members(2))
    world.wait(301)
    assert len(world.members(2)) > inside
    before = [world.members(number) for number in range(1, 8)]
    world.crash()
    assert [world.members(number) for number in range(1, 8)] == before
    assert world.verify()[0].ok


def test_people_who_came_after_the_leaves_were_stored_are_judged(world: World) -> None:
    """Somebody made by an event alone is in the segments of those who lack an attribute."""
    condition = msgspec.json.encode({"attribute": {"field": "plan", "operator": "!exists"}})
    world.send(PutSegment(name="no plan", conditions=condition))
    world.store_leaves()
    world.send(Track(person=Identifier("id", "newcomer"), name="seen"))
    before = world.members(8)
    assert before
    world.crash()
    assert world.members(8) == before


def test_nothing_is_found_after_people_were_merged_claimed_and_suppressed(world: World) -> None:
    """Neither at once nor after a restart or a crash, with events in parts and in the tail."""
    rows = world.workspace.folder.state.rows("SELECT person FROM person ORDER BY person LIMIT 12")
    people = [Identifier("cio_id", cio_id_of(row[0])) for row in rows]
    world.send(TrackAnonymous(anonymous_id="b1", name="bought", data=b'{"price":9}'))
    world.send(Identify(person=people[0], attributes=b'{"plan":"pro"}', anonymous_id="b1"))
    world.send(*(MergePeople(primary=one, secondary=other) for one, other in zip(people[:4], people[4:8], strict=True)))
    world.send(MergePeople(primary=people[1], secondary=people[0]))
    world.send(SuppressPerson(person=people[2]), DeletePerson(person=people[8]))
    world.send(Track(person=people[4], name="bought", time_us=NOW_US - SECOND_US))
    world.wait(1)
    assert world.verify()[1] == []
    world.reopen()
    assert world.verify()[1] == []
    world.send(MergePeople(primary=people[9], secondary=people[10]))
    world.crash()
    assert world.verify()[1] == []
    world.wait(600)
    assert world.verify()[1] == []


def test_it_tells_how_far_it_is(world: World) -> None:
    """Before each kind is compared, so that whoever waits sees it go on."""
    world.bring_in([{"customer_id": "p1", "name": "bought", "timestamp": 1_700_000_000}])
    lines: list[dict[str, Any]] = []
    verify.run(world.workspace, lines.append)
    told = [line["progress"]["what"] for line in lines if "progress" in line]
    assert {"part", "import", "leaf", "person"} <= set(told)
    assert "progress" in lines[0]
