"""One contract for all that sends: SMTP to a real server, the mailbox folder, webhooks to a real server, a fake."""

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trustme

from backstory.core.address import Address
from backstory.core.error import RequestError
from backstory.core.message import Delivery, Email, Webhook
from backstory.edge.smtp import MailboxSender, OffSender, SmtpSender, read_server, to_bytes
from backstory.edge.webhook import WebhookSender
from backstory.engine.outbox import Answer, Dropped, Permanent, Sender, Sent, Transient, Unknown
from tests.contract.post_office import SECRET, Post, post_office

CREATED_US = 1_714_557_600_500_000  # 2024-05-01T10:00:00.5Z


def mail(**changes: Any) -> Delivery:
    """A delivery by mail."""
    content = Email(
        sender=Address(mail="shop@example.com", name="Zoë's Shop"),
        recipient=Address(mail="ada@example.com", name="Ada"),
        reply_to=Address(mail="help@example.com"),
        subject="Grüße, Ada 👩‍💻",
        text="Hello Ada\n.\n.. and a dot\nhttps://x.org/=20",
        html="<p>Hello Ada</p>",
    )
    content = msgspec.structs.replace(content, **changes)
    return Delivery(delivery_id="2-4-1-616d", kind="email", content=content, created_us=CREATED_US)


def hook(url: str) -> Delivery:
    """A delivery by webhook."""
    content = Webhook(url=url, body='{"id": 7}', content_type="application/json")
    return Delivery(delivery_id="2-4-2-616d", kind="webhook", content=content, created_us=CREATED_US)


def parsed(body: bytes) -> EmailMessage:
    """A message as a mail program reads it."""
    return cast("EmailMessage", email.message_from_bytes(body, policy=email.policy.default))


# -- a real mail server -------------------------------------------------------------------------------------------


async def through(post: Post, *deliveries: Delivery, query: str = "", **options: Any) -> list[Answer]:
    """Send through one sender to a fresh server, one after the other."""
    async with post_office(post, **options) as port:
        sender = SmtpSender(f"smtp://127.0.0.1:{port}{query}", timeout_s=5)
        try:
            return [await sender.send(delivery) for delivery in deliveries]
        finally:
            await sender.aclose()


# -- a real web server --------------------------------------------------------------------------------------------


@dataclass
class Hooks:
    """A web server that keeps requests and answers a status, or closes, or says nothing."""

    status: int | None = 200
    headers: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    hang: asyncio.Event | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((head[0], headers, body))
        if self.hang is not None:
            await self.hang.wait()
        if self.status is not None:
            # A body that never ends must not matter.
            writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 1000000\r\n{self.headers}\r\n".encode())
            await writer.drain()
        writer.close()


@asynccontextmanager
async def web_server(hooks: Hooks) -> AsyncIterator[str]:
    """A web server on loopback; gives a URL with a key in it."""
    server = await asyncio.start_server(hooks.handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?key=secret"
    finally:
        server.close()


async def called(hooks: Hooks, *, timeout_s: float = 4) -> Answer:
    """Call a fresh server once."""
    async with web_server(hooks) as url:
        sender = WebhookSender(timeout_s=timeout_s)
        try:
            return await sender.send(hook(url))
        finally:
            if hooks.hang is not None:
                hooks.hang.set()
            await sender.aclose()


# -- the contract -------------------------------------------------------------------------------------------------


class FakeSender:
    """A sender of the tests, held to the same contract."""

    def __init__(self) -> None:
        self.sent: dict[str, bytes] = {}

    async def send(self, delivery: Delivery) -> Answer:
        if not isinstance(delivery.content, Email):
            return Permanent("not a mail")
        self.sent[delivery.delivery_id] = to_bytes(delivery)
        return Sent()


@dataclass
class Way:
    """A sender, and what arrived where it sends to."""

    sender: Sender
    arrived: Callable[[], list[bytes]]


@asynccontextmanager
async def by_smtp(folder: Path) -> AsyncIterator[Way]:
    post = Post()
    async with post_office(post) as port:
        sender = SmtpSender(f"smtp://127.0.0.1:{port}", timeout_s=5)
        yield Way(sender, lambda: [content for _, _, content in post.got])
        await sender.aclose()


@asynccontextmanager
async def by_mailbox(folder: Path) -> AsyncIterator[Way]:
    yield Way(MailboxSender(folder / "mailbox"), lambda: [path.read_bytes() for path in folder.rglob("*.eml")])


@asynccontextmanager
async def by_fake(folder: Path) -> AsyncIterator[Way]:
    fake = FakeSender()
    yield Way(fake, lambda: list(fake.sent.values()))


def run(folder: Path, way: Callable[[Path], Any], story: Callable[[Way], Awaitable[None]]) -> None:
    """Tell a story to a sender."""

    async def told() -> None:
        async with AsyncExitStack() as stack:
            await story(await stack.enter_async_context(way(folder)))

    asyncio.run(told())


WAYS = pytest.mark.parametrize("way", [by_smtp, by_mailbox, by_fake])


@WAYS
def test_a_mail_arrives_as_it_was_made(tmp_path: Path, way: Callable[[Path], Any]) -> None:
    """Names, subject, both bodies and the date are read back as they were, in any script."""

    async def story(there: Way) -> None:
        assert await there.sender.send(mail()) == Sent()
        [body] = there.arrived()
        message = parsed(body)
        assert str(message["From"]) == "Zoë's Shop <shop@example.com>"
        assert str(message["To"]) == "Ada <ada@example.com>"
        assert str(message["Reply-To"]) == "help@example.com"
        assert str(message["Subject"]) == "Grüße, Ada 👩‍💻"
        assert str(message["Date"]) == "Wed, 01 May 2024 10:00:00 +0000"
        text, html = (part.get_content().replace("\r\n", "\n") for part in message.iter_parts())
        assert text == "Hello Ada\n.\n.. and a dot\nhttps://x.org/=20\n"
        assert html == "<p>Hello Ada</p>\n"
        assert max(len(line) for line in body.split(b"\r\n")) <= 998

    run(tmp_path, way, story)


@WAYS
def test_a_mail_without_html_is_plain(tmp_path: Path, way: Callable[[Path], Any]) -> None:
    """A plain message has one part."""

    async def story(there: Way) -> None:
        assert await there.sender.send(mail(html=None, reply_to=None, text="Hi 👋\n")) == Sent()
        message = parsed(there.arrived()[0])
        assert message.get_content_type() == "text/plain"
        assert message.get_content() == "Hi 👋\r\n"
        assert message["Reply-To"] is None

    run(tmp_path, way, story)


@WAYS
def test_a_second_attempt_is_the_same_message(tmp_path: Path, way: Callable[[Path], Any]) -> None:
    """Every attempt of a delivery has the same Message-ID and the same bytes."""

    async def story(there: Way) -> None:
        again = msgspec.structs.replace(mail(), attempts=3)
        assert [await there.sender.send(mail()), await there.sender.send(again)] == [Sent(), Sent()]
        bodies = there.arrived()
        assert len(set(bodies)) == 1
        assert str(parsed(bodies[0])["Message-ID"]) == "<2-4-1-616d@example.com>"

    run(tmp_path, way, story)


@WAYS
def test_many_at_once_all_arrive(tmp_path: Path, way: Callable[[Path], Any]) -> None:
    """Senders are used by many tasks at a time."""

    async def story(there: Way) -> None:
        many = [msgspec.structs.replace(mail(), delivery_id=f"1-{number}-1-0") for number in range(30)]
        assert set(await asyncio.gather(*map(there.sender.send, many))) == {Sent()}
        names = {str(parsed(body)["Message-ID"]) for body in there.arrived()}
        assert names == {f"<1-{number}-1-0@example.com>" for number in range(30)}

    run(tmp_path, way, story)


# -- SMTP ---------------------------------------------------------------------------------------------------------


def test_smtp_says_from_whom_and_to_whom() -> None:
    """The envelope has the bare addresses."""
    post = Post()
    assert asyncio.run(through(post, mail())) == [Sent()]
    assert post.got[0][:2] == ("shop@example.com", ["ada@example.com"])


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("code", "kind"), [(421, Transient), (451, Transient), (550, Permanent), (554, Permanent)])
def test_what_an_smtp_server_refuses_is_told(command: str, code: int, kind: type[Answer]) -> None:
    """4xx is for the moment, 5xx for ever; the server's words are the reason, and the next message goes through."""
    post = Post(answers={command: [f"{code} 5.1.1 no such user"]})
    first, second = asyncio.run(through(post, mail(), mail()))
    assert isinstance(first, kind)
    assert f"127.0.0.1: {code} 5.1.1 no such user" in first.reason
    assert second == Sent()


def test_a_connection_is_used_again() -> None:
    """One message after the other goes through the same connection."""
    post = Post()
    assert asyncio.run(through(post, *[mail()] * 5)) == [Sent()] * 5
    assert len(post.sessions) == 1


def test_a_connection_that_died_meanwhile_is_no_failure() -> None:
    """A server that closes idle connections costs a new one, not an attempt."""
    post = Post()

    async def story() -> None:
        async with post_office(post) as port:
            sender = SmtpSender(f"smtp://127.0.0.1:{port}", timeout_s=5)
            assert await sender.send(mail()) == Sent()
            post.answers = {"MAIL": ["421 idle for too long"]}
            assert await sender.send(mail()) == Sent()
            await sender.aclose()

    asyncio.run(story())
    assert len(post.got) == 2


def test_a_server_that_is_not_there_is_tried_again_later() -> None:
    """Nothing listens: transient, with the host in the reason."""

    async def story() -> Answer:
        async with post_office(Post()) as port:
            pass
        return await SmtpSender(f"smtp://127.0.0.1:{port}", timeout_s=5).send(mail())

    answer = asyncio.run(story())
    assert isinstance(answer, Transient)
    assert "127.0.0.1" in answer.reason


@pytest.mark.parametrize("how", ["hang", "drop"])
def test_an_answer_that_never_came_leaves_doubt(how: str) -> None:
    """Handed over, and no answer: nobody knows, so it is not called transient."""
    post = Post(drop_on_data=how == "drop")

    async def story() -> Answer:
        post.hang = asyncio.Event() if how == "hang" else None
        async with post_office(post) as port:
            sender = SmtpSender(f"smtp://127.0.0.1:{port}", timeout_s=0.2)
            answer = await sender.send(mail())
            if post.hang is not None:
                post.hang.set()
            await sender.aclose()
            return answer

    answer = asyncio.run(story())
    assert isinstance(answer, Unknown)
    assert "before the server said whether it took it" in answer.reason
    assert len(post.got) == 1


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server on loopback, and for a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("password", [SECRET, "wrong"])
def test_login_over_starttls(password: str) -> None:
    """User and password go over TLS only; a refused login is for the moment, and its reason tells no secret."""
    server_tls, client_tls = contexts()
    post = Post()

    async def story() -> Answer:
        options = {"tls_context": server_tls, "authenticator": post.login, "auth_required": True}
        async with post_office(post, require_starttls=True, **options) as port:
            quoted = password.replace(" ", "%20").replace("/", "%2F").replace("&", "%26")
            url = f"smtp://me:{quoted}@127.0.0.1:{port}?starttls=require"
            sender = SmtpSender(url, timeout_s=5, tls_context=client_tls)
            assert password not in repr(sender)
            answer = await sender.send(mail())
            await sender.aclose()
            return answer

    answer = asyncio.run(story())
    assert post.logins[-1] == (b"me", password.encode())
    if password == SECRET:
        assert answer == Sent()
    else:
        assert isinstance(answer, Transient)
        assert "refused the login" in answer.reason
        assert password not in answer.reason


def test_a_password_is_not_sent_in_the_clear() -> None:
    """A server that offers no STARTTLS does not get the password where TLS is required."""
    post = Post()
    answers = asyncio.run(through(post, mail(), query="?starttls=require"))
    assert isinstance(answers[0], Transient)
    assert "STARTTLS" in answers[0].reason
    assert post.got == []


def test_a_certificate_nobody_vouches_for_is_refused() -> None:
    """TLS to somebody else is no TLS."""
    server_tls, _ = contexts()
    post = Post()
    answers = asyncio.run(through(post, mail(), query="?starttls=require", tls_context=server_tls))
    assert isinstance(answers[0], Transient)
    assert post.got == []


def test_a_password_a_server_repeats_is_not_told() -> None:
    """What a server answers may hold what we said; the reason does not."""
    post = Post(answers={"MAIL": ["550 go away me:hunter2\tnow"]})

    async def story() -> Answer:
        async with post_office(post, authenticator=post.login, auth_require_tls=False) as port:
            sender = SmtpSender(f"smtp://me:hunter2@127.0.0.1:{port}?starttls=off", timeout_s=5)
            return await sender.send(mail())

    assert asyncio.run(story()) == Permanent("127.0.0.1: 550 go away me:*** now")


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "starttls"),
    [
        ("smtp://localhost", "localhost", 25, False, "auto"),
        ("smtp://mail.x.org:2525", "mail.x.org", 2525, False, "auto"),
        ("smtp://u:p@mail.x.org", "mail.x.org", 587, False, "require"),
        ("smtp://u:p@localhost:25", "localhost", 25, False, "auto"),
        ("smtp://u:p@mail.x.org?starttls=auto", "mail.x.org", 587, False, "auto"),
        ("smtps://u:p@mail.x.org", "mail.x.org", 465, True, "off"),
    ],
)
def test_servers_are_read_from_urls(url: str, host: str, port: int, tls: bool, starttls: str) -> None:
    """TLS is required where a password would otherwise travel in the clear."""
    server = read_server(url)
    assert (server.host, server.port, server.tls, server.starttls) == (host, port, tls, starttls)


@pytest.mark.parametrize(
    "url",
    [
        "mail.x.org", "http://x.org", "smtp://", "smtp://u:hunter2@x.org:port", "smtp://u:hunter2@x.org?tls=1",
        "smtp://u:hunter2@x.org?starttls=yes", "smtps://u:hunter2@x.org?starttls=require",
    ],
)  # fmt: skip
def test_wrong_server_urls_are_refused_without_telling_the_password(url: str) -> None:
    """The message says what a URL must look like, and not what this one held."""
    with pytest.raises(RequestError) as caught:
        read_server(url)
    assert "hunter2" not in caught.value.message


# -- the folder, and nothing ----------------------------------------------------------------------------------------


def test_the_mailbox_has_one_whole_file_for_each_delivery(tmp_path: Path) -> None:
    """A second attempt changes nothing, nothing half-written is left, and webhooks are there to be read."""
    sender = MailboxSender(tmp_path / "new" / "mailbox")

    async def story() -> None:
        for _ in range(2):
            assert await sender.send(mail()) == Sent()
            assert await sender.send(hook("https://x.org")) == Sent()

    asyncio.run(story())
    assert {path.name for path in (tmp_path / "new" / "mailbox").iterdir()} == {"2-4-1-616d.eml", "2-4-2-616d.json"}
    written = msgspec.json.decode((tmp_path / "new" / "mailbox" / "2-4-2-616d.json").read_bytes())
    assert written["url"] == "https://x.org"


def test_a_mailbox_that_cannot_be_written_is_tried_again_later(tmp_path: Path) -> None:
    """A file where the folder should be is the world's trouble, not the message's."""
    (tmp_path / "mailbox").write_text("")
    answer = asyncio.run(MailboxSender(tmp_path / "mailbox").send(mail()))
    assert isinstance(answer, Transient)


def test_off_sends_nothing() -> None:
    """What is not sent says why."""
    assert asyncio.run(OffSender().send(mail())) == Dropped("sending is switched off (BACKSTORY_SEND=off)")


@pytest.mark.parametrize("sender", [SmtpSender("smtp://localhost"), FakeSender()])
def test_a_sender_refuses_what_it_cannot_send(sender: Sender) -> None:
    """A webhook is no mail."""
    assert isinstance(asyncio.run(sender.send(hook("https://x.org"))), Permanent)


# -- webhooks -----------------------------------------------------------------------------------------------------


def test_a_webhook_is_a_post_with_a_key_against_repetition() -> None:
    """Body and content type are those of the step; the key is the delivery."""
    hooks = Hooks()
    assert asyncio.run(called(hooks)) == Sent()
    [(line, headers, body)] = hooks.requests
    assert line == "POST /hook?key=secret HTTP/1.1"
    assert headers["idempotency-key"] == "2-4-2-616d"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("backstory/")
    assert body == b'{"id": 7}'


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Sent), (201, Sent), (204, Sent), (408, Transient), (425, Transient), (429, Transient), (500, Transient),
        (503, Transient), (400, Permanent), (401, Permanent), (404, Permanent), (410, Permanent),
    ],
)  # fmt: skip
def test_the_status_decides(status: int, kind: type[Answer]) -> None:
    """2xx was taken; 5xx and "later" are tried again; the rest never; no reason tells the key in the URL."""
    answer = asyncio.run(called(Hooks(status=status)))
    assert isinstance(answer, kind)
    if not isinstance(answer, Sent):
        assert answer.reason == f"127.0.0.1 answered {status}"


def test_redirects_are_not_followed() -> None:
    """Who moved must be called where they are: a redirect could lead anywhere."""
    hooks = Hooks(status=307, headers="Location: /elsewhere\r\n")
    answer = asyncio.run(called(hooks))
    assert answer == Permanent("127.0.0.1 answered 307: redirects are not followed")
    assert len(hooks.requests) == 1


def test_a_receiver_that_closes_or_is_not_there_is_called_again() -> None:
    """A connection that fails is for the moment."""
    answer = asyncio.run(called(Hooks(status=None)))
    assert isinstance(answer, Transient)

    async def nobody() -> Answer:
        async with web_server(Hooks()) as url:
            pass
        sender = WebhookSender()
        try:
            return await sender.send(hook(url))
        finally:
            await sender.aclose()

    answer = asyncio.run(nobody())
    assert isinstance(answer, Transient)
    assert "secret" not in answer.reason


def test_a_receiver_that_says_nothing_is_not_waited_for() -> None:
    """After the time allowed it is tried again later."""
    hooks = Hooks()

    async def story() -> Answer:
        hooks.hang = asyncio.Event()
        return await called(hooks, timeout_s=0.2)

    assert asyncio.run(story()) == Transient("127.0.0.1 did not answer within 0.2 seconds")


@pytest.mark.parametrize("url", ["https://x.org:99999/", "mailto:a@x.org", "https://[::1"])
def test_a_url_that_cannot_be_called_fails(url: str) -> None:
    """Trying again would not help."""

    async def story() -> Answer:
        sender = WebhookSender()
        try:
            return await sender.send(hook(url))
        finally:
            await sender.aclose()

    assert isinstance(asyncio.run(story()), Permanent)
