"""Rewriting history stopped before every file it opens, renames or deletes: nothing is lost, nothing is there twice.

The folder is copied at each of these points, as a kill would leave it, and opened again.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backstory.core.time import SECOND_US
from backstory.engine.verify import verify
from backstory.store.compaction import Sizes
from tests.live import Live

SIZES = Sizes(tail_rows=4, move_rows=9, part_rows=1000, run_rows=1000)
FILE_EVENTS = frozenset(("open", "os.rename", "os.remove"))


class Watch:
    """Calls back before each step on a file of a folder. (Python's audit hooks cannot be taken away again.)"""

    def __init__(self, folder: Path, tell: Callable[[], None]) -> None:
        self._folder = str(folder)
        self._tell = tell
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in FILE_EVENTS and str(arguments[0]).startswith(self._folder):
            self.on = False
            self._tell()
            self.on = True


def fill(live: Live) -> None:
    """Two segments, and some history that tests can tell from its double."""
    live.segment({"event": {"name": "bought", "count": {"exactly": 6}}})
    live.segment({"attribute": {"field": "n", "operator": "ge", "value": 18}})
    for number in range(24):
        live.clock.advance(SECOND_US)
        live.track(f"p{number % 4}", "bought", live.now_us - SECOND_US // 2, n=number)
        live.identify(f"p{number % 4}", n=number)
        # Said again: kept, and not counted.
        live.track(f"p{number % 4}", "bought", live.now_us - SECOND_US // 2, event_id=f"{number % 5:026}", n=1)
    live.workspace.loop.commit(live.workspace.applier.checkpoint_some)


def answers(live: Live) -> object:
    log = live.workspace.reader.activities(
        None, None, types=None, name=None, deleted=False, before=None, limit=1000, everything=True
    )
    history, everybody = live.workspace.folder.history, list(live.workspace.segments.alive)
    return (
        [live.members(number) for number in sorted(live.workspace.segments.segments)],
        log,
        sorted(history.events_of(everybody)),
        sorted(history.writes_of(everybody)),
    )


def test_a_kill_at_any_step_of_rewriting_changes_nothing(tmp_path: Path) -> None:
    """What was asked before gets the same answers after, verify finds nothing, and the rewriting is taken up again."""
    live = Live(tmp_path / "live")
    fill(live)
    expected = answers(live)
    copies: list[Path] = []

    def copy() -> None:
        to = tmp_path / f"copy-{len(copies)}"
        shutil.copytree(live.path, to, ignore=shutil.ignore_patterns("temporary", "*-shm"))
        copies.append(to)

    watch = Watch(live.path / "parts", copy)
    live.workspace.compactor.sizes = SIZES
    watch.on = True
    tasks = live.workspace.compactor.work_off()
    watch.on = False
    assert tasks > 6
    assert len(copies) > 3 * tasks
    assert answers(live) == expected
    now_us = live.now_us
    live.close()
    for number, path in enumerate(copies):
        killed = Live(path, now_us=now_us)
        assert answers(killed) == expected
        assert number % 4 or verify.run(killed.workspace, lambda line: None).ok
        named = {part.path for part in killed.workspace.folder.history.parts}
        named |= {run.run.path for run in killed.workspace.folder.keys.runs}
        assert {file.name for file in (path / "parts").iterdir()} == named
        assert killed.track("p1", "bought", now_us, event_id=f"{1:026}", n=1).result == "duplicate"
        killed.close()
    # Once more from the middle to the end.
    again = Live(copies[len(copies) // 2], now_us=now_us)
    again.workspace.compactor.sizes = SIZES
    assert again.workspace.compactor.work_off()
    assert verify.run(again.workspace, lambda line: None).ok
    again.close()
