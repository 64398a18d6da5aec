"""Replicas: a workspace's stores as of one commit, to try something on that must leave no trace.

``state.db`` is copied, parts and key runs are linked: they never change. There is no journal in a replica, so it is
opened with one in memory that begins where the state stands.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from backstory.core.error import StorageError
from backstory.store.folder import REPLICAS, Folder
from backstory.store.manifest import read_files
from backstory.store.state import State

ATTEMPTS_MAX = 5
_BLOCK_BYTES = 1 << 30


def make_replica(folder: Folder) -> Path:
    """Copy the stores of an open workspace; returns the folder, which the caller removes. Raises ``StorageError``."""
    return _made(folder.path, lambda target: _copy(folder, target))


def make_replica_of_closed(path: Path) -> Path:
    """The same of a workspace that nobody has open, nor opens meanwhile: its files are copied as they are."""

    def copy(target: Path) -> bool:
        (target / "parts").mkdir()
        # What it has of a log is in the file itself when it is closed again.
        state = State(path / "state.db")
        try:
            _link_all(path / "parts", target / "parts", state.read(read_files))
        finally:
            state.close()
        for name in ("state.db", "state.db-wal"):
            if (path / name).exists():
                _copy_file(path / name, target / name)
        return True

    return _made(path, copy)


def _made(path: Path, copy: Callable[[Path], bool]) -> Path:
    replicas = path / REPLICAS
    try:
        replicas.mkdir(mode=0o700, exist_ok=True)
        for _ in range(ATTEMPTS_MAX):
            target = Path(tempfile.mkdtemp(dir=replicas))
            try:
                if copy(target):
                    return target
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
            shutil.rmtree(target)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"cannot copy the workspace into {replicas}: {error}") from error
    raise StorageError("the files of the workspace changed while they were copied, over and over: try again later")


def _copy(folder: Folder, target: Path) -> bool:
    """Copy one snapshot; False when a file it names went away before it was linked."""
    (target / "parts").mkdir()
    missing: set[str] = set()

    def snapshot(db: sqlite3.Connection) -> None:
        missing.update(_link_all(folder.parts_path, target / "parts", read_files(db)))
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


def _link_all(source: Path, target: Path, names: Iterable[str]) -> list[str]:
    """Link files from one folder into another; returns those that are not there."""
    return [name for name in names if not _link(source / name, target / name)]


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError:
        # A file system without links.
        shutil.copyfile(source, target)
    return True


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file inside the kernel, which costs half of what SQLite's own copy does.

    Where the file system can, the two share their bytes until one of them changes.
    """
    try:
        with open(source, "rb") as given, open(target, "wb") as made:
            while os.copy_file_range(given.fileno(), made.fileno(), _BLOCK_BYTES):
                pass
    except OSError:
        # A file system that cannot.
        shutil.copyfile(source, target)
