"""The campaign object and its actions, in the published shape.

Source: ``api-surface.md`` section 7.3 (Campaign, Action).
"""

from collections.abc import Iterator
from typing import cast

from backstory.core.condition import Json
from backstory.core.time import to_unix
from backstory.edge.app_definition import segments_named
from backstory.edge.app_shape import Shape
from backstory.engine.answer.view import CampaignView

_SENDING = frozenset({"email", "webhook"})


def campaign_shape(view: CampaignView) -> Shape:
    """The published object; what its kind does not have is left out, ``first_started`` until it was started."""
    definition = view.definition
    shape: Shape = {
        "id": view.campaign_id,
        "deduplicate_id": f"{view.campaign_id}:{to_unix(view.updated_us)}",
        "name": definition.get("name"),
        "created": to_unix(view.created_us),
        "updated": to_unix(view.updated_us),
        "active": view.state == "running",
        "state": view.state,
        "actions": [{"type": step["type"], "id": number} for number, step in _sending_steps(view)],
        "tags": [],
        "filter_segment_ids": sorted({number for number, _ in segments_named(definition.get("filter"))}),
        **_trigger_shape(view),
        "trigger": definition.get("trigger"),
        "filter": definition.get("filter"),
        "frequency": definition.get("frequency", {"mode": "once"}),
        "include_current": definition.get("include_current", False),
        "steps": definition.get("steps", []),
    }
    if view.first_started_us is not None:
        shape["first_started"] = to_unix(view.first_started_us)
    return shape


def actions_of(view: CampaignView) -> list[Shape]:
    """The steps that send something, as published actions; texts are templates."""
    return [_action(view, number, step) for number, step in _sending_steps(view)]


def _numbered(steps: Json) -> Iterator[tuple[int, dict[str, Json]]]:
    """Every step with its number, as ``core.step`` counts them: depth first from 1."""
    return enumerate(_walk(steps), start=1)


def _walk(steps: Json) -> Iterator[dict[str, Json]]:
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict):
            yield step
            yield from _walk(step.get("then"))
            yield from _walk(step.get("else"))


def _sending_steps(view: CampaignView) -> list[tuple[int, dict[str, Json]]]:
    steps = _numbered(view.definition.get("steps"))
    return [(number, step) for number, step in steps if step.get("type") in _SENDING]


def _trigger_shape(view: CampaignView) -> Shape:
    trigger = _object(view.definition.get("trigger"))
    if "event" in trigger:
        return {"type": "event", "event_name": _object(trigger["event"]).get("name")}
    templates = [{"type": step["type"], "id": number} for number, step in _sending_steps(view)]
    segment_id = _object(trigger.get("segment")).get("id")
    return {"type": "segment", "trigger_segment_ids": [segment_id], "msg_templates": templates}


def _action(view: CampaignView, number: int, step: dict[str, Json]) -> Shape:
    shape: Shape = {
        "id": number,
        "campaign_id": view.campaign_id,
        "parent_action_id": None,
        "deduplicate_id": f"{number}:{to_unix(view.updated_us)}",
        "name": step.get("name", ""),
        "layout": "",
        "created": to_unix(view.created_us),
        "updated": to_unix(view.updated_us),
        "body": step.get("body", ""),
        "type": step["type"],
        "sending_state": "automatic",
    }
    if step["type"] == "webhook":
        return shape | {"url": step.get("url"), "method": "post", "headers": "[]"}
    return shape | {
        "language": "",
        "from": step.get("from"),
        "reply_to": "",
        "recipient": step.get("to"),
        "subject": step.get("subject"),
        "bcc": "",
        "fake_bcc": False,
        "preheader_text": "",
        "headers": "[]",
    }


def _object(value: Json) -> dict[str, Json]:
    return cast("dict[str, Json]", value) if isinstance(value, dict) else {}
