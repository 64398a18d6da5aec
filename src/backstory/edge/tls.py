"""Certificates: the ones a user gives, or a local authority for development that is made once.

``--tls-dev`` exists because several official clients speak https only. Its authority lives in ``DIR/tls`` and is
reused, so that it needs to be trusted once; the server's own certificate is made anew at each start.
"""

import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from backstory.core.error import BackstoryError
from backstory.engine.settings import Settings
from backstory.store.credential import write_private

AUTHORITY_NAME = "Backstory development CA"


class CertificateError(BackstoryError):
    """A certificate or its key cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a listener serves https with; ``authority`` is the file to trust, None when the world knows it already."""

    cert: Path
    key: Path
    authority: Path | None = None


def certificate(settings: Settings) -> Certificate | None:
    """The certificate the settings ask for, checked; None for plain http. Raises ``CertificateError``."""
    if settings.tls_dev:
        return development_certificate(settings.data / "tls", settings.host)
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    found = Certificate(cert=settings.tls_cert, key=settings.tls_key)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(found.cert, found.key)
    except OSError as error:  # ssl.SSLError is one.
        raise CertificateError(
            f"cannot use the certificate {found.cert} with the key {found.key}: {error}. Both must be PEM files"
        ) from None
    return found


def development_certificate(folder: Path, host: str) -> Certificate:
    """A certificate for this machine from the local authority in ``folder``, which is made if it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(folder / "ca.pem", folder / "ca.key")
        leaf = authority.issue_cert(*_names(host), organization_name="Backstory")
        write_private(folder / "server.key", leaf.private_key_pem.bytes())
        write_private(folder / "server.pem", b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    except (OSError, ValueError) as error:
        raise CertificateError(f"cannot make a certificate in {folder}: {error}. Empty it and start again") from None
    return Certificate(cert=folder / "server.pem", key=folder / "server.key", authority=folder / "ca.pem")


def _authority(cert: Path, key: Path) -> trustme.CA:
    if cert.exists() and key.exists():
        return trustme.CA.from_pem(cert.read_bytes(), key.read_bytes())
    made = trustme.CA(organization_name="Backstory", organization_unit_name=AUTHORITY_NAME)
    write_private(key, made.private_key_pem.bytes())
    write_private(cert, made.cert_pem.bytes())
    return made


def _names(host: str) -> list[str]:
    """The names a client on this machine, or on its network, may call us by."""
    names = ["localhost", "127.0.0.1", "::1"]
    for name in (host, socket.gethostname()):
        if name not in names and _is_name(name):
            names.append(name)
    return names


def _is_name(name: str) -> bool:
    try:
        return not ipaddress.ip_address(name).is_unspecified
    except ValueError:
        labels = name.split(".")
        return all(label and label.isascii() and label.replace("-", "").isalnum() for label in labels)


def trust_hint(authority: Path) -> str:
    """How the usual clients are told to trust the local authority."""
    path = os.path.abspath(authority)
    return (
        f"The certificate comes from a local authority, for development. To trust it:\n"
        f"  export REQUESTS_CA_BUNDLE={path}    # Python requests, and with it the customerio client\n"
        f"  export SSL_CERT_FILE={path}         # Python ssl, httpx, async-customerio, Go, Ruby\n"
        f"  export NODE_EXTRA_CA_CERTS={path}   # Node\n"
        f"  curl --cacert {path} …"
    )
