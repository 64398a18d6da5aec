"""A workspace that remembers what it was given, for tests of the edge; and a way to call ASGI without a network."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import quote

import msgspec

from backstory.core.error import BackstoryError, NotFoundError
from backstory.core.fact import Fact, Receipt
from backstory.engine.answer.view import SegmentView

Outcome = Literal["applied", "accepted", "nothing"]


class FakeReader:
    """Knows segment 7, a manual one, and segment 8, a dynamic one; and the delivery ``dlv``."""

    def message(self, delivery_id: str) -> object:
        if delivery_id != "dlv":
            raise NotFoundError(f"there is no message {delivery_id!r}")
        return None

    def segment(self, segment_id: int) -> SegmentView:
        if segment_id not in (7, 8):
            raise NotFoundError(f"there is no segment {segment_id}")
        return SegmentView(
            segment_id=segment_id,
            name="people",
            description="",
            type="manual" if segment_id == 7 else "dynamic",
            conditions=None if segment_id == 7 else {"and": []},
            state="finished",
            progress=None,
            created_us=0,
            updated_us=0,
        )


class FakeWorkspace:
    """Takes facts and calls back at once.

    ``reaches`` says how far a fact gets by itself; ``busy`` is raised by submit, ``error`` given to ``on_error``
    (after the acceptance, when it reaches that).
    """

    def __init__(self) -> None:
        self.name = "default"
        self.reader: Any = FakeReader()
        self.facts: list[Fact] = []
        self.receipt = Receipt(result="applied", position=41)
        self.reaches: Outcome = "applied"
        self.busy: BackstoryError | None = None
        self.error: BackstoryError | None = None
        self.healthy = True
        self.faults: list[str] = []
        self.closed = False

    def check_room(self, wire_bytes: int) -> None:
        if self.busy is not None:
            raise self.busy

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
        self.facts += facts
        if self.reaches != "nothing" and on_accept is not None:
            on_accept()
        if self.error is not None:
            on_error(self.error)
        elif self.reaches == "applied" and on_applied is not None:
            on_applied([self.receipt for _ in facts])

    def apply(self, facts: list[Fact], *, timeout_s: float = 30) -> list[Receipt]:
        self.facts += facts
        return [self.receipt for _ in facts]

    def close(self) -> None:
        self.closed = True

    @property
    def fact(self) -> Fact:
        """The only fact there is."""
        assert len(self.facts) == 1, self.facts
        return self.facts[0]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> str:
        """The only error of ``{"meta":{"errors":["…"]}}``."""
        (text,) = self.json["meta"]["errors"]
        return text


@dataclass(kw_only=True)
class AsgiClient:
    """Calls an ASGI application in this process, on one event loop for all calls."""

    make_app: Callable[[], Any]
    headers: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._runner.__enter__()
        self.app = self._runner.run(self._made())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.__exit__(*error)  # type: ignore[arg-type]

    async def _made(self) -> Any:
        return self.make_app()

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | dict[str, Any] = b"",
        **headers: str,
    ) -> Answer:
        """Send a request; ``path`` as it is on the wire. A dict is sent as JSON, several pieces one by one."""
        if isinstance(body, dict):
            body = msgspec.json.encode(body)
            headers.setdefault("content_type", "application/json")
        chunks = [body] if isinstance(body, bytes) else list(body)
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self._runner.run(self._call(method, path, chunks, sent))

    async def _call(self, method: str, path: str, chunks: list[bytes], headers: dict[str, str]) -> Answer:
        raw, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": raw,
            "raw_path": quote(raw, safe="/%:@!$&'()*+,;=~[]").encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "state": {},
        }
        self.read = 0
        answered: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            self.read += 1
            if self.read > len(chunks):
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunks[self.read - 1], "more_body": self.read < len(chunks)}

        async def send(message: dict[str, Any]) -> None:
            answered.append(message)

        await self.app(scope, receive, send)
        start, *rest = answered
        body = b"".join(message["body"] for message in rest)
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        assert int(found.get("content-length", "0")) == len(body)
        return Answer(status=start["status"], headers=found, body=body)
