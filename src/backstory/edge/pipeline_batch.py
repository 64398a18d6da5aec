"""Batches of Pipelines: many calls decoded at once, each judged by itself.

Plain track calls of known people take a short way, as plain events do in ``track2_batch``; everything else goes the
careful way of a single call. The two must agree on everything: a test compares them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.event import is_event_id
from backstory.core.fact import Fact, Track
from backstory.core.limit import BATCH_ITEM_BYTES
from backstory.core.time import us_of
from backstory.edge.pipeline_semantic import SEMANTIC, call_facts
from backstory.edge.track2_batch import Decoded
from backstory.edge.value import (
    SHORT_ID,
    count_keys,
    maybe_repeated,
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
_REQUIRED = 3


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
    inside = [bytes(one) for one in (*batch.batch, *beside)]
    if raw.count(b":") - sum(one.count(b":") for one in inside) != 1 + len(beside):
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
    for number, item in enumerate(batch.batch):
        fact = None if strange else plain_track(bytes(item))
        if fact is not None:
            facts.append(fact)
            sizes.append(1)
            continue
        made: Sequence[Fact] = ()
        try:
            made = careful_call(bytes(item), context)
        except RequestError as error:
            refused[number] = error
        facts += made
        sizes.append(len(made))
    return Decoded(facts=facts, sizes=sizes, refused=refused)


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
    user, name, event_id = call.userId, short_name(call.event), call.messageId
    if name is None or call.event in SEMANTIC or not 0 < len(user) <= SHORT_ID:
        return None
    if _may_repeat(item, call):
        return None
    moment = call.timestamp
    if moment.__class__ is str:
        time_us = plain_moment(cast("str", moment))
        if time_us is None:
            return None
    elif call.originalTimestamp is UNSET or call.originalTimestamp is None:
        time_us = None
    else:
        return None
    if event_id.__class__ is str:
        if not 0 < len(cast("str", event_id)) <= SHORT_ID:
            return None
        if is_event_id(cast("str", event_id)):
            event_id = cast("str", event_id).lower()
    else:
        event_id = None
    try:
        person = person_by_shape(user)
    except RequestError:
        return None
    return Track(person=person, name=name, data=data, time_us=time_us, event_id=cast("str | None", event_id))


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
