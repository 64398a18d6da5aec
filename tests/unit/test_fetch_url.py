"""Fetching over http: whole or gone on with, bounded, and never from inside the house unless allowed."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backstory.edge.fetch_url import fetch, is_public, is_web_address, shown
from backstory.engine.file.spool import Spool
from backstory.engine.file.unpack import SourceError

BODY = b"".join(b"%d\n" % number for number in range(300_000))


@dataclass
class Site:
    """What the server does: how much it sends before it hangs up (None: all), and what was asked of it."""

    address: str
    sends: list[int | None] = field(default_factory=list[int | None])
    body: bytes = BODY
    etag: str = '"1"'
    asked: list[str | None] = field(default_factory=list[str | None])
    status: int = 200
    location: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.headers["Range"])
            begin = 0
            if self.headers["Range"] and self.headers["If-Range"] == site.etag:
                begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            status = 302 if site.location else 206 if begin and site.status == 200 else site.status
            self.send_response(status)
            if site.location:
                self.send_header("Location", site.location)
            if status == 206:
                self.send_header("Content-Range", f"bytes {begin}-{len(site.body) - 1}/{len(site.body)}")
            self.send_header("ETag", site.etag)
            self.send_header("Content-Length", str(0 if site.location else len(site.body) - begin))
            self.end_headers()
            most = site.sends.pop(0) if site.sends else None
            if not site.location:
                self.wfile.write(site.body[begin:][:most])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(address=f"http://127.0.0.1:{server.server_address[1]}/rows.csv")
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def bring(site: Site, path: Path, *, bytes_max: int = 1 << 30, private: bool = True) -> bytes:
    with Spool(path, bytes_max=bytes_max) as spool:
        fetch(site.address, spool, private=private)
        return spool.finish().read_bytes()


def test_a_file_is_fetched(site: Site, tmp_path: Path) -> None:
    """As it is."""
    assert bring(site, tmp_path / "rows") == BODY
    assert site.asked == [None]


def test_a_broken_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    """Again and again, as long as something comes."""
    site.sends = [500_000, 700_000, None]
    assert bring(site, tmp_path / "rows") == BODY
    assert site.asked == [None, "bytes=500000-", "bytes=1200000-"]


def test_what_came_is_kept_for_the_next_run(site: Site, tmp_path: Path) -> None:
    """When nothing more comes it is told; the next run asks for the rest only."""
    site.sends = [500_000, 0]
    with pytest.raises(SourceError, match=r"broke off after 500,000 bytes: .* goes on from there"):
        bring(site, tmp_path / "rows")
    assert not (tmp_path / "rows").exists()
    assert bring(site, tmp_path / "rows") == BODY
    assert site.asked[-1] == "bytes=500000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    """Never half of one and half of the other."""
    site.sends = [500_000, 0]
    with pytest.raises(SourceError):
        bring(site, tmp_path / "rows")
    site.body, site.etag = BODY[::-1], '"2"'
    assert bring(site, tmp_path / "rows") == BODY[::-1]


def test_what_is_too_large_is_refused_while_it_comes(site: Site, tmp_path: Path) -> None:
    """And nothing is left of it."""
    with pytest.raises(SourceError, match="more than the 1 MB"):
        bring(site, tmp_path / "rows", bytes_max=1 << 20)
    assert (tmp_path / "rows.part").stat().st_size == 0


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_is_told(site: Site, tmp_path: Path, status: int) -> None:
    """With its number."""
    site.status = status
    with pytest.raises(SourceError, match=rf"rows\.csv answered {status}"):
        bring(site, tmp_path / "rows")


def test_addresses_inside_the_house_are_refused(site: Site, tmp_path: Path) -> None:
    """Before anything is asked of them."""
    with pytest.raises(SourceError, match=r"127\.0\.0\.1 is not a public address: BACKSTORY_PRIVATE_URLS=1"):
        bring(site, tmp_path / "rows", private=False)
    assert site.asked == []


@pytest.mark.parametrize("location", ["ftp://example.com/x", "http://no-such-host.invalid/x"])
def test_redirections_are_looked_at_too(site: Site, tmp_path: Path, location: str) -> None:
    """Where they lead to has to be an address that may be fetched."""
    site.location = location
    with pytest.raises(SourceError, match=r"is no http or https address|there is no host"):
        bring(site, tmp_path / "rows")


def test_redirections_without_end_are_given_up(site: Site, tmp_path: Path) -> None:
    """After a few."""
    site.location = site.address
    with pytest.raises(SourceError, match="redirects more than 5 times"):
        bring(site, tmp_path / "rows")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.0.0.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("192.168.1.1", False), ("0.0.0.0", False), ("::1", False),
        ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:127.0.0.1", False), ("2002:7f00:1::", False),
        ("224.0.0.1", False), ("64:ff9b::a9fe:a9fe", False), ("64:ff9b:1::1", False), ("fec0::1", False),
        ("::127.0.0.1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    """By what they are, also inside of others."""
    assert is_public(address) == public


def test_what_looks_like_an_address() -> None:
    """http and https with a host; secrets are not shown."""
    assert is_web_address("https://example.com/x.csv")
    assert not any(is_web_address(text) for text in ("ftp://a/b", "http://", "people.csv", "http://a:99999/"))
    assert shown("https://me:secret@example.com/x.csv?token=secret#part") == "https://example.com/x.csv"
