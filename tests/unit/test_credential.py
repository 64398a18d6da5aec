"""Keys on disk: only hashes, replaced whole, durable."""

import os
import stat
from pathlib import Path

import pytest

from backstory.core.error import NotFoundError, StorageError
from backstory.store import credential
from backstory.store.credential import CredentialStore

SALT = "00" * 16
KEY = "0123456789abcdef0123456789abcdef"


def test_a_key_is_kept_as_a_hash(tmp_path: Path) -> None:
    """The file holds no key, is readable by its owner alone, and still knows the key again."""
    made = CredentialStore(tmp_path).create("app", KEY, salt=SALT, created_us=5)
    text = (tmp_path / "credentials.json").read_text()
    assert KEY not in text
    assert KEY[:12] not in text
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert CredentialStore(tmp_path).list() == (made,)
    assert made.holds(KEY)
    assert not made.holds(KEY[:-1] + "e")
    assert made.hint == "cdef"


def test_the_salt_matters(tmp_path: Path) -> None:
    """Equal keys look different."""
    store = CredentialStore(tmp_path)
    first = store.create("app", KEY, salt=SALT, created_us=5)
    second = store.create("app", KEY, salt="11" * 16, created_us=5)
    assert first.hash != second.hash
    assert first.holds(KEY)
    assert second.holds(KEY)


def test_a_revoked_key_is_gone(tmp_path: Path) -> None:
    """Numbers are never used twice, and an unknown number is an error that names the command."""
    store = CredentialStore(tmp_path)
    first = store.create("app", KEY, salt=SALT, created_us=5)
    assert store.revoke(first.credential_id) == first
    assert store.create("cdp", KEY, salt=SALT, created_us=6).credential_id == 2
    with pytest.raises(NotFoundError, match="backstory keys list"):
        store.revoke(first.credential_id)


def test_a_preset_replaces_the_one_before(tmp_path: Path) -> None:
    """The key of the settings is valid in place of its predecessor; made keys and other kinds stay."""
    store = CredentialStore(tmp_path)
    made = store.create("app", KEY, salt=SALT, created_us=5)
    store.preset("app", "first", salt=SALT, created_us=6)
    other = store.preset("cdp", "first", salt=SALT, created_us=6)
    again = store.preset("app", "second", salt=SALT, created_us=7)
    assert store.list() == (made, other, again)
    assert store.preset("app", "second", salt="11" * 16, created_us=8) == again


def test_short_keys_give_no_hint(tmp_path: Path) -> None:
    """A hint never gives away a good part of a key."""
    assert CredentialStore(tmp_path).create("app", "short", salt=SALT, created_us=5).hint == ""


def test_the_stamp_tells_of_changes(tmp_path: Path) -> None:
    """A reader sees at once that another process changed the keys."""
    store = CredentialStore(tmp_path)
    stamps = [store.stamp()]
    for kind in ("app", "cdp"):
        CredentialStore(tmp_path).create(kind, KEY, salt=SALT, created_us=5)
        stamps.append(store.stamp())
    assert len(set(stamps)) == 3


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"credentials":[{"kind":"app"}]}', b"\xff"])
def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path, body: bytes) -> None:
    """A damaged file is an error that names it, and is never written over."""
    path = tmp_path / "credentials.json"
    path.write_bytes(body)
    store = CredentialStore(tmp_path)
    with pytest.raises(StorageError, match=r"credentials\.json"):
        store.list()
    with pytest.raises(StorageError):
        store.create("app", KEY, salt=SALT, created_us=5)
    assert path.read_bytes() == body


def test_a_failing_disk_keeps_the_old_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new file cannot be synced, the old one stays as it was."""
    store = CredentialStore(tmp_path)
    made = store.create("app", KEY, salt=SALT, created_us=5)

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError):
        store.create("cdp", KEY, salt=SALT, created_us=6)
    assert store.list() == (made,)


def test_the_file_is_synced_before_it_is_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, then name, then folder: the order in which a power cut cannot hurt."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("sync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (steps.append("replace"), replace(old, new))[1])
    credential.write_private(tmp_path / "file", b"body")
    assert steps == ["sync", "replace", "sync"]
