"""The outbox against fakes: its rate, its retries, its stop, and that no outcome is lost."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from backstory.core.address import Address
from backstory.core.error import Busy, StorageError
from backstory.core.fact import EffectOutcome
from backstory.core.message import Delivery, Email, Webhook
from backstory.core.time import SECOND_US
from backstory.engine import outbox as module
from backstory.engine.outbox import (
    ATTEMPTS,
    CONCURRENCY,
    Answer,
    Dropped,
    Outbox,
    Permanent,
    Sent,
    Transient,
    Unknown,
    pause_us,
)

START_US = 1_714_557_600_000_000


def delivery(number: int, *, attempts: int = 0, kind: str = "email") -> Delivery:
    """A delivery to be sent."""
    name = f"d{number}"
    if kind == "webhook":
        hook = Webhook(url="https://x.org", body="", content_type="text/plain")
        return Delivery(delivery_id=name, kind="webhook", content=hook, created_us=START_US, attempts=attempts)
    address = Address(mail="ada@x.org")
    email = Email(sender=address, recipient=address, subject="Hi", text="Hello")
    return Delivery(delivery_id=name, kind="email", content=email, created_us=START_US, attempts=attempts)


class Turn:
    """Lets every other task of the loop run once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Time:
    """A clock that goes on when everybody waits for it."""

    def __init__(self) -> None:
        self.now_us = START_US
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def wait(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((self.now_us + round(seconds * SECOND_US), future))
        await future

    def elapse(self, seconds: float) -> None:
        """Time passes; who waited long enough goes on."""
        self.now_us += round(seconds * SECOND_US)
        for due_us, future in self._waiting:
            if due_us <= self.now_us and not future.done():
                future.set_result(None)
        self._waiting = [(due_us, future) for due_us, future in self._waiting if not future.done()]

    def next_s(self) -> float | None:
        """How long until somebody goes on."""
        due = [due_us for due_us, future in self._waiting if not future.done()]
        return (min(due) - self.now_us) / SECOND_US if due else None


class FakeSender:
    """Answers what it is told to, and keeps what it was given."""

    def __init__(self, answer: Callable[[Delivery], Answer | Exception] = lambda _: Sent()) -> None:
        self.sent: list[tuple[int, str]] = []
        self.under_way = 0
        self.most_at_once = 0
        self.gate: asyncio.Event | None = None
        self._answer = answer
        self._now_us: Callable[[], int] = lambda: 0

    def use(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us

    async def send(self, delivery: Delivery) -> Answer:
        self.sent.append((self._now_us(), delivery.delivery_id))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
            answer = self._answer(delivery)
        finally:
            self.under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    """An outbox with a queue, a ledger and a clock; ``settle`` lets it do all it can without time passing."""

    def __init__(self, sender: FakeSender, *, per_s: float = 1000) -> None:
        self.time = Time()
        self.sender = sender
        sender.use(lambda: self.time.now_us)
        self.queue: list[Delivery] = []
        self.outcomes: list[EffectOutcome] = []
        self.claims: list[int] = []
        self.claim_errors: list[Exception] = []
        self.report_errors: list[Exception] = []
        self.threads: set[int] = set()
        self.calls = 0
        self.outbox = Outbox(
            claim=self.claim,
            report=self.report,
            senders={"email": sender},
            per_s=per_s,
            now_us=lambda: self.time.now_us,
            sleep=self.time.wait,
        )
        self.running: asyncio.Task[None] | None = None

    def claim(self, count: int) -> list[Delivery]:
        self.calls += 1
        self.threads.add(threading.get_ident())
        if self.claim_errors:
            raise self.claim_errors.pop(0)
        self.claims.append(count)
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken

    def report(self, outcome: EffectOutcome) -> None:
        self.calls += 1
        self.threads.add(threading.get_ident())
        if self.report_errors:
            raise self.report_errors.pop(0)
        self.outcomes.append(outcome)

    async def start(self) -> None:
        # One thread, so that what was handed to it first is done first.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
        self.running = asyncio.create_task(self.outbox.run())
        await self.settle()

    async def settle(self) -> None:
        """Until nothing happens any more, the work of threads included."""
        loop = asyncio.get_running_loop()
        quiet = 0
        while quiet < 5:
            before = self.done()
            # Everything handed to the pool before this has been done when this is done.
            await loop.run_in_executor(None, lambda: None)
            for _ in range(10):
                await Turn()
            quiet = quiet + 1 if before == self.done() else 0

    def done(self) -> tuple[object, ...]:
        """Everything that has happened so far."""
        return self.calls, len(self.sender.sent), len(self.outcomes), self.time.next_s()

    async def elapse(self, seconds: float) -> None:
        """Let time pass, stopping wherever somebody waits."""
        await self.settle()
        end_us = self.time.now_us + round(seconds * SECOND_US)
        while self.time.now_us < end_us:
            step = self.time.next_s()
            left = (end_us - self.time.now_us) / SECOND_US
            self.time.elapse(left if step is None else max(1e-6, min(step, left)))
            await self.settle()

    async def notify(self) -> None:
        self.outbox.notify()
        await self.settle()

    async def stop(self) -> None:
        stopping = asyncio.create_task(self.outbox.stop())
        await self.settle()
        await self.elapse(31)
        await stopping
        assert self.running is not None
        await self.running


def play(story: Callable[[World], Awaitable[None]], sender: FakeSender | None = None, *, per_s: float = 1000) -> World:
    """Run a story from a started outbox to a stopped one."""

    async def run() -> World:
        world = World(sender or FakeSender(), per_s=per_s)
        await world.start()
        await story(world)
        await world.stop()
        return world

    return asyncio.run(run())


def test_it_sends_what_there_is_and_reports_it() -> None:
    """Deliveries are claimed, sent and reported; claiming and reporting happen beside the loop."""

    async def story(world: World) -> None:
        world.queue = [delivery(number) for number in range(3)]
        await world.notify()

    world = play(story)
    assert {outcome.delivery_id for outcome in world.outcomes} == {"d0", "d1", "d2"}
    assert {outcome.outcome for outcome in world.outcomes} == {"sent"}
    assert threading.get_ident() not in world.threads


def test_it_waits_for_a_word() -> None:
    """Without anything to do it asks again only when woken, or after half a minute."""

    async def story(world: World) -> None:
        asked = len(world.claims)
        await world.elapse(module.POLL_S - 1)
        assert len(world.claims) == asked
        world.queue = [delivery(1)]
        await world.notify()
        assert len(world.outcomes) == 1
        world.queue = [delivery(2)]
        await world.elapse(module.POLL_S)
        assert len(world.outcomes) == 2

    play(story)


def test_a_word_from_another_thread_wakes_it() -> None:
    """The loop of the engine says that there is something, from its own thread."""

    async def story(world: World) -> None:
        world.queue = [delivery(1)]
        thread = threading.Thread(target=world.outbox.notify)
        thread.start()
        thread.join()
        await world.settle()
        assert len(world.outcomes) == 1

    play(story)


def test_a_word_before_the_start_and_after_the_end_does_no_harm() -> None:
    """What wakes does not know whether the outbox runs."""
    world = World(FakeSender())
    world.outbox.notify()

    async def story(other: World) -> None:
        nonlocal world
        world = other

    play(story)
    world.outbox.notify()


@pytest.mark.parametrize(("per_s", "seconds", "most"), [(2, 10, 21), (50, 2, 105), (0.1, 30, 4)])
def test_it_keeps_to_its_rate(per_s: float, seconds: int, most: int) -> None:
    """So many messages a second on average, and no more than a tenth of a second's at once."""

    async def story(world: World) -> None:
        world.queue = [delivery(number) for number in range(1000)]
        await world.notify()
        await world.elapse(seconds)
        world.queue = []

    world = play(story, per_s=per_s)
    in_time = [at_us for at_us, _ in world.sender.sent if at_us <= START_US + seconds * SECOND_US]
    assert most * 0.9 - 1 <= len(in_time) <= most
    assert max(world.claims) <= max(1, per_s * module.BURST_S)


def test_it_claims_no_more_than_it_can_send_at_once() -> None:
    """Claimed and not sent is in doubt after a crash: at most so many are under way."""
    sender = FakeSender()

    async def story(world: World) -> None:
        sender.gate = asyncio.Event()
        world.queue = [delivery(number) for number in range(100)]
        await world.notify()
        await world.elapse(1)
        assert len(world.queue) == 100 - CONCURRENCY
        sender.gate.set()
        await world.elapse(1)
        assert len(world.outcomes) == 100

    play(story, sender)
    assert sender.most_at_once == CONCURRENCY


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (Permanent("550 no such user"), "failed", "550 no such user"),
        (Dropped("switched off"), "dropped", "switched off"),
        (Unknown("lost"), "in_doubt", "lost"),
        (RuntimeError("bug"), "in_doubt", "the sender failed: RuntimeError"),
    ],
)
def test_every_answer_becomes_an_outcome(answer: Answer | Exception, outcome: str, reason: str) -> None:
    """What a sender says, and a sender that breaks, is reported; what may have been sent is in doubt."""

    async def story(world: World) -> None:
        world.queue = [delivery(1)]
        await world.notify()

    world = play(story, FakeSender(lambda _: answer))
    assert world.outcomes == [EffectOutcome(delivery_id="d1", outcome=outcome, reason=reason)]  # type: ignore[arg-type]


def test_a_kind_nobody_sends_fails() -> None:
    """There must be a sender for each kind of delivery."""

    async def story(world: World) -> None:
        world.queue = [delivery(1, kind="webhook")]
        await world.notify()

    [outcome] = play(story).outcomes
    assert (outcome.outcome, outcome.reason) == ("failed", "nothing here sends by webhook")


def test_what_fails_for_the_moment_is_tried_again() -> None:
    """Eleven attempts within about an hour, each pause twice the last, then it has failed."""

    async def story(world: World) -> None:
        waiting: list[tuple[int, Delivery]] = [(START_US, delivery(1))]
        for attempt in range(1, ATTEMPTS + 1):
            ready_us, next_one = waiting.pop()
            assert ready_us <= world.time.now_us
            world.queue = [next_one]
            await world.notify()
            outcome = world.outcomes[-1]
            if attempt < ATTEMPTS:
                assert (outcome.outcome, outcome.reason) == ("attempted", "451 later")
                assert outcome.retry_at_us == world.time.now_us + pause_us(attempt)
                waiting.append((outcome.retry_at_us, delivery(1, attempts=attempt)))
                await world.elapse((outcome.retry_at_us - world.time.now_us) / SECOND_US)

    world = play(story, FakeSender(lambda _: Transient("451 later")))
    assert len(world.outcomes) == ATTEMPTS
    last = world.outcomes[-1]
    assert (last.outcome, last.reason) == ("failed", "given up after 11 attempts: 451 later")
    assert last.retry_at_us is None
    pauses_s = [pause_us(attempt) / SECOND_US for attempt in range(1, ATTEMPTS)]
    assert 3000 < sum(pauses_s) < 4000
    assert all(later == 2 * sooner for sooner, later in pairwise(pauses_s))


def test_it_wakes_by_itself_when_a_retry_is_due() -> None:
    """Nobody has to say that the time of the next attempt has come."""
    answers: list[Answer] = [Transient("later"), Sent()]

    async def story(world: World) -> None:
        world.queue = [delivery(1)]
        await world.notify()
        await world.elapse(0.1)
        asked = len(world.claims)
        world.queue = [delivery(1, attempts=1)]
        await world.elapse(pause_us(1) / SECOND_US - 0.11)
        assert len(world.claims) == asked
        await world.elapse(0.02)
        assert [outcome.outcome for outcome in world.outcomes] == ["attempted", "sent"]

    play(story, FakeSender(lambda _: answers.pop(0)))


def test_no_outcome_is_lost_to_a_full_backlog_or_a_failing_disk() -> None:
    """Reporting goes on until it is accepted, and the trouble is shown meanwhile."""

    async def story(world: World) -> None:
        world.report_errors = [Busy(retry_after_s=3), StorageError("disk full")]
        world.queue = [delivery(1)]
        await world.notify()
        assert world.outcomes == []
        await world.elapse(3)
        assert world.outbox.trouble == "cannot record what was sent: disk full"
        await world.elapse(module.TROUBLE_PAUSE_S)
        assert [outcome.outcome for outcome in world.outcomes] == ["sent"]
        await world.notify()
        assert world.outbox.trouble == ""

    world = play(story)
    assert len(world.sender.sent) == 1


def test_it_goes_on_after_trouble_with_claiming() -> None:
    """A disk that fails for a while delays what is to be sent."""

    async def story(world: World) -> None:
        world.claim_errors = [StorageError("I/O error")]
        world.queue = [delivery(1)]
        await world.notify()
        assert world.outbox.trouble == "cannot read what is to be sent: I/O error"
        await world.elapse(module.TROUBLE_PAUSE_S)
        assert len(world.outcomes) == 1
        assert world.outbox.trouble == ""

    play(story)


def test_stopping_waits_for_what_is_under_way() -> None:
    """What was begun is finished and reported; nothing new is claimed."""
    sender = FakeSender()

    async def run() -> None:
        world = World(sender)
        await world.start()
        sender.gate = asyncio.Event()
        world.queue = [delivery(1)]
        await world.notify()
        world.queue = [delivery(2)]
        stopping = asyncio.create_task(world.outbox.stop())
        await world.settle()
        assert not stopping.done()
        sender.gate.set()
        await world.settle()
        assert stopping.done()
        assert world.running is not None
        await world.running
        assert [outcome.delivery_id for outcome in world.outcomes] == ["d1"]
        assert [name for _, name in sender.sent] == ["d1"]

    asyncio.run(run())


def test_what_is_claimed_while_it_stops_is_still_sent() -> None:
    """A claim that is under way when the stop comes is not left in doubt."""

    async def run() -> None:
        world = World(FakeSender())
        begun, goes_on = threading.Event(), threading.Event()

        def slow(count: int) -> list[Delivery]:
            begun.set()
            goes_on.wait(10)
            return world.claim(count)

        world.outbox._claim = slow
        world.queue = [delivery(1)]
        running = asyncio.create_task(world.outbox.run())
        await asyncio.to_thread(begun.wait, 10)
        stopping = asyncio.create_task(world.outbox.stop())
        await Turn()
        assert not stopping.done()
        goes_on.set()
        await stopping
        await running
        assert [outcome.outcome for outcome in world.outcomes] == ["sent"]

    asyncio.run(run())


def test_a_clock_that_is_set_back_does_not_hold_it_up() -> None:
    """The rate looks at how long ago the last message was, not at what the clock said then."""

    async def story(world: World) -> None:
        world.queue = [delivery(1)]
        await world.notify()
        world.time.now_us -= 86_400 * SECOND_US
        world.queue = [delivery(2)]
        await world.notify()
        assert len(world.outcomes) == 2

    play(story)


def test_stopping_does_not_wait_for_ever() -> None:
    """What takes too long is left without an outcome: in doubt after the next start, never wrong."""
    sender = FakeSender()

    async def story(world: World) -> None:
        sender.gate = asyncio.Event()
        world.queue = [delivery(1)]
        await world.notify()

    assert play(story, sender).outcomes == []


def test_a_mistake_of_ours_is_not_hidden() -> None:
    """An error that is nobody's outside ends the run with that error."""

    async def run() -> None:
        world = World(FakeSender())
        world.claim_errors = [KeyError("bug")]
        await world.start()
        assert world.running is not None
        await world.running

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run())
    assert caught.value.subgroup(KeyError) is not None


@pytest.mark.parametrize("per_s", [0, -1, float("nan")])
def test_a_rate_is_above_zero(per_s: float) -> None:
    """A rate that sends nothing is a mistake, not a way to switch off."""
    with pytest.raises(ValueError, match="above 0"):
        World(FakeSender(), per_s=per_s)
