"""How a command reaches a workspace: over the socket of a running server, or by opening the folder itself.

Either way it is a client of the same HTTP endpoints, so that a command means the same in both. Without a server
the application is called in this process, by a transport that streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from backstory.core.condition import Json
from backstory.core.error import BackstoryError
from backstory.store.lock import FolderBusy

if TYPE_CHECKING:
    import httpx
    from starlette.types import ASGIApp

SOCKET_NAME = "backstory.sock"
_ORIGIN = "http://backstory"
_ATTEMPTS = 25
_PAUSE_S = 0.2


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
OpenFolder = Callable[[], tuple[Opened, "ASGIApp"]]


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

    def __enter__(self) -> Session:
        transport = self._reach()
        import httpx

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
        import httpx

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
        import httpx

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
            # What speaks HTTP is loaded where there is somebody to speak to.
            if (self._data / SOCKET_NAME).is_socket():
                from backstory.edge.transport import socket_transport

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
                from backstory.edge.transport import InProcess

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
