"""Blocks of writes become parts, beside the loop: while an import of people runs, at its end, and after it broke off.

The file is written and synced first; then one commit names it and lets the blocks go. Until then readers find the rows
in the blocks, from then on in the part. A crash between leaves the blocks, and a file that the next start sweeps away.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from backstory.store.part_file import named_part
from backstory.store.rewrite import write_blocks
from backstory.store.write_block import drop_blocks, held_in_blocks, oldest_blocks

if TYPE_CHECKING:
    from backstory.engine.backfill.import_job import Job
    from backstory.engine.workspace import Workspace

# So many rows become a part at once. Naming it and letting its blocks go holds the loop for some milliseconds.
PART_ROWS = 65_536
# Fewer where they are wide: all of them lie in memory, twice while they are sorted.
PART_BYTES = 32 << 20


class BlockMover:
    """Moves the oldest blocks there are, whoever asks for it. From any thread but the loop's."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.folder
        self._turn = threading.Lock()

    def move(self, rows_max: int = PART_ROWS, bytes_max: int = PART_BYTES) -> bool:
        """Make a part of the oldest blocks of some import; False: there are none. Raises ``StorageError``."""
        with self._turn:
            blocks = self._folder.state.read(lambda db: oldest_blocks(db, rows_max, bytes_max))
            if not blocks:
                return False
            file = write_blocks(self._folder.parts_path, blocks)

            def swap() -> bool:
                manifest = self._folder.manifest
                if not drop_blocks(self._folder.state.db, blocks):
                    return False
                manifest.add_part(named_part(file, manifest.next_part_id(), "write"))
                self._folder.reload_manifest()
                return True

            if not self._workspace.call(swap):
                # Somebody's writes had to go meanwhile: what is left is looked for again.
                (self._folder.parts_path / file.path).unlink(missing_ok=True)
            return True

    def move_all(self) -> None:
        """All blocks that there are become parts."""
        while self.move():
            pass


class Mover:
    """What an import does about its blocks: has them moved beside the loop, and waits where they become too many."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._blocks = job.workspace.compactor.blocks
        self._rows, self._bytes = job.workspace.folder.state.read(lambda db: held_in_blocks(db, job.import_id))
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="move")
        self._moving: Future[bool] | None = None

    def takes(self, rows: int, size_bytes: int) -> bool:
        """On the loop: are these writes enough for a block? Then it counts as made."""
        chunking = self._job.chunking
        if rows < chunking.block_rows_min or self._job.saved.counts.rows < chunking.blocks_from:
            return False
        self._rows += rows
        self._bytes += size_bytes
        return True

    def at_step(self) -> None:
        """Between two steps; raises what went wrong beside. A replica's history is not kept: its blocks may stay."""
        chunking = self._job.chunking
        enough = self._rows >= chunking.part_rows or self._bytes >= chunking.part_bytes
        if not enough or self._job.tally is not None:
            return
        self._wait()
        self._rows = self._bytes = 0
        self._moving = self._beside.submit(self._blocks.move, chunking.part_rows, chunking.part_bytes)

    def close(self) -> None:
        """Wait for what is under way; what is left is moved when the import ends, or breaks off."""
        with self._beside:
            self._wait()

    def _wait(self) -> None:
        if self._moving is not None:
            moving, self._moving = self._moving, None
            moving.result()
