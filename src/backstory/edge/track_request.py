"""Requests of Track API v1 turned into facts: which reader of bodies belongs to which action.

One request becomes one fact or several, which are accepted together. Only members of segments look at something
stored before accepting. Source: ``api-surface.md`` section 4.
"""

import asyncio
from collections.abc import Mapping
from typing import Literal, Protocol, assert_never
from urllib.parse import parse_qs

from starlette.types import Scope

from backstory.core.error import ConflictError, NotFoundError, RequestError
from backstory.core.fact import (
    ChangeMembers,
    DeleteDevice,
    Fact,
    ReportMetric,
    SuppressPerson,
    UnsuppressPerson,
)
from backstory.edge.bridge import Intake
from backstory.edge.receiving import BodyTooLongError, BodyTooSlowError
from backstory.edge.track2 import merge_fact, operation_facts
from backstory.edge.track_answer import Answer, RouteError, answer, refusal
from backstory.edge.track_body import anonymous_fact, delete_fact, event_fact, identify_facts, members_fact
from backstory.edge.track_device import path_token, put_device_fact
from backstory.edge.track_form import form_facts
from backstory.edge.track_metric import metric_fact, push_fact, unsubscribe_fact
from backstory.edge.track_route import Action, split_device
from backstory.edge.value import path_identifier, read_body, read_object
from backstory.engine.answer.view import MessageView, SegmentView

_PACKED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})


class TrackReader(Protocol):
    """The two reads these APIs make."""

    def segment(self, segment_id: int) -> SegmentView: ...

    def message(self, delivery_id: str) -> MessageView: ...


class TrackWorkspace(Intake, Protocol):
    """A workspace as the Track APIs use it."""

    @property
    def reader(self) -> TrackReader: ...


def request_facts(action: Action, subject: bytes, content_type: bytes, raw: bytes) -> list[Fact]:
    """The facts of a request that names a person, a form or nobody in its path, at least one."""
    match action:
        case "event":
            return [event_fact(path_identifier(subject), read_body(content_type, raw))]
        case "identify":
            return identify_facts(path_identifier(subject), read_body(content_type, raw))
        case "anonymous":
            return [anonymous_fact(read_body(content_type, raw))]
        case "delete":
            return [delete_fact(path_identifier(subject))]
        case "put_device":
            return [put_device_fact(path_identifier(subject), read_body(content_type, raw).get("device"))]
        case "delete_device":
            person, token = split_device(subject)
            return [DeleteDevice(person=path_identifier(person), token=path_token(token))]
        case "suppress":
            return [SuppressPerson(person=path_identifier(subject))]
        case "unsuppress":
            return [UnsuppressPerson(person=path_identifier(subject))]
        case "merge":
            return [merge_fact(read_body(content_type, raw))]
        case "form":
            return [*form_facts(subject, read_body(content_type, raw))]
        case "entity":
            return operation_facts(read_object(raw))
        case "region" | "add" | "remove" | "batch" | "metric" | "push" | "unsubscribe":
            raise AssertionError(action)
        case _:
            assert_never(action)


def public_fact(action: Action, subject: bytes, content_type: bytes, raw: bytes) -> ReportMetric | None:
    """What is told of a delivery; None when the request asks for nothing."""
    body = read_body(content_type, raw)
    match action:
        case "metric":
            return metric_fact(body)
        case "push":
            return push_fact(body)
        case _:
            return unsubscribe_fact(subject, body)


def check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Bodies come as they are: of the write APIs only Pipelines takes packed ones (api-surface section 1)."""
    named = headers.get(b"content-encoding", b"").decode("latin-1")
    # Whatever else clients write there ("utf-8") packs nothing.
    if packed := _PACKED.intersection(name.strip().lower() for name in named.split(",")):
        shown = min(packed)
        raise RequestError(f"Content-Encoding {shown!r} is not taken here: send the body as it is, without the header")


async def members(
    workspace: TrackWorkspace,
    action: Literal["add", "remove"],
    number: bytes,
    scope: Scope,
    headers: Mapping[bytes, bytes],
    raw: bytes,
) -> ChangeMembers:
    """People into or out of a manual segment. Only here is something stored looked at before accepting."""
    if not number.isdigit() or len(number) > 18:
        raise RouteError(f"there is no segment {number[:40].decode('latin-1')!r}")
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    fact = members_fact(
        int(number),
        query.get("id_type", ["id"])[-1],
        read_body(headers.get(b"content-type", b""), raw),
        add=action == "add",
    )
    segment = await asyncio.to_thread(workspace.reader.segment, fact.segment_id)
    if segment.type != "manual":
        raise RequestError(
            f"segment {fact.segment_id} is dynamic: its conditions alone say who is in it; only manual segments can"
            " be changed"
        )
    return fact


def merge_refusal(error: Exception) -> Answer:
    """A refused merge has one error, not a list (api-surface section 2)."""
    match error:
        case RouteError() | BodyTooLongError() | BodyTooSlowError() | NotFoundError() | ConflictError():
            return refusal(error)
        case RequestError():
            where = f" (at {error.path})" if error.path else ""
            return answer(400, {"meta": {"error": f"{error.message}{where}"}})
        case _:
            return refusal(error)
