"""Building segments over history, beside the loop.

A new leaf is attached at once and takes live facts from its first moment; what came before it is scanned by the
builder's thread and fed later, which gives the same state because leaves take facts in any order. The old membership
of an edited segment stays until the new one is complete.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from pyroaring import BitMap

from backstory.core.column import PAGE_ROWS, People
from backstory.core.comparison import where_holds
from backstory.core.condition import AttributeTest, DeviceTest, EventTest, Json, RecordTest, RelationTest
from backstory.core.error import StorageError
from backstory.core.leaf import NEVER_US, AttributeLeaf, CountLeaf, KnownLeaf, WindowLeaf, member_many
from backstory.core.metric import MESSAGE
from backstory.core.person import decode_document
from backstory.core.record_leaf import RecordLeaf
from backstory.core.record_time import Row
from backstory.core.segment import LeafKey, SegmentEngine, leaf_keys
from backstory.engine.context import Context, shown_values
from backstory.engine.mask import where_mask
from backstory.store.folder import Folder
from backstory.store.history import Rows, runs
from backstory.store.ledger import MESSAGES, message_events
from backstory.store.people import PROFILE_COLUMNS, Profile
from backstory.store.record import everybodys_rows

_decode = msgspec.json.Decoder().decode
Submit = Callable[[Callable[[], None]], None]
PEOPLE_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Since:
    """What a leaf has not seen yet: facts up to this seq, with times up to ``until_us``."""

    seq: int
    until_us: int


class Builder:
    """One thread that scans history for unfilled leaves and completes segments, in the order they were asked for."""

    def __init__(self, context: Context, run_on_loop: Submit) -> None:
        self._context = context
        self._folder: Folder = context.folder
        self._segments: SegmentEngine = context.segments
        # Tests put another in its place, to let facts come in between scanning and feeding.
        self.run_on_loop = run_on_loop
        self.unfilled: dict[LeafKey, Since] = {}
        self._asked: queue.Queue[int | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="builder", daemon=True)
        # People whom leaves over messages were told about while they were being built.
        self._heard: dict[LeafKey, set[int]] = {}
        self.failure: BaseException | None = None
        # Segments that could not be built, because history cannot be read.
        self.stuck: set[int] = set()
        # Without history nobody knows since when people are known: no segment that asks for it can be completed.
        self.known_whole = True

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the build at hand, then end; unfinished builds start again at the next start."""
        self._asked.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def attach(self, keys: list[LeafKey], now_us: int) -> None:
        """On the loop: attach new leaves and remember what they have to be told."""
        since = Since(self._folder.state.next_seq - 1, now_us)
        for key in keys:
            leaf = self._segments.make_leaf(key)
            if isinstance(leaf, AttributeLeaf | RecordLeaf):
                leaf.judged_live = set()
            self._segments.attach(key, leaf)
            if not isinstance(leaf, KnownLeaf):
                self.unfilled[key] = since
                self._heard.pop(key, None)

    def heard_of(self, key: LeafKey, person: int) -> None:
        """On the loop: a leaf was told all about a person; a scan under way knows nothing better."""
        if key in self.unfilled:
            self._heard.setdefault(key, set()).add(person)

    def ask(self, segment_id: int) -> None:
        """Build a segment when its turn comes; the segment's definition is committed."""
        self._asked.put(segment_id)

    def work_off(self) -> None:
        """Without a thread: build what was asked for until now."""
        while not self._asked.empty():
            segment_id = self._asked.get()
            if segment_id is not None:
                self.build(segment_id)

    def _work(self) -> None:
        while (segment_id := self._asked.get()) is not None:
            try:
                self.build(segment_id)
            except BaseException as error:
                self.failure = error
                raise

    def build(self, segment_id: int) -> None:
        """Fill what the segment needs, then let the loop complete it; where history cannot be read it stays unbuilt."""
        try:
            self._build(segment_id)
        except StorageError as error:
            self.stuck.add(segment_id)
            self._folder.fault(f"segment {segment_id} cannot be built: {error}")

    def _build(self, segment_id: int) -> None:
        kept = self._segments.segments.get(segment_id)
        if kept is None or kept.condition is None:
            return
        condition = kept.condition
        for key in dict.fromkeys(leaf_keys(condition)):
            since = self.unfilled.get(key)
            if since is not None:
                self._fill(key, since)
        self.run_on_loop(lambda: self._complete(segment_id))

    def _fill(self, key: LeafKey, since: Since) -> None:
        if isinstance(key, EventTest):
            rows = scan(self._folder, key, since)
            self.run_on_loop(lambda: self._feed_events(key, since, rows))
        elif isinstance(key, DeviceTest | RelationTest):
            rows = self._folder.state.read(lambda db: list(everybodys_rows(db, key)))
            self.run_on_loop(lambda: self._feed_records(key, since, rows))
        elif isinstance(key, AttributeTest):
            people, truth, moments = self._judge_everybody(key, since.until_us)
            self.run_on_loop(lambda: self._feed_attribute(key, since, people, truth, moments))

    def _fills(self, key: LeafKey, since: Since) -> bool:
        """Is a scan what the leaf waits for? It may have been let go of meanwhile, and attached again since."""
        if self.unfilled.get(key) is not since:
            return False
        del self.unfilled[key]
        return True

    def _feed_events(self, key: EventTest, since: Since, rows: Rows) -> None:
        leaf = self._segments.leaves.get(key)
        if isinstance(leaf, CountLeaf | WindowLeaf) and self._fills(key, since):
            feed_rows(leaf, rows, self._segments.alive - BitMap(self._heard.pop(key, ())))
            self._segments.bulk_fed()

    def _feed_records(self, key: RecordTest, since: Since, rows: list[tuple[int, list[Row]]]) -> None:
        leaf = self._segments.leaves.get(key)
        if not isinstance(leaf, RecordLeaf) or not self._fills(key, since):
            return
        live = leaf.judged_live or set()
        for person, records in rows:
            if person not in live and person in self._segments.alive:
                leaf.set(person, records, self._folder.state.now_us)
        leaf.judged_live = None
        self._segments.bulk_fed()

    def _judge_everybody(self, key: AttributeTest, now_us: int) -> tuple[list[int], list[bool], dict[int, int]]:
        """Judge all people by their stored documents: (people, truth, moments)."""
        scratch = AttributeLeaf(key)
        people: list[int] = []
        last = -1
        while True:
            rows = self._folder.state.rows(
                f"SELECT {PROFILE_COLUMNS}, document FROM person WHERE person > ? ORDER BY person LIMIT ?",
                (last, PEOPLE_AT_ONCE),
            )
            if not rows:
                break
            for row in rows:
                values: dict[str, Json] = shown_values(Profile(*row[:5]), decode_document(row[5]))
                scratch.set(row[0], values, now_us)
                people.append(row[0])
            last = rows[-1][0]
        truth = scratch.holds_many(np.array(people, np.uint32), now_us).tolist()
        moments = {p: scratch.next_change_us(p, now_us) for p in people} if scratch.timed else {}
        return people, truth, moments

    def _feed_attribute(
        self, key: AttributeTest, since: Since, people: list[int], truth: list[bool], moments: dict[int, int]
    ) -> None:
        leaf = self._segments.leaves.get(key)
        if not isinstance(leaf, AttributeLeaf) or not self._fills(key, since):
            return
        live = leaf.judged_live or set()
        now_us = self._folder.state.now_us
        for person, holds in zip(people, truth, strict=True):
            if person in live or person not in self._segments.alive:
                continue
            moment_us = moments.get(person, NEVER_US)
            if moment_us > now_us:
                leaf.take(person, holds, moment_us)
            else:
                leaf.set(person, self._shown(person), now_us)
        leaf.judged_live = None
        self._segments.bulk_fed()

    def _shown(self, person: int) -> dict[str, Json]:
        """On the loop: a person's values as they are now."""
        return shown_values(self._folder.people.profile(person), self._folder.people.document(person))

    def _complete(self, segment_id: int) -> None:
        """On the loop: everything is known; the membership becomes the new one at once."""
        segments = self._segments
        kept = segments.segments.get(segment_id)
        if kept is None or kept.condition is None or any(key in self.unfilled for key in leaf_keys(kept.condition)):
            return
        if not self.known_whole and any(isinstance(key, tuple) for key in leaf_keys(kept.condition)):
            self.stuck.add(segment_id)
            return
        kept.building = False
        self.stuck.discard(segment_id)
        now_us = self._folder.state.now_us
        for affected in [segment_id, *(s for s in segments.after(segment_id) if not segments.segments[s].building)]:
            settle_everybody(segments, affected, now_us)
        self._folder.definitions.set_built(segment_id)
        segments.bulk_fed()


def settle_everybody(segments: SegmentEngine, segment_id: int, now_us: int) -> None:
    """Judge all living people for one segment, and take out who is no longer there."""
    segments.settle_many(segment_id, segments.everybody(), now_us)
    kept = segments.segments[segment_id]
    kept.members &= segments.alive


def scan(
    folder: Folder,
    test: EventTest,
    since: Since,
    *,
    since_seq: int = 0,
    since_us: int | None = None,
    known_at_us: int | None = None,
) -> Rows:
    """The events a leaf has to be told about, where-test applied.

    Not those up to ``since_seq`` or ``since_us``; with ``known_at_us`` only what was accepted by then.
    """
    if test.kind == MESSAGE:
        return scan_messages(folder, test, since.until_us if known_at_us is None else min(since.until_us, known_at_us))
    where = test.where
    return folder.history.events_named(
        test.kind,
        test.name,
        until_us=since.until_us,
        until_seq=since.seq,
        where=None
        if where is None
        else lambda data, times_us: where_mask(folder.duck.cursor(), where, data, times_us),
        since_seq=since_seq,
        since_us=since_us,
        known_at_us=known_at_us,
    )


def scan_messages(folder: Folder, test: EventTest, until_us: int) -> Rows:
    """What happened to messages, from the ledger, as far as it is committed."""
    found: list[tuple[int, int]] = []
    metric = f'$."{test.name}"'
    for row in folder.state.rows(f"{MESSAGES} WHERE json_extract(metrics, ?) <= ?", (metric, until_us)):
        for kind, name, time_us, data in message_events(row):
            if test.counts(kind, name) and (test.where is None or where_holds(test.where, data, time_us)):
                found.append((row[0], time_us))
    found.sort()
    people = np.array([person for person, _ in found], np.uint32)
    return Rows(people=people, times_us=np.array([time_us for _, time_us in found], np.int64), data=None)


def feed_rows(leaf: CountLeaf | WindowLeaf, rows: Rows, alive: BitMap) -> People:
    """Feed sorted events to a leaf, page by page, leaving out people who are gone; returns the people touched."""
    first = runs(rows.people)
    people = rows.people[first]
    living = member_many(alive, people)
    if not living.all():
        ends = np.append(first[1:], len(rows.people))
        keep = np.repeat(living, ends - first)
        return feed_rows(leaf, Rows(people=rows.people[keep], times_us=rows.times_us[keep], data=None), alive)
    for low in range(0, len(people), PAGE_ROWS):
        high = min(low + PAGE_ROWS, len(people))
        start, stop = first[low], first[high] if high < len(first) else len(rows.people)
        leaf.add_many(people[low:high], first[low:high] - start, rows.times_us[start:stop])
    return people
