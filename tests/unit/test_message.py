"""Composing messages: to whom, from whom, what it says, and when it is refused instead."""

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.address import Address
from backstory.core.message import (
    Delivery,
    Email,
    Refusal,
    Webhook,
    compose_attributes,
    compose_email,
    compose_webhook,
    delivery_id,
    subscribed,
)
from backstory.core.operand import Json
from backstory.core.step import AttributeUpdateStep, EmailStep, WebhookStep

CUSTOMER: dict[str, Json] = {"id": "7", "email": "ada@example.com", "first_name": "Ada"}
STEP = EmailStep(action_id=1, sender="Shop <shop@example.com>", subject="Hi {{ customer.first_name }}", body="Hello")


def compose(step: EmailStep = STEP, data: dict[str, Json] | None = None, **customer: Json) -> Email | Refusal:
    """The mail of a step for Ada, with event data."""
    event: dict[str, Json] = data or {}
    return compose_email(step, {"customer": {**CUSTOMER, **customer}, "event": event}, event)


def changed(**fields: str) -> EmailStep:
    """The step, changed."""
    return msgspec.structs.replace(STEP, **fields)


def email(step: EmailStep = STEP, data: dict[str, Json] | None = None, **customer: Json) -> Email:
    """The mail, which must not be refused."""
    made = compose(step, data, **customer)
    assert isinstance(made, Email), made
    return made


def reason(step: EmailStep = STEP, data: dict[str, Json] | None = None, **customer: Json) -> str:
    """Why there is no mail."""
    made = compose(step, data, **customer)
    assert isinstance(made, Refusal)
    return made.reason


def test_a_mail_goes_to_the_person() -> None:
    """Without a word about it, a mail goes to the person's own address, as plain text."""
    assert email() == Email(
        sender=Address(mail="shop@example.com", name="Shop"),
        recipient=Address(mail="ada@example.com"),
        subject="Hi Ada",
        text="Hello",
    )


def test_event_data_overrides_the_addresses() -> None:
    """``recipient``, ``from_address`` and ``reply_to`` in the event say where it goes; empty ones say nothing."""
    data: dict[str, Json] = {"recipient": "Bo <bo@x.org>", "from_address": "me@x.org", "reply_to": "re@x.org"}
    made = email(STEP, data)
    assert (made.recipient, made.sender) == (Address(mail="bo@x.org", name="Bo"), Address(mail="me@x.org"))
    assert made.reply_to == Address(mail="re@x.org")
    assert email(STEP, {"recipient": None, "from_address": "", "reply_to": ""}) == email()


def test_overrides_are_no_templates() -> None:
    """Event data is data: Liquid in it is not run."""
    assert "not a mail address" in reason(STEP, {"recipient": "{{ customer.email }}"})
    assert email(changed(body="{{ event.x }}"), {"x": "{{ customer.id }}"}).text == "{{ customer.id }}"


@pytest.mark.parametrize(
    ("step", "data", "customer", "said"),
    [
        (STEP, {}, {"email": ""}, "to: the address is empty"),
        (STEP, {}, {"email": None}, "to: the address is empty"),
        (STEP, {}, {"email": "nobody"}, "to: 'nobody' is not a mail address"),
        (STEP, {}, {"email": "a@x.org\nBcc: eve@x.org"}, "to: the address has a line break"),
        (STEP, {"recipient": 5}, {}, "to: the event data says 5"),
        (STEP, {"from_address": "x"}, {}, "from: 'x' is not"),
        (STEP, {"reply_to": "a@x.org,b@x.org"}, {}, "reply_to: 'a@x.org,b@x.org' is more than one"),
        (changed(recipient="{{ customer.work_email }}"), {}, {}, "to: line 1, column 4: the variable"),
        (changed(sender="{{ event.shop }}@x.org"), {}, {}, "from: line 1, column 4: the variable"),
        (changed(subject="{{ customer.last_name }}"), {}, {}, "subject: line 1, column 4: the variable"),
        (changed(body="\n{{ event.x }}"), {}, {}, "body: line 2, column 4: the variable event.x is missing"),
        (changed(subject="{% for i in (1..2000) %}x{% endfor %}"), {}, {}, "subject: a subject cannot be longer"),
    ],
)
def test_a_mail_that_cannot_be_made_has_a_reason(
    step: EmailStep, data: dict[str, Json], customer: dict[str, Json], said: str
) -> None:
    """The reason says which part of the message it is about."""
    assert said in reason(step, data, **customer)


def test_a_subject_is_one_line() -> None:
    """White space becomes one space, and nothing starts another header."""
    step = changed(subject="\n  Hi {{ customer.first_name }}\r\nBcc: eve@x.org\n\x00👩‍💻 ")
    assert email(step).subject == "Hi Ada Bcc: eve@x.org 👩‍💻"


def test_html_comes_with_plain_text() -> None:
    """A body with tags is HTML, with its words beside it; one without is text."""
    made = email(changed(body="<p>Hi {{ customer.first_name }}</p><p><a href='https://x.org'>Look</a></p>"))
    assert made.html == "<p>Hi Ada</p><p><a href='https://x.org'>Look</a></p>"
    assert made.text == "Hi Ada\n\nLook (https://x.org)"
    assert email(changed(body="1 < 2")).html is None


def test_nobody_turns_a_plain_message_into_html() -> None:
    """What is filled in does not decide what a message is."""
    made = email(changed(body="Hi {{ customer.first_name }}"), first_name="<b>Ada</b>")
    assert made.html is None
    assert made.text == "Hi <b>Ada</b>"


WILD = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from([
    "a@x.org\r\nX: y", "A\nB <a@x.org>", '"A\\\nB" <a@x.org>', "a@x.org\x0b", "\u2028a@x.org", "a@x.org\x85b",
])  # fmt: skip


@settings(deadline=None)
@given(WILD, WILD, WILD, WILD)
def test_no_header_can_be_injected(to: str, sender: str, reply_to: str, subject: str) -> None:
    """Whatever stands in data, what goes into a header is one line."""
    data: dict[str, Json] = {"recipient": to, "from_address": sender, "reply_to": reply_to, "subject": subject}
    made = compose(changed(subject="Re: {{ event.subject }}"), data)
    if isinstance(made, Email):
        addresses = [made.sender, made.recipient, *([made.reply_to] if made.reply_to else [])]
        lines = [made.subject, *(part for one in addresses for part in (one.mail, one.name))]
        assert all(len(f"x{line}x".splitlines()) == 1 and "\x00" not in line for line in lines)


@pytest.mark.parametrize("value", [True, "true", "TRUE", "True", 1, "1", 1.0])
def test_who_is_unsubscribed(value: Json) -> None:
    """Only true in any casing, 1 and "1" are an opt-out."""
    assert not subscribed({"unsubscribed": value})


@pytest.mark.parametrize("value", [False, "false", "yes", "", 0, 2, None, [True], {}, " true", "01"])
def test_who_is_subscribed(value: Json) -> None:
    """Every other value means subscribed, and so does none; names of attributes have a case."""
    assert subscribed({"unsubscribed": value})
    assert subscribed({})
    assert subscribed({"Unsubscribed": True})


def call(url: str, body: Json, **customer: Json) -> Webhook | Refusal:
    """The webhook of a step for Ada."""
    step = WebhookStep(action_id=1, url=url, body=msgspec.json.encode(body))
    return compose_webhook(step, {"customer": {**CUSTOMER, **customer}})


def test_a_webhook_with_an_object_fills_in_its_texts() -> None:
    """Texts inside an object are templates of their own, so that quotes in data cannot break the JSON."""
    body: Json = {"n": 5, "tags": ["{{ customer.first_name }}"], "deep": {"id": "{{ customer.id }}"}}
    made = call("https://x.org/{{ customer.id }}?q={{ customer.first_name | url_encode }}", body, first_name='A "b" c')
    assert isinstance(made, Webhook)
    assert made.url == "https://x.org/7?q=A+%22b%22+c"
    assert msgspec.json.decode(made.body) == {"n": 5, "tags": ['A "b" c'], "deep": {"id": "7"}}
    assert made.content_type == "application/json"


@pytest.mark.parametrize(
    ("body", "made", "kind"),
    [
        ('{"id": {{ customer.id | json }}}', '{"id": "7"}', "application/json"),
        ("Hello {{ customer.first_name }}", "Hello Ada", "text/plain; charset=utf-8"),
        ("", "", "text/plain; charset=utf-8"),
        ([], "[]", "application/json"),
    ],
)
def test_a_webhook_with_a_text(body: Json, made: str, kind: str) -> None:
    """A text is one template; it is JSON when it reads as JSON."""
    assert call("https://x.org", body) == Webhook(url="https://x.org", body=made, content_type=kind)


@pytest.mark.parametrize(
    ("url", "body", "said"),
    [
        ("https://x.org/{{ customer.hook }}", "", "url: line 1, column 18: the variable customer.hook is missing"),
        ("{{ customer.first_name }}", "", "url: 'Ada' is not an http or https URL"),
        ("https://x.org/{{ 'a b' }}", "", "url: the URL has a space"),
        ("https://x.org", {"a": ["{{ customer.hook }}"]}, "body: line 1, column 4: the variable customer.hook"),
        ("https://x.org", ["{% for i in (1..9999) %}{{ i }}{% endfor %}"] * 9, "body: line 1"),
    ],
)
def test_a_webhook_that_cannot_be_made_has_a_reason(url: str, body: Json, said: str) -> None:
    """The reason says whether it is the URL or the body."""
    made = call(url, body)
    assert isinstance(made, Refusal)
    assert said in made.reason


def test_attributes_are_filled_in() -> None:
    """Texts are templates, other values stay what they are."""
    values: dict[str, Json] = {"a": "{{ customer.first_name }}!", "b": 5, "c": None, "d": ["{{ customer.id }}"]}
    pairs = tuple((name, msgspec.json.encode(value)) for name, value in values.items())
    step = AttributeUpdateStep(action_id=1, attributes=pairs)
    made = compose_attributes(step, {"customer": CUSTOMER})
    assert isinstance(made, bytes)
    assert msgspec.json.decode(made) == {"a": "Ada!", "b": 5, "c": None, "d": ["7"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ customer.x }}", "a: line 1, column 4: the variable customer.x"),
        ("{% for i in (1..999) %}xx{% endfor %}", "1000 bytes"),
    ],
)
def test_attributes_that_cannot_be_made_have_a_reason(text: str, said: str) -> None:
    """A missing variable or a value that is too long, with the name of the attribute."""
    step = AttributeUpdateStep(action_id=1, attributes=(("a", msgspec.json.encode(text)),))
    made = compose_attributes(step, {"customer": CUSTOMER})
    assert isinstance(made, Refusal)
    assert said in made.reason


def test_the_id_of_a_delivery_is_stable_and_safe() -> None:
    """One name for each campaign, journey, action and start; safe in a URL, a file name and a header."""
    names = {
        delivery_id(campaign_id=campaign, journey_id=journey, action_id=action, started_us=started)
        for campaign in (1, 11)
        for journey in (1, 11)
        for action in (1, 11)
        for started in (1_700_000_000_000_000, 1_700_000_000_000_001)
    }
    assert len(names) == 16
    assert all(re.fullmatch(r"[0-9a-f-]+", name) for name in names)


def test_a_delivery_survives_being_stored() -> None:
    """What is to be sent reads back from JSON as what it was."""
    for content in (email(), Webhook(url="https://x.org", body="{}", content_type="application/json")):
        kind = "email" if isinstance(content, Email) else "webhook"
        delivery = Delivery(delivery_id="1-2-3-4", kind=kind, content=content, created_us=5, attempts=1)
        assert msgspec.json.decode(msgspec.json.encode(delivery), type=Delivery) == delivery
