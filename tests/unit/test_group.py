"""How calls gather on their way to the engine."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import pytest

from backstory.core.error import BackstoryError, Busy, StorageError
from backstory.core.fact import Fact, Identifier, Receipt, Track
from backstory.edge.bridge import Bridge
from backstory.edge.group import GROUP_FACTS, GROUP_S, Groups


def event(number: int) -> Fact:
    return Track(person=Identifier("id", "ann"), name=f"event {number}")


@dataclass(kw_only=True)
class Engine:
    """Notes what is handed in together; answers as told. ``room``: for how many facts there is some, None: for all."""

    room: int | None = None
    busy: BackstoryError | None = None
    error: BackstoryError | None = None
    together: list[int] = field(default_factory=list[int])
    facts: list[Fact] = field(default_factory=list[Fact])

    def submit(
        self,
        facts: list[Fact],
        *,
        on_accept: Callable[[], None] | None,
        on_applied: Callable[[list[Receipt]], None] | None,
        on_error: Callable[[BackstoryError], None],
    ) -> None:
        if self.busy is not None:
            raise self.busy
        if self.room is not None:
            if len(facts) > self.room:
                raise Busy()
            self.room -= len(facts)
        self.together.append(len(facts))
        self.facts += facts
        if self.error is not None:
            on_error(self.error)
        elif on_accept is not None:
            on_accept()

    def check_room(self, wire_bytes: int) -> None: ...


class Desk:
    """Groups in front of two engines, and what was said of which call."""

    def __init__(self, first: Engine, second: Engine | None = None) -> None:
        self.told: list[tuple[int, Exception | None]] = []
        workspaces = {"first": first, "second": second or Engine()}
        self.groups: Groups[int] = Groups(workspaces, Bridge(asyncio.get_running_loop()), self.settle)

    def settle(self, calls: Sequence[int], error: Exception | None) -> None:
        self.told += [(call, error) for call in calls]

    def add(self, *numbers: int, name: str = "first") -> None:
        for number in numbers:
            self.groups.add(name, [event(number)], number)


class Turn:
    """Awaited, it lets the event loop go round once."""

    def __await__(self) -> Generator[None]:
        yield


async def turns(count: int = 6) -> None:
    """So many looks of the event loop at its sockets."""
    for _ in range(count):
        await Turn()


def test_calls_of_one_moment_go_together() -> None:
    """They are one submission, in the order in which they came, and each is told."""

    async def run() -> None:
        engine = Engine()
        desk = Desk(engine)
        desk.add(1, 2, 3)
        assert not engine.together
        await turns()
        assert engine.together == [3]
        assert engine.facts == [event(1), event(2), event(3)]
        assert desk.told == [(1, None), (2, None), (3, None)]

    asyncio.run(run())


def test_calls_join_while_more_are_coming() -> None:
    """Whoever is read at the next look joins; whoever comes after the group went makes a new one."""

    async def run() -> None:
        engine = Engine()
        desk = Desk(engine)
        desk.add(1)
        await turns(1)
        desk.add(2)
        await turns()
        desk.add(3)
        await turns()
        assert engine.together == [2, 1]
        assert [call for call, _ in desk.told] == [1, 2, 3]

    asyncio.run(run())


def test_a_call_alone_goes_at_once() -> None:
    """It waits for one look at the sockets, not for a time."""

    async def run() -> None:
        engine = Engine()
        desk = Desk(engine)
        desk.add(1)
        await turns(3)
        assert desk.told == [(1, None)]

    asyncio.run(run())


def test_a_group_is_bounded() -> None:
    """With so many facts it goes without another look."""

    async def run() -> None:
        engine = Engine()
        Desk(engine).add(*range(2 * GROUP_FACTS + 1))
        assert engine.together == [GROUP_FACTS, GROUP_FACTS]
        await turns()
        assert engine.together == [GROUP_FACTS, GROUP_FACTS, 1]

    asyncio.run(run())


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def test_a_stream_of_calls_does_not_hold_the_first_back() -> None:
    """A group goes when its first call has waited long enough, though each look brings one more."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Jumping)
        engine = Engine()
        desk = Desk(engine)
        for number in range(10):
            desk.add(number)
            loop.ahead_s += GROUP_S / 2
            await turns(1)
        assert engine.together
        assert max(engine.together) <= 4

    with asyncio.Runner(loop_factory=Jumping) as runner:
        runner.run(run())


def test_a_full_engine_refuses_all_of_a_group() -> None:
    """Each of its calls is told; those that come later may be taken."""

    async def run() -> None:
        engine = Engine(busy=Busy())
        desk = Desk(engine)
        desk.add(1, 2)
        await turns()
        assert desk.told == [(1, engine.busy), (2, engine.busy)]
        engine.busy = None
        desk.add(3)
        await turns()
        assert desk.told[2:] == [(3, None)]

    asyncio.run(run())


@pytest.mark.parametrize("room", range(10))
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_as_many_are_taken_as_there_is_room_for(room: int, count: int) -> None:
    """From the first on and in order; the rest is refused, each of them once."""

    async def run() -> None:
        engine = Engine(room=room)
        desk = Desk(engine)
        desk.add(*range(count))
        await turns()
        assert engine.facts == [event(number) for number in range(min(room, count))]
        assert sorted(call for call, error in desk.told if error is None) == list(range(min(room, count)))
        refused = [(call, type(error)) for call, error in desk.told if error is not None]
        assert refused == [(number, Busy) for number in range(room, count)]

    asyncio.run(run())


def test_the_facts_of_a_call_stay_together() -> None:
    """Of a call with three facts none is taken where there is room for two of them."""

    async def run() -> None:
        engine = Engine(room=3)
        desk = Desk(engine)
        desk.add(1)
        desk.groups.add("first", [event(number) for number in (2, 3, 4)], 2)
        desk.add(5)
        await turns()
        assert engine.facts == [event(1)]
        assert [(call, error is None) for call, error in sorted(desk.told, key=lambda told: told[0])] == [
            (1, True), (2, False), (5, False),
        ]  # fmt: skip

    asyncio.run(run())


def test_a_failed_commit_is_told_to_all() -> None:
    """What the journal refused is refused to everybody whose fact was in it."""

    async def run() -> None:
        error = StorageError("the disk is full")
        desk = Desk(Engine(error=error))
        desk.add(1, 2)
        await turns()
        assert desk.told == [(1, error), (2, error)]

    asyncio.run(run())


def test_workspaces_do_not_mix() -> None:
    """Each has a group of its own."""

    async def run() -> None:
        first, second = Engine(), Engine()
        desk = Desk(first, second)
        desk.add(1)
        desk.add(2, name="second")
        desk.add(3)
        await turns()
        assert first.facts == [event(1), event(3)]
        assert second.facts == [event(2)]

    asyncio.run(run())
