"""Applying metrics of deliveries: each is recorded once, with its earliest time, and told in the activity log."""

import msgspec

from backstory.core.device import STATUSES
from backstory.core.fact import Receipt, ReportMetric
from backstory.core.metric import FAILURES, REPORTED
from backstory.core.time import MINUTE_US
from backstory.core.trace import FAILED_METRIC
from backstory.engine.apply.delivery import Deliveries
from backstory.engine.apply.device import DeviceFacts
from backstory.engine.apply.profile import Profiles
from backstory.engine.context import Context
from backstory.store.ledger import DeliveryRow

_decode = msgspec.json.Decoder(dict[str, int]).decode


class MetricFacts:
    """What the world tells of deliveries, on the loop's thread."""

    def __init__(
        self, context: Context, profiles: Profiles, devices: DeviceFacts, deliveries: Deliveries
    ) -> None:
        self._context = context
        self._ledger = context.folder.ledger
        self._profiles = profiles
        self._devices = devices
        self._deliveries = deliveries

    def report(self, fact: ReportMetric, now_us: int) -> Receipt:
        if fact.metric not in REPORTED:
            return self._refused(fact, f"a metric is one of {', '.join(REPORTED)}", now_us)
        row = self._ledger.delivery(fact.delivery_id)
        if row is None:
            return self._refused(fact, "there is no such delivery", now_us)
        future = fact.time_us is not None and fact.time_us > now_us + MINUTE_US
        time_us = now_us if fact.time_us is None or future else fact.time_us
        metrics = _decode(row.metrics)
        known_us = metrics.get(fact.metric)
        if known_us is None or time_us < known_us:
            metrics[fact.metric] = time_us
            self._keep(row, fact, metrics)
            self._deliveries.on_metric([row.person], time_us, now_us)
        if known_us is None:
            self._trace(row, fact, time_us, now_us)
        alive = row.person in self._context.segments.alive
        if alive and fact.device_token and fact.metric in STATUSES:
            self._devices.set_status(row.person, fact.device_token, STATUSES[fact.metric], time_us, now_us)
        if alive and fact.unsubscribe:
            self._profiles.update(row.person, {"unsubscribed": True}, now_us)
        if known_us is None or fact.unsubscribe:
            return Receipt("applied")
        return Receipt("duplicate", reason=f"{fact.metric} was reported before; the earliest time counts")

    def _keep(self, row: DeliveryRow, fact: ReportMetric, metrics: dict[str, int]) -> None:
        """The state of the delivery stays: it is about our attempt, and that is over."""
        failure = row.failure
        if failure is None and fact.metric in FAILURES and fact.reason:
            failure = fact.reason
        self._ledger.set_delivery(
            row.delivery_id,
            state=row.state,
            ready_us=row.ready_us,
            attempts=row.attempts,
            metrics=metrics,
            failure=failure,
        )

    def _trace(self, row: DeliveryRow, fact: ReportMetric, time_us: int, now_us: int) -> None:
        told = {
            "recipient": fact.recipient,
            "reason": fact.reason,
            "href": fact.href,
            "device_id": fact.device_token,
        }
        data: dict[str, object] = {"delivery_id": row.delivery_id, "campaign_id": row.campaign_id}
        data |= {name: value for name, value in told.items() if value}
        kind = f"{fact.metric}_{row.kind}"
        self._context.activity(row.person, kind, time_us, now_us, data, row.delivery_id)

    def _refused(self, fact: ReportMetric, reason: str, now_us: int) -> Receipt:
        data = {"delivery_id": fact.delivery_id, "metric": fact.metric, "reason": reason}
        self._context.activity(None, FAILED_METRIC, fact.time_us or now_us, now_us, data)
        return Receipt("dropped", reason=reason)
