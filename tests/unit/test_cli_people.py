"""``backstory people`` over a real workspace."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from backstory.core.fact import Identifier, Identify, ObjectKey, PutDevice, Relate
from backstory.core.time import DAY_US
from backstory.edge.cli import main
from tests.live import NOW_US, Live

ANN = Identifier("id", "ann")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    live = Live(tmp_path / "data" / "workspaces" / "default")
    first_us = NOW_US - 400 * DAY_US
    live.send(Identify(person=ANN, attributes=b'{"plan":"pro"}', body_email="ann@example.com", time_us=first_us))
    live.identify("ann", NOW_US, plan="max", about="x" * 500)
    live.identify("b/2", NOW_US, plan="free")
    live.send(Identify(person=Identifier("email", "cay@example.com"), attributes=b"{}", time_us=NOW_US))
    live.send(PutDevice(person=ANN, token="t-1", platform="ios", attributes=b'{"app":"3.1"}', time_us=NOW_US))
    live.send(Relate(object=ObjectKey(1, "acme"), person=ANN, attributes=b'{"role":"owner"}', time_us=NOW_US))
    live.track("ann", "purchased", NOW_US - 365 * DAY_US, price=3)
    live.segment({"attribute": {"field": "plan", "operator": "eq", "value": "max"}})
    live.close()
    return tmp_path / "data"


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["people", *arguments, "--data", str(data)])


def shown(data: Path, *arguments: str) -> Any:
    result = run(data, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_person_is_shown_with_all_that_is_known(data: Path) -> None:
    """Identifiers, values with their times, segments, devices, relationships and activities of all times."""
    text = run(data, "show", "ann").stdout
    for words in (
        "email         ann@example.com",
        "created       2023-04-28 12:00:00Z",
        "plan       2024-06-01 12:00:00Z  max",
        "t-1  ios",
        "1               acme",
        '{"role": "owner"}',
        "2023-06-02 12:00:00Z  event",
        '{"price": 3}',
    ):
        assert words in text, text
    assert max(map(len, text.splitlines())) < 200
    found = shown(data, "show", "ann")
    assert [segment["name"] for segment in found["segments"]] == ["some"]
    assert found["customer"]["attributes"]["about"] == "x" * 500
    assert {"relationships", "activities"} <= found.keys()


def test_a_person_is_found_by_any_identifier(data: Path) -> None:
    """By id, email or cio_id without saying which; by one of them only where it is said."""
    ann = shown(data, "show", "ann")
    cio_id = ann["customer"]["identifiers"]["cio_id"]
    for name in ("ANN@example.com", str(cio_id), f"cio_{cio_id}"):
        assert shown(data, "show", name) == ann
    assert shown(data, "show", "ann", "--id-type", "id") == ann
    assert "'ann'" in run(data, "show", "ann", "--id-type", "email").output
    assert "b/2" in run(data, "show", "b/2").stdout
    assert run(data, "show", "cay@example.com").exit_code == 0


def test_an_unknown_person_is_no_success(data: Path) -> None:
    """It is said by what was looked, and how people are found."""
    missing = run(data, "show", "nope")
    assert missing.exit_code == 1
    assert "nobody has the id, email or cio_id 'nope'" in missing.output
    assert "people list" in missing.output


def test_activities_are_as_many_as_asked_for(data: Path) -> None:
    """The newest first."""
    assert len(shown(data, "show", "ann", "--activities", "1")["activities"]) == 1


def test_people_are_listed_by_values_and_segments(data: Path) -> None:
    """All of them, those with a value, those in a segment, page by page."""
    assert shown(data, "list")["ids"] == ["ann", "b/2", ""]
    assert shown(data, "list", "--where", "plan=free")["ids"] == ["b/2"]
    assert shown(data, "list", "--segment", "1")["ids"] == ["ann"]
    assert shown(data, "list", "--segment", "1", "--where", "plan=free")["ids"] == []
    assert "nobody" in run(data, "list", "--where", "plan=none").stdout
    following = str(shown(data, "list", "--limit", "1")["next"])
    assert shown(data, "list", "--start", following)["ids"] == ["b/2", ""]
    assert "there is more" in run(data, "list", "--limit", "1").stderr
    assert run(data, "list", "--where", "plan").exit_code == 2
    assert "9" in run(data, "list", "--segment", "9").output
