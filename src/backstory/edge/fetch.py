"""What ``backstory backfill`` is given to read, as files: what comes from elsewhere is fetched into spools first."""

import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import click

from backstory.core.error import BackstoryError
from backstory.core.time import SECOND_US
from backstory.edge import fetch_sql, fetch_url
from backstory.engine.clock import SystemClock
from backstory.engine.file.file_shape import is_csv
from backstory.engine.file.spool import Spool, spool_folder, sweep
from backstory.engine.file.unpack import is_parquet
from backstory.engine.settings import Settings

STDIN = "-"
BLOCK_BYTES = 1 << 20
_MB = 1 << 20
# Is told how many bytes came, and of how many (0: not known).
OnBytes = Callable[[int, int], None]
# Is told what was not fetched again, and when it had been, in unix seconds.
OnKept = Callable[[str, float], None]


class Input(click.ParamType[str]):
    """A path that is there, ``-``, or an http(s) URL; paths become absolute."""

    name = "input"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text == STDIN or fetch_url.is_web_address(text):
            return text
        if "://" in text:
            self.fail(f"{text!r} is no http or https address; --sql reads databases", param, ctx)
        path = Path(text)
        if not path.exists():
            self.fail(f"there is no file or folder {text!r}", param, ctx)
        if not os.access(path, os.R_OK):
            self.fail(f"{text!r} may not be read", param, ctx)
        if path.is_dir() and not _within(path):
            self.fail(f"the folder {text!r} holds no files", param, ctx)
        return str(path.resolve())


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What was named: files, folders, URLs and standard input in their order, or a query."""

    names: tuple[str, ...]
    sql: str | None = None
    query: str = ""
    key: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Is any of it not a file yet?"""
        return self.sql is not None or any(not _is_file(name) for name in self.names)

    @property
    def is_one_fetched(self) -> bool:
        """Is it a single thing that is fetched into a file of the workspace?"""
        if self.sql is not None:
            return True
        return len(self.names) == 1 and not _is_file(self.names[0]) and not Path(self.names[0]).is_dir()

    @property
    def title(self) -> str:
        """What to call the import."""
        if self.sql is not None:
            return f"query of {fetch_sql.origin(self.sql)}"
        first = self.names[0]
        return Path(first).name if _is_file(first) or Path(first).is_dir() else _shown(first)


    @property
    def sources(self) -> tuple[str, ...]:
        """What to say later of where it came from, without secrets; nothing of files, which say it themselves."""
        if self.sql is not None:
            return (self.title + (f" by {self.key}" if self.key else ""),)
        if all(_is_file(name) or Path(name).is_dir() for name in self.names):
            return ()
        return tuple(_shown(name) for name in self.names)


def fetch_all(
    settings: Settings,
    inputs: Inputs,
    standard: BinaryIO,
    *,
    keep_nulls: bool,
    on_bytes: OnBytes,
    on_kept: OnKept = lambda title, at_s: None,
) -> tuple[str, ...]:
    """The files, those that were fetched among them. Raises ``SourceError``.

    What a preview fetched a moment ago is what is imported then: ``on_kept`` is told.
    """
    if inputs.sql is not None:
        return (_sql(settings, inputs, inputs.sql, keep_nulls=keep_nulls, on_bytes=on_bytes, on_kept=on_kept),)
    paths: list[str] = []
    for name in inputs.names:
        if name == STDIN:
            paths.append(_stdin(settings, standard, on_bytes))
        elif fetch_url.is_web_address(name):
            paths.append(_url(settings, name, on_bytes, on_kept))
        else:
            paths += files_of(Path(name))
    return tuple(paths)


@contextmanager
def called(inputs: Inputs, paths: Sequence[str]) -> Generator[None]:
    """What is said of the file that something was fetched into is said of where it came from."""
    try:
        yield
    except BackstoryError as error:
        if not inputs.is_one_fetched or paths[0] not in str(error):
            raise
        raise BackstoryError(str(error).replace(paths[0], inputs.title)) from None


def files_of(path: Path) -> list[str]:
    """A file, or the files of a folder in the order of their names; hidden ones and folders in it are left alone."""
    return [str(one.resolve()) for one in _within(path)] if path.is_dir() else [str(path)]


def _within(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))


def _shown(name: str) -> str:
    if name == STDIN:
        return "standard input"
    return fetch_url.shown(name) if fetch_url.is_web_address(name) else name


def _is_file(name: str) -> bool:
    return name != STDIN and not fetch_url.is_web_address(name) and not Path(name).is_dir()


def _spool(settings: Settings, name: str) -> Spool:
    workspace = (settings.data / "workspaces" / settings.workspace).resolve()
    if not workspace.is_dir():
        raise BackstoryError(f"there is no workspace {settings.workspace!r} in {settings.data}")
    sweep(spool_folder(workspace), _now_s())
    return Spool(spool_folder(workspace) / name, bytes_max=settings.import_max_mb * _MB)


def _told(spool: Spool, title: str, on_kept: OnKept) -> None:
    if spool.kept_since_s is not None:
        on_kept(title, spool.kept_since_s)


def _url(settings: Settings, url: str, on_bytes: OnBytes, on_kept: OnKept) -> str:
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    safe = "".join(letter for letter in last if letter.isalnum() or letter in "._-")[-60:].lstrip(".")
    with _spool(settings, f"url-{_hash(url)}-{safe or 'file'}") as spool:
        if spool.ready(_now_s()):
            _told(spool, fetch_url.shown(url), on_kept)
        else:
            fetch_url.fetch(url, spool, private=settings.private_urls, on_bytes=on_bytes)
            spool.finish()
    return str(spool.path)


def _sql(
    settings: Settings, inputs: Inputs, url: str, *, keep_nulls: bool, on_bytes: OnBytes, on_kept: OnKept
) -> str:
    name = _hash("\0".join((url, inputs.query, inputs.key or "", str(keep_nulls))))
    with _spool(settings, f"sql-{name}.jsonl") as spool:
        if spool.ready(_now_s()):
            _told(spool, inputs.title, on_kept)
        else:
            try:
                fetch_sql.fetch(url, inputs.query, spool, key=inputs.key, keep_nulls=keep_nulls, on_bytes=on_bytes)
            except BaseException:
                if inputs.key is None or not spool.size:
                    # There is nothing to go on from.
                    spool.discard()
                raise
            spool.finish()
    return str(spool.path)


def _stdin(settings: Settings, standard: BinaryIO, on_bytes: OnBytes) -> str:
    """Named by what it holds, so that the same input goes on where its import was."""
    hashed = hashlib.sha256()
    with _spool(settings, f"stdin-{os.getpid()}") as spool:
        spool.start_again()
        while block := standard.read(BLOCK_BYTES):
            spool.write(block)
            hashed.update(block)
            on_bytes(spool.size, 0)
        whole = spool.finish()
    ending = ".parquet" if is_parquet(whole) else ".csv" if is_csv(whole) else ".jsonl"
    path = whole.with_name(f"stdin-{hashed.hexdigest()[:16]}{ending}")
    whole.replace(path)
    return str(path)


def _now_s() -> float:
    return SystemClock().now_us() / SECOND_US


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
