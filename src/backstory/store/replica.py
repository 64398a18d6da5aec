"""Replicas: a workspace's stores as of one commit, to try something on that must leave no trace.

``state.db`` is copied, parts and key runs are linked: they never change. There is no journal in a replica, so it is
opened with one in memory that begins where the state stands.
"""

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from backstory.core.error import StorageError
from backstory.store.folder import REPLICAS, Folder
from backstory.store.manifest import read_files

ATTEMPTS_MAX = 5


def make_replica(folder: Folder) -> Path:
    """Copy the stores of an open workspace; returns the folder, which the caller removes. Raises ``StorageError``."""
    replicas = folder.path / REPLICAS
    try:
        replicas.mkdir(mode=0o700, exist_ok=True)
        for _ in range(ATTEMPTS_MAX):
            target = Path(tempfile.mkdtemp(dir=replicas))
            if _copy(folder, target):
                return target
            shutil.rmtree(target)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"cannot copy the workspace into {replicas}: {error}") from error
    raise StorageError("the files of the workspace changed while they were copied, over and over: try again later")


def _copy(folder: Folder, target: Path) -> bool:
    """Copy one snapshot; False when a file it names went away before it was linked."""
    (target / "parts").mkdir()
    missing: set[str] = set()

    def snapshot(db: sqlite3.Connection) -> None:
        missing.update(name for name in read_files(db) if not _link(folder.parts_path / name, target / "parts" / name))
        copy = sqlite3.connect(target / "state.db")
        try:
            # A replica that a power cut spoils is made anew.
            copy.execute("PRAGMA synchronous = OFF")
            db.backup(copy)
        finally:
            copy.close()

    folder.state.read(snapshot)
    # What is named still was lost before: it is missing in the replica too.
    return not missing or missing <= set(folder.state.read(read_files))


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError:
        # A file system without links.
        shutil.copyfile(source, target)
    return True
