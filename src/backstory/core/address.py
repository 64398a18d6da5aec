"""Addresses: where a message goes, of mail and of the web, read strictly so that nothing else can ride along.

A mail address is ``ada@example.com`` or ``Ada Lovelace <ada@example.com>``: one, without control characters, the
part before the @ in plain ASCII. Domains in other scripts are taken in their ASCII form (IDNA).
"""

import re
import unicodedata
from urllib.parse import urlsplit

from msgspec import Struct

from backstory.core import limit
from backstory.core.error import RequestError

_NAMED = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^"<>]*?))\s*<([^<>\s]+)>')
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# RFC 5321, 4.5.3.1: the longest mailbox that can stand in an SMTP command, and its part before the @.
_MAIL_CHARACTERS = 254
_LOCAL_CHARACTERS = 64


class AddressError(RequestError):
    """What should be an address is none."""


class Address(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A mail address and the name shown with it."""

    mail: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} <{self.mail}>" if self.name else self.mail

    @property
    def domain(self) -> str:
        return self.mail.rpartition("@")[2]


def read(text: str) -> Address:
    """One mail address; raises ``AddressError``."""
    stripped = text.strip()
    if not stripped:
        raise AddressError("the address is empty")
    limit.ADDRESS_CHARACTERS.check(len(stripped))
    if any(map(is_control, stripped)):
        raise AddressError("the address has a line break or another control character in it")
    named = _NAMED.fullmatch(stripped)
    name, mail = _name_of(named), stripped if named is None else named[3]
    if "," in mail or ";" in mail:
        raise AddressError(f"{_shown(text)} is more than one address; a message goes to one person")
    return Address(mail=_mail(mail, text), name=name)


def read_url(text: str) -> str:
    """An http or https URL without credentials; raises ``AddressError``."""
    url = text.strip()
    limit.URL_CHARACTERS.check(len(url))
    if any(map(is_control, url)) or " " in url:
        raise AddressError("the URL has a space, a line break or a control character in it; encode it: | url_encode")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise AddressError(f"{_shown(text)} is not a URL") from None
    if parts.username is not None or parts.password is not None:
        raise AddressError("the URL names a user or a password, which would end up in logs; use a token in the path")
    if parts.scheme not in ("http", "https") or not host:
        raise AddressError(f"{_shown(text)} is not an http or https URL, like https://example.com/hook")
    return url


def host_of(url: str) -> str:
    """The host of a URL that ``read_url`` took: what of it may stand in a log."""
    return urlsplit(url).hostname or ""


def is_control(character: str) -> bool:
    """Control characters, separators of lines and paragraphs, halves of characters: nothing that a line may hold."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _name_of(named: re.Match[str] | None) -> str:
    if named is None:
        return ""
    return re.sub(r"\\(.)", r"\1", named[1]).strip() if named[1] is not None else named[2].strip()


def _mail(mail: str, text: str) -> str:
    local, at, domain = mail.rpartition("@")
    try:
        ascii_domain = domain.encode("idna").decode()
    except UnicodeError:
        ascii_domain = ""
    valid = (
        at
        and len(local) <= _LOCAL_CHARACTERS
        and len(local) + 1 + len(ascii_domain) <= _MAIL_CHARACTERS
        and _LOCAL.fullmatch(local)
        and _DOMAIN.fullmatch(ascii_domain)
    )
    if not valid:
        raise AddressError(f"{_shown(text)} is not a mail address, like ada@example.com")
    return f"{local}@{ascii_domain}"


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 100 else f"{text[:99]!a}…"
