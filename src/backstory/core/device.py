"""Devices: the names under which a device keeps what it is, and how conditions, templates and the API see it.

Attributes of a device are text, whatever was sent: true is "true", 3 is "3". Nested ones are kept and shown but
cannot be asked for in conditions. Source: semantics section 1.8.
"""

from collections.abc import Mapping

import msgspec

from backstory.core.condition import Json
from backstory.core.person import values
from backstory.core.record import Record
from backstory.core.time import SECOND_US

# Registers of the device itself; the colon keeps them apart from attributes.
PLATFORM = ":platform"
LAST_USED = ":last_used"
LAST_STATUS = "_last_status"
STATUSES = {"sent": "sent", "bounced": "bounced", "dropped": "suppressed", "suppressed": "suppressed"}


def as_text(value: Json) -> Json:
    """An attribute as devices keep it: scalars as text, nested values as they are, null as the removal it is."""
    if isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    return value


def registers(attributes: Mapping[str, Json], platform: str, last_used_us: int) -> dict[str, Json]:
    """What a put of a device writes."""
    return {
        **{name: as_text(value) for name, value in attributes.items()},
        PLATFORM: platform,
        LAST_USED: last_used_us,
    }


def shown_device(token: str, record: Record) -> dict[str, Json]:
    """``{id, platform, last_used, attributes}`` as the App API and templates show it; times in unix seconds."""
    known = values(record.document)
    platform, last_used_us = known.pop(PLATFORM, ""), known.pop(LAST_USED, 0)
    assert isinstance(last_used_us, int)
    return {"id": token, "platform": platform, "last_used": last_used_us // SECOND_US, "attributes": known}


def asked_device(token: str, record: Record) -> dict[str, Json]:
    """A device as conditions ask for it: its attributes with ``id``, ``platform`` and ``last_used`` among them."""
    shown = shown_device(token, record)
    attributes = shown.pop("attributes")
    assert isinstance(attributes, dict)
    return {**attributes, **shown}
