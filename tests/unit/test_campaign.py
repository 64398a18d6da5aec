"""Reading and printing campaigns: every form, every mistake with its path, every limit."""

import json
import re
from pathlib import Path
from typing import cast

import pytest

from backstory.core import limit
from backstory.core.address import Address, AddressError, host_of, read, read_url
from backstory.core.campaign import (
    AttributeUpdateStep,
    Campaign,
    ConditionStep,
    DelayStep,
    EmailStep,
    Frequency,
    WebhookStep,
    conditions_of,
    parse,
    segments_used,
    steps_of,
    to_json,
)
from backstory.core.condition import AttributeTest, InSegment, Json
from backstory.core.error import RequestError
from backstory.core.time import HOUR_US
from backstory.core.trigger import EventTrigger, SegmentTrigger, triggers

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "campaigns.md"
EXAMPLES = cast("list[Json]", [
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
])
EMAIL: dict[str, Json] = {"type": "email", "from": "shop@example.com", "subject": "Hi", "body": "Hello"}
EVENT: Json = {"event": {"name": "purchased"}}
VIP: Json = {"segment": {"id": 3}}


def campaign(**changes: Json) -> dict[str, Json]:
    """The smallest campaign, changed."""
    return {"name": "Thanks", "trigger": EVENT, "steps": [EMAIL], **changes}


def with_step(**step: Json) -> dict[str, Json]:
    """A campaign of one step."""
    return campaign(steps=[step])


def refused(value: Json) -> RequestError:
    """The error with which a campaign is refused."""
    with pytest.raises(RequestError) as caught:
        parse(value)
    return caught.value


def test_the_smallest_campaign_has_the_defaults() -> None:
    """Without a word about them: once per person, future matches only, a draft, to the person's own address."""
    made = parse(campaign())
    assert made == Campaign(
        name="Thanks",
        trigger=EventTrigger(name="purchased"),
        steps=(EmailStep(action_id=1, sender="shop@example.com", subject="Hi", body="Hello"),),
    )
    assert made.frequency == Frequency(mode="once", min_interval_s=0)
    assert made.state == "draft"
    assert isinstance(made.steps[0], EmailStep)
    assert made.steps[0].recipient == "{{ customer.email }}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_documents_examples_are_read_and_printed_again(example: Json) -> None:
    """What the guide shows works, and the canonical form reads as the same campaign."""
    made = parse(example)
    printed = to_json(made)
    assert parse(printed) == made
    assert to_json(parse(printed)) == printed


def test_every_kind_of_step_is_read() -> None:
    """Steps become values, numbered depth first from 1."""
    made = parse(EXAMPLES[1])
    assert [(step.action_id, type(step)) for step in steps_of(made.steps)] == [
        (1, AttributeUpdateStep),
        (2, ConditionStep),
        (3, WebhookStep),
        (4, DelayStep),
        (5, EmailStep),
    ]
    update, branch = made.steps
    assert isinstance(update, AttributeUpdateStep)
    assert update.attributes == (
        ("came_by", b'"{{ trigger.segment.name }}"'),
        ("old", b"null"),
        ("welcomed", b"true"),
    )
    assert isinstance(branch, ConditionStep)
    webhook = branch.then[0]
    assert isinstance(webhook, WebhookStep)
    assert webhook.body == b'{"id":"{{ customer.id }}","tags":["new"]}'


def test_a_campaign_says_what_it_refers_to() -> None:
    """Segments in the trigger, the filter and the steps are in use; conditions are listed."""
    branch: Json = {"type": "condition", "if": {"segment": {"id": 9}}}
    trigger: Json = {"segment": {"id": 7, "transition": "left"}}
    made = parse(campaign(trigger=trigger, filter=VIP, steps=[branch]))
    assert made.trigger == SegmentTrigger(segment_id=7, transition="left")
    assert segments_used(made) == {3, 7, 9}
    assert list(conditions_of(made)) == [InSegment(3), InSegment(9)]
    assert segments_used(parse(campaign())) == frozenset()


def test_the_trigger_tests_event_data() -> None:
    """``where`` is a tree of tests over event data; names are trimmed as those of events are."""
    where: Json = {"attribute": {"field": "price", "operator": "gt", "value": 10}}
    made = parse(campaign(trigger={"event": {"name": " purchased ", "where": where}}))
    assert made.trigger == EventTrigger(name="purchased", where=AttributeTest("price", "gt", b"10"))


def test_null_is_as_good_as_leaving_it_out() -> None:
    """Clients that print every field are understood."""
    nothing: dict[str, Json] = {"filter": None, "frequency": None, "state": None, "include_current": None}
    assert parse(campaign(**nothing)) == parse(campaign())


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        (5, "", "expected an object with name, trigger"),
        ({"name": "x"}, "", '"trigger" is missing'),
        (campaign(name="  "), ".name", "expected text"),
        (campaign(name="x" * 251), ".name", "longer than 250"),
        (campaign(nmae="x"), "", 'unknown key "nmae"; did you mean name?'),
        (campaign(trigger={}), ".trigger", "exactly one of"),
        (campaign(trigger={"event": {"name": "a"}, "segment": {"id": 1}}), ".trigger", "exactly one of"),
        (campaign(trigger={"event": {}}), ".trigger.event", '"name" is missing'),
        (campaign(trigger={"event": {"name": "x" * 101}}), ".trigger.event.name", "longer than 100 bytes"),
        (campaign(trigger={"event": {"name": "a", "where": VIP}}), ".trigger.event.where.segment", "where"),
        (campaign(trigger={"segment": {"id": "7"}}), ".trigger.segment.id", 'the number of a segment; found "7"'),
        (campaign(trigger={"segment": {"id": True}}), ".trigger.segment.id", "the number of a segment"),
        (
            campaign(trigger={"segment": {"id": 1, "transition": "enter"}}),
            ".trigger.segment.transition",
            "did you mean entered?",
        ),
        (campaign(filter={"attribute": {"field": "a", "operator": "eqq"}}), ".filter.attribute.operator", ""),
        (campaign(frequency={"mode": "twice"}), ".frequency.mode", "expected one of once, every"),
        (campaign(frequency={"mode": "once", "min_interval_s": 5}), ".frequency.min_interval_s", "once is once"),
        (campaign(frequency={"mode": "every", "min_interval_s": -1}), ".frequency.min_interval_s", "seconds"),
        (campaign(frequency={"mode": "every", "min_interval_s": 10**9}), ".frequency.min_interval_s", "ten years"),
        (campaign(include_current=1), ".include_current", "true or false"),
        (campaign(include_current=True), ".include_current", "segment campaigns"),
        (campaign(state="stopped"), ".state", "expected one of draft, running"),
        (campaign(steps=[]), ".steps", "one or more steps"),
        (campaign(steps={}), ".steps", "one or more steps"),
        (campaign(steps=["x"]), ".steps[0]", 'a step with a "type"'),
        (with_step(seconds=5), ".steps[0]", 'a step with a "type"'),
        (with_step(type="emial"), ".steps[0].type", "did you mean email?"),
        (with_step(type="sms"), ".steps[0].type", "expected one of email, delay"),
        (with_step(**{**EMAIL, "form": "x"}), ".steps[0]", "did you mean from?"),
        (with_step(type="email", subject="a", body="b"), ".steps[0]", '"from" is missing'),
        (with_step(**{**EMAIL, "subject": 5}), ".steps[0].subject", "expected text; found 5"),
        (with_step(**{**EMAIL, "subject": "{{ x"}), ".steps[0].subject", "line 1, column 1"),
        (with_step(**{**EMAIL, "body": "a\n{% iff %}"}), ".steps[0].body", "line 2, column 4: unexpected tag 'iff'"),
        (with_step(**{**EMAIL, "from": "shop"}), ".steps[0].from", "'shop' is not a mail address"),
        (with_step(**{**EMAIL, "to": "a@x.org, b@x.org"}), ".steps[0].to", "more than one address"),
        (with_step(**{**EMAIL, "from": "{{ customer.x | upcse }}"}), ".steps[0].from", "unknown filter"),
        (with_step(**{**EMAIL, "subject": "\ud800"}), ".steps[0].subject", "not valid Unicode"),
        (with_step(type="delay", seconds=0), ".steps[0].seconds", "from 1; found 0"),
        (with_step(type="delay", seconds=1.5), ".steps[0].seconds", "whole number"),
        (with_step(type="delay", seconds="60"), ".steps[0].seconds", "whole number"),
        (with_step(type="webhook", url="ftp://x.org"), ".steps[0].url", "not an http or https URL"),
        (with_step(type="webhook", url="https://u:p@x.org"), ".steps[0].url", "names a user or a password"),
        (with_step(type="webhook", url="https://x.org", body=5), ".steps[0].body", "text, an object or a list"),
        (
            with_step(type="webhook", url="https://x.org", body={"a": ["{{ b"]}),
            ".steps[0].body.a[0]",
            "line 1, column 1",
        ),
        (with_step(type="condition", then=[EMAIL]), ".steps[0]", '"if" is missing'),
        (
            with_step(type="condition", **{"if": VIP, "then": [{"type": "delay"}]}),
            ".steps[0].then[0]",
            '"seconds" is missing',
        ),
        (with_step(type="condition", **{"if": VIP, "else": 5}), ".steps[0].else", "a list of steps"),
        (with_step(type="attribute_update", attributes={}), ".steps[0].attributes", "an object of attributes"),
        (
            with_step(type="attribute_update", attributes={"email": "x"}),
            ".steps[0].attributes.email",
            "says who the person is",
        ),
        (with_step(type="attribute_update", attributes={"a": "{{"}), ".steps[0].attributes.a", "line 1"),
    ],
)
def test_a_wrong_campaign_is_refused_where_it_is_wrong(value: Json, path: str, said: str) -> None:
    """The error has the path of the mistake, what was expected, and perhaps what was meant."""
    error = refused(value)
    assert error.path == f"$.campaign{path}"
    assert said in error.message


LIMITS: list[tuple[limit.Limit, str, str, str]] = [
    (limit.SUBJECT_CHARACTERS, "subject", "x", ""),
    (limit.MESSAGE_BODY_BYTES, "body", "x", ""),
    (limit.ADDRESS_CHARACTERS, "to", "x", "{{ customer.email }}"),
]


@pytest.mark.parametrize(("bound", "key", "letter", "rest"), LIMITS)
def test_texts_have_limits(bound: limit.Limit, key: str, letter: str, rest: str) -> None:
    """A text at the limit is taken, one past it refused."""
    at_limit = letter * (bound.value - len(rest)) + rest
    assert parse(with_step(**{**EMAIL, key: at_limit}))
    error = refused(with_step(**{**EMAIL, key: letter + at_limit}))
    assert error.path == f"$.campaign.steps[0].{key}"
    assert str(bound.value) in error.message


def test_steps_and_times_have_limits() -> None:
    """A hundred steps, wherever they stand; a year of delay; a URL of 2,000 characters."""
    step: Json = {"type": "delay", "seconds": limit.CAMPAIGN_DELAY_S.value}
    branch: Json = {"type": "condition", "if": VIP, "then": [step] * 49, "else": [step] * 50}
    assert parse(campaign(steps=[branch]))
    assert refused(campaign(steps=[branch, step])).path == "$.campaign.steps[1]"
    too_long: Json = {"type": "delay", "seconds": limit.CAMPAIGN_DELAY_S.value + 1}
    assert "a year" in refused(campaign(steps=[too_long])).message
    url = "https://x.org/"
    url += "a" * (limit.URL_CHARACTERS.value - len(url))
    assert parse(with_step(type="webhook", url=url))
    assert "2000" in refused(with_step(type="webhook", url=f"{url}a")).message


def test_attributes_of_a_step_have_the_limits_of_identify() -> None:
    """What a step sets is an attribute like any other."""
    long_name, long_value = "n" * 151, "v" * 999
    assert "150" in refused(with_step(type="attribute_update", attributes={long_name: 1})).message
    assert "1000" in refused(with_step(type="attribute_update", attributes={"a": long_value})).message
    assert parse(with_step(type="attribute_update", attributes={"n" * 150: "v" * 998}))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ada@example.com", Address(mail="ada@example.com")),
        (" Ada Lovelace <ada@example.com> ", Address(mail="ada@example.com", name="Ada Lovelace")),
        ('"Lovelace, \\"Ada\\"" <a.b+c@x.org>', Address(mail="a.b+c@x.org", name='Lovelace, "Ada"')),
        ("<ada@localhost>", Address(mail="ada@localhost")),
        ("ada@bücher.example", Address(mail="ada@xn--bcher-kva.example")),
        ("Zoë <z@x.org>", Address(mail="z@x.org", name="Zoë")),
    ],
)
def test_mail_addresses_are_read(text: str, address: Address) -> None:
    """One address, with or without a name."""
    assert read(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "ada", "@x.org", "ada@", "ada@@x.org", "a b@x.org", "ada@x..org", "ada@-x.org", ".ada@x.org",
        "a..b@x.org", "ada@x.org\nBcc: eve@x.org", "Ada\r\nBcc: e@x.org <ada@x.org>", "a@x.org, b@x.org",
        "a@x.org;b@x.org", "Ada <a@x.org> <b@x.org>", "A\u2028 <ada@x.org>", "adä@x.org", "a" * 65 + "@x.org",
        "a@" + ".".join(["b" * 60] * 5), "ada@x.org\x00", "a@[127.0.0.1]",
    ],
)  # fmt: skip
def test_what_is_no_mail_address_is_refused(text: str) -> None:
    """Nothing can ride along with an address: no second one, no header."""
    with pytest.raises(AddressError):
        read(text)


@pytest.mark.parametrize("url", ["https://x.org/a?b=c", "http://localhost:8080/", "https://bücher.example/ü", "http://[::1]/"])
def test_urls_are_read(url: str) -> None:
    """http and https URLs stay as they are written."""
    assert read_url(f" {url} ") == url
    assert host_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "x.org", "//x.org", "https://", "ftp://x.org", "https://x.org/a b", "https://x.org/\nX: y", "https://x:y/",
        "https://[::1", "https://u:secret@x.org/", "javascript:alert(1)", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    """Only the web, without credentials, which are not told again either."""
    with pytest.raises(AddressError) as caught:
        read_url(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(("age_us", "fires"), [(0, True), (72 * HOUR_US, True), (72 * HOUR_US + 1, False), (-5, True)])
def test_triggers_have_an_age(age_us: int, fires: bool) -> None:
    """What became true more than 72 hours before it was accepted starts nothing; 72 hours exactly still does."""
    assert triggers(10**15 - age_us, 10**15) is fires
    assert triggers(10**15 - 2, 10**15, age_limit_us=1) is False
