"""An import of people stopped before every file it opens, renames or deletes: blocks and parts hold each write once.

The folder is copied at each of these points, as a kill would leave it, and opened again.
"""

import shutil
from pathlib import Path

from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions
from backstory.engine.verify import verify
from backstory.store.write_block import held_in_blocks
from tests.crash.test_compaction_kill import Watch, answers
from tests.live import Live
from tests.model.imported import json_lines, written

CHUNKING = Chunking(people_rows_max=2, blocks_from=4, block_rows_min=1, part_rows=4)
PEOPLE = 18


def test_a_kill_at_any_step_of_an_import_of_people_loses_nothing(tmp_path: Path) -> None:
    """What is there of it is told once, and gone on with it ends as if it had not been killed."""
    rows = [{"id": f"p{number % 16}", "n": number, "plan": f"plan-{number}"} for number in range(PEOPLE)]
    options = BackfillOptions(kind="people", paths=(written(tmp_path, "a.jsonl", json_lines(rows)),))
    live = Live(tmp_path / "live")
    live.segment({"attribute": {"field": "n", "operator": "ge", "value": 9}})
    copies: list[Path] = []

    def copy() -> None:
        to = tmp_path / f"copy-{len(copies)}"
        shutil.copytree(live.path, to, ignore=shutil.ignore_patterns("temporary", "*-shm"))
        copies.append(to)

    watch = Watch(live.path / "parts", copy)
    watch.on = True
    summary = backfill.run(live.workspace, options, lambda progress: None, chunking=CHUNKING)
    watch.on = False
    assert (summary.created, summary.updated, summary.state) == (16, 2, "imported")
    expected, now_us = answers(live), live.now_us
    assert len(live.workspace.folder.history.parts) > 3
    live.close()
    assert len(copies) > 6
    held = set[int]()
    for path in copies:
        killed = Live(path, now_us=now_us)
        folder = killed.workspace.folder
        held.add(folder.state.read(held_in_blocks)[0])
        told = folder.state.rows("SELECT progress FROM import")
        assert told
        kept = folder.history.writes_of(range(PEOPLE))
        assert len(kept) == len(set(kept))
        assert verify.run(killed.workspace, lambda line: None).ok
        again = backfill.run(killed.workspace, options, lambda progress: None, chunking=CHUNKING)
        assert (again.rows, again.created, again.updated) == (PEOPLE, 16, 2)
        assert answers(killed) == expected
        assert folder.state.read(held_in_blocks) == (0, 0)
        assert {file.name for file in (path / "parts").iterdir()} == {part.path for part in folder.history.parts}
        killed.close()
    assert max(held) >= CHUNKING.part_rows
