"""What templates see of a person's devices and of the objects they are related to."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from backstory.core.condition import Json

# Of each type the newest relationships are seen (semantics section 1.9).
OBJECTS_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """``devices`` last used first; ``objects`` by type, under ``type_1`` and ``1``, related last first."""

    devices: tuple[Json, ...] = ()
    objects: dict[str, Json] = field(default_factory=dict[str, Json])


def belongings_of(
    devices: Iterable[dict[str, Json]], related: Iterable[tuple[int, int, dict[str, Json]]]
) -> Belongings:
    """``related`` are (type, since when as now known, object)."""
    by_type: dict[int, list[tuple[int, str, dict[str, Json]]]] = {}
    for type_id, seen_us, shown in related:
        by_type.setdefault(type_id, []).append((-seen_us, str(shown["object_id"]), shown))
    objects: dict[str, Json] = {}
    for type_id, found in by_type.items():
        newest: list[Json] = [shown for _, _, shown in sorted(found, key=lambda one: one[:2])[:OBJECTS_MAX]]
        objects |= {str(type_id): newest, f"type_{type_id}": newest}
    by_use = sorted(devices, key=lambda device: (-int(str(device["last_used"])), str(device["id"])))
    return Belongings(devices=tuple(by_use), objects=objects)
