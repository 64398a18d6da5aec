"""What every journal keeps, whatever holds its bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backstory.core.fact import Fact, Identifier, Track
from backstory.store.journal import Journal, MemoryJournal, SqliteJournal

Open = Callable[[], Journal]


def facts(*names: str) -> list[Fact]:
    return [Track(person=Identifier("id", "5"), name=name) for name in names]


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same journal again each time it is called."""
    memory = MemoryJournal()
    return (lambda: memory) if request.param == "memory" else (lambda: SqliteJournal(tmp_path / "journal.db"))


def names(journal: Journal, position: int) -> list[str]:
    """The names of the facts from a position on, as a reader that skips within the first entry sees them."""
    found: list[str] = []
    for entry in journal.read_from(position):
        skip = max(position - entry.position, 0)
        found += [fact.name for fact in entry.facts[skip:] if isinstance(fact, Track)]
    return found


def test_positions_count_facts(reopen: Open) -> None:
    """The position of the next fact grows by the number of facts appended."""
    journal = reopen()
    assert journal.position() == 0
    assert journal.append(facts("a", "b"), 10) == 0
    assert journal.append(facts("c"), 20) == 2
    assert journal.position() == 3


def test_what_was_appended_is_read_in_order(reopen: Open) -> None:
    """From any position on, also from the middle of an entry, and with its accept time."""
    journal = reopen()
    journal.append(facts("a", "b"), 10)
    journal.append(facts("c"), 20)
    assert [names(journal, position) for position in range(4)] == [["a", "b", "c"], ["b", "c"], ["c"], []]
    assert [entry.accept_us for entry in journal.read_from(0)] == [10, 20]


def test_a_journal_opened_again_goes_on(reopen: Open) -> None:
    """Facts and positions survive being closed."""
    journal = reopen()
    journal.append(facts("a", "b"), 10)
    journal.close()
    journal = reopen()
    assert journal.append(facts("c"), 20) == 2
    assert names(journal, 0) == ["a", "b", "c"]


def test_trimming_lets_go_of_whole_entries(reopen: Open) -> None:
    """An entry goes once all of it lies before the position; positions are never used again."""
    journal = reopen()
    journal.append(facts("a", "b"), 10)
    journal.append(facts("c"), 20)
    journal.trim(1)
    assert names(journal, 0) == ["a", "b", "c"]
    journal.trim(3)
    assert names(journal, 0) == []
    journal.close()
    journal = reopen()
    assert journal.append(facts("d"), 30) == 3


def test_nothing_appended_is_no_entry(reopen: Open) -> None:
    """Appending no facts takes no position, makes no entry and is in nobody's way."""
    journal = reopen()
    assert journal.append([], 10) == 0
    assert journal.append(facts("a"), 20) == 0
    assert journal.append([], 30) == 1
    assert [entry.accept_us for entry in journal.read_from(0)] == [20]


def test_entries_keep_what_was_appended(reopen: Open) -> None:
    """A list changed after it was appended does not change the journal."""
    journal = reopen()
    given = facts("a")
    journal.append(given, 10)
    given.clear()
    assert names(journal, 0) == ["a"]


def test_reading_from_the_end_finds_nothing(reopen: Open) -> None:
    """There is nothing at the position of the next fact, nor past it."""
    journal = reopen()
    journal.append(facts("a", "b"), 10)
    assert not list(journal.read_from(2))
    assert not list(journal.read_from(99))


def test_what_is_appended_while_reading_is_not_in_the_way(reopen: Open) -> None:
    """A reader half-way through sees the entries that were there when it began."""
    journal = reopen()
    journal.append(facts("a"), 10)
    journal.append(facts("b"), 20)
    reading = journal.read_from(0)
    first = next(reading)
    journal.append(facts("c"), 30)
    assert [first.position, *(entry.position for entry in reading)][:2] == [0, 1]
    assert names(journal, 0) == ["a", "b", "c"]


def test_trimming_past_the_end_keeps_the_position(reopen: Open) -> None:
    """A trim further than the journal goes leaves it empty where it was, also after it is opened again."""
    journal = reopen()
    journal.append(facts("a", "b"), 10)
    journal.trim(99)
    assert journal.position() == 2
    journal.close()
    journal = reopen()
    assert journal.position() == 2
    assert journal.append(facts("c"), 20) == 2


def test_trimming_again_or_less_far_changes_nothing(reopen: Open) -> None:
    """Trims may be repeated, and one that comes late with an older position brings nothing back."""
    journal = reopen()
    for name in "abc":
        journal.append(facts(name), 10)
    for position in (2, 2, 1):
        journal.trim(position)
    assert names(journal, 0) == ["c"]
    journal.close()
    journal = reopen()
    journal.trim(3)
    journal.trim(1)
    journal.close()
    assert reopen().position() == 3
