"""The compactor: old rows of the tail become parts, small files become large ones, beside the loop.

Files are written and synced first; then the loop swaps them in with one commit, which holds it for some milliseconds.
What the manifest names no more is deleted once that commit is synced and nobody reads it. A crash at any point leaves
either what was or what comes to be, and files that nobody names, which the next start sweeps away.

Rows of the tail do not move while an import runs: it looks for its rows there and in the parts, one after the other.
Blocks of writes do, by the import itself; what is left of them when one broke off goes first here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from backstory.core.error import StorageError
from backstory.core.time import SECOND_US
from backstory.engine.backfill.block_move import BlockMover
from backstory.store.compaction import MergeParts, MergeRuns, Move, Sizes, Task, plan
from backstory.store.duck import Duck
from backstory.store.manifest import KeyRun, Part, read_key_runs, read_parts
from backstory.store.part_file import File, named_part, named_run
from backstory.store.rewrite import (
    TABLES,
    Oldest,
    merge_parts,
    merge_runs,
    oldest_rows,
    write_moved,
)

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

PAUSE_S = 5.0
# So many facts waiting put all of it off, while the tail has fewer events than this.
BUSY_FACTS = 2_000
BUSY_TAIL_ROWS = 1_500_000
# While facts come in, a task is followed by a rest of so many times what it took.
RESTS = 3
MEMORY_MB = 300


class Compactor:
    """One thread that does what ``plan`` says, or nobody's: then ``work_off`` does it (tests)."""

    def __init__(self, workspace: Workspace, sizes: Sizes | None = None) -> None:
        self._workspace = workspace
        self._folder = workspace.folder
        self.sizes = sizes or Sizes()
        self.blocks = BlockMover(workspace)
        # Held by whoever needs the rows of the tail to stay there.
        self.still = threading.Lock()
        # Held by whoever rewrites files, here or by a purge somebody asked for.
        self.turn = threading.Lock()
        self._closing = threading.Event()
        # Did facts come in between the last two steps, and up to where was that?
        self._busy, self._position = False, 0
        # How many there are who want the processor for themselves.
        self._resting = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="compactor", daemon=True)
        # Files that could not be read: they stay as they are.
        self._spared: set[str] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the task at hand, then end."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def work_off(self) -> int:
        """Do all there is to do; returns how many tasks that were."""
        count = 0
        while self.step():
            count += 1
        return count

    def _in_turn(self) -> bool:
        """Something done: a purge goes first, as there is a time by which it must be over."""
        with self.turn:
            return self._workspace.purger.step() or self.step()

    def _work(self) -> None:
        while not self._closing.wait(PAUSE_S):
            try:
                while not self._may_wait() and not self._closing.is_set() and self._with_rest():
                    pass
                self.delete_unread()
            except StorageError as error:
                if self._workspace.loop.failure is not None:
                    return
                self._folder.fault(f"history is not being compacted: {error}")

    def _with_rest(self) -> bool:
        """Something done, and then nothing for a while if facts came in meanwhile: they are answered first."""
        clock, state = self._workspace.clock, self._folder.state
        since_us, before = clock.monotonic_us(), state.position
        self._busy, self._position = before != self._position, before
        done = self._in_turn()
        if state.position != before and self._folder.tail.events < BUSY_TAIL_ROWS:
            self._closing.wait(RESTS * (clock.monotonic_us() - since_us) / SECOND_US)
        return done

    def _may_wait(self) -> bool:
        """Do many facts wait to be applied? They have the processor while the tail is not too long for it."""
        return self._workspace.loop.backlog >= BUSY_FACTS and self._folder.tail.events < BUSY_TAIL_ROWS

    @contextmanager
    def resting(self) -> Generator[None]:
        """Nothing is begun meanwhile, unless the tail gets too long: something else has the processor."""
        with self._counting:
            self._resting += 1
        try:
            yield
        finally:
            with self._counting:
                self._resting -= 1

    def step(self) -> bool:
        """Do the next task, if there is one. All of it waits while an import runs: that has the processor."""
        put_off = self._resting and self._folder.tail.events < BUSY_TAIL_ROWS
        if put_off or self._workspace.turns.busy:
            return False
        if self.blocks.move():
            return True
        may_move = self.still.acquire(blocking=False)
        try:
            task = self._next(may_move=may_move)
            if isinstance(task, Move):
                self._move(task.kind)
                return True
        finally:
            if may_move:
                self.still.release()
        if task is None:
            return False
        try:
            self._merge(task)
        except StorageError:
            # A file that cannot be read must not keep all others from being merged.
            files = task.parts if isinstance(task, MergeParts) else task.runs
            self._spared.update(file.path for file in files)
            raise
        self.delete_unread()
        return True

    def _next(self, *, may_move: bool) -> Task | None:
        sizes = self.sizes
        tail = dict(self._folder.tail.sizes)
        parts, runs = self._folder.state.read(lambda db: (read_parts(db), read_key_runs(db)))
        whole = [part for part in parts if part.path not in self._spared]
        return plan(
            whole, [run for run in runs if run.path not in self._spared], tail, sizes, may_move=may_move,
            busy=self._busy,
        )  # fmt: skip

    def _merge(self, task: MergeParts | MergeRuns) -> None:
        match task:
            case MergeParts(parts=parts):
                self._merge_parts(parts)
            case MergeRuns(runs=runs):
                self.swap_runs(runs, merge_runs(self._folder.parts_path, runs))
            case _:
                assert_never(task)

    # -- out of the tail ----------------------------------------------------------------------------------------------

    def _move(self, kind: str) -> None:
        oldest = self._folder.state.read(lambda db: oldest_rows(db, kind, self.sizes.move_rows))
        if oldest is None:
            return
        part, runs = write_moved(self._folder.parts_path, oldest)
        self._workspace.call(lambda: self._swap_moved(oldest, part, runs))

    def move_everything(self) -> None:
        """Bring all rows of the tail into parts. The caller holds ``still`` and has imports wait."""
        self.blocks.move_all()
        for kind in TABLES:
            # What came in since the last look follows the next time.
            last = self._workspace.call(lambda: self._folder.state.next_seq)
            while (first := self._first_in_tail(kind)) is not None and first < last:
                self._move(kind)

    def _first_in_tail(self, kind: str) -> int | None:
        return self._folder.state.rows(f"SELECT min(seq) FROM {TABLES[kind]}")[0][0]

    def _swap_moved(self, oldest: Oldest, part: File, runs: list[File]) -> None:
        """On the loop: from this commit on the rows are in the part, and no longer in the tail."""
        manifest = self._folder.manifest
        tail, committed = self._folder.tail, self._workspace.context.after_commit
        tail.let_go(oldest.kind, oldest.seq)
        committed.append(lambda: tail.forget_left(oldest.kind, oldest.seq))
        manifest.add_part(named_part(part, manifest.next_part_id(), oldest.kind))
        for run in runs:
            manifest.add_key_run(named_run(run, manifest.next_run_id()))
        if oldest.kind == "event":
            # Of an import's events only copies that a merge made are ever in the tail.
            for import_id, events in oldest.imported_events().items():
                manifest.drift(import_id, events)
        self._folder.reload_manifest()

    # -- merging ------------------------------------------------------------------------------------------------------

    def _merge_parts(self, parts: tuple[Part, ...]) -> None:
        # Of its own: one thread, so that the loop keeps its processor, and memory that nobody else waits for.
        duck = Duck(memory_mb=MEMORY_MB, threads=1, temporary=self._folder.path / "temporary")
        try:
            merged = merge_parts(duck.cursor(), self._folder.parts_path, parts)
        finally:
            duck.close()

        self.swap_parts(parts, merged)

    # What was written is given up where the files it was made of are others by now: an import was taken back meanwhile.

    def swap_parts(self, parts: tuple[Part, ...], merged: File) -> None:
        """Put one part in the place of some."""

        def swap() -> None:
            manifest = self._folder.manifest
            manifest.add_part(named_part(merged, manifest.next_part_id(), parts[0].kind))
            manifest.remove_parts(part.part_id for part in parts)

        self._swap(swap, parts, merged)

    def swap_part(self, part: Part, written: File | None, events: dict[int, int]) -> None:
        """Put a part that lost rows in the place of what it was, None: nothing; ``events``: lost of each import."""

        def swap() -> None:
            manifest = self._folder.manifest
            if written is not None:
                named = named_part(written, manifest.next_part_id(), part.kind)
                manifest.add_part(replace(named, retracted=part.retracted))
            manifest.remove_parts([part.part_id])
            for import_id, count in events.items():
                manifest.drift(import_id, -count)

        self._swap(swap, (part,), written)

    def swap_runs(self, runs: tuple[KeyRun, ...], merged: File | None) -> None:
        """Put one run in the place of some, None: nothing."""

        def swap() -> None:
            manifest = self._folder.manifest
            if merged is not None:
                named = named_run(merged, manifest.next_run_id())
                manifest.add_key_run(replace(named, retracted=runs[0].retracted))
            manifest.remove_key_runs(run.run_id for run in runs)

        self._swap(swap, runs, merged)

    def _swap(
        self, swap: Callable[[], None], replaced: tuple[Part, ...] | tuple[KeyRun, ...], written: File | None
    ) -> None:
        """Commit, and make that durable before what was replaced may go: a power cut takes unsynced commits back."""

        def commit() -> bool:
            db = self._folder.state.db
            standing = [*read_parts(db, retracted=None), *read_key_runs(db, retracted=None)]
            if not all(one in standing for one in replaced):
                return False
            swap()
            self._folder.reload_manifest()
            return True

        if self._workspace.call(commit):
            self._folder.state.sync()
            self._folder.history.readings.retire([one.path for one in replaced])
        elif written is not None:
            (self._folder.parts_path / written.path).unlink(missing_ok=True)

    def delete_unread(self) -> None:
        """Delete the files that were replaced and that nobody reads any more."""
        for name in self._folder.history.readings.take_unread():
            (self._folder.parts_path / name).unlink(missing_ok=True)
