"""What the compactor wrote counts only where it was made of what is still there."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backstory.core.error import RequestError
from backstory.core.fact import Identifier
from backstory.engine.answer.life import read_life
from backstory.engine.file.options import BackfillOptions, Progress
from backstory.engine.preview import preview
from backstory.engine.preview.preview import Rehearsal
from backstory.engine.preview.preview_view import Preview
from backstory.engine.undo import undo
from backstory.engine.verify import verify
from backstory.store.compaction import Sizes
from backstory.store.manifest import Part, read_key_runs, read_parts
from backstory.store.rewrite import merge_parts, merge_runs
from tests.live import NOW_US, Live
from tests.model.imported import Row, bring_in, json_lines, written

THEN_S = NOW_US // 1_000_000 - 5


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "world")
    yield live
    live.close()


def load(world: Live, name: str) -> int:
    row: Row = {"customer_id": "ann", "name": name, "timestamp": THEN_S}
    path = written(world.path.parent, f"{name}.jsonl", json_lines([row]))
    return bring_in(world, BackfillOptions(kind="events", paths=(path,))).import_id


def event_parts(world: Live) -> tuple[Part, ...]:
    return tuple(part for part in world.workspace.folder.state.read(read_parts) if part.kind == "event")


def test_a_merge_of_files_that_an_undo_changed_is_given_up(world: Live) -> None:
    """What was taken back stays so, and the file that was written goes."""
    segment = world.segment({"event": {"name": "first"}})
    first = load(world, "first")
    load(world, "second")
    parts = event_parts(world)
    folder, compactor = world.workspace.folder, world.workspace.compactor
    merged = merge_parts(folder.duck.fresh(), folder.parts_path, parts)
    runs = tuple(run for run in folder.state.read(read_key_runs) if run.import_id == first)
    run = merge_runs(folder.parts_path, runs)
    undo.undo(world.workspace, first)
    before = event_parts(world), folder.state.read(lambda db: read_key_runs(db, retracted=None))
    compactor.swap_parts(parts, merged)
    compactor.swap_runs(runs, run)
    assert (event_parts(world), folder.state.read(lambda db: read_key_runs(db, retracted=None))) == before
    assert not [one for one in (merged, run) if (folder.parts_path / one.path).exists()]
    assert world.members(segment) == set()
    assert verify.run(world.workspace, lambda line: None).ok


def test_an_undo_waits_for_the_merge_at_hand(world: Live) -> None:
    """Files are not merged while it reads them."""
    first = load(world, "first")
    other = threading.Thread(target=undo.undo, args=(world.workspace, first))
    with world.workspace.compactor.turn:
        other.start()
        # It would be over long before.
        other.join(0.5)
        assert other.is_alive()
        assert event_parts(world)
    other.join()
    assert not event_parts(world)


def test_verify_finds_events_that_count_though_they_were_taken_back(world: Live) -> None:
    """As in a folder in which a merge came in the way of an undo."""
    first = load(world, "first")
    folder = world.workspace.folder
    undo.undo(world.workspace, first)
    assert verify.run(world.workspace, lambda line: None).ok
    world.workspace.call(lambda: folder.state.db.execute("UPDATE part SET retracted = 0"))
    lines: list[str] = []
    assert not verify.run(world.workspace, lambda line: lines.append(str(line))).ok
    assert any("taken back" in line for line in lines)
    undo.redo(world.workspace, first)
    undo.undo(world.workspace, first)
    assert verify.run(world.workspace, lambda line: None).ok


def test_nothing_is_begun_while_a_preview_has_the_processor(world: Live) -> None:
    """Afterwards it is done; a preview asks for it."""
    load(world, "first")
    load(world, "second")
    compactor = world.workspace.compactor
    parts = event_parts(world)
    with compactor.resting():
        assert not compactor.step()
        assert event_parts(world) == parts
    assert compactor.step()

    row: Row = {"customer_id": "ann", "name": "third", "timestamp": THEN_S}
    path = written(world.path.parent, "third.jsonl", json_lines([row]))
    began: list[bool] = []

    def look(_: Rehearsal, __: Callable[[Progress], None]) -> Preview:
        began.append(compactor.step())
        raise RequestError("seen enough")

    with pytest.raises(RequestError):
        preview.preview(
            world.workspace, BackfillOptions(kind="events", paths=(path,)), lambda _: None, rehearse=look
        )
    assert began == [False]


def test_whoever_reads_while_rows_become_a_part_sees_all_of_them(world: Live) -> None:
    """Before the commit that names the part its rows are still found where they were."""
    world.identify("ann", plan="basic")
    world.track("ann", "bought")
    workspace = world.workspace
    person = workspace.call(lambda: workspace.folder.people.find(Identifier("id", "ann")))
    assert person is not None
    seen: list[tuple[int, int]] = []

    def look() -> None:
        life = read_life(workspace.folder, person, present_us=None)
        assert life is not None
        seen.append((len(life.occurrences), len(life.writings)))

    workspace.compactor.sizes = Sizes(tail_rows=1, move_rows=10)
    workspace.context.before_commit.append(look)
    moved = [workspace.compactor.step(), workspace.compactor.step()]
    workspace.context.before_commit.remove(look)
    look()
    assert moved == [True, True]
    assert set(seen) == {(1, 1)}
    assert workspace.folder.tail.events == 0
