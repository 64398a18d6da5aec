"""Who calls: credentials in a request's ``Authorization`` header, and the keys made at the first start.

Track takes Basic ``site_id:key``, the App API a Bearer key, Pipelines either with its write key. Basic comes in
standard and in URL-safe base64, with or without padding (``api-surface.md`` section 1).
"""

import base64
import secrets
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

import msgspec

from backstory.core.error import StorageError
from backstory.edge.rate import Rate
from backstory.engine.settings import Settings
from backstory.store.credential import Credential, CredentialKind, CredentialStore, write_private

SITE_ID_BYTES = 10
KEY_BYTES = 16
SALT_BYTES = 16
CACHE_ENTRIES_MAX = 1024
WORKSPACE_NAME = "default"

_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Authenticator:
    """Answers which workspace a header opens. Knows the keys of several workspaces; forgets revoked ones on refresh.

    Headers that were right once are remembered as they came, so that a call costs one look into a dict; its compare
    tells nothing through time that the salted hash of the dict would not hide. Wrong headers are never remembered.
    """

    def __init__(self, stores: Mapping[str, CredentialStore]) -> None:
        """``stores`` by workspace name; raises ``StorageError`` when one cannot be read."""
        self._stores = dict(stores)
        self._stamps: dict[str, tuple[int, int]] = {}
        self._credentials: list[tuple[str, Credential]] = []
        self._known: dict[CredentialKind, dict[bytes, str]] = {"track": {}, "app": {}, "cdp": {}}
        self._owners: dict[tuple[CredentialKind, bytes], tuple[str, int]] = {}
        self.refresh()

    def add(self, name: str, store: CredentialStore) -> None:
        """The keys of one more workspace."""
        self._stores[name] = store
        self.refresh()

    def paced(self, kind: CredentialKind, rate: Rate | None) -> Callable[[bytes], str | None]:
        """``track``, ``app`` or ``cdp``, which then raises ``Busy`` for a key that calls more often than it may."""
        plain = {"track": self.track, "app": self.app, "cdp": self.cdp}[kind]
        if rate is None:
            return plain

        def authorise(authorization: bytes) -> str | None:
            name = plain(authorization)
            if name is not None:
                rate.take(self._owners[kind, authorization])
            return name

        return authorise

    def track(self, authorization: bytes) -> str | None:
        """The workspace that a Track header opens, None when it opens none."""
        return self._known["track"].get(authorization) or self._check("track", authorization)

    def app(self, authorization: bytes) -> str | None:
        """The workspace that an App API header opens, None when it opens none."""
        return self._known["app"].get(authorization) or self._check("app", authorization)

    def cdp(self, authorization: bytes) -> str | None:
        """The workspace that a Pipelines header opens, None when it opens none."""
        return self._known["cdp"].get(authorization) or self._check("cdp", authorization)

    def refresh(self) -> None:
        """Read the keys again if a file changed; a damaged file raises and leaves the known keys valid."""
        stamps = {name: store.stamp() for name, store in self._stores.items()}
        if stamps == self._stamps:
            return
        self._credentials = [(name, one) for name, store in self._stores.items() for one in store.list()]
        self._stamps = stamps
        for known in self._known.values():
            known.clear()
        self._owners.clear()

    def _check(self, kind: CredentialKind, authorization: bytes) -> str | None:
        site_id, key = _presented(kind, authorization)
        if not key:
            return None
        for workspace, credential in self._credentials:
            if credential.kind == kind and credential.site_id == site_id and credential.holds(key):
                self._remember(kind, authorization, workspace, credential.credential_id)
                return workspace
        return None

    def _remember(self, kind: CredentialKind, authorization: bytes, workspace: str, credential_id: int) -> None:
        known = self._known[kind]
        if len(known) >= CACHE_ENTRIES_MAX:  # One right key can be written in many ways.
            known.clear()
        if len(self._owners) >= 3 * CACHE_ENTRIES_MAX:
            for one in self._known.values():
                one.clear()
            self._owners.clear()
        # One key is one key, however it is written.
        self._owners[kind, authorization] = (workspace, credential_id)
        known[authorization] = workspace


def basic(authorization: bytes) -> tuple[str, str] | None:
    """User and password of a Basic header, None when it is none."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    token = rest.strip().rstrip(b"=").translate(_URL_SAFE)
    try:
        text = base64.b64decode(token + b"=" * (-len(token) % 4), validate=True).decode()
    except ValueError:
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def bearer(authorization: bytes) -> str | None:
    """The key of a Bearer header, None when it is none."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    try:
        return rest.strip().decode()
    except UnicodeDecodeError:
        return None


def _presented(kind: CredentialKind, authorization: bytes) -> tuple[str | None, str]:
    """Site id and key as the API expects them; an empty key when the header is of another form."""
    match kind:
        case "track":
            return basic(authorization) or (None, "")
        case "app":
            return None, bearer(authorization) or ""
        case "cdp":
            pair = basic(authorization)
            return None, (pair[0].strip() if pair is not None else bearer(authorization) or "")


def workspace_number(name: str) -> int:
    """The number clients look for: 1 for the default workspace, else one made of its name."""
    return 1 if name == WORKSPACE_NAME else 2 + zlib.crc32(name.encode()) // 2


def new_key() -> str:
    """A key of 128 random bits, in hex."""
    return secrets.token_hex(KEY_BYTES)


def new_salt() -> str:
    """A salt for a stored key."""
    return secrets.token_hex(SALT_BYTES)


def prepare_keys(
    store: CredentialStore, settings: Settings, *, created_us: int, tell: Callable[[dict[str, str]], None]
) -> None:
    """See that a workspace has a key of each kind: those of the settings, else what it has, else new ones.

    New keys are given to ``tell`` (by the names of the settings) before their hashes are kept: a crash in between
    makes them worthless, never lost. A key of the settings replaces the one the settings named earlier.
    """
    stored = store.list()
    site_id = settings.site_id or next((one.site_id for one in stored if one.kind == "track"), None)
    preset = {"track": settings.track_key, "app": settings.app_key, "cdp": settings.cdp_key}
    fresh: dict[str, str] = {}
    if site_id is None:
        site_id = fresh["site_id"] = secrets.token_hex(SITE_ID_BYTES)
    sites = {"track": site_id, "app": None, "cdp": None}
    kinds = cast("tuple[CredentialKind, ...]", tuple(preset))
    for kind in kinds:
        has = any(one.kind == kind and one.site_id == sites[kind] for one in stored)
        if preset[kind] is None and not has:
            fresh[f"{kind}_key"] = new_key()
    if "track_key" in fresh:
        fresh = {"site_id": site_id, **fresh}
    if fresh:
        tell(fresh)
    for kind in kinds:
        key, chosen = fresh.get(f"{kind}_key"), preset[kind]
        if chosen is not None:
            store.preset(kind, chosen, salt=new_salt(), created_us=created_us, site_id=sites[kind])
        elif key is not None:
            store.create(kind, key, salt=new_salt(), created_us=created_us, site_id=sites[kind])


def first_keys(store: CredentialStore, settings: Settings, *, created_us: int) -> dict[str, str]:
    """A key of each kind for a workspace that was just made, by the names of the settings; only hashes are kept.

    The keys that the settings name are those of the default workspace: no other opens with them.
    """
    keys: dict[str, str] = {}
    none = replace(settings, site_id=None, track_key=None, app_key=None, cdp_key=None)
    prepare_keys(store, none, created_us=created_us, tell=keys.update)
    return keys


def tell_keys(keys: Mapping[str, str], data: Path, terminal: TextIO) -> None:
    """Show new keys once on a terminal; where there is none, write them to ``DIR/keys.json`` (0600)."""
    if terminal.isatty():
        lines = [f"  {name.replace('_', ' '):<10} {key}" for name, key in keys.items()]
        terminal.write(
            "New keys, shown this once (only their hashes are kept); `backstory keys create` makes more:\n"
            + "\n".join(lines)
            + "\n"
        )
        terminal.flush()
        return
    path = data / "keys.json"
    body = msgspec.json.format(msgspec.json.encode({**_written(path), **keys}), indent=2)
    data.mkdir(parents=True, exist_ok=True)
    write_private(path, body + b"\n")
    terminal.write(f"New keys are in {path} (only you can read it; only their hashes are kept elsewhere).\n")
    terminal.flush()


def _written(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}. Move it away; it held keys made earlier") from error
