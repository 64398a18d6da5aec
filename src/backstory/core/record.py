"""Records: things that come and go in time and have attributes of their own: devices, objects, relationships.

A record is there when the newest moment that says it is there is not before the newest that says it is gone. What
was written before it went does not come back with it. So puts and removals in any order, any number of times, end
in one record; at equal times being there beats being gone, as a value beats a removal. Source: design section 6.
"""

from collections.abc import Mapping

import msgspec

from backstory.core.condition import Json
from backstory.core.person import Document, Written, write

NEVER_US = -(1 << 62)


class Record(msgspec.Struct, kw_only=True):
    """``seen_us`` and ``gone_us`` are the newest times of a put and of a removal; ``NEVER_US`` when there is none."""

    seen_us: int = NEVER_US
    gone_us: int = NEVER_US
    document: Document = {}

    @property
    def there(self) -> bool:
        return self.seen_us >= self.gone_us and self.seen_us != NEVER_US

    def copy(self) -> "Record":
        return Record(seen_us=self.seen_us, gone_us=self.gone_us, document=dict(self.document))


def put(record: Record, attributes: Mapping[str, Json], time_us: int) -> Written | None:
    """The record is there at ``time_us``, with these attributes; None when it went after that: nothing changes."""
    if time_us < record.gone_us:
        return None
    record.seen_us = max(record.seen_us, time_us)
    return write(record.document, attributes, time_us)


def remove(record: Record, time_us: int) -> bool:
    """The record is gone from ``time_us`` on; returns whether it was there and is no more."""
    was_there = record.there
    record.gone_us = max(record.gone_us, time_us)
    stale = [name for name, register in record.document.items() if register.time_us < record.gone_us]
    for name in stale:
        del record.document[name]
    return was_there and not record.there


def merged(one: Record, other: Record) -> Record:
    """What the writes of both would have made of a single record."""
    whole = one.copy()
    whole.seen_us = max(one.seen_us, other.seen_us)
    for name, register in other.document.items():
        held = whole.document.get(name)
        if held is None or register.beats(held):
            whole.document[name] = register
    if other.gone_us > whole.gone_us:
        remove(whole, other.gone_us)
    else:
        remove(whole, whole.gone_us)
    return whole
