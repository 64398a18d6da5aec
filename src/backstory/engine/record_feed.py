"""Telling leaves over devices and relationships what a person's are now."""

from backstory.core.leaf_key import LeafKey
from backstory.core.segment import SegmentEngine
from backstory.store.folder import Folder


class RecordFeed:
    """Reads a person's records only where some leaf asks for them."""

    def __init__(self, folder: Folder, segments: SegmentEngine) -> None:
        self._folder = folder
        self._segments = segments

    def asks_for(self, type_id: int) -> bool:
        """Does any segment ask for objects of this type?"""
        return False

    def devices(self, person: int, now_us: int) -> set[LeafKey]:
        return set()

    def relations(self, person: int, type_id: int | None, now_us: int) -> set[LeafKey]:
        """``type_id`` None: of every type."""
        return set()


def forget_records(folder: Folder, person: int) -> None:
    """Somebody is deleted: their devices and relationships go with them, and the history of those."""
    folder.devices.forget_person(person)
    folder.relations.forget_person(person)
    folder.record_writes.forget_person(person)
