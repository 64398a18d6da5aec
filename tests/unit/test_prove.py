"""Where a person's data are: every place is known, and a search of the folder finds what is there."""

import email.message
import gzip
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from backstory.core.fact import DeletePerson, Identifier, Identify, MergePeople, SuppressPerson
from backstory.core.time import DAY_US
from backstory.edge.cli import main
from backstory.edge.cli_command import Runtime
from backstory.engine.file.options import BackfillOptions
from backstory.engine.verify.place import OTHER, TABLES, place_of
from backstory.engine.verify.prove import Finding, prove
from backstory.store.compaction import Sizes
from backstory.store.schema import TABLES as SCHEMA
from tests.live import Live
from tests.model.imported import bring_in, json_lines, written

MAIL = "ann@secret.example"


def filled(data: Path) -> Live:
    """A workspace with two people in every kind of file."""
    live = Live(data / "workspaces" / "default")
    for person in ("ann", "bob"):
        email_of = f"{person}@secret.example"
        attributes = msgspec.json.encode({"note": f"{person} likes écru"})
        live.send(Identify(person=Identifier("id", f"person-{person}"), body_email=email_of, attributes=attributes))
        live.track(f"person-{person}", "bought", thing=f"{person}-thing")
    rows: list[dict[str, object]] = [
        {"customer_id": f"person-{who}", "name": name, "data": {"n": f"{who}-old"}, "timestamp": 1_700_000_000}
        for who in ("ann", "bob") for name in ("bought", "")
    ]  # fmt: skip
    path = written(data.parent, "a.jsonl", json_lines(rows))
    bring_in(live, BackfillOptions(kind="events", paths=(path,)))
    compactor = live.workspace.compactor
    compactor.sizes = Sizes(tail_rows=1, move_rows=1, part_rows=100, run_rows=100)
    compactor.step()
    live.track("person-ann", "seen")
    mail = email.message.EmailMessage()
    mail["To"] = MAIL
    mail.set_content("Hé ann@secret.example, " * 30, cte="base64")
    (data / "mailbox").mkdir()
    (data / "mailbox" / "one.eml").write_bytes(mail.as_bytes())
    spool = live.path / "spool"
    spool.mkdir()
    (spool / "upload-1").write_bytes(gzip.compress(f"id,email\n7,{MAIL}\n".encode()))
    return live


def search(data: Path, who: str) -> dict[str, Finding]:
    """What was found, by place."""
    found: list[Finding] = []
    count = prove(data, who, keep_us=30 * DAY_US, on_finding=found.append)
    assert count == sum(one.count > 0 for one in found)
    return {one.place: one for one in found if one.count}


def test_every_table_is_a_known_place() -> None:
    """A table that nobody thought of would be one where data stay."""
    tables = re.findall(r"CREATE TABLE (\w+)", SCHEMA)
    assert sorted(place.name for place in TABLES) == sorted(tables)


def test_every_kind_of_file_is_a_known_place(tmp_path: Path) -> None:
    """Of a folder in use no file is one that nobody thought of; another's file is told as such."""
    data = tmp_path / "data"
    live = filled(data)
    found = {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}
    assert {name for name in found if place_of(name) == OTHER} == set()
    assert place_of("notes.txt") == OTHER
    for name in ("lock", "backstory.sock", "tls/authority.pem", "tmp/spill", "workspaces/default/credentials.json"):
        assert place_of(name) != OTHER, name
    live.close()


def test_somebody_is_found_wherever_they_are(tmp_path: Path) -> None:
    """By any of their names, in tables, parts, keys, reports, packed files and mail; whoever is nobody is not."""
    data = tmp_path / "data"
    live = filled(data)
    for who in (MAIL, "Ann@Secret.Example", "person-ann"):
        found = search(data, who)
        expected = {
            "person", "event", "attribute_write", "parts", "key runs", "import reports", "mailbox", "spools",
            "state.db-wal",
        }  # fmt: skip
        assert expected <= found.keys(), (who, expected - found.keys())
        assert all(one.gone_us is None for one in found.values())
    assert search(data, "nobody-at-all@x.example") == {}
    live.close()


@pytest.mark.parametrize("fact", [DeletePerson, SuppressPerson])
def test_what_is_left_has_a_date_and_is_gone_after_the_purge(
    tmp_path: Path, fact: type[DeletePerson | SuppressPerson]
) -> None:
    """After a deletion or a suppression the places are told with the set time; after a purge there are none."""
    data = tmp_path / "data"
    live = filled(data)
    (live.path / "spool" / "upload-1").unlink()
    (data / "mailbox" / "one.eml").unlink()
    live.send(fact(person=Identifier("id", "person-ann")))
    gone_us = live.workspace.folder.state.now_us
    found = search(data, MAIL)
    assert "person" not in found
    assert {"parts", "key runs"} <= found.keys()
    assert found["parts"].gone_us == gone_us + 30 * DAY_US
    live.workspace.purger.run()
    assert search(data, MAIL) == {}
    assert search(data, "person-ann") == {}
    assert "person" in search(data, "bob@secret.example")
    live.close()


def test_of_the_merged_it_is_said_who_has_what_they_had(tmp_path: Path) -> None:
    """Nothing of them goes by itself while the survivor is there; it goes with the survivor."""
    data = tmp_path / "data"
    live = Live(data / "workspaces" / "default")
    for name in ("person-first", "person-second", "person-third"):
        live.identify(name, note=f"{name} likes écru")
    for primary, secondary in (("person-second", "person-first"), ("person-third", "person-second")):
        live.send(MergePeople(primary=Identifier("id", primary), secondary=Identifier("id", secondary)))
    survivor = live.workspace.reader.person("id", "person-third")
    assert survivor is not None
    found = search(data, "person-first")
    assert found
    assert all(f"merged into cio_id {survivor.cio_id}," in one.why and one.gone_us is None for one in found.values())
    live.send(DeletePerson(person=Identifier("id", "person-third")))
    assert all(one.gone_us is not None for one in search(data, "person-first").values())
    live.workspace.purger.run()
    assert search(data, "person-first") == {}
    live.close()


def test_short_identifiers_are_whole_values(tmp_path: Path) -> None:
    """``7`` is not found in every number; the person it names is."""
    data = tmp_path / "data"
    live = Live(data / "workspaces" / "default")
    live.identify("17", note="seventeen-is-here")
    live.identify("7", note="seven-is-here")
    found = search(data, "7")
    assert found["person"].count == 1
    assert search(data, "8") == {}
    live.close()


def invoke(data: Path, *arguments: str) -> tuple[int, str]:
    runtime = Runtime(environment={}, open_folder=_never, open_aside=_never, serve=_never)
    result = CliRunner().invoke(main, ["privacy", *arguments, "--data", str(data)], obj=runtime)
    return result.exit_code, result.stdout


def _never(*_: object) -> Any:  # pyright: ignore[reportReturnType]
    raise AssertionError("the command only reads files")


def test_the_command_says_where_and_until_when(tmp_path: Path) -> None:
    """Exit code 1 while something is there, 0 when nothing is; as text and as JSON; beside whoever has the folder."""
    data = tmp_path / "data"
    live = filled(data)
    code, text = invoke(data, "prove", MAIL)
    assert code == 1
    assert "default: person (workspaces/default/state.db): 1 found; the person is there" in text
    # Of a thousand files those count that hold something.
    assert "state.db): nothing" not in text
    code, text = invoke(data, "prove", "nobody-at-all@x.example", "--json")
    answer = msgspec.json.decode(text)
    assert (code, answer["clean"]) == (0, True)
    assert {"person", "parts", "journal.db"} <= {place["place"] for place in answer["places"]}
    live.close()
    assert invoke(data, "prove", MAIL, "--json")[0] == 1


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_names_nobody(tmp_path: Path, blank: str) -> None:
    """It is refused, as there is nothing to search for."""
    data = tmp_path / "data"
    filled(data).close()
    code, text = invoke(data, "prove", blank)
    assert (code, text) == (2, "")
