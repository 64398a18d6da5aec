"""Spools: what comes from elsewhere is a file first, whole or not at all."""

import os
from pathlib import Path

import pytest

from backstory.engine.file import spool
from backstory.engine.file.spool import FORGOTTEN_S, FRESH_S, Spool, spool_folder
from backstory.engine.file.unpack import SourceError

MB = 1 << 20


def test_it_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    """Until then it is gone on with, with what was noted."""
    path = tmp_path / "spool" / "rows.csv"
    with Spool(path, bytes_max=MB) as one:
        one.write(b"id\n")
        one.note({"version": "1"})
    assert not path.exists()
    with Spool(path, bytes_max=MB) as one:
        assert (one.size, one.noted(), one.ready(0)) == (3, {"version": "1"}, False)
        one.write(b"ann\n")
        one.finish()
        assert one.ready(path.stat().st_mtime)
    assert path.read_bytes() == b"id\nann\n"
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv"]
    assert path.stat().st_mode & 0o077 == 0


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    """And nothing is left of it."""
    with Spool(tmp_path / "rows.csv", bytes_max=MB) as one:
        one.write(b"x" * MB)
        with pytest.raises(SourceError, match=r"more than the 1 MB .* BACKSTORY_IMPORT_MAX_MB"):
            one.write(b"x")
    assert (tmp_path / "rows.csv.part").stat().st_size == 0


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """With what to do; nothing was imported."""
    (tmp_path / "rows.csv.part").symlink_to("/dev/full")
    with (
        Spool(tmp_path / "rows.csv", bytes_max=MB) as one,
        pytest.raises(SourceError, match="No space left on device; nothing was imported: make room"),
    ):
        one.write(b"x" * 100_000)
    assert not (tmp_path / "rows.csv").exists()


def test_what_an_import_has_begun_with_stays_until_it_ends(tmp_path: Path) -> None:
    """What none has begun with is fetched again after a while, and let go of after a week."""
    path = spool_folder(tmp_path) / "rows.csv"
    with Spool(path, bytes_max=MB) as one:
        one.finish()
        made_s = path.stat().st_mtime
        assert one.ready(made_s + FRESH_S - 1)
        assert not one.ready(made_s + FRESH_S + 1)
        spool.begin(tmp_path, (str(path), "/elsewhere/other.csv"))
        assert one.ready(made_s + FORGOTTEN_S + 1)
    spool.sweep(path.parent, made_s + FORGOTTEN_S + 1)
    assert path.exists()
    spool.remove(tmp_path, (str(path),))
    assert os.listdir(path.parent) == []
    path.touch()
    spool.sweep(path.parent, made_s)
    assert path.exists()
    spool.sweep(path.parent, path.stat().st_mtime + FORGOTTEN_S + 1)
    assert os.listdir(path.parent) == []
