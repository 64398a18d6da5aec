"""Documents of people who are met together: written at the end of what is applied at once, and known before."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.fact import DeletePerson, Identifier, Identify, MergePeople
from backstory.core.person import Document, decode_document, register, values
from backstory.store.people import People
from tests.live import Live

PEOPLE = 100


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "default")
    yield live
    live.close()


def says(person: str, **attributes: Json) -> Identify:
    return Identify(person=Identifier("id", person), attributes=msgspec.json.encode(attributes))


def stored(live: Live) -> dict[str, dict[str, Json]]:
    """What everybody's document says, as it is in the database."""
    rows = live.workspace.folder.state.rows("SELECT id, document FROM person ORDER BY person")
    return {name: values(decode_document(document)) for name, document in rows}


def test_what_is_applied_together_is_stored_together(live: Live) -> None:
    """Of each person the last of it, whoever was known before."""
    live.send(*[says(f"p{number}", n=number) for number in range(0, PEOPLE, 2)])
    live.send(*[says(f"p{number % PEOPLE}", n=-number, more=True) for number in range(3 * PEOPLE)])
    found = stored(live)
    assert found == {f"p{number}": {"n": -number - 2 * PEOPLE, "more": True} for number in range(PEOPLE)}
    live.crash()
    assert stored(live) == found


def test_who_is_deleted_among_calls_about_them_starts_anew(live: Live) -> None:
    """Nothing of what was said before it is written after it."""
    ann = Identifier("id", "ann")
    live.send(says("ann", plan="free"), says("bob", plan="free"))
    live.send(says("ann", plan="pro", age=7), DeletePerson(person=ann), says("ann", city="Bonn"))
    assert stored(live) == {"bob": {"plan": "free"}, "ann": {"city": "Bonn"}}
    live.send(says("ann", city="Rome"), DeletePerson(person=ann), says("bob", plan="pro"))
    assert stored(live) == {"bob": {"plan": "pro"}}


def test_who_is_merged_among_calls_about_them_hands_on_the_latest(live: Live) -> None:
    """The survivor inherits what the very calls beside the merge said."""
    ann, bob = Identifier("id", "ann"), Identifier("id", "bob")
    live.send(says("ann", plan="free"), says("bob", age=6))
    live.send(says("bob", age=7), says("ann", plan="pro"), MergePeople(primary=ann, secondary=bob), says("ann", n=1))
    assert stored(live) == {"ann": {"plan": "pro", "age": 7, "n": 1}}


def test_documents_that_wait_are_read_as_they_will_be(live: Live) -> None:
    """Also where there is no room to remember who was written last."""
    live.send(says("ann", plan="free"), says("bob", plan="free"))
    folder = live.workspace.folder
    people = People(folder.state.db, folder.namings, recent_bytes=0)
    new: Document = {"plan": register("pro", 7)}

    def work() -> None:
        with people.gathered():
            people.set_document(0, new)
            assert people.document(0) == new
            assert stored(live)["ann"] == {"plan": "free"}
            assert {number: values(document) for number, (_, document) in people.read_many([0, 1]).items()} == {
                0: {"plan": "pro"}, 1: {"plan": "free"},
            }  # fmt: skip

    live.workspace.call(work)
    assert stored(live) == {"ann": {"plan": "pro"}, "bob": {"plan": "free"}}
