"""Campaigns over the App API: define, start, stop, follow the journeys.

The campaign object is the published one plus ``trigger``, ``filter``, ``frequency``, ``include_current`` and
``steps``. Sources: ``api-surface.md`` sections 7.2 and 7.3, design section 11.
"""

from typing import Literal

import msgspec
from starlette.responses import Response

from backstory.core import campaign
from backstory.core.condition import Json
from backstory.core.error import ConflictError, RequestError
from backstory.core.fact import PutCampaign, Receipt, SetCampaignState
from backstory.edge import app_shape
from backstory.edge.app_answer import UnprocessableError, answer
from backstory.edge.app_campaign_shape import actions_of, campaign_shape
from backstory.edge.app_definition import check_segments, judged, known_keys, name_of
from backstory.edge.app_request import Call, Handler, not_found
from backstory.engine.answer.view import CampaignView

_PATH = "$.campaign"
_DEFINED = frozenset({"name", "trigger", "filter", "frequency", "include_current", "steps"})
_OURS = _DEFINED | {"state"}
_SERVER = frozenset(
    {
        "id",
        "deduplicate_id",
        "type",
        "created",
        "updated",
        "active",
        "actions",
        "first_started",
        "tags",
        "event_name",
        "trigger_segment_ids",
        "filter_segment_ids",
        "msg_templates",
    }
)


def all_campaigns(call: Call) -> Response:
    """``GET /v1/campaigns``."""
    return answer({"campaigns": [campaign_shape(view) for view in call.reader.campaigns()]})


def one(call: Call) -> Response:
    """``GET /v1/campaigns/{id}``."""
    return answer({"campaign": campaign_shape(_campaign(call))})


def create(call: Call) -> Response:
    """``POST /v1/campaigns``: a draft, or running at once with ``"state": "running"``."""
    wanted = known_keys(call.part("campaign"), ours=_OURS, server=_SERVER, path=_PATH)
    state = _state(wanted.get("state", "draft"), {"draft", "running"})
    fact = PutCampaign(definition=_definition(call, wanted, state))
    receipt = call.apply(fact, refused=UnprocessableError, path=_PATH)
    assert receipt.subject is not None, "the receipt of a new campaign carries its number"
    return call.written({"campaign": campaign_shape(call.reader.campaign(receipt.subject))}, receipt)


def change(call: Call) -> Response:
    """``PUT /v1/campaigns/{id}``: what is left out stays as it is; ``state`` starts or stops it too.

    The steps of a running campaign cannot be changed, unless the same call stops it.
    """
    view = _campaign(call)
    wanted = known_keys(call.part("campaign"), ours=_OURS, server=_SERVER, path=_PATH)
    state = _state(wanted.get("state", view.state), {view.state, "running", "stopped"})
    # A definition that asks for running starts the campaign; here the state has a fact of its own.
    definition = _definition(call, {**view.definition, **wanted}, "draft")
    stops = view.state == "running" and state == "stopped"
    if stops:
        _move(call, view, state)
    fact = PutCampaign(campaign_id=view.campaign_id, definition=definition)
    receipt = call.apply(fact, refused=UnprocessableError, path=_PATH)
    if state != view.state and not stops:
        receipt = _move(call, view, state)
    return call.written({"campaign": campaign_shape(call.reader.campaign(view.campaign_id))}, receipt)


def start(call: Call) -> Response:
    """``POST /v1/campaigns/{id}/start``: what is accepted from now on triggers it."""
    return _set_state(call, _campaign(call), "running")


def stop(call: Call) -> Response:
    """``POST /v1/campaigns/{id}/stop``: nobody enters, nothing unsent is sent."""
    return _set_state(call, _campaign(call), "stopped")


def journeys(call: Call) -> Response:
    """``GET /v1/campaigns/{id}/journeys``: who went which way, each decision with why."""
    view = _campaign(call)
    limit = call.limit(default=50, greatest=1000)
    found, next_start = call.reader.journeys(view.campaign_id, start=call.query.get("start", ""), limit=limit)
    return answer({"journeys": [app_shape.journey(item) for item in found], "next": next_start})


def actions(call: Call) -> Response:
    """``GET /v1/campaigns/{id}/actions``: its sending steps, all on one page."""
    return answer({"actions": actions_of(_campaign(call)), "next": ""})


def action(call: Call) -> Response:
    """``GET /v1/campaigns/{id}/actions/{action_id}``."""
    action_id = call.number("action_id", "action")
    for shape in actions_of(_campaign(call)):
        if shape["id"] == action_id:
            return answer({"action": shape})
    raise not_found("action", str(action_id))


def _campaign(call: Call) -> CampaignView:
    return call.reader.campaign(call.number("campaign_id", "campaign"))


def _definition(call: Call, wanted: dict[str, Json], state: str) -> bytes:
    """The canonical definition, checked."""
    value: Json = {**{key: item for key, item in wanted.items() if key in _DEFINED}, "state": state}
    name_of(wanted.get("name"), path=f"{_PATH}.name")
    parsed = judged(lambda given, place: campaign.parse(given, path=place), value, _PATH)
    check_segments(call.reader, value, _PATH)
    return msgspec.json.encode(campaign.to_json(parsed))


def _state(value: Json, allowed: set[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise RequestError(f"state must be {' or '.join(sorted(allowed))}, not {value!r}", path=f"{_PATH}.state")
    return value


def _set_state(call: Call, view: CampaignView, state: str) -> Response:
    receipt = _move(call, view, state)
    return call.written({"campaign": campaign_shape(call.reader.campaign(view.campaign_id))}, receipt)


def _move(call: Call, view: CampaignView, state: str) -> Receipt:
    wanted: Literal["running", "stopped"] = "running" if state == "running" else "stopped"
    return call.apply(SetCampaignState(campaign_id=view.campaign_id, state=wanted), refused=ConflictError)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/campaigns", all_campaigns),
    ("POST", "/v1/campaigns", create),
    ("GET", "/v1/campaigns/{campaign_id}", one),
    ("PUT", "/v1/campaigns/{campaign_id}", change),
    ("POST", "/v1/campaigns/{campaign_id}/start", start),
    ("POST", "/v1/campaigns/{campaign_id}/stop", stop),
    ("GET", "/v1/campaigns/{campaign_id}/journeys", journeys),
    ("GET", "/v1/campaigns/{campaign_id}/actions", actions),
    ("GET", "/v1/campaigns/{campaign_id}/actions/{action_id}", action),
]
