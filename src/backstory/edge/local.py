"""How a command reaches a workspace: over the socket of a running server, or by opening the folder itself.

Either way it is a client of the same HTTP endpoints, so that a command means the same in both. Without a server
the application is called in this process, by a transport that streams.
"""

import concurrent.futures
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

import anyio
import httpx
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message, Scope

from backstory.core.condition import Json
from backstory.core.error import BackstoryError
from backstory.store.lock import FolderBusy

SOCKET_NAME = "backstory.sock"
_ORIGIN = "http://backstory"
_ATTEMPTS = 25
_PAUSE_S = 0.2
_CHUNKS_MAX = 16


class CommandError(BackstoryError):
    """What a command asked for was refused, with the server's own words."""


class NotThere(CommandError):
    """What a command named does not exist."""


class ServerGone(CommandError):
    """The server ended while it was at work for a command; what it had done by then stays."""


class Opened(Protocol):
    """A workspace this process opened; ``close`` finishes what was accepted and lets the folder go."""

    def close(self) -> None: ...


# Opens the folder and returns it with the application to call; raises FolderBusy.
OpenFolder = Callable[[], tuple[Opened, ASGIApp]]


class Session:
    """A client of one data folder, for the time of one command."""

    def __init__(
        self,
        data: Path,
        open_folder: OpenFolder,
        *,
        workspace: str = "default",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._data = data
        self._workspace = workspace
        self._open_folder = open_folder
        self._pause = pause
        self._exit = ExitStack()
        self._client: httpx.Client | None = None
        # Whether there is no server, and this process opened the folder: then nothing is sent.
        self.in_process = False

    def __enter__(self) -> "Session":
        transport = self._reach()
        # Long work answers when it is done: no timeout of ours could tell slow from stuck.
        headers = {"Backstory-Workspace": self._workspace}
        client = httpx.Client(transport=transport, base_url=_ORIGIN, timeout=None, headers=headers)
        self._client = self._exit.enter_context(client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: object = None,
        wait: bool = False,
    ) -> dict[str, Json]:
        """The JSON answer to a request; raises ``CommandError`` with the refusal's words, ``NotThere`` for a 404.

        ``wait`` asks for an answer when all reads show what was written.
        """
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        content = None if body is None else msgspec.json.encode(body)
        try:
            headers = {"Backstory-Wait": "applied"} if wait else {}
            response = self._opened().request(method, path, params=given, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise CommandError(f"the server went away: {error}") from None
        if not response.is_success:
            refused = NotThere if response.status_code == HTTPStatus.NOT_FOUND else CommandError
            raise refused(refusal_text(response.status_code, response.content))
        return msgspec.json.decode(response.content) if response.content else {}

    def work(self, path: str, body: object, on_line: Callable[[dict[str, Json]], None]) -> None:
        """Have long work done and take its lines; raises ``CommandError`` when it is refused or fails.

        Leaving early (an exception of ``on_line``, an interrupt) stops the work at a safe place first.
        """
        try:
            with self._opened().stream("POST", path, content=msgspec.json.encode(body)) as response:
                if not response.is_success:
                    raise CommandError(refusal_text(response.status_code, response.read()))
                for text in response.iter_lines():
                    on_line(_line(text))
        except httpx.HTTPError as error:
            raise ServerGone(f"the server went away in the middle of it: {error}") from None

    def _reach(self) -> httpx.BaseTransport:
        """A server that is starting or stopping holds the folder and has no socket: it gets some time."""
        for attempt in range(_ATTEMPTS):
            transport = socket_transport(self._data / SOCKET_NAME)
            if transport is not None:
                return transport
            try:
                folder, app = self._open_folder()
            except FolderBusy:
                if attempt == _ATTEMPTS - 1:
                    raise
                self._pause(_PAUSE_S)
            else:
                self._exit.callback(folder.close)
                self.in_process = True
                return InProcess(app)
        raise AssertionError("the last attempt returns or raises")

    def _opened(self) -> httpx.Client:
        assert self._client is not None, "a session is used inside its with block"
        return self._client


def refusal_text(status: int, body: bytes) -> str:
    """What an error answer says, with the place of the mistake."""
    try:
        errors = cast("list[dict[str, Json]]", msgspec.json.decode(body)["errors"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return f"the server answered {status}: {body[:200].decode(errors='replace')}"
    return "; ".join(_error_text(error) for error in errors)


def socket_transport(path: Path) -> httpx.BaseTransport | None:
    """A way to the server behind a socket; None when no server listens there (any more)."""
    if not path.is_socket():
        return None
    # Where the path is too long for the kernel, the server left a link to a shorter one.
    address = os.readlink(path) if path.is_symlink() else os.path.abspath(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return None
    return httpx.HTTPTransport(uds=address)


class InProcess(httpx.BaseTransport):
    """Calls an ASGI application in this process; the body of the answer streams.

    ``Workspace`` methods block, so the application gets an event loop in a thread of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._exit = ExitStack()
        self._portal = self._exit.enter_context(start_blocking_portal())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = self._portal.call(_Exchange, self._portal, request.read())
        exchange.start(self._app, _scope(request))
        try:
            status, headers = exchange.head()
        except BaseException:
            exchange.close()
            raise
        return httpx.Response(status, headers=headers, stream=exchange, request=request)

    def close(self) -> None:
        self._exit.close()


class _Exchange(httpx.SyncByteStream):
    """One request and its answer, handed from the event loop to the caller chunk by chunk.

    A slow reader makes the application wait. When the caller leaves, the application hears of it and is waited for:
    long work ends where it may.
    """

    def __init__(self, portal: BlockingPortal, body: bytes) -> None:
        self._portal = portal
        self._body: bytes | None = body
        self._inlet, self._outlet = anyio.create_memory_object_stream[Message](_CHUNKS_MAX)
        self._left = anyio.Event()

    def start(self, app: ASGIApp, scope: Scope) -> None:
        self._ended = self._portal.start_task_soon(self._run, app, scope)

    def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        first = self._next()
        if first is None:
            self._ended.result()
            raise CommandError("the request was not answered")
        return first["status"], list(first["headers"])

    def __iter__(self) -> Iterator[bytes]:
        while (message := self._next()) is not None:
            yield message.get("body", b"")
        # An error behind the first byte must not look like the end of the answer.
        self._ended.result()

    def close(self) -> None:
        self._portal.call(self._leave)
        concurrent.futures.wait([self._ended])

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        async with self._inlet:
            await app(scope, self._receive, self._send)

    def _next(self) -> Message | None:
        try:
            return self._portal.call(self._outlet.receive)
        except anyio.EndOfStream:
            return None

    async def _leave(self) -> None:
        self._left.set()
        self._outlet.close()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        with suppress(anyio.BrokenResourceError):
            await self._inlet.send(message)


def _scope(request: httpx.Request) -> Scope:
    raw_path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("backstory", None),
        "client": None,
    }


def _line(text: str) -> dict[str, Json]:
    line = cast("dict[str, Json]", msgspec.json.decode(text))
    failed = line.get("error")
    if failed is not None:
        raise CommandError(str(failed.get("message")) if isinstance(failed, dict) else str(failed))
    return line


def _error_text(error: dict[str, Json]) -> str:
    source = error.get("source")
    place = source.get("pointer") if isinstance(source, dict) else None
    if isinstance(place, str) and place in _FLAGS:
        return f"{_FLAGS[place]}: {error.get('detail')}"
    return f"{error.get('detail')} (at {place})" if place else str(error.get("detail"))


# What options of the command line are called in requests.
_FLAGS = {
    "map": "--map", "types": "--type", "zone": "--zone", "time": "--time", "as_of": "--as-of", "rows": "--rows",
    "delimiter": "--delimiter", "same_rows": "--same-rows", "segment_id": "--segment", "start": "--start",
    "step": "--step",
}  # fmt: skip
