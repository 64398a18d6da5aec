"""From an event to a mail at a real mail server; and what a server that is killed in between leaves behind."""

import email
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.wire.conftest import (
    READY_S,
    Server,
    command,
    environment_of,
    eventually,
    process,
    serving,
    settings_of,
)
from tests.wire.office import Office, open_office

pytestmark = pytest.mark.wire

MAIL = {
    "type": "email",
    "from": "Zoë's Shop <shop@example.com>",
    "to": "{{ customer.name }} <{{ customer.email }}>",
    "subject": "Thank you, {{ customer.name }}",
    "body": "<p>You paid {{ event.price }}.</p>",
}
HOOK = {"type": "webhook", "url": "https://example.com/hook", "body": {"price": "{{ event.price }}"}}


@pytest.fixture
def office() -> Iterator[Office]:
    with open_office() as opened:
        yield opened


def campaign(server: Server, *steps: dict[str, Any]) -> None:
    """A running campaign for everybody who purchases, every time."""
    body = {
        "name": "Thanks", "trigger": {"event": {"name": "purchased"}}, "frequency": {"mode": "every"},
        "steps": list(steps), "state": "running",
    }  # fmt: skip
    server.app.post("/v1/campaigns", json={"campaign": body}).raise_for_status()


def purchase(server: Server, person: str, **data: Any) -> None:
    """Somebody with an email purchases."""
    keys, path = (server.site_id, server.track_key), f"/api/v1/customers/{person}"
    server.app.put(path, json={"email": f"{person}@example.com", "name": person.title()}, auth=keys).raise_for_status()
    server.app.post(f"{path}/events", json={"name": "purchased", "data": data}, auth=keys).raise_for_status()


def messages(server: Server, state: str) -> list[dict[str, Any]]:
    """The messages in a state, oldest first."""
    return server.show("/v1/messages", state=state)["messages"][::-1]


def test_an_event_becomes_a_mail(tmp_path: Path, office: Office) -> None:
    """It arrives with the right addresses, texts and Message-ID, and the message, the journey and the log say so."""
    with serving(settings_of(tmp_path, smtp_url=office.url)) as server:
        campaign(server, MAIL)
        purchase(server, "ann", price=23.45)
        (mail,) = office.wait_for(1)
        (message,) = eventually(lambda: messages(server, "sent"))
        assert (mail["From"], mail["To"]) == ("Zoë's Shop <shop@example.com>", "Ann <ann@example.com>")
        assert (mail["Subject"], mail["Message-ID"]) == ("Thank you, Ann", f"<{message['id']}@example.com>")
        assert office.post.got[0][:2] == ("shop@example.com", ["ann@example.com"])
        html = mail.get_body(("html",))
        assert html is not None
        assert html.get_content().strip() == "<p>You paid 23.45.</p>"
        assert set(message["metrics"]) == {"created", "attempted", "sent"}
        assert [entry["type"] for entry in server.log()][-2:] == ["event", "sent_email"]
        (journey,) = server.show("/v1/campaigns/1/journeys")["journeys"]
        assert (journey["state"], journey["steps"][0]["reason"]) == ("finished", "to ann@example.com")


def test_many_mails_are_each_sent_once(tmp_path: Path, office: Office) -> None:
    """Whoever purchases gets one mail for each purchase, by names of their own."""
    with serving(settings_of(tmp_path, smtp_url=office.url, send_per_s=1000.0)) as server:
        campaign(server, MAIL)
        for number in range(30):
            purchase(server, f"person-{number % 10}", price=number)
        office.wait_for(30)
        eventually(lambda: len(messages(server, "sent")) == 30)
    assert len({mail["Message-ID"] for mail in office.wait_for(30)}) == len(office.post.got) == 30


def test_without_a_mail_server_all_goes_into_the_mailbox(tmp_path: Path) -> None:
    """Mail as .eml and webhooks as .json, so that nothing leaves the machine by accident."""
    with serving(settings_of(tmp_path)) as server:
        campaign(server, MAIL, HOOK)
        purchase(server, "ann", price=5)
        mail, hook = eventually(lambda: messages(server, "sent") if len(messages(server, "sent")) == 2 else None)
    read = email.message_from_bytes((tmp_path / "mailbox" / f"{mail['id']}.eml").read_bytes())
    assert read["To"] == "Ann <ann@example.com>"
    written = json.loads((tmp_path / "mailbox" / f"{hook['id']}.json").read_text())
    assert (written["url"], json.loads(written["body"])) == ("https://example.com/hook", {"price": "5"})
    assert len(list((tmp_path / "mailbox").iterdir())) == 2


def test_sending_can_be_switched_off(tmp_path: Path, office: Office) -> None:
    """Then messages are dropped, with the reason, though a mail server is named."""
    with serving(settings_of(tmp_path, smtp_url=office.url, send="off")) as server:
        campaign(server, MAIL)
        purchase(server, "ann", price=5)
        (message,) = eventually(lambda: messages(server, "dropped"))
        assert "switched off" in message["failure_message"]
    assert office.post.got == []


def test_a_refused_mail_has_failed(tmp_path: Path, office: Office) -> None:
    """The mail server's own words are the reason."""
    office.post.answers["RCPT"] = ["550 no such user"]
    with serving(settings_of(tmp_path, smtp_url=office.url)) as server:
        campaign(server, MAIL)
        purchase(server, "ann", price=5)
        (message,) = eventually(lambda: messages(server, "failed"))
        assert message["failure_message"] == "127.0.0.1: 550 no such user"
        retried = server.app.post(f"/v1/messages/{message['id']}/retry").raise_for_status()
        assert retried.json()["message"]["failure_message"] is None
        eventually(lambda: messages(server, "sent"))


def test_an_orderly_stop_finishes_what_is_being_sent(tmp_path: Path, office: Office) -> None:
    """SIGTERM while the mail server takes its time: the answer is waited for and recorded."""
    office.hold()
    with process(tmp_path, BACKSTORY_SMTP_URL=office.url) as server:
        campaign(server, MAIL)
        purchase(server, "ann", price=5)
        office.wait_for(1)
        server.process.terminate()
        eventually(lambda: _refuses(server))
        office.release()
        assert server.process.wait(READY_S) == 0
    with process(tmp_path, BACKSTORY_SMTP_URL=office.url) as server:
        assert len(messages(server, "sent")) == 1
    assert len(office.post.got) == 1


def _refuses(server: Server) -> bool:
    """Whether the server takes no calls any more."""
    try:
        server.app.get("/health")
    except httpx.TransportError:
        return True
    return False


def test_a_mail_under_way_when_the_server_is_killed_is_in_doubt(tmp_path: Path, office: Office) -> None:
    """It may have arrived: it is listed and not repeated, until somebody asks; then it is the same message."""
    office.hold()
    with process(tmp_path, BACKSTORY_SMTP_URL=office.url) as server:
        campaign(server, MAIL)
        purchase(server, "ann", price=5)
        (before,) = office.wait_for(1)
        server.kill()
    office.release()
    with process(tmp_path, BACKSTORY_SMTP_URL=office.url) as server:
        (doubtful,) = messages(server, "in_doubt")
        assert before["Message-ID"] == f"<{doubtful['id']}@example.com>"
        assert "whether it was sent is not known" in doubtful["failure_message"]
        purchase(server, "bob", price=6)
        assert [mail["To"] for mail in office.wait_for(2)] == ["Ann <ann@example.com>", "Bob <bob@example.com>"]
        assert len(messages(server, "in_doubt")) == 1
        told = backstory("messages", "retry", doubtful["id"], "--data", str(tmp_path))
        assert told.stderr == ""
        again = office.wait_for(3)[2]
        assert (again["To"], again["Message-ID"]) == (before["To"], before["Message-ID"])
        eventually(lambda: len(messages(server, "sent")) == 2)
        assert server.stop() == 0


def test_a_command_without_a_server_leaves_sending_to_the_next(tmp_path: Path, office: Office) -> None:
    """A retry opens the folder itself, says that nothing is sent yet, and the next server sends."""
    office.hold()
    with process(tmp_path, BACKSTORY_SMTP_URL=office.url) as server:
        campaign(server, MAIL)
        purchase(server, "ann", price=5)
        (mail,) = office.wait_for(1)
        server.kill()
    office.release()
    message_id = mail["X-Backstory-Delivery"]
    told = backstory("messages", "retry", message_id, "--data", str(tmp_path), BACKSTORY_SMTP_URL=office.url)
    assert "they are sent when one starts" in told.stderr
    listed = backstory("messages", "list", "--state", "queued", "--data", str(tmp_path), "--json")
    assert [message["id"] for message in json.loads(listed.stdout)["messages"]] == [message_id]
    assert len(office.post.got) == 1
    with process(tmp_path, BACKSTORY_SMTP_URL=office.url) as server:
        assert [mail["X-Backstory-Delivery"] for mail in office.wait_for(2)] == [message_id] * 2
        eventually(lambda: messages(server, "sent"))


def backstory(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that succeeds."""
    done = subprocess.run(
        command(*words), env=environment_of(**environment), capture_output=True, text=True, timeout=READY_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done
