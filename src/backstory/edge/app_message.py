"""Messages over the App API, newest first, and the retry of one that failed or is in doubt.

Sources: ``api-surface.md`` section 7.1, design section 1 (promises 3 and 6).
"""

from starlette.responses import Response

from backstory.core.error import ConflictError, RequestError
from backstory.core.fact import IdentifierKind, RetryDelivery
from backstory.core.message import STATES
from backstory.core.time import DAY_US
from backstory.edge import app_shape
from backstory.edge.app_answer import answer
from backstory.edge.app_request import Call, Handler, not_found

# Six months at most, as published; the longest half year has 184 days.
_RANGE_DAYS_MAX = 184
_RETRYABLE = ("failed", "in_doubt")


def all_messages(call: Call) -> Response:
    """``GET /v1/messages``; ``state`` is ours. We have neither drafts nor newsletters: asking for them finds none."""
    if call.flag("drafts") or call.whole("newsletter_id") is not None:
        return answer({"messages": [], "next": ""})
    return _page(call, person=None, campaign_id=call.whole("campaign_id"))


def of_person(call: Call) -> Response:
    """``GET /v1/customers/{id}/messages``."""
    kind, value = call.customer()
    if call.reader.person(kind, value) is None:
        raise not_found("customer", value)
    return _page(call, person=(kind, value), campaign_id=None)


def of_campaign(call: Call) -> Response:
    """``GET /v1/campaigns/{id}/messages``."""
    campaign_id = call.reader.campaign(call.number("campaign_id", "campaign")).campaign_id
    if call.flag("drafts"):
        return answer({"messages": [], "next": ""})
    return _page(call, person=None, campaign_id=campaign_id)


def one(call: Call) -> Response:
    """``GET /v1/messages/{delivery_id}``."""
    return answer({"message": app_shape.message(call.reader.message(call.path["message_id"]))})


def archived(call: Call) -> Response:
    """``GET /v1/messages/{delivery_id}/archived_message``: what was sent, rendered."""
    return answer({"archived_message": app_shape.archived_message(call.reader.message(call.path["message_id"]))})


def retry(call: Call) -> Response:
    """``POST /v1/messages/{delivery_id}/retry``: attempt it again; only a failed one or one in doubt."""
    view = call.reader.message(call.path["message_id"])
    if view.state not in _RETRYABLE:
        raise ConflictError(f"message {view.delivery_id} is {view.state}: only a failed or in_doubt one can be retried")
    receipt = call.apply(RetryDelivery(delivery_id=view.delivery_id))
    return call.written({"message": app_shape.message(call.reader.message(view.delivery_id))}, receipt)


def _page(call: Call, *, person: tuple[IdentifierKind, str] | None, campaign_id: int | None) -> Response:
    start_us, end_us = _range(call)
    views, next_start = call.reader.messages(
        person=person,
        campaign_id=campaign_id,
        action_id=call.whole("action_id"),
        type=call.text("type"),
        metric=call.text("metric"),
        state=_state(call),
        start=call.query.get("start", ""),
        limit=call.limit(default=50, greatest=1000),
        start_us=start_us,
        end_us=end_us,
    )
    return answer({"messages": [app_shape.message(view) for view in views], "next": next_start})


def _state(call: Call) -> str | None:
    state = call.text("state")
    if state is not None and state not in STATES:
        raise RequestError(f"state must be one of {', '.join(STATES)}, not {state!r}")
    return state


def _range(call: Call) -> tuple[int | None, int | None]:
    start_us, end_us = call.moment_us("start_ts"), call.moment_us("end_ts")
    if start_us is not None and end_us is not None:
        if end_us < start_us:
            raise RequestError("end_ts must not lie before start_ts")
        if end_us - start_us > _RANGE_DAYS_MAX * DAY_US:
            raise RequestError("start_ts and end_ts can be six months apart at most")
    return start_us, end_us


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/messages", all_messages),
    ("GET", "/v1/messages/{message_id}", one),
    ("GET", "/v1/messages/{message_id}/archived_message", archived),
    ("POST", "/v1/messages/{message_id}/retry", retry),
    ("GET", "/v1/customers/{customer_id}/messages", of_person),
    ("GET", "/v1/campaigns/{campaign_id}/messages", of_campaign),
]
