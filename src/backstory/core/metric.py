"""Metrics: what can happen to a message, and how conditions and histories see it.

To segments a metric a message reached is an event of its own kind: its name is the metric, its time the first moment
at which the message reached it, its data say which message it was. Nobody can send such an event; they are read from
the ledger of deliveries. So whatever holds of events (counts, windows, "has not") holds of messages too.
Source: design section 8, semantics sections 5.2 and 9.
"""

from collections.abc import Mapping

from backstory.core.operand import Json

# The kind of these events, which no call and no file can name.
MESSAGE = "message"
METRICS = (
    "created", "attempted", "sent", "delivered", "opened", "human_opened", "clicked", "human_clicked", "converted",
    "bounced", "suppressed", "dropped", "deferred", "failed", "undeliverable", "spammed", "unsubscribed",
)  # fmt: skip
# What somebody outside may report; sent, failed and attempted are told by our own senders.
REPORTED = (
    "delivered", "opened", "human_opened", "clicked", "human_clicked", "converted", "bounced", "dropped", "deferred",
    "spammed", "unsubscribed", "suppressed", "undeliverable",
)  # fmt: skip
# Those that say why a message did not arrive.
FAILURES = ("bounced", "dropped", "deferred", "spammed", "suppressed", "undeliverable")
CHANNELS = ("email", "webhook", "push", "sms", "in_app", "slack", "whatsapp")
# By which a message condition chooses messages, each a field of the event's data.
CHOICES = ("channel", "campaign_id", "action_id")

Event = tuple[str, str, int, dict[str, Json]]


def events_of_message(
    delivery_id: str, channel: str, campaign_id: int, action_id: int, metrics_us: Mapping[str, int]
) -> list[Event]:
    """What a message reached, as (kind, name, time, data)."""
    data: dict[str, Json] = {
        "delivery_id": delivery_id, "channel": channel, "campaign_id": campaign_id, "action_id": action_id
    }  # fmt: skip
    return [(MESSAGE, name, time_us, data) for name, time_us in metrics_us.items()]
