"""The keys of a workspace: who may call which API, kept only as salted hashes.

One file, ``credentials.json`` (0600), replaced whole and synced at each change, read by any process. Changes are
made under a file lock, so that a command may change keys beside a running server.
"""

import fcntl
import hashlib
import hmac
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from backstory.core.error import NotFoundError, StorageError

CredentialKind = Literal["track", "app", "cdp"]
FORMAT_VERSION = 1
HINT_CHARACTERS = 4


class Credential(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key. ``salt`` and ``hash`` are hex; ``hint`` is the end of the key, to tell keys apart.

    ``site_id`` names the Track key it stands beside (Basic user name), None for the others. ``preset`` keys come
    from the settings.
    """

    credential_id: int
    kind: CredentialKind
    salt: str
    hash: str
    hint: str
    created_us: int
    site_id: str | None = None
    preset: bool = False

    def holds(self, key: str) -> bool:
        """Is it this key? Takes the same time whatever the difference."""
        return hmac.compare_digest(self.hash, digest(key, self.salt))


class _File(msgspec.Struct, kw_only=True):
    version: int = FORMAT_VERSION
    next_id: int = 1
    credentials: tuple[Credential, ...] = ()


def digest(key: str, salt: str) -> str:
    """What is kept of a key, in hex.

    Plain SHA-256 is enough: the keys are random with 128 bits, which no amount of guessing finds, so the slowness of
    a password hash would buy nothing and cost each new client. (Keys preset by an operator are their responsibility.)
    The salt keeps equal keys of two workspaces from looking equal.
    """
    return hashlib.sha256(bytes.fromhex(salt) + key.encode()).hexdigest()


def write_private(path: Path, body: bytes) -> None:
    """Put ``body`` in place of a file only its owner may read (0600), at once and durably.

    After a crash there is the old file or the new one. Raises ``StorageError``.
    """
    beside = path.with_suffix(".new")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


class CredentialStore:
    """The credentials of one workspace. Safe to use from several processes; each reads the file when asked to."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the workspace's; it is made if it is missing."""
        self._path = folder / "credentials.json"
        folder.mkdir(parents=True, exist_ok=True)

    def list(self) -> tuple[Credential, ...]:
        """All credentials in the order they were made; raises ``StorageError`` for a damaged file."""
        return self._read().credentials

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the file does; (0, 0) when there is none."""
        try:
            status = os.stat(self._path)
        except OSError:
            return (0, 0)
        return (status.st_ino, status.st_mtime_ns)

    def create(
        self, kind: CredentialKind, key: str, *, salt: str, created_us: int, site_id: str | None = None
    ) -> Credential:
        """Keep a new key; it is durable when this returns. ``salt`` is hex of at least 16 random bytes."""
        with self._changing() as file:
            credential = _credential(file, kind, key, salt=salt, created_us=created_us, site_id=site_id)
            _add(file, credential)
        return credential

    def preset(
        self, kind: CredentialKind, key: str, *, salt: str, created_us: int, site_id: str | None = None
    ) -> Credential:
        """Make the key of the settings valid, in place of the one the settings named before."""
        for old in self.list():
            if old.preset and old.kind == kind and old.site_id == site_id and old.holds(key):
                return old
        with self._changing() as file:
            kept = tuple(old for old in file.credentials if not (old.preset and old.kind == kind))
            file.credentials = kept
            credential = msgspec.structs.replace(
                _credential(file, kind, key, salt=salt, created_us=created_us, site_id=site_id), preset=True
            )
            _add(file, credential)
        return credential

    def revoke(self, credential_id: int) -> Credential:
        """Forget a key, durably; raises ``NotFoundError`` for an unknown number."""
        with self._changing() as file:
            gone = [one for one in file.credentials if one.credential_id == credential_id]
            if not gone:
                raise NotFoundError(f"there is no key number {credential_id}: `backstory keys list` shows all")
            file.credentials = tuple(one for one in file.credentials if one.credential_id != credential_id)
        return gone[0]

    @contextmanager
    def _changing(self) -> Generator[_File, None, None]:
        with _locked(self._path.with_suffix(".lock")):
            file = self._read()
            yield file
            write_private(self._path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")

    def _read(self) -> _File:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(
                f"cannot read {self._path}: {error}. Restore it, or remove it to have new keys made at the next start"
            ) from error


def _credential(
    file: _File, kind: CredentialKind, key: str, *, salt: str, created_us: int, site_id: str | None
) -> Credential:
    return Credential(
        credential_id=file.next_id,
        kind=kind,
        salt=salt,
        hash=digest(key, salt),
        hint=key[-HINT_CHARACTERS:] if len(key) > 3 * HINT_CHARACTERS else "",
        created_us=created_us,
        site_id=site_id,
    )


def _add(file: _File, credential: Credential) -> None:
    file.credentials = (*file.credentials, credential)
    file.next_id += 1


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
