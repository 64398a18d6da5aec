"""A running workspace: the stores, the loop, the builder and the reader wired together."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from backstory.core.error import BackstoryError, StorageError
from backstory.core.fact import EffectOutcome, Fact, Receipt
from backstory.core.identity import Rules
from backstory.core.message import Delivery
from backstory.core.segment import SegmentEngine
from backstory.core.time import DAY_US, HOUR_US, SECOND_US
from backstory.engine.answer.reader import Reader
from backstory.engine.apply.applier import Applier
from backstory.engine.apply.campaign import Campaigns
from backstory.engine.backfill.import_control import IMPORTING, PAUSED, ImportControl
from backstory.engine.backfill.import_turn import Turns
from backstory.engine.backfill.preload import Preload
from backstory.engine.checkpoint import Checkpoint
from backstory.engine.clock import Clock
from backstory.engine.compactor import Compactor
from backstory.engine.context import Context
from backstory.engine.inbox import Inbox, Ticket
from backstory.engine.loop import Loop
from backstory.engine.purger import Purger
from backstory.engine.segment.build import Builder
from backstory.engine.segment.build_memory import recall
from backstory.engine.segment.membership_log import catch_up
from backstory.engine.settings import DEFAULT, Settings
from backstory.store.definition import read_segments
from backstory.store.folder import Folder, open_folder_stores
from backstory.store.journal import Journal
from backstory.store.manifest import read_imports
from backstory.store.retraction import read_retractions

T = TypeVar("T")
MAILBOX = "mailbox"
CHECKPOINT_S = 5.0
CLOCK_FAULT = (
    "the clock of this machine was set, or the machine slept: it is {apart_s:+,} seconds off what passed. Timers and "
    "sending wait: if it is right now, run 'backstory clock accept'"
)


class Workspace:
    """Accepts facts, answers reads. Closing finishes what was accepted."""

    def __init__(
        self,
        name: str,
        folder: Folder,
        clock: Clock,
        *,
        trigger_age_us: int,
        retry_in_doubt: bool = False,
        rules: Rules = Rules(),
        purge_us: int = 30 * DAY_US,
        mailboxes: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.folder = folder
        self.clock = clock
        self._inbox = Inbox()
        self.segments = SegmentEngine()
        self.context = Context(
            folder=folder, segments=self.segments, trigger_age_us=trigger_age_us, rules=rules
        )
        self.builder = Builder(self.context, self.run_on_loop)
        self.checkpoint = Checkpoint(self.context, self.builder)
        self.campaigns = Campaigns(self.context, retry_in_doubt=retry_in_doubt)
        self.applier = Applier(self.context, self.builder, self.campaigns, self.checkpoint)
        self.loop = Loop(folder, self.applier, self._inbox, clock)
        self.reader = Reader(self)
        self.compactor = Compactor(self)
        self.purger = Purger(self, keep_us=purge_us, mailboxes=mailboxes)
        self.imports = ImportControl(self)
        # Without threads of its own a workspace may still be called by an import that reads ahead.
        self._inline = threading.RLock()
        # The thread that does what somebody called for, while it does.
        self._caller: int | None = None
        self._closing = threading.Event()
        # The loop wants to know what is durable.
        self._sync_wanted = threading.Event()
        self._checkpointer = threading.Thread(target=self._move_log, name="checkpointer", daemon=True)
        self._closed = False
        self.turns = Turns(self.compactor.still)
        self.on_close: Callable[[], None] = lambda: None
        # What an import that was foreseen when this was opened finds ready.
        self.preload: Preload | None = None
        self._threads = False

    def start(self, *, threads: bool = True) -> None:
        """Recover, then run. Without threads whoever calls does the work, on their own thread (tests)."""
        if self.folder.journal.position() < self.folder.state.position:
            raise StorageError(
                f"the journal of {self.folder.path} ends at position {self.folder.journal.position()}, the state is at "
                f"{self.folder.state.position}: the two do not belong together; restore both from one backup"
            )
        rebuild = self.checkpoint.restore()
        recall(self.segments, self.folder.builds)
        self.campaigns.restore()
        self.folder.sweep()
        # What was complete before the crash is complete again before the journal goes on: the facts there may move it.
        complete = {row.segment_id for row in read_segments(self.folder.state.db) if row.built}
        for segment_id in rebuild:
            if segment_id in complete:
                self.builder.build(segment_id)
        self.loop.commit(self._go_on)
        self.loop.replay()
        self.loop.commit(lambda: self.campaigns.settle_doubt(self.folder.state.now_us))
        for segment_id in rebuild:
            if segment_id not in complete:
                self.builder.ask(segment_id)
        self.builder.go_on()
        self._threads = threads
        if threads:
            self.loop.make_durable = self._sync_wanted.set
            self.loop.start()
            self.builder.start()
            self._checkpointer.start()
            self.compactor.start()
            self.imports.resume_interrupted()

    def _go_on(self) -> None:
        self.checkpoint.go_on()
        # What imports moved is logged.
        db = self.folder.state.db
        importing = [row.import_id for row in read_imports(db) if row.state in (IMPORTING, PAUSED)]
        turning = [number for number, one in read_retractions(db).items() if one.stage in ("begun", "taken")]
        catch_up(self.context, importing, turning)

    # -- facts --------------------------------------------------------------------------------------------------

    def submit(
        self,
        facts: list[Fact],
        *,
        on_accept: Callable[[], None] | None = None,
        on_applied: Callable[[list[Receipt]], None] | None = None,
        on_error: Callable[[BackstoryError], None],
    ) -> None:
        """Hand facts in; callbacks run on the loop's thread. Raises ``Busy`` or ``StorageError``."""
        if self.loop.failure is not None:
            raise StorageError(f"the engine has stopped: {self.loop.failure}")
        self._inbox.put(Ticket(facts, on_accept, on_applied, on_error))

    def check_room(self, wire_bytes: int) -> None:
        """Raises ``Busy`` when facts of so many bytes, still to be read, would be refused."""
        self._inbox.check_room(wire_bytes)

    def apply(self, facts: list[Fact], *, timeout_s: float = 30) -> list[Receipt]:
        """Hand facts in and wait until they are applied; ``pending`` receipts when that takes longer."""
        done = threading.Event()
        answer: list[list[Receipt] | BackstoryError] = []

        def finish(result: list[Receipt] | BackstoryError) -> None:
            answer.append(result)
            done.set()

        self.submit(facts, on_applied=finish, on_error=finish)
        while not self._threads and not done.is_set():
            with self._inline:
                self.loop.turn()
        if not done.wait(timeout_s):
            return [Receipt("pending") for _ in facts]
        if isinstance(answer[0], BackstoryError):
            raise answer[0]
        return answer[0]

    def call(self, work: Callable[[], T], *, timeout_s: float = 600) -> T:
        """Run something on the loop's thread, in a transaction, and return what it returns after the commit.

        ``work`` must leave nothing half-done when it raises: what it wrote until then is committed. What it calls by
        this itself is a part of it.
        """
        if self._caller == threading.get_ident():
            return work()
        answer: list[Any] = []

        def piece() -> None:
            self._caller = threading.get_ident()
            try:
                answer.append(work())
            except BackstoryError as error:
                answer.append(error)
            finally:
                self._caller = None

        if self._threads:
            self._run_in_loop(piece, timeout_s)
        else:
            with self._inline:
                self.loop.do(piece)
        if isinstance(answer[0], BackstoryError):
            raise answer[0]
        return cast("T", answer[0])

    def _run_in_loop(self, piece: Callable[[], None], timeout_s: float) -> None:
        """Have the loop's thread run something; returns after its commit."""
        done = threading.Event()

        def piece_and_then() -> None:
            piece()
            self.context.after_commit.append(done.set)

        self._inbox.put_work(piece_and_then)
        deadline = time.monotonic() + timeout_s
        while not done.wait(0.5):
            if self.loop.failure is not None:
                raise StorageError(f"the engine has stopped: {self.loop.failure}")
            if not self.loop.running and not done.is_set():
                raise StorageError("the engine has stopped")
            if time.monotonic() > deadline:
                raise StorageError("the engine did not answer in time")

    def run_on_loop(self, work: Callable[[], None]) -> None:
        self.call(work)

    def await_built(self, segment_id: int, timeout_s: float = 30) -> bool:
        """Wait until a segment is complete; False when it takes longer, or cannot be built."""
        if not self._threads:
            self.builder.work_off()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and segment_id not in self.builder.stuck:
            kept = self.segments.segments.get(segment_id)
            if kept is None or not kept.building:
                # Its members are there before the commit that says so: behind another one they are for everybody.
                self.call(lambda: None)
                return True
            if self.builder.failure is not None:
                raise StorageError(f"the segment could not be built: {self.builder.failure!r}")
            time.sleep(0.002)
        return False

    # -- sending ------------------------------------------------------------------------------------------------

    def when_ready(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called on the loop's thread whenever there may be something to claim; it only hands over."""
        self.campaigns.deliveries.on_ready = tell

    def claim(self, count: int) -> list[Delivery]:
        """Deliveries to attempt now, durably marked as being attempted; none while the clock is in doubt."""
        if self.loop.guard.jumped():
            return []
        # Accept times of a batch run ahead of the clock by a microsecond for each fact.
        claimed = self.call(lambda: self.campaigns.claim(count, max(self.clock.now_us(), self.folder.state.now_us)))
        if claimed:
            self.folder.state.sync()
        return claimed

    def report(self, outcome: EffectOutcome) -> None:
        """The outcome of an attempt comes back as a fact."""
        self.apply([outcome])

    def accept_clock(self) -> int:
        """A user says that the clock is right: timers and sends go on. Returns by how much it was apart, in µs."""
        apart_us = self.loop.guard.apart_us() if self.loop.guard.jumped() else 0
        self.call(self.loop.guard.accept)
        self.campaigns.deliveries.on_ready()
        return apart_us

    # -- life ---------------------------------------------------------------------------------------------------

    @property
    def faults(self) -> list[str]:
        """What is wrong, in words, while the rest goes on: files missing or damaged, a clock in doubt."""
        apart_us = self.loop.guard.apart_us()
        clock = [CLOCK_FAULT.format(apart_s=apart_us // SECOND_US)] if self.loop.guard.jumped() else []
        return [*self.folder.faults, *clock]

    @property
    def healthy(self) -> bool:
        return self.loop.failure is None and self.builder.failure is None

    def _move_log(self) -> None:
        """Move the state's log into its file now and then, away from the loop: a log of 300 MB takes 0.3 s to sync."""
        state = self.folder.state
        while not self._closing.wait(CHECKPOINT_S):
            try:
                found = state.rows("SELECT value FROM meta WHERE name = 'position'")
                if state.checkpoint():
                    self.loop.end_log()
                if self._sync_wanted.is_set() and found:
                    # Whoever asks meanwhile wants to know of what came since, which is told the next time.
                    self._sync_wanted.clear()
                    state.sync()
                    self.loop.durable(int(found[0][0]))
            except StorageError:
                pass  # Nothing is lost while the log stays; the loop meets the same disk at its next commit and tells.

    def close(self) -> None:
        """Finish what was accepted, store the leaves, let go of the folder."""
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        self.compactor.stop()
        self.builder.stop()
        self.loop.stop()
        if self._checkpointer.is_alive():
            self._checkpointer.join()
        if self.preload is not None:
            self.preload.end()
        try:
            if self.loop.failure is None:
                self.loop.store_everything()
        finally:
            self.folder.close()
            self.on_close()


def open_workspace(
    path: Path, *, clock: Clock, settings: Settings | None = None, journal: Journal | None = None, threads: bool = True,
    preload: Preload | None = None,
) -> Workspace:  # fmt: skip
    """Open, or make, the workspace in ``path``, and recover it; ``preload``: for an import that is to follow."""
    folder = open_folder_stores(
        path,
        memory_mb=settings.duckdb_memory_mb if settings else 500,
        threads=settings.duckdb_threads if settings else 2,
        temporary=settings.temp_folder / path.name if settings else None,
        journal=journal,
    )
    hours = settings.trigger_age_hours if settings else 72.0
    workspace = Workspace(
        path.name,
        folder,
        clock,
        trigger_age_us=round(hours * HOUR_US),
        retry_in_doubt=settings.retry_in_doubt if settings else False,
        rules=_rules(settings),
        purge_us=round((settings.purge_days if settings else 30.0) * DAY_US),
        mailboxes=_mailboxes(path, settings),
    )
    if preload is not None:
        preload.opened(folder)
        workspace.preload = preload
    try:
        workspace.start(threads=threads)
        if journal is None:
            workspace.purger.rebuild_waiting()
    except BaseException:
        if preload is not None:
            preload.end()
        folder.close()
        raise
    return workspace


def _rules(settings: Settings | None) -> Rules:
    if settings is None:
        return Rules()
    return Rules(
        auto_merge=settings.auto_merge,
        change_by_cio_id=settings.change_by_cio_id,
        change_email_by_id=settings.change_email_by_id,
    )


def _mailboxes(path: Path, settings: Settings | None) -> list[Path]:
    """Where messages of a workspace may have been written to; the default's beside all workspaces."""
    own = path / MAILBOX
    return [own] if settings is None or path.name != DEFAULT else [own, settings.data / MAILBOX]
