"""The express lane: the commonest Track calls are answered by the HTTP protocol itself, without an ASGI cycle.

For an ASGI server a call is a task, an event, a scope and two messages that are checked again; for us it is one fact.
So an event or an identify of one person that arrives whole is recognised by its head, becomes a fact, and is answered
when its group (``group``) is durable. Whatever is not plain goes the ordinary way: other paths, a wish to wait,
a body that is still on its way, a second call before the first was answered. Both ways read bodies and word refusals
with the same functions; the tests hold their answers against each other byte for byte.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from backstory.core.limit import HEAD_BYTES, HEAD_WAIT_S, TRACK_BODY_BYTES, Limit
from backstory.edge.bridge import Bridge, Intake
from backstory.edge.group import Groups
from backstory.edge.track_answer import ACCEPTED, UNAUTHORISED, Answer, refusal
from backstory.edge.track_request import request_facts
from backstory.edge.track_route import Action

Headers = list[tuple[bytes, bytes]]

# Visible ASCII without what ends a path segment: such a path is the same whoever reads it.
_PLAIN = re.compile(rb"/api/v1/customers/([!-\"$-.0->@-~]+)(/events)?\Z")
# With one of these headers a call is not plain.
_UNUSUAL = frozenset({b"backstory-wait", b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})
# No plain body has a length of more digits.
_DIGITS_MAX = len(str(TRACK_BODY_BYTES.value))


_ACTIONS: dict[tuple[bytes, bytes | None], Action] = {(b"POST", b"/events"): "event", (b"PUT", None): "identify"}


class Express:
    """Where plain calls go; ``authorise`` as for the Track API."""

    def __init__(
        self, workspaces: Mapping[str, Intake], authorise: Callable[[bytes], str | None], bridge: Bridge
    ) -> None:
        self._authorise = authorise
        self._groups: Groups[Plain] = Groups(workspaces, bridge, _settle)

    def find(self, method: bytes, url: bytes, headers: Headers) -> "Plain | None":
        """The call that a request's head announces, None when it has to go the ordinary way."""
        matched = _PLAIN.match(url)
        if matched is None:
            return None
        subject, ending = matched.groups()
        action = _ACTIONS.get((method, ending))
        if action is None:
            return None
        named = dict(headers)
        length = named.get(b"content-length", b"")
        if not _UNUSUAL.isdisjoint(named) or not length or len(length) > _DIGITS_MAX:
            return None
        if int(length) > TRACK_BODY_BYTES.value:
            return None
        return Plain(self, action, subject, named)

    def take(self, plain: "Plain") -> Answer | None:
        """Put a call that is all there into a group; the answer, if it is refused at once."""
        try:
            name = self._authorise(plain.headers.get(b"authorization", b""))
            if name is None:
                return UNAUTHORISED
            content_type = plain.headers.get(b"content-type", b"")
            facts = request_facts(plain.action, plain.subject, content_type, b"".join(plain.parts))
            self._groups.add(name, facts, plain)
        except Exception as error:
            return refusal(error)
        return None


class Plain:
    """One plain call, in the place of uvicorn's cycle: the attributes it asks for."""

    __slots__ = (
        "_express", "action", "disconnected", "headers", "keep_alive", "more_body", "parts", "protocol",
        "response_complete", "subject",
    )  # fmt: skip

    def __init__(self, express: Express, action: Action, subject: bytes, headers: dict[bytes, bytes]) -> None:
        self._express = express
        self.action: Action = action
        self.subject = subject
        self.headers = headers
        self.parts: list[bytes] = []
        self.protocol: ExpressProtocol
        self.keep_alive = True
        self.more_body = True
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> "Plain":
        return self

    def set(self) -> None:
        """uvicorn tells a waiting application that something came: here nobody waits."""

    def complete(self) -> None:
        """The last byte has come."""
        self.more_body = False
        answer = self._express.take(self)
        if answer is not None and not self.response_complete:
            self.protocol.answer(self, answer)


def _settle(calls: Sequence[Plain], error: Exception | None) -> None:
    """What the engine said of these calls, which came to it together.

    One that cannot be told does not keep the others waiting; what went wrong is raised in the end.
    """
    answer = ACCEPTED if error is None else refusal(error)
    problem: Exception | None = None
    for call in calls:
        if not call.response_complete:  # Accepted, and then told that the engine stopped: accepted it stays.
            try:
                call.protocol.answer(call, answer)
            except Exception as found:
                problem = found
                call.protocol.transport.abort()
    if problem is not None:
        raise problem


class ExpressProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the express lane beside its ordinary way.

    ``express`` is asked for each call, because the lane opens only when the workspaces are open.
    """

    def __init__(self, express: Callable[[], Express | None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._express = express
        # The plain call whose body is being read; None on the ordinary way.
        self._reading: Plain | None = None
        self._answered_s = 0.0
        # A head is awaited or under way: how long it is so far, and which it is of this connection. One timer looks
        # now and then whether it is still the same, so that a call costs nothing for it.
        self._in_head = True
        self._head_bytes = 0
        self._heads, self._heads_seen = 0, -1
        self._head_timer: asyncio.TimerHandle | None = None
        # The answer to an accepted call, as long as the headers that all answers share are these.
        self._accepted: tuple[object, bytes] = (None, b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_WAIT_S.value, self._look_at_head)

    def data_received(self, data: bytes) -> None:
        head = self._heads if self._in_head else -1
        super().data_received(data)
        if self._in_head and self._heads == head:
            # It began before this piece, and goes on behind it.
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES.value:
                self._refuse_head(431, HEAD_BYTES)
        if self._reading is not None:
            self._give_back(self._reading)

    def _give_back(self, plain: Plain) -> None:
        """Its body is not all there yet: the ordinary way bounds how long that may take."""
        self._reading = None
        plain.response_complete = True  # Of this cycle nothing more is to come.
        self._go_ordinary()
        for part in plain.parts:
            super().on_body(part)

    def on_message_begin(self) -> None:
        """The scope is made only for those who go the ordinary way."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._in_head = True
        self._heads += 1

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        plain = self._reading = self._plain()
        if plain is None:
            self._go_ordinary()
        else:
            plain.protocol = self
            self.cycle = cast("RequestResponseCycle", plain)

    def _plain(self) -> Plain | None:
        express, parser = self._express(), self.parser
        under_way = cast("RequestResponseCycle | None", self.cycle)
        if express is None or parser is None or self.flow.write_paused:
            return None
        if parser.get_http_version() != "1.1" or (under_way is not None and not under_way.response_complete):
            return None
        plain = express.find(parser.get_method(), self.url, self.headers)
        if plain is not None:
            plain.keep_alive = parser.should_keep_alive()
        return plain

    def _go_ordinary(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # The scope holds this very list.
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._reading is not None:
            plain, self._reading = self._reading, None
            plain.complete()
        else:
            super().on_message_complete()

    def answer(self, call: Plain, answer: Answer) -> None:
        """Write the answer to a plain call, on the event loop's thread."""
        call.response_complete = True
        if self.transport.is_closing():
            return
        self.transport.write(self._bytes(answer, keep_alive=call.keep_alive))
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # -- one timer for a connection's idle times, not one for each ----------------------------------------------------

    def on_response_complete(self) -> None:
        self._answered_s = self.loop.time()
        if self.pipeline or self.timeout_keep_alive_task is None:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _unset_keepalive_if_required(self) -> None:
        """The timer goes on: when its time has come, it looks whether the connection was idle all along."""

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        left_s = self._answered_s + self.timeout_keep_alive - self.loop.time()
        if not self.cycle.response_complete:
            return  # The end of the call under way starts the next timer.
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _look_at_head(self) -> None:
        """Time to have sent a head is over at the second look that finds the same one: within twice the limit."""
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._in_head and self._heads == self._heads_seen:
            self._refuse_head(408, HEAD_WAIT_S)
            return
        self._heads_seen = self._heads if self._in_head else -1
        self._head_timer = self.loop.call_later(HEAD_WAIT_S.value, self._look_at_head)

    def _refuse_head(self, status: int, limit: Limit) -> None:
        if not self.transport.is_closing():
            body = msgspec.json.encode({"meta": {"errors": [limit.message.format(value=limit.value)]}})
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()
        super()._unset_keepalive_if_required()

    def _bytes(self, answer: Answer, *, keep_alive: bool) -> bytes:
        shared = self.server_state.default_headers
        common = answer is ACCEPTED and keep_alive
        if common and self._accepted[0] is shared:
            return self._accepted[1]
        start, body = answer
        closing = [] if keep_alive else [b"connection: close\r\n"]
        lines = [b"%s: %s\r\n" % header for header in (*shared, *start["headers"])]
        text = b"".join([STATUS_LINE[start["status"]], *lines, *closing, b"\r\n", body["body"]])
        if common:
            self._accepted = (shared, text)
        return text
