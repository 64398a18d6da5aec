"""The published shapes: what the App API shows of a person, an activity, a segment, a message, an import.

Pure functions from views to JSON values. Times are whole unix seconds; every attribute value is a string,
whatever was sent. Keys of ours (``conditions``, ``processed_at``, ``state`` …) come beside the published ones.
Source: ``api-surface.md`` section 7.3.
"""

from collections.abc import Mapping
from typing import cast

import msgspec

from backstory.core.condition import Json
from backstory.core.time import to_unix
from backstory.engine.answer.view import (
    ActivityView,
    Identifiers,
    ImportView,
    JourneyView,
    MessageView,
    ObjectView,
    PersonView,
    RelationView,
    SegmentView,
)

Shape = dict[str, object]


def ident(identifiers: Mapping[str, str | None]) -> Shape:
    """``{email, id, cio_id}``; null where the person has none."""
    return {name: identifiers.get(name) for name in ("email", "id", "cio_id")}


def person_ident(view: PersonView) -> Shape:
    return {"email": view.email, "id": view.id, "cio_id": view.cio_id}


def page_of_people(people: list[Identifiers], next_start: str) -> Shape:
    """A page of people; ``ids`` has an empty string for a person without id."""
    return {
        "identifiers": [ident(person) for person in people],
        "ids": [person.get("id") or "" for person in people],
        "next": next_start,
    }


def attribute_text(value: Json) -> str:
    """An attribute's value as text: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def is_unsubscribed(value: Json) -> bool:
    """``true`` in any case and 1 mean yes (``api-surface.md`` section 3)."""
    return str(value).lower() == "true" or value in (1, "1")


def customer(view: PersonView) -> Shape:
    attributes: Shape = {name: attribute_text(value) for name, value in view.attributes.items()}
    times = {name: to_unix(time_us) for name, time_us in view.times_us.items()}
    for name, value in (("id", view.id), ("email", view.email), ("cio_id", view.cio_id)):
        attributes[name] = value
        if value is not None:
            times.setdefault(name, to_unix(view.created_us))
    return {
        "id": view.id or "",
        "identifiers": person_ident(view),
        "attributes": attributes,
        "timestamps": times,
        "unsubscribed": is_unsubscribed(view.attributes.get("unsubscribed")),
        "devices": [device(shown) for shown in view.devices],
    }


def device(shown: dict[str, Json]) -> Shape:
    """``{id, platform, last_used, attributes}``; attributes are text."""
    attributes = cast("dict[str, Json]", shown["attributes"])
    return {**shown, "attributes": {name: attribute_text(value) for name, value in attributes.items()}}


def object_identifiers(view: ObjectView) -> Shape:
    return {"object_id": view.object_id, "cio_object_id": view.cio_object_id}


def object_(view: ObjectView) -> Shape:
    """An object's attributes with their times; values as they were sent, as the original shows them.

    ``import_id`` and ``import_ids`` (by attribute) say what came with imports alone, where anything did.
    """
    shape: Shape = {
        "object_type_id": str(view.type_id),
        "identifiers": object_identifiers(view),
        "attributes": view.attributes,
        "timestamps": {name: to_unix(time_us) for name, time_us in view.times_us.items()},
    }
    if view.import_id:
        shape["import_id"] = view.import_id
    if view.imports:
        shape["import_ids"] = view.imports
    return shape


def relationship(view: RelationView) -> Shape:
    """A relationship as its person has it: the type is a number here, in the published shape."""
    return {**object_(view), "object_type_id": view.type_id}


def object_type(type_id: int) -> Shape:
    """Types are made by their use and have no names of their own."""
    name = f"Type {type_id}"
    return {
        "id": str(type_id),
        "name": name,
        "singular_name": name,
        "slug": f"type_{type_id}",
        "singular_slug": f"type_{type_id}",
        "enabled": True,
        "icon": "",
    }


def activity(view: ActivityView) -> Shape:
    shape: Shape = {
        "id": view.id,
        "type": view.type,
        "timestamp": to_unix(view.time_us),
        "processed_at": _unix(view.processed_us),
        "customer_id": view.identifiers.get("id"),
        "customer_identifiers": ident(view.identifiers),
        "data": view.data,
    }
    if view.name is not None:
        shape["url" if view.type == "page" else "name"] = view.name
    if view.delivery_id is not None:
        shape["delivery_id"] = view.delivery_id
        if view.type.endswith("_email"):
            shape["delivery_type"] = "email"
    if view.import_id:
        shape["import_id"] = view.import_id
    return shape


def segment(view: SegmentView) -> Shape:
    return {
        "id": view.segment_id,
        "deduplicate_id": f"{view.segment_id}:{to_unix(view.updated_us)}",
        "name": view.name,
        "description": view.description,
        "state": view.state,
        "progress": view.progress,
        "type": view.type,
        "conditions": view.conditions,
        "tags": None,
        "created_at": to_unix(view.created_us),
        "updated_at": to_unix(view.updated_us),
    }


def segment_of_person(view: SegmentView) -> Shape:
    return {"id": view.segment_id, "name": view.name, "description": view.description}


def journey(view: JourneyView) -> Shape:
    return {
        "id": view.journey_id,
        "customer_identifiers": ident(view.identifiers),
        "state": view.state,
        "started_at": to_unix(view.started_us),
        "effective_at": to_unix(view.effective_us),
        "steps": [
            {"type": step.type, "decision": step.decision, "reason": step.reason, "at": to_unix(step.at_us)}
            for step in view.steps
        ],
        "failure": view.failure,
    }


def message(view: MessageView) -> Shape:
    """A delivery; links to what we do not have are null, ``state`` and ``journey_id`` are ours."""
    changed_us = max(view.metrics_us.values(), default=view.created_us)
    return {
        "id": view.delivery_id,
        "deduplicate_id": f"{view.delivery_id}:{to_unix(changed_us)}",
        # The published schema has the one name, its example the other.
        "message_template_id": view.action_id,
        "msg_template_id": view.action_id,
        "action_id": view.action_id,
        "parent_action_id": None,
        "customer_id": view.identifiers.get("id"),
        "customer_identifiers": ident(view.identifiers),
        "recipient": view.recipient,
        "subject": view.subject,
        "metrics": {name: to_unix(time_us) for name, time_us in view.metrics_us.items()},
        "created": to_unix(view.created_us),
        "failure_message": view.failure,
        "newsletter_id": None,
        "content_id": None,
        "campaign_id": view.campaign_id,
        "broadcast_id": None,
        "trigger_event_id": view.trigger_event_id,
        "type": view.type,
        "forgotten": False,
        "state": view.state,
        "journey_id": view.journey_id,
    }


def archived_message(view: MessageView) -> Shape:
    """What was sent: the rendered text of an email, or the body and address of a webhook."""
    webhook = view.type == "webhook"
    return {
        "id": view.delivery_id,
        "body": view.body,
        "from": view.sender,
        "reply_to": "",
        "recipient": view.recipient,
        "subject": view.subject,
        "bcc": "",
        "fake_bcc": False,
        "preheader_text": "",
        "url": view.recipient if webhook else "",
        "request_method": "POST" if webhook else "",
        "headers": "[]",
        "forgotten": False,
    }


def import_(view: ImportView) -> Shape:
    """An import; from ``percent`` on it is ours. The original calls imports of events ``event``."""
    return {
        "id": view.import_id,
        "created_at": to_unix(view.created_us),
        "updated_at": to_unix(view.updated_us),
        "name": view.name,
        "description": view.description,
        "rows_to_import": view.rows_to_import,
        "rows_imported": view.rows_imported,
        "state": view.state,
        "type": view.type if view.type in ("people", "members") else view.type.removesuffix("s"),
        "identifier": view.identifier,
        "data_to_process": view.data_to_process,
        "people_to_process": view.data_to_process,
        "error": view.error,
        **({} if view.object_type_id is None else {"object_type_id": str(view.object_type_id)}),
        **({} if view.segment_id is None else {"segment_id": view.segment_id}),
        "percent": view.percent,
        "running": view.running,
        "purged": view.purged,
        "options": _options(view),
        "summary": cast("Shape", view.summary),
        **_downloads(view),
    }


def _options(view: ImportView) -> Shape:
    """What it was asked to do; ``as_of`` in unix seconds."""
    shown = cast("Shape", dict(view.options))
    as_of_us = cast("int | None", shown.pop("as_of_us"))
    return {**shown, "as_of": None if as_of_us is None else to_unix(as_of_us)}


def _downloads(view: ImportView) -> Shape:
    """Where the rows with errors and warnings are; only where there are some, as published."""
    shape: Shape = {}
    for number, name in enumerate(("error", "warning")):
        if view.summary.get(f"{name}_file"):
            shape[f"{name}_export_id"] = export_id(view.import_id, number)
            shape[f"{name}_download_url"] = report_url(view.import_id, name)
    return shape


def export_id(import_id: int, report: int) -> int:
    """The number among exports of a report on an import: 0 that of errors, 1 that of warnings."""
    return 2 * import_id + report


def report_url(import_id: int, name: str) -> str:
    """Where the report itself is."""
    return f"/v1/imports/{import_id}/{name}s"


def _unix(time_us: int | None) -> int | None:
    return None if time_us is None else to_unix(time_us)
