"""The express lane answers what the ordinary way answers, and makes the same facts of it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from backstory.core.error import Busy, StorageError
from backstory.core.fact import Fact, Identifier, Track
from backstory.core.limit import HEAD_BYTES, HEAD_WAIT_S, TRACK_BODY_BYTES
from backstory.edge.bridge import Bridge
from backstory.edge.express import Express, ExpressProtocol, Plain
from backstory.edge.track import TrackApi
from tests.unit.fake_workspace import FakeWorkspace
from tests.unit.test_track_fuzz import BODIES, TYPES

EVENT = b'{"name":"bought","data":{"price":5}}'


class Wire(asyncio.Transport):
    """What was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        # Nothing can be written any more, and nobody has noticed.
        self.torn = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.torn:
            raise OSError("the connection is torn")
        self.written += bytes(data)

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@dataclass(kw_only=True)
class Road:
    """One connection to a workspace of its own; ``lane``: with the express lane beside the ordinary way."""

    lane: bool
    workspace: FakeWorkspace = field(default_factory=FakeWorkspace)
    taken: int = 0
    asked: int = 0
    express: Express | None = None

    def authorise(self, header: bytes) -> str | None:
        self.asked += 1
        return "default" if header == b"right" else None

    def open(self) -> ExpressProtocol:
        bridge = Bridge(asyncio.get_running_loop())
        workspaces = {"default": self.workspace}
        express = self.express = self.express or Express(workspaces, self.authorise, bridge)
        app = TrackApi(workspaces, self.authorise, bridge)
        config = uvicorn.Config(cast("Any", app), lifespan="off", interface="asgi3", ws="none", log_config=None)
        state = ServerState()
        state.default_headers = [(b"date", b"today")]
        protocol = ExpressProtocol(
            lambda: express if self.lane else None, config=config, server_state=state, app_state={}
        )
        self.wire = Wire()
        protocol.connection_made(self.wire)
        return protocol

    async def drive(self, *pieces: bytes) -> None:
        self.protocol = self.open()
        for piece in pieces:
            self.protocol.data_received(piece)
            self.taken += type(self.protocol.cycle) is Plain
        await self.idle()

    async def idle(self) -> None:
        """Until the call under way is answered, and what was waiting behind it; then the connection is gone."""
        await self.turn()
        self.protocol.connection_lost(None)

    async def turn(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(50):
            turned = loop.create_future()
            loop.call_soon(turned.set_result, None)
            await turned

    @property
    def facts(self) -> list[Fact]:
        return self.workspace.facts


def request(method: str, path: str, body: bytes, *headers: str, key: str = "right") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Authorization: {key}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def both(*pieces: bytes) -> tuple[Road, Road]:
    """The same bytes with and without the lane."""

    async def run() -> tuple[Road, Road]:
        roads = Road(lane=True), Road(lane=False)
        for road in roads:
            await road.drive(*pieces)
        return roads

    return asyncio.run(run())


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


PATHS = st.one_of(
    st.sampled_from(["5", "ann%40x.org", "ann@x.org", "cio_a3000001", "a%2Fb", "a/b", "%ff", "a%00b", "", "x" * 200]),
    st.text(alphabet="ab%2F0@_.+~?#&=", max_size=12),
).flatmap(lambda who: st.sampled_from([f"/api/v1/customers/{who}", f"/api/v1/customers/{who}/events"]))
EXTRAS = st.sampled_from([[], ["Connection: close"], ["Connection: keep-alive"], ["X-Other: 1", "Accept: */*"]])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["PUT", "POST"]), path=PATHS, kind=TYPES, body=BODIES, extra=EXTRAS, data=st.data()
)
def test_both_ways_answer_alike(
    runner: asyncio.Runner, method: str, path: str, kind: str, body: bytes, extra: list[str], data: st.DataObject
) -> None:
    """Any call, in whatever pieces it comes: equal bytes, equal facts, and the connection open or closed alike."""
    whole = request(method, path, body, f"Content-Type: {kind}", *extra)
    cut = data.draw(st.integers(0, len(whole)))
    fast, slow = Road(lane=True), Road(lane=False)
    for road in (fast, slow):
        runner.run(road.drive(whole[:cut], whole[cut:]))
    assert (fast.wire.written, fast.wire.closed) == (slow.wire.written, slow.wire.closed)
    assert fast.facts == slow.facts


def test_the_common_calls_take_the_lane() -> None:
    """An event and an identify with a known length do; the fact is that of the body."""
    for method, path in (("POST", "/api/v1/customers/5/events"), ("PUT", "/api/v1/customers/5")):
        fast, slow = both(request(method, path, EVENT))
        assert (fast.taken, slow.taken) == (1, 0)
        assert fast.wire.written.startswith(b"HTTP/1.1 200 OK\r\ndate: today\r\n")
    event = Track(person=Identifier("id", "5"), name="bought", data=b'{"price":5}')
    assert both(request("POST", "/api/v1/customers/5/events", EVENT))[0].facts == [event]


@pytest.mark.parametrize(
    "whole",
    [
        request("POST", "/api/v1/customers/5/events", EVENT, "Backstory-Wait: applied"),
        request("POST", "/api/v1/customers/5/events", EVENT, "Expect: 100-continue"),
        request("POST", "/api/v1/customers/5/events?x=1", EVENT),
        request("POST", "/api/v1/events", EVENT),
        request("DELETE", "/api/v1/customers/5", b""),
        request("POST", "/api/v1/customers/5/events", b" " * (TRACK_BODY_BYTES.value + 1)),
        b"POST /api/v1/customers/5/events HTTP/1.0\r\nAuthorization: right\r\nContent-Length: 36\r\n\r\n" + EVENT,
        b"POST /api/v1/customers/5/events HTTP/1.1\r\nAuthorization: right\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"24\r\n" + EVENT + b"\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_plain_goes_the_ordinary_way(whole: bytes) -> None:
    """Wishes, other paths and bodies of unknown or too great a length: no lane, and the same answer."""
    fast, slow = both(whole)
    assert fast.taken == 0
    assert fast.wire.written == slow.wire.written
    assert fast.facts == slow.facts


def test_wrong_keys_open_nothing() -> None:
    """They are refused with the same words on both ways, and no fact is made."""
    fast, slow = both(request("POST", "/api/v1/customers/5/events", EVENT, key="wrong"))
    assert fast.wire.written == slow.wire.written
    assert fast.wire.written.startswith(b"HTTP/1.1 401 ")
    assert not fast.facts
    assert not slow.facts


def test_each_call_asks_once_who_calls() -> None:
    """A rate is kept per call, whichever way the call goes and in whatever pieces it comes."""
    whole = request("POST", "/api/v1/customers/5/events", EVENT)
    for cut in (len(whole), 30, len(whole) - 3):
        fast, slow = both(whole[:cut], whole[cut:])
        assert (fast.asked, slow.asked) == (1, 1)


def test_a_body_on_its_way_goes_the_ordinary_way() -> None:
    """Who sends the head alone is waited for where waiting is bounded; the answer is the same."""
    whole = request("POST", "/api/v1/customers/5/events", EVENT)
    for cut in (len(whole) - 1, len(whole) - len(EVENT), 40):
        fast, slow = both(whole[:cut], whole[cut:])
        assert fast.taken == (cut == 40)
        assert fast.wire.written == slow.wire.written
        assert fast.facts == slow.facts


def test_calls_sent_ahead_are_answered_in_order() -> None:
    """The first takes the lane, those sent before its answer wait for it; each becomes a fact."""
    calls = [request("POST", f"/api/v1/customers/{number}/events", EVENT) for number in range(3)]
    fast, slow = both(b"".join(calls))
    assert fast.wire.written == slow.wire.written
    assert fast.wire.written.count(b"HTTP/1.1 200 OK") == 3
    assert fast.facts == slow.facts


@pytest.mark.parametrize("error", [Busy(), StorageError("the disk is full")])
def test_refusals_of_the_engine(error: Busy | StorageError) -> None:
    """What submit or the acceptance refuses is worded and numbered as on the ordinary way."""

    async def run(*, at_once: bool) -> list[bytes]:
        answers: list[bytes] = []
        for lane in (True, False):
            road = Road(lane=lane)
            road.workspace.reaches = "nothing"
            if at_once:
                road.workspace.busy = error
            else:
                road.workspace.error = error
            await road.drive(request("POST", "/api/v1/customers/5/events", EVENT))
            answers.append(road.wire.written)
        return answers

    for at_once in (True, False):
        fast, slow = asyncio.run(run(at_once=at_once))
        assert fast == slow
        assert fast[9:12] in (b"429", b"503")


def test_an_accepted_call_stays_accepted() -> None:
    """The engine stops after the fact was durable: one answer, and it says so."""

    async def run() -> Road:
        road = Road(lane=True)
        road.workspace.error = StorageError("the engine has stopped")
        await road.drive(request("POST", "/api/v1/customers/5/events", EVENT))
        return road

    assert asyncio.run(run()).wire.written.count(b"HTTP/1.1 ") == 1


def test_a_call_that_cannot_be_told_keeps_no_other_waiting() -> None:
    """Three calls in one group: the second's connection breaks as its answer is written, the others are answered."""

    async def run() -> tuple[list[Wire], list[str]]:
        problems: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(repr(told["exception"])))
        road = Road(lane=True)
        wires: list[Wire] = []
        for torn in (False, True, False):
            road.open().data_received(request("POST", "/api/v1/customers/5/events", EVENT))
            road.wire.torn = torn
            wires.append(road.wire)
        await road.turn()
        assert len(road.facts) == 3
        return wires, problems

    wires, problems = asyncio.run(run())
    assert [wire.written.startswith(b"HTTP/1.1 200 ") for wire in wires] == [True, False, True]
    assert [wire.closed for wire in wires] == [False, True, False]
    assert problems == ["OSError('the connection is torn')"]


def test_a_client_that_left_is_not_written_to() -> None:
    """Its fact is accepted all the same."""

    async def run() -> Road:
        road = Road(lane=True)
        road.protocol = road.open()
        road.protocol.data_received(request("POST", "/api/v1/customers/5/events", EVENT))
        road.wire.close()
        await road.idle()
        return road

    road = asyncio.run(run())
    assert road.wire.written == b""
    assert len(road.facts) == 1


def test_an_orderly_end_waits_for_the_answer() -> None:
    """A call under way when the server is told to stop is answered, and told that the connection closes."""

    async def run() -> Road:
        road = Road(lane=True)
        road.protocol = road.open()
        road.protocol.data_received(request("POST", "/api/v1/customers/5/events", EVENT))
        road.protocol.shutdown()
        assert not road.wire.closed
        await road.idle()
        return road

    road = asyncio.run(run())
    assert b"connection: close" in road.wire.written
    assert road.wire.closed


def test_idle_connections_are_closed() -> None:
    """One timer sees to it: it goes on while calls come, waits for one under way, and closes after true idleness."""

    async def run() -> None:
        road = Road(lane=True)
        road.protocol = road.open()
        call = request("POST", "/api/v1/customers/5/events", EVENT)
        for _ in range(2):
            road.protocol.data_received(call)
            road.protocol.timeout_keep_alive_handler()  # It comes while a call is under way.
            await road.turn()
        timer = road.protocol.timeout_keep_alive_task
        assert timer is not None
        road.protocol.timeout_keep_alive_handler()  # It comes too early for the latest call.
        assert not road.wire.closed
        assert road.protocol.timeout_keep_alive_task not in (None, timer)
        road.protocol.timeout_keep_alive = 0
        road.protocol.timeout_keep_alive_handler()
        assert road.wire.closed
        timer.cancel()
        await road.idle()
        assert road.protocol.timeout_keep_alive_task is None

    asyncio.run(run())


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


async def _later(road: Road, seconds: float) -> None:
    """Time passes, and whatever is due by then happens."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Jumping)
    loop.ahead_s += seconds
    await road.turn()


def on_a_jumping_clock(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Jumping) as runner:
        runner.run(test())


def test_a_head_that_comes_byte_by_byte_is_cut_off() -> None:
    """Within twice the limit, however regularly a byte comes; so is a connection on which nothing comes at all."""

    async def drip() -> None:
        for first in (b"", b"GET /health HTTP/1.1\r\nHost: here\r\nX-Slow: "):
            road = Road(lane=True)
            protocol = road.open()
            for _ in range(2 * HEAD_WAIT_S.value + 1):
                if first and not road.wire.closed:
                    protocol.data_received(first)
                    first = b"x"
                await _later(road, 1.01)
            assert road.wire.closed
            assert road.wire.written.startswith(b"HTTP/1.1 408 ")
            protocol.connection_lost(None)

    on_a_jumping_clock(drip)


def test_a_connection_with_calls_is_left_alone() -> None:
    """Its heads come whole, a call now and then, a body that is awaited elsewhere."""

    async def talk() -> None:
        road = Road(lane=True)
        protocol = road.open()
        for _ in range(5):
            protocol.data_received(request("POST", "/api/v1/customers/5/events", EVENT))
            await _later(road, HEAD_WAIT_S.value + 1)
            assert not road.wire.closed
        protocol.connection_lost(None)

    on_a_jumping_clock(talk)


def test_a_head_may_be_only_so_long() -> None:
    """Past the limit the connection is closed with 431, wherever the pieces are cut."""

    async def long() -> None:
        road = Road(lane=True)
        protocol = road.open()
        protocol.data_received(b"GET /health HTTP/1.1\r\n")
        line = b"X-More: " + b"y" * 1000 + b"\r\n"
        count = HEAD_BYTES.value // len(line)
        for _ in range(count):
            protocol.data_received(line)
        assert not road.wire.closed
        protocol.data_received(line)
        assert road.wire.closed
        assert road.wire.written.startswith(b"HTTP/1.1 431 ")
        protocol.connection_lost(None)

    on_a_jumping_clock(long)
