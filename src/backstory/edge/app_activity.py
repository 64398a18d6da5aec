"""The activity log over the App API, newest first.

Entries older than 30 days by effective time are hidden unless ``all=true``; nothing is deleted. Events that repeat
another are shown with ``type=duplicate_event`` only: the original shows none of them.
Source: ``api-surface.md`` section 7.1, design section 7.
"""

from starlette.responses import Response

from backstory.core.error import NotFoundError
from backstory.core.fact import IdentifierKind
from backstory.edge.app_answer import answer
from backstory.edge.app_request import Call, Handler, person_key
from backstory.edge.app_shape import activity


def of_everybody(call: Call) -> Response:
    """``GET /v1/activities``; ``customer_id`` narrows it to a person, nobody known by it means an empty list.

    ``type=duplicate_event`` shows the events that repeat another, and so count nowhere.
    """
    customer_id = call.text("customer_id")
    if customer_id is None:
        return _page(call, None, None, deleted=call.flag("deleted"))
    try:
        return _page(call, *person_key(call.id_type(), customer_id), deleted=call.flag("deleted"))
    except NotFoundError:
        return answer({"activities": [], "next": ""})


def of_person(call: Call) -> Response:
    """``GET /v1/customers/{id}/activities``: the log of one person."""
    return _page(call, *call.customer(), deleted=False)


def _page(call: Call, kind: IdentifierKind | None, value: str | None, *, deleted: bool) -> Response:
    views, next_start = call.reader.activities(
        kind,
        value,
        types=call.text("type"),
        name=call.text("name"),
        deleted=deleted,
        before=call.text("start"),
        limit=call.limit(default=10, greatest=100),
        everything=call.flag("all"),
    )
    return answer({"activities": [activity(view) for view in views], "next": next_start})


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/activities", of_everybody),
    ("GET", "/v1/customers/{customer_id}/activities", of_person),
]
