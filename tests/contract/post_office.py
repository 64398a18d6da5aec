"""A real mail server in this process, which keeps what it gets or answers what it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

SECRET = "pa ss/w&rd"


@dataclass
class Post:
    """What aiosmtpd calls: it keeps what it gets, or answers what it is told."""

    got: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    answers: dict[str, list[str]] = field(default_factory=dict)
    sessions: set[int] = field(default_factory=set)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    hang: asyncio.Event | None = None
    drop_on_data: bool = False

    def answer(self, command: str, default: str) -> str:
        queued = self.answers.get(command, [])
        return queued.pop(0) if queued else default

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.sessions.add(id(session))
        answer = self.answer("MAIL", "250 OK")
        if answer.startswith("250"):
            envelope.mail_from = address
        return answer

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = self.answer("RCPT", "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        if self.hang is not None:
            await self.hang.wait()
        if self.drop_on_data:
            cast("asyncio.Transport", server.transport).abort()
        return self.answer("DATA", "250 OK")

    def login(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password in (SECRET.encode(), b"hunter2"), handled=False)


@asynccontextmanager
async def post_office(post: Post, **options: Any) -> AsyncIterator[int]:
    """A mail server on loopback; gives its port."""
    loop = asyncio.get_running_loop()
    servers: list[SMTP] = []

    def protocol() -> SMTP:
        servers.append(SMTP(post, loop=loop, hostname="localhost", **options))
        return servers[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        handlers = [one._handler_coroutine for one in servers if one._handler_coroutine is not None]
        for one in servers:
            if one.transport is not None:
                one.transport.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
