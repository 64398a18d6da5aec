"""Messages: what is sent to one person, made from a step and what is known at that moment.

Composing never raises: it answers an ``Email`` or a ``Webhook``, or a ``Refusal`` with a reason a marketer can act on.
What comes out is safe to put on the wire: no address and no header holds a line break.
Knows neither SMTP nor HTTP. Sources: design section 11; semantics sections 1.4 (overrides, ``unsubscribed``) and 7.
"""

from collections.abc import Mapping
from typing import Literal, cast

import msgspec
from msgspec import Struct

from backstory.core import address, html, limit, template
from backstory.core.address import Address, AddressError
from backstory.core.error import RequestError
from backstory.core.operand import Json, shown
from backstory.core.step import AttributeUpdateStep, EmailStep, WebhookStep
from backstory.core.template import Rendering

# Event data that overrides what a step says (semantics section 1.4).
RECIPIENT_KEY, SENDER_KEY, REPLY_TO_KEY = "recipient", "from_address", "reply_to"

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode

# Where a delivery can be; in_doubt: a crash hid what came of it.
STATES = ("queued", "attempting", "sent", "failed", "in_doubt", "dropped")


class Email(Struct, frozen=True, kw_only=True, tag="email"):
    """One mail to one person. ``text`` is always there; ``html`` where the body was HTML."""

    sender: Address
    recipient: Address
    subject: str
    text: str
    html: str | None = None
    reply_to: Address | None = None


class Webhook(Struct, frozen=True, kw_only=True, tag="webhook"):
    """One POST."""

    url: str
    body: str
    content_type: str


class Refusal(Struct, frozen=True):
    """Why something is not done."""

    reason: str


class Delivery(Struct, frozen=True, kw_only=True):
    """A message on its way. ``attempts`` were made before this one; ``created_us`` is when it was decided."""

    delivery_id: str
    kind: Literal["email", "webhook"]
    content: Email | Webhook
    created_us: int
    attempts: int = 0


def delivery_id(*, campaign_id: int, journey_id: int, action_id: int, started_us: int) -> str:
    """The name of the one message an action of a journey sends; safe in URLs and headers, the same on every replay.

    ``started_us`` of the journey keeps apart installations that count from 1: mail programs and receivers of
    webhooks drop what they believe to have seen.
    """
    return f"{campaign_id}-{journey_id}-{action_id}-{started_us:x}"


def subscribed(customer: Mapping[str, Json]) -> bool:
    """Whether a person may be sent mail: ``unsubscribed`` counts only as true in any casing, 1 or "1"."""
    match customer.get("unsubscribed"):
        case bool() as flag:
            return not flag
        case int() | float() as number:
            return number != 1
        case str() as text:
            return text.lower() not in ("true", "1")
        case _:
            return True


def compose_email(
    step: EmailStep, context: Mapping[str, object], event_data: Mapping[str, Json], *, now_us: int | None = None
) -> Email | Refusal:
    """The mail of a step. ``event_data`` is empty in segment campaigns; see ``template`` for ``context``."""
    rendering = Rendering(context, now_us=now_us)
    field = "to"
    try:
        recipient = _address(rendering, step.recipient, event_data.get(RECIPIENT_KEY))
        field = "from"
        sender = _address(rendering, step.sender, event_data.get(SENDER_KEY))
        field = "reply_to"
        reply_to = _address(rendering, "", event_data.get(REPLY_TO_KEY)) if event_data.get(REPLY_TO_KEY) else None
        field = "subject"
        subject = _one_line(rendering.render(step.subject))
        limit.SUBJECT_CHARACTERS.check(len(subject))
        field = "body"
        body = rendering.render(step.body)
    except RequestError as error:
        return Refusal(f"{field}: {error.message}")
    # What the step says decides, not what is filled in: nobody turns a plain message into HTML by a name of theirs.
    is_html = html.looks_like_html(step.body)
    return Email(
        sender=sender,
        recipient=recipient,
        reply_to=reply_to,
        subject=subject,
        text=html.to_text(body) if is_html else body,
        html=body if is_html else None,
    )


def compose_webhook(
    step: WebhookStep, context: Mapping[str, object], *, now_us: int | None = None
) -> Webhook | Refusal:
    """The call of a step; JSON where the body is an object, a list or JSON text."""
    rendering = Rendering(context, now_us=now_us)
    field = "url"
    try:
        url = address.read_url(rendering.render(step.url))
        field = "body"
        filled = _filled(rendering, cast("Json", _decode(step.body)))
    except RequestError as error:
        return Refusal(f"{field}: {error.message}")
    body = filled if isinstance(filled, str) else _encode(filled).decode()
    kind = "application/json" if _is_json(body) else "text/plain; charset=utf-8"
    return Webhook(url=url, body=body, content_type=kind)


def compose_attributes(
    step: AttributeUpdateStep, context: Mapping[str, object], *, now_us: int | None = None
) -> bytes | Refusal:
    """The attributes a step sets, as a JSON object."""
    rendering = Rendering(context, now_us=now_us)
    made: dict[str, Json] = {}
    for name, value in step.attributes:
        try:
            made[name] = _filled(rendering, cast("Json", _decode(value)))
            limit.ATTRIBUTE_VALUE_BYTES.check(len(_encode(made[name])), subject=name)
        except RequestError as error:
            return Refusal(f"{name}: {error.message}")
    return _encode(made)


def _address(rendering: Rendering, text: str, override: Json) -> Address:
    """The address event data asks for, else the one of the step."""
    if override is None or override == "":
        return address.read(rendering.render(text))
    if not isinstance(override, str):
        raise AddressError(f"the event data says {shown(override)}, which is not an address")
    return address.read(override)


def _one_line(text: str) -> str:
    """Nothing in a header can start another one; all white space is one space."""
    return "".join(character for character in " ".join(text.split()) if not address.is_control(character))


def _filled(rendering: Rendering, value: Json) -> Json:
    """A JSON value with every text in it rendered."""
    match value:
        case str():
            return rendering.render(value) if template.has_liquid(value) else value
        case list():
            return [_filled(rendering, item) for item in value]
        case dict():
            return {key: _filled(rendering, item) for key, item in value.items()}
        case _:
            return value


def _is_json(text: str) -> bool:
    try:
        _decode(text)
    except msgspec.DecodeError:
        return False
    return True
