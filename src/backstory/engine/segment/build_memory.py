"""What a build under way has to remember over a crash: whom facts and imports have told something meanwhile."""

from pyroaring import BitMap

from backstory.core.segment import SegmentEngine
from backstory.store.build_note import BuildNotes


def note_told(segments: SegmentEngine, notes: BuildNotes) -> None:
    """Before a commit: what was told since the last one."""
    for segment_id in list(notes.notes):
        kept = segments.segments.get(segment_id)
        if kept is None or not kept.building:
            notes.end(segment_id)
        else:
            notes.told(segment_id, kept.touched, kept.imported)


def recall(segments: SegmentEngine, notes: BuildNotes) -> None:
    """At the start, all segments being there: what was told before the crash counts on."""
    for segment_id, note in notes.notes.items():
        kept = segments.segments.get(segment_id)
        if kept is not None and kept.building:
            kept.touched, kept.imported = BitMap(note.touched), BitMap(note.imported)
