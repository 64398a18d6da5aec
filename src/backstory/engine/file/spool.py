"""Spools: what comes from elsewhere (standard input, a URL, a database, an upload) is a file first, and then imported.

A spool grows in ``NAME.part`` and gets its name when it is whole and synced; ``NAME.note`` remembers what is needed to
go on with it. It goes away when its import has ended. Nothing of the workspace is touched before it is whole.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import msgspec

from backstory.engine.file.unpack import SourceError

FOLDER = "spool"
# A whole spool that no import has begun with is fetched again after this: what it holds may have changed.
FRESH_S = 3600.0
# What nobody came back to is let go of.
FORGOTTEN_S = 7 * 86_400.0
_WAYS = (".part", ".note", ".begun", ".from", "")


def spool_folder(workspace: Path) -> Path:
    """Where the spools of a workspace are."""
    return workspace / FOLDER


class TooMuch(SourceError):
    """There is more than an import may bring."""


class Spool:
    """One spool. Writing raises ``SourceError`` past ``bytes_max`` and when the disk does not take it."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self.path = path
        self._part = _beside(path, ".part")
        self._note = _beside(path, ".note")
        self._bytes_max = bytes_max
        self._file: BinaryIO | None = None
        self.size = 0

    def __enter__(self) -> "Spool":
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = open(os.open(self._part, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
            self.size = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise SourceError(f"cannot write {self._part}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What a full disk did not take at the end of a buffer is not missed: its writer was told already.
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass

    def ready(self, now_s: float) -> bool:
        """Is there a whole one that may be used: begun with, or young?"""
        try:
            made_s = self.path.stat().st_mtime
        except OSError:
            return False
        return _beside(self.path, ".begun").exists() or now_s - made_s < FRESH_S

    @property
    def kept_since_s(self) -> float | None:
        """When a whole one came that no import has begun with, as after a preview; None where there is none."""
        try:
            return None if _beside(self.path, ".begun").exists() else self.path.stat().st_mtime
        except OSError:
            return None

    def write(self, block: bytes) -> None:
        """Add to the end."""
        if self.size + len(block) > self._bytes_max:
            self.start_again()
            raise TooMuch(
                f"there is more than the {self._bytes_max >> 20:,} MB that an import may bring: read it in pieces, or "
                "raise BACKSTORY_IMPORT_MAX_MB"
            )
        try:
            self._open.write(block)
        except OSError as error:
            raise _full(error) from error
        self.size += len(block)

    def cut(self, size: int) -> None:
        """Let go of what stands behind ``size``."""
        self._open.flush()
        self._open.truncate(size)
        self._open.seek(size)
        self.size = size

    def start_again(self) -> None:
        """Let go of everything that came."""
        self.cut(0)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Nobody will go on with it: it is gone when it is closed."""
        for path in (self._part, self._note):
            path.unlink(missing_ok=True)

    def tail(self, size: int) -> bytes:
        """The last bytes that came."""
        self._open.flush()
        self._open.seek(max(self.size - size, 0))
        found = self._open.read()
        self._open.seek(0, os.SEEK_END)
        return found

    def note(self, values: Mapping[str, str]) -> None:
        """Remember what is needed to go on."""
        try:
            self._note.write_bytes(msgspec.json.encode(dict(values)))
        except OSError as error:
            raise _full(error) from error

    def noted(self) -> dict[str, str]:
        """What was remembered; {} when nothing was."""
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.MsgspecError):
            return {}

    def finish(self, path: Path | None = None) -> Path:
        """Everything came: sync it and give it its name, ``path`` when that was not known before."""
        path = path or self.path
        try:
            self._open.flush()
            os.fsync(self._open.fileno())
            os.replace(self._part, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _full(error) from error
        self._note.unlink(missing_ok=True)
        return path

    @property
    def _open(self) -> BinaryIO:
        return cast("BinaryIO", self._file)


def begin(workspace: Path, paths: tuple[str, ...]) -> None:
    """An import begins with these: the spools among them stay as they are until it ends."""
    for path in _spools(workspace, paths):
        _beside(path, ".begun").touch(mode=0o600)


def remove(workspace: Path, paths: tuple[str, ...]) -> None:
    """The import of these has ended: its spools go."""
    for path in _spools(workspace, paths):
        for ending in _WAYS:
            _beside(path, ending).unlink(missing_ok=True)


def sweep(folder: Path, now_s: float) -> None:
    """Remove what nobody came back to for a week, and no import has begun with."""
    for path in folder.iterdir() if folder.is_dir() else ():
        whole = path.name
        for ending in _WAYS[:-1]:
            whole = whole.removesuffix(ending)
        if not (folder / (whole + ".begun")).exists() and _is_forgotten(path, now_s):
            path.unlink(missing_ok=True)


def _is_forgotten(path: Path, now_s: float) -> bool:
    try:
        return now_s - path.stat().st_mtime > FORGOTTEN_S
    except FileNotFoundError:
        # An import that ended meanwhile has removed it.
        return False


def _spools(workspace: Path, paths: tuple[str, ...]) -> list[Path]:
    folder = spool_folder(workspace).resolve()
    return [path for path in map(Path, paths) if path.parent == folder]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _full(error: OSError) -> SourceError:
    return SourceError(
        f"what came could not be written to disk: {error.strerror}; nothing was imported: make room and run it again"
    )
