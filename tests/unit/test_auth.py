"""Who may call: headers in their many spellings, and the keys of the first start."""

import base64
import io
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstory.core.error import StorageError
from backstory.edge.auth import CACHE_ENTRIES_MAX, Authenticator, basic, bearer, prepare_keys, tell_keys
from backstory.engine.settings import Settings, load
from backstory.store.credential import CredentialKind, CredentialStore

SALT = "00" * 16
# Its base64 holds both characters in which the alphabets differ.
KEY = "k>>>???~~~"


def make(folder: Path, kind: CredentialKind = "track", key: str = KEY, site_id: str | None = None) -> CredentialStore:
    store = CredentialStore(folder)
    store.create(kind, key, salt=SALT, created_us=1, site_id=site_id)
    return store


def settings_of(tmp_path: Path, **given: str) -> Settings:
    return load({}, {"data": tmp_path, **given})


def basic_header(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def test_basic_comes_in_both_alphabets(tmp_path: Path) -> None:
    """Standard and URL-safe base64, with and without padding, in any case of the scheme, open the workspace."""
    keys = Authenticator({"default": make(tmp_path, site_id="site")})
    plain = f"site:{KEY}".encode()
    for encoded in (base64.b64encode(plain), base64.urlsafe_b64encode(plain)):
        for token in (encoded, encoded.rstrip(b"=")):
            for scheme in (b"Basic ", b"basic ", b"BASIC  "):
                assert keys.track(scheme + token) == "default"
    assert base64.b64encode(plain) != base64.urlsafe_b64encode(plain)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Basic",
        b"Basic !!!",
        b"Basic a",
        b"Basic \xff\xff",
        b"Basic " + base64.b64encode(b"\xff:\xff"),
        b"Basic " + base64.b64encode(b"site"),
        basic_header("site", ""),
        basic_header("site", "wrong"),
        basic_header("other", KEY),
        basic_header("", KEY),
        b"Bearer " + KEY.encode(),
    ],
)
def test_wrong_track_headers_open_nothing(tmp_path: Path, header: bytes) -> None:
    """Nothing but the right pair opens Track."""
    keys = Authenticator({"default": make(tmp_path, site_id="site")})
    assert keys.track(header) is None


def test_keys_open_only_their_api(tmp_path: Path) -> None:
    """A key of one kind is no key of another, and each leads to its own workspace."""
    make(tmp_path / "a", "app", "app-key")
    make(tmp_path / "a", "track", "track-key", "site")
    keys = Authenticator({"a": CredentialStore(tmp_path / "a"), "b": make(tmp_path / "b", "cdp", "write-key")})
    assert keys.app(b"Bearer app-key") == "a"
    assert keys.app(b"bearer app-key ") == "a"
    assert keys.app(b"Bearer track-key") is None
    assert keys.app(b"Bearer \xff") is None
    assert keys.track(basic_header("site", "track-key")) == "a"
    assert keys.track(basic_header("site", "app-key")) is None
    assert keys.cdp(basic_header("write-key", "")) == "b"
    assert keys.cdp(b"Bearer write-key") == "b"
    assert keys.cdp(b"Bearer app-key") is None


def test_revoked_keys_close(tmp_path: Path) -> None:
    """After a refresh a revoked key is refused although it was right before, and a new one is known."""
    store = make(tmp_path, "app", "old")
    keys = Authenticator({"default": store})
    assert keys.app(b"Bearer old") == "default"
    other_process = CredentialStore(tmp_path)
    other_process.revoke(1)
    other_process.create("app", "new", salt=SALT, created_us=2)
    keys.refresh()
    assert keys.app(b"Bearer old") is None
    assert keys.app(b"Bearer new") == "default"


def test_a_damaged_file_closes_nobody_out(tmp_path: Path) -> None:
    """When the keys cannot be read again, the known ones stay valid and the error is told."""
    keys = Authenticator({"default": make(tmp_path, "app", "old")})
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(StorageError):
        keys.refresh()
    assert keys.app(b"Bearer old") == "default"


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """One key written in many ways does not fill the memory."""
    keys = Authenticator({"default": make(tmp_path, "app", "key")})
    for blanks in range(CACHE_ENTRIES_MAX + 10):
        assert keys.app(b"Bearer " + b" " * blanks + b"key") == "default"
    assert len(keys._known["app"]) <= CACHE_ENTRIES_MAX


@given(st.binary(max_size=60))
def test_any_header_is_read_or_not(header: bytes) -> None:
    """No header, however odd, is an error."""
    for text in (header, b"Basic " + header, b"Bearer " + header, b"Basic " + base64.b64encode(header)):
        basic(text)
        bearer(text)


def told(tmp_path: Path, settings: Settings) -> dict[str, str]:
    new: dict[str, str] = {}
    prepare_keys(CredentialStore(tmp_path), settings, created_us=1, tell=new.update)
    return new


def opens(tmp_path: Path, site_id: str, keys: dict[str, str]) -> bool:
    known = Authenticator({"default": CredentialStore(tmp_path)})
    return all(
        (
            known.track(basic_header(site_id, keys["track_key"])),
            known.app(f"Bearer {keys['app_key']}".encode()),
            known.cdp(f"Bearer {keys['cdp_key']}".encode()),
        )
    )


def test_the_first_start_makes_keys(tmp_path: Path) -> None:
    """Without presets a key of each kind is made, told once, and works; the second start tells nothing."""
    new = told(tmp_path, settings_of(tmp_path))
    assert list(new) == ["site_id", "track_key", "app_key", "cdp_key"]
    assert len(set(new.values())) == 4
    assert all(len(new[name]) == 32 for name in ("track_key", "app_key", "cdp_key"))
    assert opens(tmp_path, new["site_id"], new)
    assert told(tmp_path, settings_of(tmp_path)) == {}


def test_preset_keys_win(tmp_path: Path) -> None:
    """Keys of the settings work from the first start on, nothing is told, and a changed one takes over."""
    preset = {"track_key": "t1", "app_key": "a1", "cdp_key": "c1"}
    assert told(tmp_path, settings_of(tmp_path, site_id="mine", **preset)) == {}
    assert opens(tmp_path, "mine", preset)
    changed = {**preset, "app_key": "a2"}
    assert told(tmp_path, settings_of(tmp_path, site_id="mine", **changed)) == {}
    assert opens(tmp_path, "mine", changed)
    assert not opens(tmp_path, "mine", preset)


def test_a_preset_comes_beside_made_keys(tmp_path: Path) -> None:
    """A key set later works too, and what is not set stays as it was made."""
    new = told(tmp_path, settings_of(tmp_path))
    assert told(tmp_path, settings_of(tmp_path, track_key="mine")) == {}
    assert opens(tmp_path, new["site_id"], new)
    assert opens(tmp_path, new["site_id"], {**new, "track_key": "mine"})


def test_another_site_id_gets_its_own_key(tmp_path: Path) -> None:
    """A site id of the settings without a key gets one, told beside it."""
    old = told(tmp_path, settings_of(tmp_path))
    new = told(tmp_path, settings_of(tmp_path, site_id="mine"))
    assert list(new) == ["site_id", "track_key"]
    assert opens(tmp_path, "mine", {**old, **new})


def test_keys_are_told_before_they_are_kept(tmp_path: Path) -> None:
    """When telling fails, nothing is kept: the next start makes keys again instead of losing them."""

    def fail(keys: dict[str, str]) -> None:
        raise StorageError("the disk is full")

    with pytest.raises(StorageError):
        prepare_keys(CredentialStore(tmp_path), settings_of(tmp_path), created_us=1, tell=fail)
    assert CredentialStore(tmp_path).list() == ()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_keys_are_shown_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal the keys are printed and no file is written."""
    terminal = Terminal()
    tell_keys({"site_id": "s1", "app_key": "a1"}, tmp_path, terminal)
    assert "app key    a1" in terminal.getvalue()
    assert not list(tmp_path.iterdir())


def test_keys_are_written_where_no_terminal_is(tmp_path: Path) -> None:
    """Without a terminal the keys go to DIR/keys.json (0600), beside those told earlier, and are not printed."""
    output = io.StringIO()
    tell_keys({"site_id": "s1", "app_key": "a1"}, tmp_path, output)
    tell_keys({"app_key": "a2"}, tmp_path, output)
    path = tmp_path / "keys.json"
    assert msgspec.json.decode(path.read_bytes()) == {"site_id": "s1", "app_key": "a2"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in output.getvalue()
    assert "a1" not in output.getvalue()


def test_a_strange_keys_file_is_left_alone(tmp_path: Path) -> None:
    """A keys.json that is not ours is not written over."""
    (tmp_path / "keys.json").write_text("[1]")
    with pytest.raises(StorageError, match=r"keys\.json"):
        tell_keys({"app_key": "a1"}, tmp_path, io.StringIO())
    assert (tmp_path / "keys.json").read_text() == "[1]"
