"""Documents written last: found again, and bounded."""

from backstory.store.recent import ENTRY_BYTES, Recent, RecentDocuments, mark


def test_who_was_met_last_stays() -> None:
    """Where there is room for two, the third takes the place of whoever was met longest ago."""
    held = RecentDocuments(2 * (ENTRY_BYTES + 10))
    held.put(1, Recent(b"x" * 10))
    held.put(2, Recent(b"y" * 10))
    assert held.get(1) is not None
    held.put(3, Recent(b"z" * 10))
    assert [held.get(person) is not None for person in (1, 2, 3)] == [True, False, True]


def test_what_is_held_is_counted() -> None:
    """Bytes are those of what is there, however often it was written, dropped or cleared."""
    held = RecentDocuments(1_000_000)
    for size in (5, 50, 20):
        held.put(1, Recent(b"x" * size, mark(b"{}"), 7))
    assert held.size_bytes == ENTRY_BYTES + 20
    held.drop(1)
    held.drop(1)
    assert held.size_bytes == 0
    held.put(1, Recent(b"x"))
    held.clear()
    assert held.size_bytes == 0
    assert held.get(1) is None


def test_a_document_larger_than_all_room_is_not_held() -> None:
    """Then nothing is, and that is no mistake."""
    held = RecentDocuments(100)
    held.put(1, Recent(b"x" * 1000))
    assert held.get(1) is None
    assert held.size_bytes == 0
