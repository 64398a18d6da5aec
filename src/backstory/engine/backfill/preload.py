"""Loading beforehand what reads large files of events: that takes half a second, in which a workspace can be opened.

Nobody needs to ask for it; whoever reads such a file loads what is not there.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from backstory.engine.file.options import BackfillOptions


def begin(options: BackfillOptions) -> None:
    """Begin to load it in a thread, if the import has a large file of events."""
    if options.kind == "events":
        threading.Thread(target=_load_for, args=(options.paths,), name="preload", daemon=True).start()


def _load_for(paths: Sequence[str]) -> None:
    from backstory.engine.backfill.import_job import Chunking

    if not any(_bytes(Path(name)) >= Chunking().fast_bytes_min for name in paths):
        return
    from backstory.engine.backfill.event_fast import read_fast
    from backstory.engine.file.source import Chunk, Place

    line = b'{"id":"a","name":"b","timestamp":1}\n'
    read_fast(Chunk(line, 1, Place(len(line), 1, 0)), None).rows(0, all_timed=False)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        # What is the matter with it says whoever reads it.
        return 0
