"""The settings: one typed table, read from flags and the environment.

``SETTINGS`` is the list the documentation and the command line are made from; ``load`` turns text into ``Settings``.
An override (a flag) wins over the environment, the environment over the default. Nothing is read at import.
Source: issue 2, point 2.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from backstory.core.error import BackstoryError

PREFIX = "BACKSTORY_"
_SERVICE = re.compile(PREFIX + r"(SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+)")
DUCKDB_THREADS_MAX = 4
KEY_CHARACTERS_MAX = 200

# The workspace that there always is.
DEFAULT = "default"

Send = Literal["live", "mailbox", "off"]
Value = str | int | float | bool | Path | None


class SettingError(BackstoryError):
    """A setting cannot be what it was given as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting. ``read`` turns its text into a value; ``secret`` ones are never shown."""

    name: str
    read: Callable[[str], Value]
    default: Value
    help: str
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process runs with; one field per row of ``SETTINGS``, described there."""

    data: Path
    workspace: str
    host: str
    port: int
    site_id: str | None = field(repr=False)
    track_key: str | None = field(repr=False)
    app_key: str | None = field(repr=False)
    cdp_key: str | None = field(repr=False)
    smtp_url: str | None = field(repr=False)
    send: Send
    send_per_s: float
    trigger_age_hours: float
    duckdb_memory_mb: int
    duckdb_threads: int
    temp_folder: Path
    retry_in_doubt: bool
    auto_merge: bool
    change_by_cio_id: bool
    change_email_by_id: bool
    tls_cert: Path | None
    tls_key: Path | None
    tls_dev: bool
    rate_per_s: int
    decoders: int
    import_max_mb: int
    private_urls: bool
    purge_days: float


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text[:20]) <= high):
            raise SettingError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise SettingError(f"must be a number from {low:g} to {high:g}")
        return value

    return read


def _boolean(text: str) -> bool:
    match text.lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
        case _:
            raise SettingError("must be true or false (1, 0, yes, no, on, off are understood too)")


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _host(text: str) -> str:
    if any(character.isspace() or character == "/" for character in text):
        raise SettingError("must be a host name or an address, without scheme or port")
    return text


def _key(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or " " in text or len(text) > KEY_CHARACTERS_MAX:
        raise SettingError(f"must be 1 to {KEY_CHARACTERS_MAX} ASCII characters without blanks")
    return text


def _site(text: str) -> str:
    if ":" in text:
        raise SettingError("must not hold a colon: it separates the site id from the key")
    return _key(text)


def _smtp(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise SettingError("must look like smtp://user:password@host:587 or smtps://host:465")
    try:
        _ = parts.port
    except ValueError:
        raise SettingError("must hold a port from 0 to 65535 or none") from None
    return text


def _send(text: str) -> str:
    if text not in ("live", "mailbox", "off"):
        raise SettingError("must be live (send), mailbox (write into DIR/mailbox) or off (drop)")
    return text


SETTINGS: tuple[Setting, ...] = (
    Setting(name="data", read=_path, default=None, help="the folder that holds everything; needed"),
    Setting(
        name="workspace", read=_key, default=DEFAULT,
        help="the workspace that a command works on; a server serves all of a folder, each by its keys",
    ),
    Setting(name="host", read=_host, default="127.0.0.1", help="the address to listen on; 0.0.0.0 for all"),
    Setting(name="port", read=_whole(0, 65535), default=8080, help="the TCP port to listen on; 0 picks a free one"),
    Setting(
        name="site_id", read=_site, default=None,
        help="the site id of the Track API; otherwise made at the first start",
    ),
    Setting(
        name="track_key", read=_key, default=None, secret=True,
        help="the key of the Track API; otherwise made at the first start",
    ),
    Setting(
        name="app_key", read=_key, default=None, secret=True,
        help="the key of the App API; otherwise made at the first start",
    ),
    Setting(
        name="cdp_key", read=_key, default=None, secret=True,
        help="the write key of the Pipelines API; otherwise made at the first start",
    ),
    Setting(
        name="smtp_url", read=_smtp, default=None, secret=True,
        help="the mail server: smtp://user:password@host:587 (STARTTLS where offered) or smtps://host:465",
    ),
    Setting(
        name="send", read=_send, default=None,
        help="live sends mail and calls webhooks, mailbox writes both into DIR/mailbox, off drops them; "
        "live when smtp_url is set, else mailbox",
    ),
    Setting(
        name="send_per_s", read=_number(0.001, 100_000), default=50.0, help="the greatest number of messages a second"
    ),
    Setting(
        name="trigger_age_hours", read=_number(0, 876_000), default=72.0,
        help="what is older than this when it is accepted triggers no campaign",
    ),
    Setting(
        name="duckdb_memory_mb", read=_whole(100, 1_000_000), default=1000,
        help="the memory for scans and imports, in MB; more goes to the temporary folder",
    ),
    Setting(
        name="duckdb_threads", read=_whole(1, 256), default=None,
        help=f"threads for scans and imports; as many as processors, at most {DUCKDB_THREADS_MAX}",
    ),
    Setting(
        name="temp_folder", read=_path, default=None, help="where large sorts spill; DIR/tmp, emptied at each start"
    ),
    Setting(
        name="retry_in_doubt", read=_boolean, default=False,
        help="attempt again by itself a message whose outcome a crash hid; it may then arrive twice",
    ),
    Setting(
        name="auto_merge", read=_boolean, default=True,
        help="merge two people when an identify names one by id and the other by email, and each lacks the other",
    ),
    Setting(
        name="change_by_cio_id", read=_boolean, default=True,
        help="an identify that addresses somebody by cio_id may change their id, email and phone",
    ),
    Setting(
        name="change_email_by_id", read=_boolean, default=False,
        help="an identify that addresses somebody by id may change their email",
    ),
    Setting(name="tls_cert", read=_path, default=None, help="the certificate chain (PEM) to serve https with"),
    Setting(name="tls_key", read=_path, default=None, help="the private key (PEM) of tls_cert"),
    Setting(
        name="tls_dev", read=_boolean, default=False,
        help="serve https with a certificate of a local authority made in DIR/tls, for development",
    ),
    Setting(
        name="rate_per_s", read=_whole(0, 1_000_000), default=0,
        help="how many calls a second each key may make, above which it is 429; 0: as many as it likes",
    ),
    Setting(
        name="decoders", read=_whole(0, 64), default=1,
        help="processes that read large batches beside the server, started by the first one; 0: it does so itself",
    ),
    Setting(
        name="import_max_mb", read=_whole(1, 100_000_000), default=20_000,
        help="the most an import brings by URL, upload, query or standard input, in MB",
    ),
    Setting(
        name="private_urls", read=_boolean, default=False,
        help="let imports fetch from private addresses, such as those of this machine and its network",
    ),
    Setting(
        name="purge_days", read=_number(0, 36_500), default=30.0,
        help="within how many days after somebody was deleted or suppressed the last byte of their data is gone",
    ),
)


def load(environment: Mapping[str, str], overrides: Mapping[str, Value] | None = None) -> Settings:
    """The settings of a process; raises ``SettingError`` that names the flag or variable, its value and what it takes.

    ``overrides`` are by setting name, as text or as values of the right type; None means not given. An empty
    environment variable counts as not set; one that looks like a setting and is none is refused, since whoever mistyped
    it would otherwise work on another folder or workspace than they think.
    """
    environment = {name: text for name, text in environment.items() if not _by_platform(name, text)}
    if unknown := unknown_variables(environment):
        raise SettingError("; ".join(unknown))
    given = dict(overrides or {})
    values: dict[str, Value] = {}
    for setting in SETTINGS:
        values[setting.name] = _value(setting, environment.get(setting.variable, ""), given.pop(setting.name, None))
    if given:
        raise SettingError(f"there is no setting {next(iter(given))!r}")
    return _complete(values)


def _by_platform(name: str, text: str) -> bool:
    """Does Kubernetes tell every container so where a service named ``backstory`` is? That sets nothing here.

    Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    return bool(_SERVICE.fullmatch(name)) or (name == PREFIX + "PORT" and "://" in text)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none, such as a misspelt one."""
    known = [setting.variable.removeprefix(PREFIX) for setting in SETTINGS]
    found: list[str] = []
    for name in sorted(environment):
        short = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and short not in known:
            near = difflib.get_close_matches(short, known, n=1)
            found.append(f"{name} is no setting" + (f"; did you mean {PREFIX}{near[0]}?" if near else ""))
    return found


def _value(setting: Setting, text: str, override: Value) -> Value:
    if override is not None and not isinstance(override, str):
        override = _written(override)
    source, raw = (setting.flag, override) if override is not None else (setting.variable, text)
    if raw == "":
        if override is not None:
            raise SettingError(f"{source} is empty: give a value or leave it out")
        return setting.default
    try:
        return setting.read(raw)
    except SettingError as error:
        shown = "" if setting.secret else f", not {raw!r}"
        raise SettingError(f"{source} {error}{shown}") from None


def _written(value: int | float | bool | Path) -> str:
    """A typed override as the text it would have been, so that there is one check for both."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _complete(values: dict[str, Value]) -> Settings:
    """Defaults that hang on other settings, and rules about several of them."""
    data = values["data"]
    if not isinstance(data, Path):
        raise SettingError("no data folder: give --data DIR or set BACKSTORY_DATA")
    if values["temp_folder"] is None:
        values["temp_folder"] = data / "tmp"
    if values["duckdb_threads"] is None:
        values["duckdb_threads"] = min(os.cpu_count() or 1, DUCKDB_THREADS_MAX)
    if values["send"] is None:
        values["send"] = "mailbox" if values["smtp_url"] is None else "live"
    if values["send"] == "live" and values["smtp_url"] is None:
        raise SettingError("send is live but no mail server is named: set BACKSTORY_SMTP_URL, or use mailbox or off")
    if (values["tls_cert"] is None) != (values["tls_key"] is None):
        raise SettingError("--tls-cert and --tls-key go together: give both, or neither")
    if values["tls_dev"] and values["tls_cert"] is not None:
        raise SettingError("--tls-dev makes its own certificate: leave out --tls-cert and --tls-key, or --tls-dev")
    return Settings(**cast("dict[str, object]", values))  # pyright: ignore[reportArgumentType]
