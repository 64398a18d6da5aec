"""Building segments over history, beside the loop.

A new leaf is attached at once and takes live facts from its first moment; what came before it is scanned by the
builder's thread and fed later, which gives the same state because leaves take facts in any order. The old membership
of an edited segment stays until the new one is complete: it is judged page by page, facts that come in between
move it too, and then it takes the place of the old at once. What changed by that goes into the log of memberships,
and starts no campaigns; a fact that moves somebody meanwhile counts as at any other time (``doubt``). No piece of work
holds the loop longer than a page of people takes.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import PAGE_BITS, PAGE_ROWS, People, Truth
from backstory.core.condition import AttributeTest, Condition, DeviceTest, EventTest, Json, RecordTest, RelationTest
from backstory.core.error import StorageError
from backstory.core.known import KnownLeaf
from backstory.core.leaf import AttributeLeaf, CountLeaf, WindowLeaf
from backstory.core.membership import page_members
from backstory.core.record_leaf import RecordLeaf
from backstory.core.record_time import Row
from backstory.core.segment import Kept, LeafKey, SegmentEngine, Transition, leaf_keys
from backstory.engine.context import Context, shown_values
from backstory.engine.segment.build_memory import note_told
from backstory.engine.segment.build_progress import BUILD, BUILD_QUEUED, EVENTS, EVENTS_QUEUED, Progress
from backstory.engine.segment.doubt import Resolved, resolve
from backstory.engine.segment.membership_log import MembershipLog
from backstory.engine.segment.scan import Since, feed_page, living_rows, pages_of, scan
from backstory.engine.segment.verdict import judge_everybody
from backstory.store.folder import Folder
from backstory.store.history import Rows
from backstory.store.record import everybodys_rows

Submit = Callable[[Callable[[], None]], None]
RECORDS_PER_PIECE = 500
# Behind every number of a person.
NUMBERS_END = 1 << 32


class Builder:
    """One thread that scans history for unfilled leaves and completes segments, in the order they were asked for."""

    def __init__(self, context: Context, run_on_loop: Submit) -> None:
        self._context = context
        self._folder: Folder = context.folder
        self._segments: SegmentEngine = context.segments
        # Tests put another in its place, to let facts come in between scanning and feeding.
        self.run_on_loop = run_on_loop
        self.unfilled: dict[LeafKey, Since] = {}
        self._asked: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="builder", daemon=True)
        # People whom leaves over messages were told about while they were being built.
        self._heard: dict[LeafKey, set[int]] = {}
        self._progress: dict[int, Progress] = {}
        self.failure: BaseException | None = None
        # Segments that could not be built, because history cannot be read.
        self.stuck: set[int] = set()
        # Without history nobody knows since when people are known: no segment that asks for it can be completed.
        self.known_whole = True
        self._log = MembershipLog(context.folder, context.segments, lambda work: self.run_on_loop(work))
        context.before_commit.append(partial(note_told, context.segments, context.folder.builds))
        # Hears whom facts have moved meanwhile, and since when that is so.
        self.on_live: Callable[[Sequence[Transition], Sequence[int], int], None] = lambda moves, since_us, now_us: None
        # Hears who was moved by a build, on the loop: filters of campaigns may wait for them.
        self.on_moved: Callable[[BitMap, int], None] = lambda people, now_us: None

    # -- its thread -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the build at hand, then end; unfinished builds start again at the next start."""
        self._asked.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def ask(self, segment_id: int) -> None:
        """Build a segment when its turn comes; the segment's definition is committed."""
        self._asked.put(partial(self.build, segment_id))

    def go_on(self) -> None:
        """After a restart: look up what a build had not yet looked up."""
        if self._log.is_open():
            self._asked.put(self._look_up)

    def work_off(self) -> None:
        """Without a thread: do what was asked for until now."""
        while not self._asked.empty():
            work = self._asked.get()
            if work is not None:
                work()

    def _work(self) -> None:
        while (work := self._asked.get()) is not None:
            try:
                work()
            except BaseException as error:
                self.failure = error
                raise

    def progress(self, segment_id: int) -> Progress:
        """How far the build of a segment is; from any thread."""
        found = self._progress.get(segment_id)
        if found is not None:
            return found
        kept = self._segments.segments.get(segment_id)
        condition = None if kept is None else kept.condition
        waiting = [] if condition is None else [key for key in leaf_keys(condition) if key in self.unfilled]
        return Progress(EVENTS_QUEUED if any(isinstance(key, EventTest) for key in waiting) else BUILD_QUEUED)

    # -- on the loop: what is to be built -------------------------------------------------------------------------

    def attach(self, keys: list[LeafKey], now_us: int) -> None:
        """On the loop: attach new leaves and remember what they have to be told."""
        since = Since(self._folder.state.next_seq - 1, now_us)
        if keys:  # While nobody asked for records and messages, nothing was noted of them.
            self._segments.newest.others.raise_floor(now_us, self._segments.alive)
        for key in keys:
            leaf = self._segments.make_leaf(key)
            if isinstance(leaf, AttributeLeaf | RecordLeaf):
                leaf.judged_live = set()
            elif isinstance(leaf, CountLeaf | WindowLeaf):
                leaf.filling = True
            self._segments.attach(key, leaf)
            if not isinstance(leaf, KnownLeaf):
                self.unfilled[key] = since
                self._heard.pop(key, None)

    def begin(self, segment_id: int, condition: Condition, now_us: int) -> None:
        """On the loop: a segment has this condition from now on; it is built after the commit."""
        self.attach(self._segments.missing(condition), now_us)
        self._begin(segment_id, condition)

    def _begin(self, segment_id: int, condition: Condition) -> None:
        self._segments.put(segment_id, condition, building=True)
        self._folder.definitions.set_unbuilt(segment_id)
        self._folder.builds.begin(segment_id, self._folder.state.now_us)
        self._context.after_commit.append(lambda: self.ask(segment_id))

    def heard_of(self, key: LeafKey, person: int) -> None:
        """On the loop: a leaf was told all about a person; a scan under way knows nothing better."""
        if key in self.unfilled:
            self._heard.setdefault(key, set()).add(person)

    # -- building -------------------------------------------------------------------------------------------------

    def build(self, segment_id: int) -> None:
        """Fill what the segment needs, then let the loop complete it; where history cannot be read it stays unbuilt."""
        try:
            self._build(segment_id)
        except StorageError as error:
            self.stuck.add(segment_id)
            self._folder.fault(f"segment {segment_id} cannot be built: {error}")
        finally:
            self._progress.pop(segment_id, None)

    def _build(self, segment_id: int) -> None:
        kept = self._segments.segments.get(segment_id)
        if kept is None or kept.condition is None or not kept.building:
            return
        waiting = [key for key in dict.fromkeys(leaf_keys(kept.condition)) if key in self.unfilled]
        # Events first, as the published states have it.
        waiting.sort(key=lambda key: not isinstance(key, EventTest))
        stop = self._folder.state.next_person
        pages = range(0, max(stop, 1), PAGE_ROWS)
        progress = self._progress[segment_id] = Progress(EVENTS, 0, 2 * len(waiting) + len(pages))
        for key in waiting:
            progress.state = EVENTS if isinstance(key, EventTest) else BUILD
            since = self.unfilled.get(key)
            if since is not None:
                self._fill(key, since, progress)
        progress.state = BUILD
        self.run_on_loop(lambda: self._start_judging(segment_id))
        for low in pages:
            self.run_on_loop(partial(self._judge_page, segment_id, low))
            progress.done += 1
        self.run_on_loop(lambda: self._complete(segment_id, stop))

    def _fill(self, key: LeafKey, since: Since, progress: Progress) -> None:
        """Tell a leaf what it has not seen, in pieces; it counts as filled with the last."""
        if isinstance(key, EventTest):
            rows = scan(self._folder, key, since)
            self._log.remember(key, since, rows)
            progress.done += 1
            for page in pages_of(rows):
                self.run_on_loop(partial(self._feed_events, key, since, page))
        elif isinstance(key, DeviceTest | RelationTest):
            found = iter(self._folder.state.read(lambda db: list(everybodys_rows(db, key))))
            progress.done += 1
            while some := list(islice(found, RECORDS_PER_PIECE)):
                self.run_on_loop(partial(self._feed_records, key, since, some))
        elif isinstance(key, AttributeTest):
            self._fill_attribute(key, since, progress)
        self.run_on_loop(lambda: self._filled(key, since))
        progress.done += 1

    def _fill_attribute(self, key: AttributeTest, since: Since, progress: Progress) -> None:
        found = judge_everybody(self._folder, key, since.until_us)
        progress.done += 1
        if found.others:
            for low in range(0, self._folder.state.next_person, PAGE_ROWS):
                self.run_on_loop(partial(self._feed_others, key, since, BitMap(found.people), low))
        for low in range(0, len(found.people), PAGE_ROWS):
            some = slice(low, low + PAGE_ROWS)
            people, truth, moments_us = found.people[some], found.truth[some], found.moments_us[some]
            self.run_on_loop(partial(self._feed_attribute, key, since, people, truth, moments_us))

    def _unfilled(self, key: LeafKey, since: Since) -> bool:
        """Is this scan what the leaf waits for? It may have been let go of meanwhile, and attached again since."""
        return self.unfilled.get(key) is since and key in self._segments.leaves

    def _filled(self, key: LeafKey, since: Since) -> None:
        if self._unfilled(key, since):
            del self.unfilled[key]
            self._heard.pop(key, None)
            leaf = self._segments.leaves[key]
            if isinstance(leaf, AttributeLeaf | RecordLeaf):
                leaf.judged_live = None
            elif isinstance(leaf, CountLeaf | WindowLeaf):
                leaf.filling = False
            self._segments.leaf_fed(key)

    def _feed_events(self, key: EventTest, since: Since, rows: Rows) -> None:
        leaf = self._segments.leaves.get(key)
        if isinstance(leaf, CountLeaf | WindowLeaf) and self._unfilled(key, since):
            feed_page(leaf, living_rows(rows, self._segments.alive - BitMap(self._heard.get(key, ()))))

    def _feed_records(self, key: RecordTest, since: Since, rows: list[tuple[int, list[Row]]]) -> None:
        leaf = self._segments.leaves.get(key)
        if not isinstance(leaf, RecordLeaf) or not self._unfilled(key, since):
            return
        for person, records in rows:
            if person in self._segments.alive and person not in (leaf.judged_live or ()):
                leaf.set(person, records, self._folder.state.now_us)

    def _feed_others(self, key: AttributeTest, since: Since, found: BitMap, low: int) -> None:
        """People without the attribute for whom the test holds all the same."""
        leaf = self._segments.leaves.get(key)
        if isinstance(leaf, AttributeLeaf) and self._unfilled(key, since):
            page = self._segments.alive & BitMap(range(low, low + PAGE_ROWS))
            leaf.true |= page - found - BitMap(leaf.judged_live or ())

    def _feed_attribute(
        self,
        key: AttributeTest,
        since: Since,
        people: NDArray[np.uint32],
        truth: Truth,
        moments_us: NDArray[np.int64],
    ) -> None:
        leaf = self._segments.leaves.get(key)
        if not isinstance(leaf, AttributeLeaf) or not self._unfilled(key, since):
            return
        wanted = self._segments.alive - BitMap(leaf.judged_live or ())
        some = np.isin(people, np.asarray(wanted.to_array(), np.uint32))
        now_us = self._folder.state.now_us
        passed = some & (moments_us <= now_us)
        leaf.take_many(people[some], truth[some], moments_us[some])
        for person in people[passed].tolist():
            leaf.set(person, self._shown(person), now_us)

    def _shown(self, person: int) -> dict[str, Json]:
        """On the loop: a person's values as they are now."""
        return shown_values(self._folder.people.profile(person), self._folder.people.document(person))

    # -- completing -----------------------------------------------------------------------------------------------

    def _ready(self, segment_id: int) -> bool:
        """Is everything known that the segment asks for? It may have been edited meanwhile."""
        kept = self._segments.segments.get(segment_id)
        if kept is None or kept.condition is None or not kept.building:
            return False
        keys = list(leaf_keys(kept.condition))
        if not self.known_whole and any(isinstance(key, tuple) for key in keys):
            self.stuck.add(segment_id)
            return False
        return not any(key in self.unfilled for key in keys)

    def _start_judging(self, segment_id: int) -> None:
        if self._ready(segment_id):
            self._segments.segments[segment_id].incoming = BitMap()

    def _judge_page(self, segment_id: int, low: int) -> None:
        self._judge_range(segment_id, low, low + PAGE_ROWS)
        kept = self._segments.segments.get(segment_id)
        if kept is not None and kept.incoming is not None:
            kept.judged_below = low + PAGE_ROWS

    def _judge_range(self, segment_id: int, low: int, high: int) -> None:
        people = self._segments.alive & BitMap(range(low, high))
        kept = self._segments.segments.get(segment_id)
        if kept is not None and kept.incoming is not None and people:
            now_us = self._folder.state.now_us
            self._segments.settle_many(segment_id, np.asarray(people.to_array(), np.uint32), now_us)

    def _complete(self, segment_id: int, stop: int, found: Resolved | None = None) -> None:
        """The membership becomes the new one at once; segments that refer to it are judged anew.

        ``found``: whom facts have moved, once that is looked up.
        """
        segments = self._segments
        kept = segments.segments.get(segment_id)
        if kept is None or kept.incoming is None or not self._ready(segment_id):
            return
        # People who came to be since the pages were counted.
        self._judge_range(segment_id, stop, self._folder.state.next_person)
        kept.judged_below = NUMBERS_END
        doubt = kept.moved_by_facts()
        if found is None and doubt and not self._folder.definitions.built(segment_id):
            self._asked.put(partial(self._resolve, kept, kept.incoming, doubt, stop))
            return
        self.stuck.discard(segment_id)
        now_us = self._folder.state.now_us
        # Where only memory was lost, the members are what they were: there is nothing to tell.
        repaired = self._folder.definitions.built(segment_id)
        entered, left = segments.swap(segment_id)
        self._folder.definitions.set_built(segment_id)
        self._context.after_commit.append(lambda: self._asked.put(self._look_up))
        if repaired:
            for other in segments.after(segment_id):
                if not segments.segments[other].building:
                    settle_everybody(segments, other, now_us)
        else:
            self._note(segment_id, entered, left, found or Resolved(), now_us)
        if not repaired and (entered or left):
            self._follow(segment_id, np.asarray((entered | left).to_array(), np.uint32), now_us)

    def _follow(self, segment_id: int, moved: People, now_us: int) -> None:
        """Have the segments that refer to one judged anew; those being built may have judged the people moved."""
        segments = self._segments
        for other in segments.refer_to(segment_id):
            kept = segments.segments[other]
            if kept.condition is not None and not kept.building:
                self._begin(other, kept.condition)
            else:
                segments.settle_many(other, moved, now_us)

    def _resolve(self, kept: Kept, incoming: BitMap, doubt: BitMap, stop: int) -> None:
        """Beside the loop: whom of those in doubt has a fact moved? It may have been edited since that was asked."""
        condition, found, note = kept.condition, Resolved(), self._folder.builds.notes.get(kept.segment_id)
        if condition is None or kept.incoming is not incoming:
            return
        asked_us = note.asked_us if note else self._folder.state.now_us
        try:
            found = resolve(self._folder, self._segments, condition, doubt, incoming & doubt, asked_us)
        except StorageError as error:
            self._folder.fault(f"whom facts moved while segment {kept.segment_id} was built cannot be told: {error}")
        self.run_on_loop(lambda: self._resolved(kept, incoming, stop, found))

    def _resolved(self, kept: Kept, incoming: BitMap, stop: int, found: Resolved) -> None:
        if kept.incoming is incoming:
            self._complete(kept.segment_id, stop, found)

    def _note(self, segment_id: int, entered: BitMap, left: BitMap, found: Resolved, now_us: int) -> None:
        """Log who was moved: those by facts as any others whom facts move."""
        live = (entered | left) & BitMap(found.since_us)
        self._log.note(segment_id, entered - live, left - live, now_us)
        if entered or left:
            self.on_moved(entered | left, now_us)
        moves = [Transition(segment_id, person, person in entered, now_us) for person in live]
        self.on_live(moves, [found.since_us[person] for person in live], now_us)

    def _look_up(self) -> None:
        try:
            self._log.look_up()
        except StorageError as error:
            self._folder.fault(f"since when people are in segments cannot be told: {error}")


def settle_all(segments: SegmentEngine, now_us: int) -> None:
    """At the start, nobody being in any segment: judge everybody for all that are complete.

    A page of people at a time, so that leaves shared by many segments are asked once.
    """
    order = [segments.segments[number] for number in segments.closure(set(segments.segments))]
    everybody = segments.everybody()
    for number in range(int(everybody[-1] >> PAGE_BITS) + 1 if len(everybody) else 0):
        low, high = np.searchsorted(everybody, ((number << PAGE_BITS), (number + 1) << PAGE_BITS)).tolist()
        people = everybody[low:high]
        inside = np.zeros(PAGE_ROWS, bool)
        with segments.sharing():
            for kept in order:
                if kept.judge_many is not None and not kept.building:
                    inside[people - (number << PAGE_BITS)] = kept.judge_many(people, now_us)
                    kept.members |= page_members(number, inside)


def settle_everybody(segments: SegmentEngine, segment_id: int, now_us: int) -> None:
    """Judge all living people for one segment, and take out who is no longer there."""
    segments.settle_many(segment_id, segments.everybody(), now_us)
    kept = segments.segments[segment_id]
    kept.members &= segments.alive
