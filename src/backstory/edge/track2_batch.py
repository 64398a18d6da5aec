"""Batches of Track API v2: many operations decoded at once, each judged by itself.

Plain events of people, nearly all there is in a batch, take a short way: a typed decoder and the same checks written
out for the short values they have; a shorter one, many at once, where all are kept just as they came. Whatever is not
plain, or might be refused, goes the careful way of ``track2``. All must agree on everything: a test compares them.
Source: ``api-surface.md`` section 5.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from backstory.core.condition import Json
from backstory.core.error import RequestError, without_frames
from backstory.core.event import is_event_id
from backstory.core.fact import Fact, Identifier, Track
from backstory.core.limit import BATCH_ITEM_BYTES
from backstory.core.repeat import count_keys, maybe_repeated
from backstory.core.time import MILLISECONDS_FROM, SECOND_US
from backstory.edge.plain_batch import are_as_stored, colons, items_at_once, read_plain
from backstory.edge.track2 import operation_facts
from backstory.edge.value import (
    read_object,
    refuse_repeated,
    short_name,
    short_person,
    shown,
    stored,
)

# The commonest form of ids, one in each line.
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_UUIDS = re.compile(f"{_UUID}(?:\n{_UUID})*")
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


class _Who(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    id: str | None = None
    email: str | None = None


class _Event(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """The same as it is read together with its neighbours."""

    type: Literal["person"]
    action: Literal["event"]
    identifiers: _Who
    name: str
    attributes: msgspec.Raw | UnsetType = UNSET
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
_plain_many = msgspec.json.Decoder(list[_Event]).decode


def batch_items(raw: bytes) -> list[msgspec.Raw]:
    """The items of ``{"batch": […]}`` as they were sent; raises when it is none."""
    try:
        items = _batch(raw).batch
        if not raw.isascii():
            raw.decode()
    except (msgspec.DecodeError, RecursionError, ValueError):
        found = read_object(raw).get("batch")
        raise RequestError(f"batch must be a list of operations, not {shown(found)}", path="$.batch") from None
    if raw.count(b":") - colons(items) != 1:
        refuse_repeated(raw)
    return items


def decode_batch(raw: bytes) -> Decoded:
    """All facts of a batch in order; a refused item takes nothing else with it."""
    facts: list[Fact] = []
    sizes: list[int] = []
    refused: dict[int, RequestError] = {}
    strange = b"\\u0000" in raw
    for some in items_at_once(batch_items(raw)):
        plain = plain_facts(some)
        if plain is not None:
            facts += plain
            sizes += [1] * len(plain)
            continue
        for item in some:
            made = _facts(item, len(sizes), refused, strange=strange)
            facts += made
            sizes.append(len(made))
    return Decoded(facts=facts, sizes=sizes, refused=refused)


def _facts(item: bytes, number: int, refused: dict[int, RequestError], *, strange: bool) -> Sequence[Fact]:
    """The facts of one item; none where it is refused."""
    fact = None if strange else plain_fact(item)
    if fact is not None:
        return (fact,)
    try:
        return careful_facts(item)
    except RequestError as error:
        refused[number] = without_frames(error)
        return ()


def plain_facts(items: list[bytes]) -> list[Track] | None:
    """The facts of plain events that are kept as they came; None when there is any doubt about one."""
    events = read_plain(items, _plain_many)
    if events is None:
        return None
    data = [b"{}" if event.attributes is UNSET else bytes(event.attributes) for event in events]
    if not are_as_stored(data) or not _are_event_ids([event.id for event in events if event.id is not None]):
        return None
    names = {name: short_name(name) for name in {event.name for event in events}}
    people = [_person(event.identifiers) for event in events]
    times = [event.timestamp for event in events if event.timestamp is not None]
    if None in names.values() or None in people or any(abs(time_s) >= MILLISECONDS_FROM for time_s in times):
        return None
    return [
        Track(
            person=cast("Identifier", person),
            name=cast("str", names[event.name]),
            data=text,
            time_us=None if event.timestamp is None else event.timestamp * SECOND_US,
            event_id=None if event.id is None else event.id.lower(),
        )
        for event, person, text in zip(events, people, data, strict=True)
    ]


def _person(who: _Who) -> Identifier | None:
    if who.email is None:
        return None if who.id is None else short_person("id", who.id)
    return short_person("email", who.email) if who.id is None else None


def _are_event_ids(ids: list[str]) -> bool:
    """The same as ``is_event_id`` of all."""
    text = "\n".join(ids)
    return not ids or (text.isascii() and (_UUIDS.fullmatch(text) is not None or all(map(is_event_id, ids))))


def careful_facts(text: bytes) -> Sequence[Fact]:
    """One item by the way of a single operation."""
    BATCH_ITEM_BYTES.check(len(text))
    return operation_facts(read_object(text))


def plain_fact(text: bytes) -> Track | None:
    """The fact of a plain event; None when it has to go the careful way."""
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
