"""Certificates for https."""

import ssl
import stat
from pathlib import Path

import pytest

from backstory.edge.tls import CertificateError, certificate, development_certificate, trust_hint
from backstory.engine.settings import load


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A TLS handshake in memory; raises ``ssl.SSLError`` when the client does not trust the server."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass


def contexts(cert: Path, key: Path, authority: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=authority)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "backstory.test", "10.1.2.3"])
def test_who_trusts_the_authority_trusts_the_server(tmp_path: Path, name: str) -> None:
    """A client that trusts the local authority reaches the server by its usual names and its host."""
    made = development_certificate(tmp_path / "tls", name)
    assert made.authority is not None
    handshake(*contexts(made.cert, made.key, made.authority), name)


def test_nobody_else_trusts_it(tmp_path: Path) -> None:
    """Without the authority, and under a name that is not ours, the connection is refused."""
    made = development_certificate(tmp_path / "tls", "127.0.0.1")
    assert made.authority is not None
    server, trusting = contexts(made.cert, made.key, made.authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ssl.create_default_context(), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, trusting, "example.com")


def test_the_authority_is_made_once(tmp_path: Path) -> None:
    """The next start uses the same authority, so what trusted it still does; the keys are the owner's alone."""
    first = development_certificate(tmp_path / "tls", "0.0.0.0")
    assert first.authority is not None
    trusted = first.authority.read_bytes()
    again = development_certificate(tmp_path / "tls", "0.0.0.0")
    assert again.authority is not None
    assert again.authority.read_bytes() == trusted
    handshake(*contexts(again.cert, again.key, first.authority), "localhost")
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode) == 0o600


def test_a_damaged_authority_is_said_to_be_damaged(tmp_path: Path) -> None:
    """A broken authority is not replaced behind the back of those who trust it."""
    development_certificate(tmp_path, "localhost")
    (tmp_path / "ca.pem").write_text("broken")
    with pytest.raises(CertificateError, match="cannot make a certificate"):
        development_certificate(tmp_path, "localhost")


def test_a_given_certificate_is_checked(tmp_path: Path) -> None:
    """A certificate of the user is served as it is; one that cannot be used is refused at the start."""
    made = development_certificate(tmp_path / "tls", "localhost")
    given = certificate(load({}, {"data": tmp_path, "tls_cert": made.cert, "tls_key": made.key}))
    assert given is not None
    assert (given.cert, given.key, given.authority) == (made.cert, made.key, None)
    for cert, key in ((made.key, made.cert), (made.cert, tmp_path / "nothing.pem")):
        with pytest.raises(CertificateError, match=r"cannot use the certificate"):
            certificate(load({}, {"data": tmp_path, "tls_cert": cert, "tls_key": key}))


def test_plain_http_needs_none(tmp_path: Path) -> None:
    """Nothing is made where nothing is asked for."""
    assert certificate(load({}, {"data": tmp_path})) is None
    assert certificate(load({}, {"data": tmp_path, "tls_dev": True})) is not None


def test_the_hint_names_the_file(tmp_path: Path) -> None:
    """How to trust the authority is said for each kind of client, with a whole path."""
    hint = trust_hint(tmp_path / "ca.pem")
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        assert f"export {variable}={tmp_path / 'ca.pem'}" in hint
