"""What becomes of deliveries, told from outside: metrics, push events, the public unsubscribe.

Source: ``api-surface.md`` sections 4 and 5, semantics section 7.
"""

from urllib.parse import unquote_to_bytes

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.fact import ReportMetric
from backstory.core.limit import DELIVERY_ID_BYTES, METRIC_TEXT_BYTES
from backstory.edge.value import Body, read_time, shown

METRICS = ("bounced", "clicked", "converted", "deferred", "delivered", "dropped", "opened", "spammed")
PUSH_METRICS = ("opened", "converted", "delivered")
ONE_CLICK = "List-Unsubscribe"


def metric_fact(body: Body) -> ReportMetric:
    """``POST /metrics``."""
    return ReportMetric(
        delivery_id=_delivery_id(body.get("delivery_id"), "$.delivery_id"),
        metric=_metric(body.get("metric"), METRICS, "metric"),
        time_us=read_time(body.get("timestamp"), "timestamp")[0],
        recipient=_text(body.get("recipient"), "recipient"),
        reason=_text(body.get("reason"), "reason"),
        href=_text(body.get("href"), "href"),
    )


def push_fact(body: Body) -> ReportMetric:
    """``POST /push/events``: what a device tells of a push."""
    return ReportMetric(
        delivery_id=_delivery_id(body.get("delivery_id"), "$.delivery_id"),
        metric=_metric(body.get("event"), PUSH_METRICS, "event"),
        time_us=read_time(body.get("timestamp"), "timestamp")[0],
        device_token=_text(body.get("device_id"), "device_id"),
    )


def delivery_fact(body: Body, time_us: int | None) -> ReportMetric:
    """The operation ``event`` of a delivery in v2."""
    identifiers, attributes = body.get("identifiers"), body.get("attributes")
    if not isinstance(identifiers, dict):
        raise RequestError("identifiers must be an object with the id of the delivery", path="$.identifiers")
    if attributes is not None and not isinstance(attributes, dict):
        raise RequestError("attributes must be an object", path="$.attributes")
    return ReportMetric(
        delivery_id=_delivery_id(identifiers.get("id"), "$.identifiers.id"),
        metric=_metric(body.get("name"), PUSH_METRICS, "name"),
        time_us=time_us,
        device_token=_text((attributes or {}).get("device_token"), "attributes.device_token"),
    )


def unsubscribe_fact(raw_id: bytes, body: Body) -> ReportMetric | None:
    """``POST /unsubscribe/{delivery_id}``; None when the body says not to.

    Mail programs post ``List-Unsubscribe=One-Click`` (RFC 8058), a page of one's own ``{"unsubscribe": true}``.
    """
    try:
        delivery_id = _delivery_id(unquote_to_bytes(raw_id).decode(), "")
    except UnicodeDecodeError:
        raise RequestError("the delivery in the path is not UTF-8 text") from None
    wanted = True if ONE_CLICK in body else body.get("unsubscribe")
    match wanted:
        case True | "true" | "1":
            return ReportMetric(delivery_id=delivery_id, metric="unsubscribed", unsubscribe=True)
        case False | "false" | "0":
            return None
        case _:
            raise RequestError(f"unsubscribe must be true or false, not {shown(wanted)}", path="$.unsubscribe")


def pipelines_metric_fact(properties: Body, time_us: int | None) -> ReportMetric:
    """The semantic event ``Report Delivery Event`` of Pipelines."""
    return ReportMetric(
        delivery_id=_delivery_id(properties.get("deliveryId"), "$.properties.deliveryId"),
        metric=_metric(properties.get("metric"), METRICS, "properties.metric"),
        time_us=time_us,
        recipient=_text(properties.get("recipient"), "properties.recipient"),
        reason=_text(properties.get("reason"), "properties.reason"),
        href=_text(properties.get("href"), "properties.href"),
    )


def _delivery_id(value: Json, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise RequestError(f"delivery_id must be a string that is not empty, not {shown(value)}", path=path)
    if "\0" in value:
        raise RequestError("delivery_id holds a NUL character: leave it out", path=path)
    DELIVERY_ID_BYTES.check(len(value.encode()), path=path)
    return value


def _metric(value: Json, known: tuple[str, ...], name: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise RequestError(f"{name} must be one of {', '.join(known)}, not {shown(value)}", path=f"$.{name}")
    return value


def _text(value: Json, name: str) -> str:
    if value is None:
        return ""
    if type(value) is int:  # A phone number as the recipient.
        value = str(value)
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a string, not {shown(value)}", path=f"$.{name}")
    METRIC_TEXT_BYTES.check(len(value.encode()), path=f"$.{name}", subject=name)
    return value
