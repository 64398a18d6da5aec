"""Everything of people who are gone leaves the folder, and nobody else notices, whatever comes in between."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json
from backstory.core.fact import (
    DeletePerson,
    Fact,
    Identifier,
    Identify,
    MergePeople,
    ObjectKey,
    PutDevice,
    Relate,
    SuppressPerson,
    Track,
    TrackAnonymous,
    UnsuppressPerson,
)
from backstory.core.time import DAY_US, SECOND_US
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions
from backstory.engine.verify import verify
from backstory.store.compaction import Sizes
from tests.hunt import examples
from tests.live import Live
from tests.model.imported import bring_in, json_lines, written

SIZES = Sizes(tail_rows=2, move_rows=3, part_rows=12, run_rows=12)
SMALL = Chunking(
    bytes_max=400, event_rows_max=3, people_rows_max=3, blocks_from=0, block_rows_min=1, part_rows=4
)
AGO_US = (0, 50 * SECOND_US, 2 * DAY_US)
PEOPLE = ("ann-of-old", "bob-of-old", "eve-of-old")
SEGMENTS: tuple[Any, ...] = (
    {"event": {"name": "bought", "count": {"at_least": 2}}},
    {"event": {"name": "bought", "within": {"last_s": 60}}},
    {"attribute": {"field": "plan", "operator": "eq", "value": "pro"}},
    {"attribute": {"field": "email", "operator": "exists"}},
)

who = st.sampled_from(PEOPLE)
ages_s = st.sampled_from((None, 0, 1, 30, 61, 100_000))
events = st.fixed_dictionaries({"who": who, "name": st.sampled_from(("bought", "seen")), "age_s": ages_s})
steps = st.one_of(
    st.tuples(st.just("event"), events),
    st.tuples(st.just("event"), events),
    st.tuples(st.just("person"), st.tuples(who, ages_s, st.booleans())),
    st.tuples(st.just("events"), st.lists(events, min_size=1, max_size=6)),
    st.tuples(st.just("people"), st.lists(who, min_size=1, max_size=4)),
    st.tuples(st.just("device"), who),
    st.tuples(st.just("relate"), who),
    st.tuples(st.just("anonymous"), who),
    st.tuples(st.just("claim"), who),
    st.tuples(st.just("delete"), who),
    st.tuples(st.just("delete"), who),
    st.tuples(st.just("suppress"), who),
    st.tuples(st.just("unsuppress"), who),
    st.tuples(st.just("merge"), st.tuples(who, who)),
    st.tuples(st.just("wait"), st.sampled_from((1, 20, 60))),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("restart"), st.none()),
)

pieces_done = st.sampled_from((0, 0, 0, 1, 2, 5, 40))


class World:
    """A workspace, and which words only somebody's data hold: each call brings one of its own."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root / name
        self.root.mkdir()
        self.live = Live(self.root / "default")
        # Who was deleted and not named since.
        self.last_words: set[str] = set()
        self.numbers = [self.live.segment(condition) for condition in SEGMENTS]

    def act(self, number: int, kind: str, value: Any) -> object:
        """Do a step; returns what it said of it."""
        word = f"word{number:03}of"
        said = self._act(number, kind, value, word)
        self.last_words -= {one for one in PEOPLE if one in str(value)}
        if kind in ("delete", "suppress") and said == "applied":
            self.last_words.add(value)
        return said

    def _act(self, number: int, kind: str, value: Any, word: str) -> object:
        live = self.live
        match kind:
            case "event":
                data = _json(n=word + value["who"])
                time_us = self._time_us(value["age_s"])
                return self._send(Track(person=_id(value["who"]), name=value["name"], data=data, time_us=time_us))
            case "person":
                person, age_s, mail = value
                return self._send(Identify(
                    person=_id(person), attributes=_json(plan="pro", note=word + person),
                    body_email=f"{person}@example.com" if mail else None, time_us=self._time_us(age_s),
                ))
            case "events" | "people":
                return self._import(number, kind, value, word)
            case "device":
                return self._send(PutDevice(person=_id(value), token=word + value, platform="ios"))
            case "relate":
                role = _json(role=word + value)
                return self._send(Relate(object=ObjectKey(1, "acme"), person=_id(value), attributes=role))
            case "anonymous":
                data = _json(n=word + value)
                return self._send(TrackAnonymous(anonymous_id=f"cookie-{value}", name="seen", data=data))
            case "claim":
                return self._send(Identify(person=_id(value), attributes=_json(), anonymous_id=f"cookie-{value}"))
            case "delete":
                return self._send(DeletePerson(person=_id(value)))
            case "suppress":
                return self._send(SuppressPerson(person=_id(value)))
            case "unsuppress":
                return self._send(UnsuppressPerson(person=_id(value)))
            case "merge":
                return self._send(MergePeople(primary=_id(value[0]), secondary=_id(value[1])))
            case "wait":
                live.advance(value * SECOND_US)
            case "crash":
                live.crash()
            case _:
                live.reopen()
        return None

    def _send(self, fact: Fact) -> object:
        return self.live.send(fact)[0].result

    def _time_us(self, age_s: int | None) -> int | None:
        return None if age_s is None else self.live.now_us - age_s * SECOND_US

    def _import(self, number: int, kind: str, value: Any, word: str) -> object:
        if kind == "events":
            rows = [
                {"customer_id": one["who"], "name": one["name"], "data": {"n": word + one["who"]}}
                | ({} if one["age_s"] is None else {"timestamp": self.live.now_us // SECOND_US - one["age_s"]})
                for one in value
            ]
            # A row that is refused for itself keeps a report.
            rows.append({"customer_id": value[0]["who"], "name": "", "data": {"n": word + value[0]["who"]}})
        else:
            rows = [{"id": one, "plan": "free", "note": word + one} for one in value]
        path = written(self.root.parent, f"{number}.jsonl", json_lines(rows))
        summary = bring_in(self.live, BackfillOptions(kind=kind, paths=(path,), triggers="none"), SMALL)  # pyright: ignore[reportArgumentType]
        return summary.created, summary.duplicate, summary.errors

    def owners(self) -> dict[str, str]:
        """The words in what is kept of the living, each with who they are, by the readers' own answers."""
        found: dict[str, str] = {}
        folder = self.live.workspace.folder
        for person in self.live.workspace.segments.alive:
            profile = folder.people.profile(person)
            texts = [str(row) for row in (*folder.history.events_of([person]), *folder.history.writes_of([person]))]
            texts += [str(one) for one in folder.state.rows("SELECT token FROM device WHERE person = ?", (person,))]
            query = "SELECT token, attributes FROM record_write WHERE person = ?"
            texts += [str(one) for one in folder.state.rows(query, (person,))]
            for text in texts:
                for word in words_in(text.encode()):
                    found[word] = str(profile.id)
        return found

    def answers(self) -> object:
        """What can be asked about those who are still there."""
        live, reader = self.live, self.live.workspace.reader
        folder, alive = live.workspace.folder, list(live.workspace.segments.alive)
        return {
            "members": [sorted(live.workspace.segments.segments[number].members) for number in self.numbers],
            "as of": [reader.member_count(one, live.now_us - ago_us) for one in self.numbers for ago_us in AGO_US],
            "people": [(folder.people.profile(one), folder.people.document(one)) for one in alive],
            "events": sorted(folder.history.events_of(alive)) if alive else [],
            "writes": sorted(folder.history.writes_of(alive)) if alive else [],
        }


def words_in(body: bytes) -> set[str]:
    return {found.decode() for found in re.findall(rb"word\d{3}of[a-z]{3}-of-old", body)}


def _id(value: str) -> Identifier:
    return Identifier("id", value)


def _json(**values: Json) -> bytes:
    return msgspec.json.encode(values)


def texts_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of every file, and the texts in parts, which are packed there."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
            if path.suffix == ".parquet":
                yield path.name, str(pq.read_table(path).to_pylist()).encode()


@settings(max_examples=examples(6), deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=st.lists(st.tuples(steps, st.integers(0, 3), pieces_done), min_size=4, max_size=22))
def test_nothing_of_the_gone_is_left_and_nobody_else_notices(plan: list[tuple[tuple[str, Any], int, int]]) -> None:
    """Purged at any moment, with crashes, rewritten history and names that are used again."""
    with tempfile.TemporaryDirectory(prefix="backstory-model-") as folder:
        root = Path(folder)
        kept, purged = World(root, "kept"), World(root, "purged")
        for number, ((kind, value), tasks, pieces) in enumerate(plan):
            assert kept.act(number, kind, value) == purged.act(number, kind, value)
            compactor = purged.live.workspace.compactor
            compactor.sizes = SIZES
            for _ in range(tasks):
                compactor.step()
            for _ in range(pieces):
                purged.live.workspace.purger.step(by_us=purged.live.workspace.folder.state.now_us)
            if tasks or pieces:
                assert kept.answers() == purged.answers()
        purged.live.workspace.purger.run()
        assert kept.answers() == purged.answers()
        assert verify.run(purged.live.workspace, lambda line: None).ok
        owners = purged.owners()
        folder_of = purged.live.workspace.folder
        for name, body in texts_of(purged.root):
            left = words_in(body) - owners.keys()
            # Anonymous events are nobody's; reports are looked at below.
            left -= {row[0][6:-2] for row in folder_of.state.rows("SELECT data FROM anonymous_event")}
            assert not left or name.startswith("import-"), (name, left)
            # Nobody named them after they went.
            bare = re.sub(rb"(cookie-|word\d{3}of)[a-z]{3}-of-old", b"", body)
            for gone in purged.last_words:
                assert gone.encode() not in bare, (name, gone)
        kept.live.close()
        purged.live.close()
