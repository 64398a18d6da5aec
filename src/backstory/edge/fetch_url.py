"""Fetching a file over http(s): streamed to a spool, gone on with where it broke off, never from inside the house.

Every address a name stands for has to be a public one, unless a setting allows others; the connection goes to an
address that was looked at, so that the name cannot mean another one a moment later. Redirections are looked at too.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from backstory.engine.file.spool import Spool
from backstory.engine.file.unpack import SourceError

if TYPE_CHECKING:
    import httpx

REDIRECTS_MAX = 5
ATTEMPTS_MAX = 4
TIMEOUT_S = 30.0
# IPv4 inside of IPv6: what translators take (RFC 6052, RFC 8215) and the form without a name for it (RFC 4291).
_TRANSLATED = [ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")]
# Is told how many bytes came, and of how many (0: not known).
OnBytes = Callable[[int, int], None]


def is_web_address(text: str) -> bool:
    """Does this look like an address that can be fetched?"""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def fetch(url: str, spool: Spool, *, private: bool, on_bytes: OnBytes = lambda came, of: None) -> None:
    """Bring what is behind a URL into an open spool. Raises ``SourceError``; what came until then is gone on with."""
    # Only here: most commands read files.
    import httpx

    with httpx.Client(trust_env=False, follow_redirects=False, timeout=TIMEOUT_S) as client:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            before = spool.size
            try:
                _fetch_once(client, url, spool, private=private, on_bytes=on_bytes)
                return
            except (httpx.TransportError, httpx.StreamError, _Gone) as error:
                # A connection that brought something is worth another one.
                if attempt == ATTEMPTS_MAX or spool.size <= before:
                    raise SourceError(
                        f"{shown(url)} broke off after {spool.size:,} bytes: {error or type(error).__name__}; the same "
                        "command goes on from there"
                    ) from error


def _fetch_once(client: httpx.Client, url: str, spool: Spool, *, private: bool, on_bytes: OnBytes) -> None:
    headers = {"Accept-Encoding": "identity"}
    version = spool.noted().get("version", "")
    if spool.size and version:
        headers |= {"Range": f"bytes={spool.size}-", "If-Range": version}
    for _ in range(REDIRECTS_MAX + 1):
        with closing(client.send(_request(client, url, headers, private=private), stream=True)) as response:
            if response.is_redirect:
                url = urljoin(url, response.headers["location"])
                if not is_web_address(url):
                    raise SourceError(f"{shown(url)} is no http or https address")
                continue
            _take(response, url, spool, on_bytes)
            return
    raise SourceError(f"{shown(url)} redirects more than {REDIRECTS_MAX} times")


class _Gone(Exception):
    """What came of a file before is not what is there now."""


def _take(response: httpx.Response, url: str, spool: Spool, on_bytes: OnBytes) -> None:
    if response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {spool.size}-"):
        of = _count(response.headers["content-range"].rpartition("/")[2])
    elif response.status_code == 416 and spool.size:
        spool.start_again()
        raise _Gone("what came before is not what is there now")
    elif response.status_code == 200:
        spool.start_again()
        of = _count(response.headers.get("content-length", ""))
        # Only a strong one says that the bytes are the same.
        tag = response.headers.get("etag", "")
        version = tag if tag and not tag.startswith("W/") else response.headers.get("last-modified", "")
        if version:
            spool.note({"version": version})
    else:
        raise SourceError(f"{shown(url)} answered {response.status_code}: nothing was imported")
    for block in response.iter_raw():
        spool.write(block)
        on_bytes(spool.size, of)


def _count(text: str) -> int:
    """A number in a header; 0 where there is none to be believed."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _request(client: httpx.Client, url: str, headers: dict[str, str], *, private: bool) -> httpx.Request:
    """A request to an address that was looked at; names in certificates and virtual hosts stay those of the URL."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = _address(host, port, private=private)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    there = f"[{address}]" if ":" in address else address
    target = parts._replace(netloc=f"{user}{there}:{port}", fragment="").geturl()
    name = f"[{host}]" if ":" in host else host
    named = name if parts.port is None else f"{name}:{parts.port}"
    return client.build_request(
        "GET", target, headers={**headers, "Host": named}, extensions={"sni_hostname": host}
    )


def _address(host: str, port: int, *, private: bool) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceError(f"there is no host {host}: {error}") from error
    addresses = [str(one[4][0]) for one in found]
    for address in addresses:
        if not private and not is_public(address):
            named = host if host == address else f"{host} is {address}, which"
            raise SourceError(
                f"{named} is not a public address: BACKSTORY_PRIVATE_URLS=1 lets imports fetch from inside your network"
            )
    return addresses[0]


def is_public(address: str) -> bool:
    """Is this an address of the open internet?"""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # An address of the older kind inside would be reached by way of a translator or a tunnel.
        inner = found.ipv4_mapped or found.sixtofour
        if found.is_site_local or any(found in network for network in _TRANSLATED):
            return False
        return found.is_global and not found.is_multicast and (inner is None or inner.is_global)
    return found.is_global and not found.is_multicast


def shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
