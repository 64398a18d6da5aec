"""``backstory objects`` over a real workspace."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backstory.core.fact import Identifier, IdentifyObject, ObjectKey, Relate
from backstory.edge.cli import main
from tests.live import NOW_US, Live


@pytest.fixture
def data(tmp_path: Path) -> Path:
    live = Live(tmp_path / "data" / "workspaces" / "default")
    for name, plan in (("acme", b'{"plan":"pro","seats":3}'), ("b/2", b'{"plan":"free"}')):
        live.send(IdentifyObject(object=ObjectKey(1, name), attributes=plan, time_us=NOW_US))
    ann = Identifier("id", "ann")
    live.send(Relate(object=ObjectKey(1, "acme"), person=ann, attributes=b'{"role":"owner"}', time_us=NOW_US))
    live.close()
    return tmp_path / "data"


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["objects", *arguments, "--data", str(data)])


def shown(data: Path, *arguments: str) -> dict[str, object]:
    result = run(data, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_objects_are_listed_by_their_values(data: Path) -> None:
    """All of a type, those with a value, page by page; an empty type says which there are."""
    assert shown(data, "list")["ids"] == ["acme", "b/2"]
    assert shown(data, "list", "--where", "plan=pro", "--where", "seats=3")["ids"] == ["acme"]
    first = run(data, "list", "--limit", "1")
    assert "acme" in first.stdout
    assert "b/2" not in first.stdout
    following = str(shown(data, "list", "--limit", "1")["next"])
    assert shown(data, "list", "--start", following)["ids"] == ["b/2"]
    assert "there are objects of type 1" in run(data, "list", "--object-type", "2").output
    assert run(data, "list", "--where", "plan").exit_code == 2


def test_an_object_is_shown_with_its_attributes(data: Path) -> None:
    """Also one whose name has a slash; an unknown one is no success."""
    text = run(data, "show", "acme").stdout
    assert "pro" in text
    assert "2024-06-01" in text
    assert shown(data, "show", "b/2")["object"]["attributes"] == {"plan": "free"}  # pyright: ignore[reportIndexIssue, reportArgumentType, reportCallIssue]
    missing = run(data, "show", "nope")
    assert missing.exit_code == 1
    assert "'nope'" in missing.output


def test_relationships_are_shown_from_both_sides(data: Path) -> None:
    """Of an object its people, of a person the objects; one of the two has to be named."""
    assert "ann" in run(data, "relationships", "acme").stdout
    of_person = run(data, "relationships", "--person", "ann").stdout
    assert "acme" in of_person
    assert "owner" in of_person
    assert "nobody is related to it" in run(data, "relationships", "b/2").stdout
    assert run(data, "relationships").exit_code == 2
    assert run(data, "relationships", "acme", "--person", "ann").exit_code == 2
