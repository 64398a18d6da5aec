"""Steps: what a journey does, one after the other; read from JSON, numbered, and printed again.

Each step has an ``action_id``: its number from 1, depth first, which names it in the ledger and in the ids of
deliveries. Holds definitions only: ``journey`` walks them, ``message`` composes what they send.
Source: design section 11.
"""

from collections.abc import Callable, Iterator
from typing import assert_never, cast

import msgspec
from msgspec import Struct

from backstory.core import address, condition, field, limit, template
from backstory.core.condition import Condition
from backstory.core.field import FieldError, placed, read_object, read_template, read_whole, read_word, wrong
from backstory.core.operand import Json, shown

DEFAULT_RECIPIENT = "{{ customer.email }}"
# Who a person is, and the control keys of identify, cannot be set by a step.
RESERVED_ATTRIBUTES = frozenset({"id", "email", "cio_id", "anonymous_id", "_timestamp", "_update", "cio_relationships"})

_EXAMPLES = {
    "email": '{"type": "email", "from": …, "subject": …, "body": …}',
    "delay": '{"type": "delay", "seconds": 3600}',
    "webhook": '{"type": "webhook", "url": …, "body": …}',
    "condition": '{"type": "condition", "if": {…}, "then": […], "else": […]}',
    "attribute_update": '{"type": "attribute_update", "attributes": {"plan": "pro"}}',
}
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class EmailStep(Struct, frozen=True, kw_only=True, tag="email"):
    """A message by mail; all four are templates. HTML where ``body`` looks like it."""

    action_id: int
    sender: str
    subject: str
    body: str
    recipient: str = DEFAULT_RECIPIENT


class DelayStep(Struct, frozen=True, kw_only=True, tag="delay"):
    """The journey stands still for so long."""

    action_id: int
    seconds: int


class WebhookStep(Struct, frozen=True, kw_only=True, tag="webhook"):
    """A POST. ``url`` is a template; ``body`` is JSON: a text is one template, in objects and lists each text is."""

    action_id: int
    url: str
    body: bytes = b'""'


class ConditionStep(Struct, frozen=True, kw_only=True, tag="condition"):
    """Two ways through the journey, which join again behind it."""

    action_id: int
    condition: Condition
    then: "tuple[Step, ...]" = ()
    otherwise: "tuple[Step, ...]" = ()


class AttributeUpdateStep(Struct, frozen=True, kw_only=True, tag="attribute_update"):
    """Attributes of the person are set: (name, JSON value); texts are templates, null and "" remove."""

    action_id: int
    attributes: tuple[tuple[str, bytes], ...]


Step = EmailStep | DelayStep | WebhookStep | ConditionStep | AttributeUpdateStep


def read(value: Json, path: str) -> tuple[Step, ...]:
    """The steps of a campaign, at least one; raises ``RequestError`` with the path of the mistake."""
    return _Reader().steps(value, path, empty=False)


def to_json(step: Step) -> Json:
    """The canonical JSON of one step."""
    match step:
        case EmailStep():
            return {
                "type": "email", "from": step.sender, "to": step.recipient, "subject": step.subject, "body": step.body,
            }  # fmt: skip
        case DelayStep():
            return {"type": "delay", "seconds": step.seconds}
        case WebhookStep():
            return {"type": "webhook", "url": step.url, "body": cast("Json", _decode(step.body))}
        case ConditionStep():
            return {
                "type": "condition",
                "if": condition.to_json(step.condition),
                "then": [to_json(inner) for inner in step.then],
                "else": [to_json(inner) for inner in step.otherwise],
            }
        case AttributeUpdateStep():
            attributes = {name: cast("Json", _decode(value)) for name, value in step.attributes}
            return {"type": "attribute_update", "attributes": cast("Json", attributes)}
        case _:
            assert_never(step)


def steps_of(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step, in the order of ``action_id``."""
    for step in steps:
        yield step
        if isinstance(step, ConditionStep):
            yield from steps_of(step.then)
            yield from steps_of(step.otherwise)


def messages_max(steps: tuple[Step, ...]) -> int:
    """The greatest number of messages one journey through these steps can send."""
    count = 0
    for step in steps:
        match step:
            case EmailStep() | WebhookStep():
                count += 1
            case ConditionStep():
                count += max(messages_max(step.then), messages_max(step.otherwise))
            case DelayStep() | AttributeUpdateStep():
                pass
            case _:
                assert_never(step)
    return count


class _Reader:
    """Reads steps and numbers them, depth first."""

    def __init__(self) -> None:
        self.count = 0

    def steps(self, value: Json, path: str, *, empty: bool = True) -> tuple[Step, ...]:
        if not isinstance(value, list) or not (value or empty):
            raise wrong("a list of steps" if empty else "a list of one or more steps", value, path)
        return tuple(self.step(item, f"{path}[{i}]") for i, item in enumerate(value))

    def step(self, value: Json, path: str) -> Step:
        self.count += 1
        limit.CAMPAIGN_STEPS.check(self.count, path=path)
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(value, dict) or kind is None:
            raise wrong(f'a step with a "type", like {_EXAMPLES["email"]}', value, path)
        name = read_word(kind, tuple(_EXAMPLES), f"{path}.type")
        readers: dict[str, Callable[[dict[str, Json], str, int], Step]] = {
            "email": _email,
            "delay": _delay,
            "webhook": _webhook,
            "condition": self.condition,
            "attribute_update": _attribute_update,
        }
        return readers[name](value, path, self.count)

    def condition(self, value: dict[str, Json], path: str, action_id: int) -> ConditionStep:
        fields = read_object(value, path, ("type", "if", "then", "else"), needed=("if",))
        return ConditionStep(
            action_id=action_id,
            condition=condition.parse(fields["if"], path=f"{path}.if"),
            then=self.steps(fields.get("then", []), f"{path}.then"),
            otherwise=self.steps(fields.get("else", []), f"{path}.else"),
        )


def _email(value: dict[str, Json], path: str, action_id: int) -> EmailStep:
    fields = read_object(value, path, ("type", "from", "to", "subject", "body"), needed=("from", "subject", "body"))
    sender = read_template(fields, "from", path, limit.ADDRESS_CHARACTERS)
    recipient = read_template({"to": DEFAULT_RECIPIENT, **fields}, "to", path, limit.ADDRESS_CHARACTERS)
    for key, text in (("from", sender), ("to", recipient)):
        if not template.has_liquid(text):
            placed(address.read, text, f"{path}.{key}")
    subject = read_template(fields, "subject", path, limit.SUBJECT_CHARACTERS)
    body = read_template(fields, "body", path)
    return EmailStep(action_id=action_id, sender=sender, recipient=recipient, subject=subject, body=body)


def _delay(value: dict[str, Json], path: str, action_id: int) -> DelayStep:
    fields = read_object(value, path, ("type", "seconds"), needed=("seconds",))
    seconds = read_whole(fields["seconds"], f"{path}.seconds", "a whole number of seconds from 1", least=1)
    limit.CAMPAIGN_DELAY_S.check(seconds, path=f"{path}.seconds")
    return DelayStep(action_id=action_id, seconds=seconds)


def _webhook(value: dict[str, Json], path: str, action_id: int) -> WebhookStep:
    fields = read_object(value, path, ("type", "url", "body"), needed=("url",))
    url = read_template(fields, "url", path, limit.URL_CHARACTERS)
    if not template.has_liquid(url):
        placed(address.read_url, url, f"{path}.url")
    body = fields.get("body", "")
    if not isinstance(body, str | dict | list):
        raise wrong("text, an object or a list", body, f"{path}.body")
    encoded = _encoded(body, f"{path}.body")
    limit.MESSAGE_BODY_BYTES.check(len(encoded), path=f"{path}.body")
    field.check_templates(body, f"{path}.body")
    return WebhookStep(action_id=action_id, url=url, body=encoded)


def _attribute_update(value: dict[str, Json], path: str, action_id: int) -> AttributeUpdateStep:
    fields = read_object(value, path, ("type", "attributes"), needed=("attributes",))
    attributes, here = fields["attributes"], f"{path}.attributes"
    if not isinstance(attributes, dict) or not attributes:
        raise wrong('an object of attributes, like {"plan": "pro"}', attributes, here)
    limit.ATTRIBUTES_PER_CALL.check(len(attributes), path=here)
    _encoded(attributes, here)
    for name, item in attributes.items():
        place = f"{here}.{name}"
        if name in RESERVED_ATTRIBUTES or not name:
            raise FieldError(f"a step cannot set {shown(name)}: it says who the person is", path=place)
        limit.ATTRIBUTE_NAME_BYTES.check(len(name.encode()), path=place)
        limit.ATTRIBUTE_VALUE_BYTES.check(len(_encode(item)), path=place, subject=name)
        field.check_templates(item, place)
    ordered = tuple((name, _encode(attributes[name])) for name in sorted(attributes))
    return AttributeUpdateStep(action_id=action_id, attributes=ordered)


def _encoded(value: Json, path: str) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        raise FieldError(f"{shown(value)} is not valid Unicode text", path=path) from None
