"""The activity log over the App API, newest first.

Entries older than 30 days by effective time are hidden unless ``all=true``; nothing is deleted. Events that repeat
another are shown with ``type=duplicate_event`` only: the original shows none of them. A type that is neither published
nor ours is refused: an empty page would look like the truth.
Source: ``api-surface.md`` section 7.1, design section 7.
"""

import difflib
import re

from starlette.responses import Response

from backstory.core.error import NotFoundError, RequestError
from backstory.core.fact import IdentifierKind
from backstory.core.metric import CHANNELS, METRICS
from backstory.core.trace import PLAIN_TYPES
from backstory.edge.app_answer import answer
from backstory.edge.app_request import Call, Handler, person_key
from backstory.edge.app_shape import activity

# Published, and nothing of ours has them yet: of these there are no entries.
_METRICS = (*METRICS, "drafted", "viewed", "topic_unsubscribed")
_CHANNELS = (*CHANNELS, "action", "content", "twilio")
_TYPES = (*PLAIN_TYPES, "failed_batch_update", "failed_object_journeys", "failed_query_collection", "webhook_event")
_OF_MESSAGES = [f"{metric}_{channel}" for metric in _METRICS for channel in _CHANNELS]
_OF_OBJECTS = re.compile(
    "_o:[0-9]+:(create|delete|attribute_change|failed_attribute_change|add_relationship|delete_relationship)"
    "|_r:[0-9]+:(attribute_change|failed_attribute_change)"
)


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
        types=_type(call.text("type")),
        name=call.text("name"),
        deleted=deleted,
        before=call.text("start"),
        limit=call.limit(default=10, greatest=100),
        everything=call.flag("all"),
    )
    return answer({"activities": [activity(view) for view in views], "next": next_start})


def _type(text: str | None) -> str | None:
    """The type asked for; raises ``RequestError`` with those there are."""
    if text is None or text in _TYPES or text in _OF_MESSAGES or _OF_OBJECTS.fullmatch(text):
        return text
    near = difflib.get_close_matches(text, [*_TYPES, *_OF_MESSAGES], n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    raise RequestError(
        f"there is no type {text!r}{meant} Types are {', '.join(PLAIN_TYPES)}; of messages a metric and a channel, like"
        f" sent_email ({', '.join(METRICS)}; {', '.join(CHANNELS)}); of objects and relationships one with the number"
        " of their type, like _o:1:create, _o:1:add_relationship, _r:1:attribute_change",
        path="type",
    )


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/activities", of_everybody),
    ("GET", "/v1/customers/{customer_id}/activities", of_person),
]
