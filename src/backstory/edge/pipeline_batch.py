"""Batches of Pipelines: many calls decoded at once, each judged by itself.

Plain track calls of known people take a short way, as plain events do in ``track2_batch``; everything else goes the
careful way of a single call. The two must agree on everything: a test compares them.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, cast

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from backstory.core.condition import Json
from backstory.core.error import RequestError, without_frames
from backstory.core.event import is_event_id, normal_id
from backstory.core.fact import Fact, Identifier, Track
from backstory.core.limit import BATCH_ITEM_BYTES
from backstory.core.repeat import count_keys, maybe_repeated
from backstory.core.time import us_of
from backstory.edge.pipeline_semantic import SEMANTIC, call_facts
from backstory.edge.plain_batch import are_as_stored, colons, items_at_once, read_plain
from backstory.edge.track2_batch import Decoded
from backstory.edge.value import (
    SHORT_ID,
    person_by_shape,
    read_object,
    refuse_repeated,
    short_name,
    shown,
    stored,
)

_Text = str | None | UnsetType
_Object = dict[str, object] | None | UnsetType


class PlainCall(msgspec.Struct, frozen=True, gc=False):
    """A track call of somebody known, with the fields that clients send; others make a call go the careful way."""

    type: Literal["track"]
    userId: str
    event: str
    properties: _Object = UNSET
    timestamp: _Text = UNSET
    messageId: _Text = UNSET
    anonymousId: _Text = UNSET
    context: _Object = UNSET
    integrations: _Object = UNSET
    originalTimestamp: _Text = UNSET
    sentAt: _Text = UNSET
    receivedAt: _Text = UNSET
    channel: _Text = UNSET
    writeKey: _Text = UNSET


_Raw = msgspec.Raw | UnsetType


class _Call(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """The same as it is read together with its neighbours."""

    type: Literal["track"]
    userId: str
    event: str
    properties: _Raw = UNSET
    timestamp: _Text = UNSET
    messageId: _Text = UNSET
    anonymousId: _Text = UNSET
    context: _Raw = UNSET
    integrations: _Raw = UNSET
    originalTimestamp: _Text = UNSET
    sentAt: _Text = UNSET
    receivedAt: _Text = UNSET
    channel: _Text = UNSET
    writeKey: _Text = UNSET


class PipelineBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch as it was sent; what stands beside the calls is for all of them."""

    batch: list[msgspec.Raw]
    context: msgspec.Raw | UnsetType = UNSET
    integrations: msgspec.Raw | UnsetType = UNSET
    sentAt: msgspec.Raw | UnsetType = UNSET
    timestamp: msgspec.Raw | UnsetType = UNSET
    writeKey: msgspec.Raw | UnsetType = UNSET


_batch = msgspec.json.Decoder(PipelineBatch).decode
_plain = msgspec.json.Decoder(PlainCall).decode
_plain_many = msgspec.json.Decoder(list[_Call]).decode
_REQUIRED = 3
# As nearly every client writes times.
_MOMENT = r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.(?:[0-9]{3}){1,2})?Z"
_MOMENTS = re.compile(f"{_MOMENT}(?:\n{_MOMENT})*")


def read_batch(raw: bytes) -> PipelineBatch:
    """``{"batch": […], "context", "integrations", …}``; raises when it is none."""
    try:
        batch = _batch(raw)
        if not raw.isascii():
            raw.decode()
    except (msgspec.DecodeError, RecursionError, ValueError):
        found = read_object(raw).get("batch")
        raise RequestError(f"batch must be a list of calls, not {shown(found)}", path="$.batch") from None
    beside = [one for one in _beside(batch) if one is not UNSET]
    if raw.count(b":") - colons([*batch.batch, *beside]) != 1 + len(beside):
        refuse_repeated(raw)
    return batch


def _beside(batch: PipelineBatch) -> tuple[msgspec.Raw | UnsetType, ...]:
    return batch.context, batch.integrations, batch.sentAt, batch.timestamp, batch.writeKey


def decode_calls(raw: bytes) -> Decoded:
    """All facts of a batch in order; a refused call takes nothing else with it."""
    batch = read_batch(raw)
    context = None if isinstance(batch.context, UnsetType) else bytes(batch.context)
    strange = b"\\u0000" in raw
    facts: list[Fact] = []
    sizes: list[int] = []
    refused: dict[int, RequestError] = {}
    for some in items_at_once(batch.batch):
        plain = plain_tracks(some)
        if plain is not None:
            facts += plain
            sizes += [1] * len(plain)
            continue
        for item in some:
            fact = None if strange else plain_track(item)
            made: Sequence[Fact] = () if fact is None else (fact,)
            try:
                made = made or careful_call(item, context)
            except RequestError as error:
                refused[len(sizes)] = without_frames(error)
            facts += made
            sizes.append(len(made))
    return Decoded(facts=facts, sizes=sizes, refused=refused)


def plain_tracks(items: list[bytes]) -> list[Track] | None:
    """The facts of plain track calls that are kept as they came; None when there is any doubt about one."""
    calls = read_plain(items, _plain_many)
    if calls is None:
        return None
    data = [b"{}" if isinstance(call.properties, UnsetType) else bytes(call.properties) for call in calls]
    beside = [one for call in calls for one in (call.context, call.integrations)]
    if not are_as_stored(data + [bytes(one) for one in beside if not isinstance(one, UnsetType)]):
        return None
    names = {name: None if name in SEMANTIC else short_name(name) for name in {call.event for call in calls}}
    if None in names.values():
        return None
    if any(isinstance(call.originalTimestamp, str) and not isinstance(call.timestamp, str) for call in calls):
        return None
    people = _people([call.userId for call in calls])
    times_us = plain_moments([call.timestamp for call in calls])
    if people is None or times_us is None:
        return None
    ids = [call.messageId if isinstance(call.messageId, str) else None for call in calls]
    if not all(one is None or 0 < len(one) <= SHORT_ID for one in ids):
        return None
    return [
        Track(
            person=person,
            name=cast("str", names[call.event]),
            data=text,
            time_us=time_us,
            event_id=None if one is None else normal_id(one),
        )
        for call, person, text, time_us, one in zip(calls, people, data, times_us, ids, strict=True)
    ]


def _people(users: list[str]) -> list[Identifier] | None:
    """Whom user ids name; None when there is any doubt about one."""
    if not all(0 < len(user) <= SHORT_ID for user in users):
        return None
    try:
        return [person_by_shape(user) for user in users]
    except RequestError:
        return None


def plain_moments(texts: Sequence[_Text]) -> Sequence[int | None] | None:
    """Times as ``plain_moment`` reads them, all at once, and None where there is none; None when one is unusual."""
    given = [text for text in texts if isinstance(text, str)]
    if not given:
        return [None] * len(texts)
    if _MOMENTS.fullmatch("\n".join(given)) is None:
        return None
    try:
        found = np.array([text[:-1] for text in given], "datetime64[us]").astype(np.int64).tolist()
    except ValueError:
        return None
    read = iter(cast("list[int]", found))
    return [next(read) if isinstance(text, str) else None for text in texts]


def careful_call(item: bytes, context: bytes | None) -> Sequence[Fact]:
    """One call of a batch by the way of a single one; ``context`` is what stands beside the calls."""
    BATCH_ITEM_BYTES.check(len(item))
    body = read_object(item)
    if context is not None and body.get("context") is None:
        body["context"] = read_object(context) if context.startswith(b"{") else None
    return call_facts(body, body.get("type"))


def plain_track(item: bytes) -> Track | None:
    """The fact of a plain track call; None when it has to go the careful way."""
    if len(item) > BATCH_ITEM_BYTES.value:
        return None
    try:
        call = _plain(item)
        properties = {} if not isinstance(call.properties, dict) else cast("dict[str, Json]", call.properties)
        data = stored(properties)
    except (msgspec.DecodeError, RecursionError, ValueError, RequestError):
        return None
    user, name = call.userId, short_name(call.event)
    if name is None or call.event in SEMANTIC:
        return None
    return None if _may_repeat(item, call) else _track(user, name, data, call)


def _track(user: str, name: str, data: bytes, call: PlainCall | _Call) -> Track | None:
    """The fact of a call of which the rest is plain, if its person, time and id are."""
    if not 0 < len(user) <= SHORT_ID:
        return None
    moment, event_id = call.timestamp, call.messageId
    time_us: int | None = None
    if isinstance(moment, str):
        time_us = plain_moment(moment)
        if time_us is None:
            return None
    elif isinstance(call.originalTimestamp, str):
        return None
    if isinstance(event_id, str):
        if not 0 < len(event_id) <= SHORT_ID:
            return None
        if is_event_id(event_id):
            event_id = event_id.lower()
    else:
        event_id = None
    try:
        person = person_by_shape(user)
    except RequestError:
        return None
    return Track(person=person, name=name, data=data, time_us=time_us, event_id=event_id)


def _may_repeat(item: bytes, call: PlainCall) -> bool:
    """Could the call have a key twice? No is certain, as in ``maybe_repeated``.

    Nearly every call has a time with colons in it. Where nothing is escaped, those of the decoded text are those of the
    raw one, and counting all colons is enough.
    """
    keys = _count(call)
    if b"\\" not in item:
        moments = (call.timestamp, call.originalTimestamp, call.sentAt)
        colons = sum([moment.count(":") for moment in moments if isinstance(moment, str)])
        if item.count(b":") == keys + colons:
            return False
    return maybe_repeated(item, keys)


def _count(call: PlainCall) -> int:
    """How many keys the call has in all, if it has no others than the fields; written out, for it is asked often."""
    keys = (
        _REQUIRED
        + (call.properties is not UNSET)
        + (call.timestamp is not UNSET)
        + (call.messageId is not UNSET)
        + (call.anonymousId is not UNSET)
        + (call.context is not UNSET)
        + (call.integrations is not UNSET)
        + (call.originalTimestamp is not UNSET)
        + (call.sentAt is not UNSET)
        + (call.receivedAt is not UNSET)
        + (call.channel is not UNSET)
        + (call.writeKey is not UNSET)
    )
    for held in (call.properties, call.context, call.integrations):
        if held:
            keys += count_keys(cast("Json", held))
    return keys


def plain_moment(text: str) -> int | None:
    """A time written as clients write it, like ``2026-01-02T03:04:05.678Z``; None when it takes a closer look."""
    if not 20 <= len(text) <= 32 or text[4] != "-" or text[7] != "-" or text[10] != "T" or text[16] != ":":
        return None
    if text[19] not in ".Z+-" or not text.isascii() or (text[19] == "." and not _short_fraction(text)):
        return None
    if text[-1] != "Z" and (text[-6] not in "+-" or text[-3] != ":"):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else us_of(moment)


def _short_fraction(text: str) -> bool:
    """Three digits or six, then a zone: everything else is written in more than one way."""
    return (text[23:24] in ("Z", "+", "-") and text[20:23].isdigit()) or (
        text[26:27] in ("Z", "+", "-") and text[20:26].isdigit()
    )
