"""Batches of Track API v2: many operations decoded at once, each judged by itself.

Plain events of people, nearly all there is in a batch, take a short way: a typed decoder and the same checks written
out for the short values they have. Whatever is not plain, or might be refused, goes the careful way of ``track2``.
The two must agree on everything: a test compares them. Source: ``api-surface.md`` section 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.event import is_event_id
from backstory.core.fact import Fact, Track
from backstory.core.limit import BATCH_ITEM_BYTES
from backstory.core.time import MILLISECONDS_FROM, SECOND_US
from backstory.edge.track2 import operation_facts
from backstory.edge.value import (
    count_keys,
    maybe_repeated,
    read_object,
    refuse_repeated,
    short_name,
    short_person,
    shown,
    stored,
)

# ``type``, ``action``, ``identifiers`` with its one key, ``name``.
_KEYS = 5


class PlainEvent(msgspec.Struct, frozen=True, gc=False):
    """An operation of the most common shape; everything else fails to decode as one."""

    type: Literal["person"]
    action: Literal["event"]
    identifiers: dict[str, str]
    name: str
    attributes: dict[str, object] | None = None
    timestamp: int | None = None
    id: str | None = None


class _Batch(msgspec.Struct, frozen=True, gc=False):
    batch: list[msgspec.Raw]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The items of a batch in order: how many facts each became, or why it was refused."""

    facts: list[Fact]
    sizes: list[int]
    refused: dict[int, RequestError]


_batch = msgspec.json.Decoder(_Batch).decode
_plain = msgspec.json.Decoder(PlainEvent).decode


def batch_items(raw: bytes) -> list[msgspec.Raw]:
    """The items of ``{"batch": […]}`` as they were sent; raises when it is none."""
    try:
        items = _batch(raw).batch
        if not raw.isascii():
            raw.decode()
    except (msgspec.DecodeError, RecursionError, ValueError):
        found = read_object(raw).get("batch")
        raise RequestError(f"batch must be a list of operations, not {shown(found)}", path="$.batch") from None
    if raw.count(b":") - sum(bytes(item).count(b":") for item in items) != 1:
        refuse_repeated(raw)
    return items


def decode_batch(raw: bytes) -> Decoded:
    """All facts of a batch in order; a refused item takes nothing else with it."""
    items = batch_items(raw)
    facts: list[Fact] = []
    sizes: list[int] = []
    refused: dict[int, RequestError] = {}
    strange = b"\\u0000" in raw
    for number, item in enumerate(items):
        fact = None if strange else plain_fact(item)
        if fact is not None:
            facts.append(fact)
            sizes.append(1)
            continue
        made: Sequence[Fact] = ()
        try:
            made = careful_facts(item)
        except RequestError as error:
            refused[number] = error
        facts += made
        sizes.append(len(made))
    return Decoded(facts=facts, sizes=sizes, refused=refused)


def careful_facts(item: msgspec.Raw) -> Sequence[Fact]:
    """One item by the way of a single operation."""
    text = bytes(item)
    BATCH_ITEM_BYTES.check(len(text))
    return operation_facts(read_object(text))


def plain_fact(item: msgspec.Raw) -> Track | None:
    """The fact of a plain event; None when it has to go the careful way."""
    text = bytes(item)
    if len(text) > BATCH_ITEM_BYTES.value:
        return None
    try:
        event = _plain(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    attributes = cast("dict[str, Json] | None", event.attributes)
    identifiers, event_id = event.identifiers, event.id
    if event_id is not None:
        if not event_id.isascii() or not is_event_id(event_id):
            return None
        event_id = event_id.lower()
    keys = _KEYS + (attributes is not None) + (event_id is not None) + (event.timestamp is not None)
    if attributes:
        keys += count_keys(attributes)
    if len(identifiers) != 1 or maybe_repeated(text, keys):
        return None
    try:
        data = b"{}" if attributes is None else stored(attributes)
    except RequestError:
        return None
    time_us = event.timestamp
    if time_us is not None:
        if not -MILLISECONDS_FROM < time_us < MILLISECONDS_FROM:
            return None
        time_us *= SECOND_US
    ((kind, value),) = identifiers.items()
    person, name = short_person(kind, value), short_name(event.name)
    if person is None or name is None:
        return None
    return Track(person=person, name=name, data=data, time_us=time_us, event_id=event_id)
