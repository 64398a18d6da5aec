"""Rows of people that contradict who is there: the error says which column, which value, and whose it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backstory.core.fact import Identifier, Identify
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.report import first_rows
from tests.live import Live
from tests.model.imported import bring_in, json_lines, written


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """Ann has an id and an email, and so has cleo, whose id is two words."""
    opened = Live(tmp_path / "default")
    opened.send(Identify(person=Identifier("id", "ann"), body_email="ann@x.org"))
    opened.send(Identify(person=Identifier("id", "cleo p"), body_email="cleo@x.org"))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        # A new id with an email of ann's: it is the email that is taken.
        ({"id": "new", "email": "ann@x.org"}, ["email: 'ann@x.org'", "id 'ann'", "another id than 'new'"]),
        ({"id": "ann", "email": "cleo@x.org"}, ["email: 'cleo@x.org'", "somebody else", "cio_id "]),
        ({"id": "ann", "email": "new@x.org"}, ["email: 'new@x.org'", "id 'ann'"]),
    ],
)
def test_a_conflict_names_column_value_and_whose_it_is(
    live: Live, tmp_path: Path, row: dict[str, str], says: list[str]
) -> None:
    """By their id, or by their cio_id where reports could not be searched for it."""
    path = written(tmp_path, "people.jsonl", json_lines([row]))
    done = bring_in(live, BackfillOptions(kind="people", paths=(path,)))
    ((_, _, error),) = first_rows(done.error_file, 2)
    assert all(text in error for text in says), error
    assert "cleo p" not in error


def test_a_live_call_by_a_new_id_says_that_the_email_is_anothers(live: Live) -> None:
    """What was refused stays the id, as the activity always had it."""
    (receipt,) = live.send(Identify(person=Identifier("id", "new"), body_email="ann@x.org"))
    assert receipt.result == "conflict"
    assert "email" in receipt.reason
