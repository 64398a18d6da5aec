"""Writes of an import in blocks and parts against the same in rows of the tail: nobody can tell, at any moment."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.condition import parse
from backstory.core.fact import DeletePerson, Fact, Identifier, Identify, SuppressPerson
from backstory.core.time import SECOND_US
from backstory.engine.answer import inquiry
from backstory.engine.answer.life import read_life
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions, Progress
from backstory.engine.undo import undo
from backstory.engine.verify import verify
from backstory.engine.verify.prove import Finding, prove
from backstory.engine.verify.testimony import witnesses
from backstory.store.write_block import held_in_blocks
from tests.hunt import examples
from tests.live import NOW_US, Live, live_worlds
from tests.model.imported import Row, json_lines, state, written
from tests.model.strategy import NOW_S, encoded

PEOPLE = ("ann", "bob", "cid", "dan")
CONDITIONS: tuple[Any, ...] = (
    {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
    {"attribute": {"field": "address.city", "operator": "exists"}},
    {"event": {"name": "seen", "performed": False, "within": {"last_s": 20}}},
)
IN_ROWS = Chunking(people_rows_max=2, blocks_from=1 << 40, tell_every_s=0)
ages_s = st.sampled_from((0, 0, 1, 19, 40, -5))
rows = st.fixed_dictionaries(
    {"id": st.sampled_from(PEOPLE)},
    optional={
        "plan": st.sampled_from(("free", "pro", "")),
        "address.city": st.sampled_from(("Rome", "Oslo")),
        "email": st.sampled_from(("ann@x.org", "bob@x.org")),
        "_timestamp": ages_s.map(lambda age_s: NOW_S - age_s),
    },
)
files = st.lists(st.lists(rows, min_size=1, max_size=9), min_size=1, max_size=2)


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    who = Identifier("id", draw(st.sampled_from(PEOPLE)))
    match draw(st.integers(0, 5)):
        case 0:
            return DeletePerson(person=who)
        case 1:
            return SuppressPerson(person=who)
        case 2:
            mail = draw(st.sampled_from(("ann@x.org", "bob@x.org")))
            return Identify(person=who, attributes=b"{}", body_email=mail)
        case _:
            plan = draw(st.sampled_from(("free", "pro", None)))
            time_us = NOW_US - draw(ages_s) * SECOND_US
            return Identify(person=who, attributes=encoded({"plan": plan}), time_us=time_us)


def reads(live: Live, *, seq: int | None = None) -> object:
    """What every reader of attribute writes says; those that ask since a seq, since this one or the last but two."""
    workspace, folder = live.workspace, live.workspace.folder
    everybody = list(workspace.segments.alive)
    now_us, seq = workspace.folder.state.now_us, folder.state.next_seq - 3 if seq is None else seq

    def log(who: str | None, types: str | None) -> object:
        return workspace.reader.activities(
            None if who is None else "cio_id", who, types=types, name=None, deleted=False, before=None, limit=50,
            everything=True,
        )  # fmt: skip

    lives = [read_life(folder, person, present_us=now_us) for person in everybody]
    told = [
        (one.person, sorted(map(repr, one.writes)), sorted(map(repr, one.late)), one.known_us, one.touched)
        for some in witnesses(folder, frozenset(), until_seq=seq, stop=folder.state.next_person)
        for one in some
    ]
    # Writes of those who are gone are left in parts until they are purged, and no longer in the tail.
    there = set(everybody)
    earliest = zip(*(found.tolist() for found in folder.history.earliest_since(seq)), strict=True)
    return {
        "state": state(live),
        "log": [log(None, None), log(None, "attribute_change"), *(log(who, None) for who in _cio_ids(live))],
        "lives": [None if one is None else sorted(map(repr, one.writings)) for one in lives],
        "witnesses": told,
        "writes": sorted(folder.history.writes_of(everybody)) if everybody else [],
        "tail": workspace.call(
            lambda: [sorted([*folder.tail.write_rows(one), *folder.history.write_rows(one)]) for one in everybody]
        ),
        "since": sorted(there.intersection(folder.history.people_since(now_us - 30 * SECOND_US))),
        "writers": sorted(there.intersection(folder.history.writers_since(seq))),
        "earliest": [one for one in earliest if one[0] in there],
        "as of": [
            inquiry.preview(workspace, parse(one), now_us - age_us, None)
            for one in CONDITIONS
            for age_us in (0, 20 * SECOND_US)
        ],
    }


def _cio_ids(live: Live) -> list[str]:
    views = (live.workspace.reader.person("id", who) for who in PEOPLE)
    return [view.cio_id for view in views if view is not None]


@settings(max_examples=examples(10), report_multiple_bugs=False)
@given(
    files, st.lists(facts(), max_size=8), st.integers(1, 12), st.sampled_from((1, 3, 1000)), st.integers(0, 12)
)
def test_readers_see_each_write_once(
    files: list[list[Row]], meanwhile: list[Fact], part_rows: int, block_rows_min: int, stop_at: int
) -> None:
    """Between all steps of imports, with facts coming in between, broken off, gone on with and taken back."""
    packed = Chunking(
        people_rows_max=2, blocks_from=0, block_rows_min=min(block_rows_min, 2), part_rows=part_rows, tell_every_s=0
    )
    with live_worlds("rows", "blocks") as (worlds, root):
        paths = [written(root, f"{number}.jsonl", json_lines(some)) for number, some in enumerate(files)]
        told = [
            list(_through(live, paths, chunking, meanwhile, stop_at))
            for live, chunking in zip(worlds, (IN_ROWS, packed), strict=True)
        ]
        assert told[1] == told[0]
        for live in worlds:
            assert live.workspace.folder.state.read(held_in_blocks) == (0, 0)
            assert verify.run(live.workspace, lambda line: None).ok
            undo.undo(live.workspace, 1)
        # Taking an import back numbers other things where rows lie otherwise.
        assert reads(worlds[1], seq=0) == reads(worlds[0], seq=0)
        for live in worlds:
            undo.redo(live.workspace, 1)
        assert reads(worlds[1], seq=0) == reads(worlds[0], seq=0)


class Stop(Exception):
    """An import is broken off here."""


def _through(live: Live, paths: list[str], chunking: Chunking, meanwhile: list[Fact], stop_at: int) -> Any:
    """Everything readers say while files come in, one after the other, each with facts between its steps."""
    for condition in CONDITIONS:
        live.segment(condition)
    coming = list(meanwhile)
    found: list[object] = []
    steps = 0

    def between(progress: Progress) -> None:
        nonlocal steps
        steps += 1
        found.append(reads(live))
        if coming:
            live.advance(SECOND_US)
            found.append([receipt.result for receipt in live.send(coming.pop())])
            found.append(reads(live))
        if steps == stop_at:
            raise Stop

    for path in paths:
        options = BackfillOptions(kind="people", paths=(path,))
        try:
            backfill.run(live.workspace, options, between, chunking=chunking)
        except Stop:
            live.crash()
            found.append(reads(live))
            backfill.run(live.workspace, options, between, chunking=chunking)
        found.append(reads(live))
    return found


def broken_off(live: Live, root: Path, rows: list[Row], stop_at: int) -> BackfillOptions:
    """An import whose blocks are left where they are."""
    options = BackfillOptions(kind="people", paths=(written(root, "a.jsonl", json_lines(rows)),))
    steps = 0

    def stop(progress: Progress) -> None:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            raise Stop

    chunking = Chunking(people_rows_max=2, blocks_from=0, block_rows_min=1, part_rows=1000, tell_every_s=0)
    with pytest.raises(Stop):
        backfill.run(live.workspace, options, stop, chunking=chunking)
    return options


def rows_of_file(count: int) -> list[Row]:
    return [{"id": f"p{number}", "plan": f"secret-{number}"} for number in range(count)]


def test_what_an_import_left_in_blocks_becomes_a_part(tmp_path: Path) -> None:
    """By the compactor, once nothing imports; going on with the import then gives what it would have given."""
    live = Live(tmp_path / "live")
    options = broken_off(live, tmp_path, rows_of_file(8), 3)
    assert live.workspace.folder.state.read(held_in_blocks)[0] == 6
    before = sorted(live.workspace.folder.history.writes_of(range(8)))
    assert len(before) == 6
    live.crash()
    assert live.workspace.compactor.step()
    assert live.workspace.folder.state.read(held_in_blocks) == (0, 0)
    assert [part.import_id for part in live.workspace.folder.history.parts] == [1]
    assert sorted(live.workspace.folder.history.writes_of(range(8))) == before
    assert backfill.run(live.workspace, options, lambda progress: None).created == 8
    assert len(live.workspace.folder.history.writes_of(range(8))) == 8
    assert verify.run(live.workspace, lambda line: None).ok
    live.close()


def test_wide_writes_become_parts_a_few_at_a_time(tmp_path: Path) -> None:
    """By their bytes, so that moving them takes no more memory than narrow ones do."""
    live = Live(tmp_path / "live")
    broken_off(live, tmp_path, rows_of_file(8), 3)
    _, size_bytes = live.workspace.folder.state.read(held_in_blocks)
    before = sorted(live.workspace.folder.history.writes_of(range(8)))
    assert live.workspace.compactor.blocks.move(bytes_max=size_bytes - 1)
    rows, left_bytes = live.workspace.folder.state.read(held_in_blocks)
    assert 0 < rows < 6
    assert live.workspace.compactor.blocks.move(bytes_max=left_bytes)
    assert live.workspace.folder.state.read(held_in_blocks) == (0, 0)
    assert sorted(live.workspace.folder.history.writes_of(range(8))) == before
    live.close()


def test_nothing_of_the_suppressed_stays_in_blocks(tmp_path: Path) -> None:
    """Their writes go at once, everybody else's stay."""
    live = Live(tmp_path / "live")
    broken_off(live, tmp_path, rows_of_file(8), 3)
    live.send(SuppressPerson(person=Identifier("id", "p3")))
    everything = [
        repr(live.workspace.folder.state.rows(f"SELECT * FROM {table}")) for table in ("write_block", "attribute_write")
    ]
    assert not any("secret-3" in text for text in everything)
    assert all(any(f"secret-{number}" in text for text in everything) for number in (0, 1, 2, 4, 5))
    assert len(live.workspace.folder.history.writes_of(range(8))) == 5
    assert verify.run(live.workspace, lambda line: None).ok
    live.close()


def test_somebody_is_found_in_blocks(tmp_path: Path) -> None:
    """By what was written of them, and by their number where that names nobody."""
    live = Live(tmp_path / "data" / "workspaces" / "default")
    broken_off(live, tmp_path, rows_of_file(8), 3)

    def found(who: str) -> dict[str, int]:
        findings: list[Finding] = []
        prove(tmp_path / "data", who, keep_us=0, on_finding=findings.append)
        return {one.place: one.count for one in findings if one.place in ("write_block", "attribute_write")}

    assert found("secret-3") == {"write_block": 1, "attribute_write": 0}
    assert found("p3") == {"write_block": 1, "attribute_write": 0}
    assert found("nobody-at-all") == {"write_block": 0, "attribute_write": 0}
    live.close()
