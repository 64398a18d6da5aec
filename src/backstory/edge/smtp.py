"""Mail leaves here: by SMTP, into a folder, or not at all.

Every message has a ``Message-ID`` made of its delivery, and the date it was decided, so that a second attempt is the
same message. What went wrong is told by the server's own words, never with what we log in with.

The one thing SMTP cannot tell: a connection lost after the message was handed over and before the answer came. That is
``Unknown``, not ``Transient``: trying again could mail a person twice.
"""

import asyncio
import contextlib
import os
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from pathlib import Path
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import aiosmtplib
import msgspec
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from backstory.core.address import Address
from backstory.core.error import RequestError
from backstory.core.message import Delivery, Email
from backstory.core.time import SECOND_US
from backstory.engine.outbox import Answer, Dropped, Permanent, Sent, Transient, Unknown

TIMEOUT_S = 30.0
# A connection is used again for so many messages, and so many wait for the next one.
MESSAGES_PER_CONNECTION = 100
IDLE_CONNECTIONS = 10
IDLE_S = 30.0
_REASON_CHARACTERS = 300
_STARTTLS: dict[str, bool | None] = {"require": True, "auto": None, "off": False}

StartTls = Literal["require", "auto", "off"]


class SmtpServer(msgspec.Struct, frozen=True, kw_only=True):
    """A mail server and how to speak to it. Printing it shows no password."""

    host: str
    port: int
    tls: bool
    starttls: StartTls
    user: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"SmtpServer({'smtps' if self.tls else 'smtp'}://{self.host}:{self.port})"


def read_server(url: str) -> SmtpServer:
    """``smtp://user:password@host:587?starttls=require|auto|off`` or ``smtps://host:465``; raises ``RequestError``.

    STARTTLS is required where there is a password, unless the server is this machine; else it is used where offered.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise RequestError("the port of the mail server is not a number") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise RequestError("the mail server must look like smtp://user:password@host:587 or smtps://host:465")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = parts.scheme == "smtps"
    secret = parts.password is not None and parts.hostname not in ("localhost", "127.0.0.1", "::1")
    starttls = options.pop("starttls", "off" if tls else "require" if secret else "auto")
    if starttls not in _STARTTLS or (tls and starttls != "off"):
        raise RequestError("starttls must be require, auto or off, and smtps needs none")
    if options:
        raise RequestError(f"unknown options of the mail server: {', '.join(sorted(options))}; there is only starttls")
    return SmtpServer(
        host=parts.hostname,
        port=port or (465 if tls else 587 if parts.username else 25),
        tls=tls,
        starttls=cast("StartTls", starttls),
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


def to_bytes(delivery: Delivery) -> bytes:
    """The message as it travels: always the same bytes for the same delivery."""
    email = delivery.content
    if not isinstance(email, Email):
        raise TypeError(f"{delivery.delivery_id} is no mail")
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = _header(email.sender)
    message["To"] = _header(email.recipient)
    if email.reply_to is not None:
        message["Reply-To"] = _header(email.reply_to)
    message["Subject"] = email.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(delivery.created_us // SECOND_US, UTC))
    message["Message-ID"] = f"<{delivery.delivery_id}@{email.sender.domain}>"
    message["X-Backstory-Delivery"] = delivery.delivery_id
    message.set_content(email.text, cte="quoted-printable")
    if email.html is not None:
        message.add_alternative(email.html, subtype="html", cte="quoted-printable")
        # Python would draw it by lot. "=_" cannot stand in quoted-printable text.
        message.set_boundary(f"=_backstory_{delivery.delivery_id}")
    return message.as_bytes()


class SmtpSender:
    """Sends mail through one server, over a few connections that are kept open while there is something to send."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, tls_context: ssl.SSLContext | None = None) -> None:
        """``tls_context`` says whom to trust; without it the certificates the system trusts."""
        self._server = read_server(url)
        self._timeout_s = timeout_s
        self._tls_context = tls_context
        self._idle: list[_Connection] = []

    def __repr__(self) -> str:
        return f"SmtpSender({self._server!r})"

    async def send(self, delivery: Delivery) -> Answer:
        """Hand over one message."""
        email = delivery.content
        if not isinstance(email, Email):
            return Permanent("not a mail")
        try:
            connection = await self._envelope(email)
        except (SMTPSenderRefused, SMTPRecipientRefused) as error:
            return self._refused(error)
        except (SMTPException, OSError, ValueError) as error:
            # Nothing was handed over: the server cannot be reached, speaks no TLS, or does not know our password.
            return Transient(self._told(error))
        try:
            await connection.client.data(to_bytes(delivery))
        except SMTPDataError as error:
            connection.close()
            return self._refused(error)
        except (SMTPException, OSError) as error:
            connection.close()
            return Unknown(f"the connection was lost before the server said whether it took it: {self._told(error)}")
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return Sent()

    async def aclose(self) -> None:
        """Leave the open connections politely."""
        idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(SMTPException, OSError):
                await connection.client.quit(timeout=1)
            connection.close()

    async def _envelope(self, email: Email) -> "_Connection":
        """A connection that has taken sender and recipient. One that lay idle may be dead: then a new one."""
        while self._idle:
            connection = self._idle.pop()
            try:
                if connection.stale():
                    raise aiosmtplib.SMTPServerDisconnected("idle for too long")
                await connection.address(email)
                return connection
            except (SMTPSenderRefused, SMTPRecipientRefused) as error:
                connection.close()
                if error.code != aiosmtplib.SMTPStatus.domain_unavailable:
                    raise
            except (SMTPException, OSError):
                connection.close()
        connection = _Connection(self._client())
        try:
            await connection.client.connect()
            await connection.address(email)
        except BaseException:
            connection.close()
            raise
        return connection

    def _client(self) -> aiosmtplib.SMTP:
        server = self._server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.tls,
            start_tls=_STARTTLS[server.starttls],
            tls_context=self._tls_context,
            timeout=self._timeout_s,
        )

    def _keep(self, connection: "_Connection") -> None:
        connection.rest()
        if connection.used < MESSAGES_PER_CONNECTION and len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()

    def _refused(self, error: SMTPResponseException) -> Answer:
        reason = self._told(error)
        return Permanent(reason) if 500 <= error.code < 600 else Transient(reason)

    def _told(self, error: Exception) -> str:
        """What went wrong in one line, without our password, should a server echo it."""
        if isinstance(error, SMTPAuthenticationError):
            return f"{self._server.host} refused the login ({error.code}): check the user and password"
        text = f"{error.code} {error.message}" if isinstance(error, SMTPResponseException) else str(error)
        if self._server.password:
            text = text.replace(self._server.password, "***")
        return f"{self._server.host}: {' '.join(text.split())[:_REASON_CHARACTERS] or type(error).__name__}"


class MailboxSender:
    """Writes what would be sent into a folder: ``<delivery>.eml`` for mail, ``<delivery>.json`` for webhooks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, delivery: Delivery) -> Answer:
        """Write one file, whole or not at all; one that is there already stays as it is."""
        try:
            await asyncio.to_thread(self._write, delivery)
        except OSError as error:
            return Transient(f"cannot write into the mailbox folder: {error.strerror}")
        return Sent()

    def _write(self, delivery: Delivery) -> None:
        is_email = isinstance(delivery.content, Email)
        body = to_bytes(delivery) if is_email else msgspec.json.format(msgspec.json.encode(delivery.content))
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{delivery.delivery_id}.{'eml' if is_email else 'json'}"
        if path.exists():
            return
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)


class OffSender:
    """Sends nothing."""

    async def send(self, delivery: Delivery) -> Answer:
        return Dropped("sending is switched off (BACKSTORY_SEND=off)")


class _Connection:
    """An open connection and how much it has been used."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self.client = client
        self.used = 0
        self._rest_since = 0.0

    async def address(self, email: Email) -> None:
        """Say from whom and to whom."""
        self.used += 1
        await self.client.mail(email.sender.mail)
        await self.client.rcpt(email.recipient.mail)

    def rest(self) -> None:
        self._rest_since = _loop_time()

    def stale(self) -> bool:
        return not self.client.is_connected or _loop_time() - self._rest_since > IDLE_S

    def close(self) -> None:
        self.client.close()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _header(address: Address) -> HeaderAddress:
    return HeaderAddress(display_name=address.name, addr_spec=address.mail)
