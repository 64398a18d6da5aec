"""Members of manual segments over the App API, put in, taken out, all of them taken out: endpoints of ours.

    POST   /v1/segments/{id}/members          ?id_type=   people as {"ids": […]}, or as CSV with a heading
    POST   /v1/segments/{id}/members/remove   ?id_type=   the same
    DELETE /v1/segments/{id}/members                      clears the segment

In CSV the column is named by ``id_type`` (``id`` when nothing is said). The answer counts whom that moved (``added``,
``removed``) and who was so already (``unchanged``); people who do not exist are counted (``unknown``) and left out, as
over the Track API, which does the same by up to a thousand ids a call.
"""

import csv
import io
from collections.abc import Iterator

from starlette.responses import Response

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.fact import ChangeMembers, Identifier, IdentifierKind
from backstory.core.limit import MEMBERS_PER_CALL
from backstory.edge.app_answer import UnprocessableError, answer
from backstory.edge.app_request import Call, Handler, person_key

_PAGE = 10_000


def add(call: Call) -> Response:
    """Put people into a manual segment."""
    return _change(call, add=True)


def remove(call: Call) -> Response:
    """Take people out of a manual segment."""
    return _change(call, add=False)


def clear(call: Call) -> Response:
    """Take everybody out of a manual segment."""
    segment_id = _manual(call)
    people: list[Identifier] = []
    start = ""
    while True:
        page, start = call.reader.members(segment_id, start=start, limit=_PAGE)
        people += [Identifier("cio_id", one["cio_id"] or "") for one in page]
        if not start:
            break
    return answer({"segment_id": segment_id, "removed": _apply(call, segment_id, people, add=False)})


def _change(call: Call, *, add: bool) -> Response:
    segment_id, kind = _manual(call), call.id_type()
    named = [Identifier(*person_key(kind, name)) for name in dict.fromkeys(_names(call, kind))]
    found = [one for one in named if call.reader.person(one.kind, one.value) is not None]
    changed = _apply(call, segment_id, found, add=add)
    told = "added" if add else "removed"
    return answer({
        "segment_id": segment_id,
        told: changed,
        "unchanged": len(found) - changed,
        "unknown": len(named) - len(found),
    })  # fmt: skip


def _manual(call: Call) -> int:
    view = call.reader.segment(call.number("segment_id", "segment"))
    if view.type != "manual":
        raise UnprocessableError(f"segment {view.segment_id} is dynamic: change its conditions instead")
    return view.segment_id


def _apply(call: Call, segment_id: int, people: list[Identifier], *, add: bool) -> int:
    """Returns how many that moved: who was in, or not there, already, is not counted."""
    changed = 0
    for low in range(0, len(people), MEMBERS_PER_CALL.value):
        some = tuple(people[low : low + MEMBERS_PER_CALL.value])
        changed += call.apply(ChangeMembers(segment_id=segment_id, people=some, add=add)).changed
    return changed


def _names(call: Call, kind: IdentifierKind) -> Iterator[str]:
    if call.body.lstrip()[:1] == b"{":
        yield from _of_json(call.document().get("ids"))
    else:
        yield from _of_csv(call.body, kind)


def _of_json(ids: Json) -> Iterator[str]:
    if not isinstance(ids, list):
        raise RequestError('the body must be {"ids": […]}, or CSV with a heading', path="$.ids")
    for place, one in enumerate(ids):
        if isinstance(one, bool) or not isinstance(one, str | int) or one == "":
            raise RequestError(f"a text or a whole number is expected, not {one!r}", path=f"$.ids[{place}]")
        yield str(one)


def _of_csv(body: bytes, kind: IdentifierKind) -> Iterator[str]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the CSV is not UTF-8: {error}") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = rows.fieldnames or []
        if kind not in columns:
            raise RequestError(f"the CSV has no column {kind!r}; it has {', '.join(columns) or 'none'}")
        for row in rows:
            if row[kind]:
                yield row[kind]
    except csv.Error as error:
        raise RequestError(f"line {rows.line_num} of the CSV cannot be read: {error}") from None


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/segments/{segment_id}/members", add),
    ("POST", "/v1/segments/{segment_id}/members/remove", remove),
    ("DELETE", "/v1/segments/{segment_id}/members", clear),
]
