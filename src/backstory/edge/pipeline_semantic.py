"""Semantic events of Pipelines: track calls whose name asks for something else than an event.

Names are exact. What such a call needs and does not have is refused: it must not turn into a plain event unseen.
Source: ``api-surface.md`` section 6.
"""

from collections.abc import Callable

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.fact import (
    DeleteDevice,
    DeleteObject,
    DeletePerson,
    Fact,
    SuppressPerson,
    Unrelate,
    UnsuppressPerson,
)
from backstory.edge.pipeline_call import (
    Call,
    alias_facts,
    event_fact,
    group_facts,
    group_key,
    identify_facts,
    known_person,
    page_facts,
    read_moment,
    screen_facts,
    somebody,
    track_facts,
)
from backstory.edge.track_device import put_device_fact, read_token
from backstory.edge.track_metric import pipelines_metric_fact
from backstory.edge.value import Body, shown

CONTENT_ACTIONS = ("viewed_content", "clicked_content")


def call_facts(body: Body, kind: Json) -> list[Fact]:
    """The facts of one call of a kind, at least one."""
    call = CALLS.get(kind) if isinstance(kind, str) else None
    if call is None:
        raise RequestError(f"type must be one of {', '.join(CALLS)}, not {shown(kind)}", path="$.type")
    return call(body)


def _track(body: Body) -> list[Fact]:
    name = body.get("event")
    semantic = SEMANTIC.get(name) if isinstance(name, str) else None
    return track_facts(body) if semantic is None else semantic(body)


def _put_device(body: Body) -> list[Fact]:
    device, path = _device(body)
    given = {name: value for name, value in device.items() if name != "type"}
    context = body.get("context")
    app, system = (context.get("app"), context.get("os")) if isinstance(context, dict) else (None, None)
    attributes: Body = {}
    for holder, name, attribute in ((app, "version", "app_version"), (system, "version", "device_os")):
        if isinstance(holder, dict) and isinstance(holder.get(name), str):
            attributes[attribute] = holder[name]
    # As v2 has it: the token beside the platform, everything else an attribute.
    v2: Body = {**attributes, **_flat(given), "platform": device.get("type", device.get("platform"))}
    try:
        return [put_device_fact(known_person(body), v2, token_key="token", time_us=read_moment(body)[0])]
    except RequestError as error:
        raise type(error)(error.message, path=error.path.replace("$.device", path, 1)) from None


def _flat(device: Body) -> Body:
    named = {"id": "device_id", "model": "device_model", "manufacturer": "device_manufacturer", "name": "device_name"}
    return {
        named.get(name, name): value
        for name, value in device.items()
        if value is not None and (name in ("attributes", "token", "last_used") or not isinstance(value, dict | list))
    }


def _app_started(body: Body) -> list[Fact]:
    """An application was installed or opened: an event, and the device when it has a token."""
    facts = track_facts(body)
    try:
        return [*facts, *_put_device(body)]
    except RequestError:
        return facts


def _app_gone(body: Body) -> list[Fact]:
    facts = track_facts(body)
    try:
        return [*facts, *_delete_device(body)]
    except RequestError:
        return facts


def _delete_device(body: Body) -> list[Fact]:
    device, path = _device(body)
    person = known_person(body)
    try:
        return [DeleteDevice(person=person, token=read_token(device.get("token"), "token"))]
    except RequestError as error:
        raise type(error)(error.message, path=error.path.replace("$.device", path, 1)) from None


def _device(body: Body) -> tuple[Body, str]:
    """``context.device``, or ``properties.device`` where that is missing; with its path."""
    for holder in ("context", "properties"):
        outer = body.get(holder)
        device = outer.get("device") if isinstance(outer, dict) else None
        if isinstance(device, dict) and (holder == "properties" or device.get("token") is not None):
            return device, f"$.{holder}.device"
    raise RequestError("context.device must hold the token of the device", path="$.context.device")


def _properties(body: Body) -> Body:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise RequestError("properties must be an object", path="$.properties")
    return properties


def _unrelate(body: Body) -> list[Fact]:
    properties = _properties(body)
    key = group_key(properties.get("objectId"), properties.get("objectTypeId"), "$.properties.objectId")
    person, anonymous_id = somebody(body)
    return [Unrelate(object=key, person=person, anonymous_id=anonymous_id, time_us=read_moment(body)[0])]


def _delete_object(body: Body) -> list[Fact]:
    properties = _properties(body)
    somebody(body)
    key = group_key(properties.get("objectId"), properties.get("objectTypeId"), "$.properties.objectId")
    return [DeleteObject(object=key)]


def _metric(body: Body) -> list[Fact]:
    return [pipelines_metric_fact(_properties(body), read_moment(body)[0])]


def _content(body: Body) -> list[Fact]:
    """What became of in-app content is kept as an event of that name."""
    properties = _properties(body)
    action = properties.get("actionType")
    if not isinstance(action, str) or action not in CONTENT_ACTIONS:
        raise RequestError(
            f"properties.actionType must be one of {', '.join(CONTENT_ACTIONS)}, not {shown(action)}",
            path="$.properties.actionType",
        )
    return [event_fact(body, action, "event", properties)]


SEMANTIC: dict[str, Callable[[Body], list[Fact]]] = {
    "Device Created or Updated": _put_device,
    "Device Deleted": _delete_device,
    "Application Installed": _app_started,
    "Application Opened": _app_started,
    "Application Uninstalled": _app_gone,
    "User Deleted": lambda body: [DeletePerson(person=known_person(body))],
    "User Suppressed": lambda body: [SuppressPerson(person=known_person(body))],
    "User Unsuppressed": lambda body: [UnsuppressPerson(person=known_person(body))],
    "Relationship Deleted": _unrelate,
    "Object Deleted": _delete_object,
    "Report Delivery Event": _metric,
    "Report Content Event": _content,
}

CALLS: dict[str, Call] = {
    "identify": identify_facts,
    "track": _track,
    "page": page_facts,
    "screen": screen_facts,
    "group": group_facts,
    "alias": alias_facts,
}
