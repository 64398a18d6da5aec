"""The open workspaces of a server and the way to each: by its keys from outside, by its name from the local socket.

Each has its own folder, keys and application; an application knows only its own workspace, so nothing can leak from
one to another. Workspaces made while the server runs come in by ``admit``.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.core.error import BackstoryError
from backstory.edge.app_answer import failure, refusal, unauthorised
from backstory.edge.auth import WORKSPACE_NAME, Authenticator

W = TypeVar("W")
WORKSPACE_HEADER = b"backstory-workspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The applications of one workspace: the App API for its keys, everything for the owner of the folder."""

    public: ASGIApp
    local: ASGIApp


class Gate(Generic[W]):
    """What the listeners call. ``app`` says which workspace an App key opens."""

    def __init__(self, keys: Authenticator, app: Callable[[bytes], str | None]) -> None:
        self.keys = keys
        self._app = app
        self.workspaces: dict[str, W] = {}
        self._rooms: dict[str, Rooms] = {}

    def admit(self, name: str, workspace: W, rooms: Rooms) -> None:
        """One more workspace; its keys must be known to ``keys`` already."""
        self._rooms[name] = rooms
        self.workspaces[name] = workspace

    def public(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The App API of whichever workspace the key opens."""
        try:
            name = self._app(_header(scope, b"authorization"))
        except BackstoryError as error:
            return refusal(error)(scope, receive, send)
        if name is None:
            return unauthorised()(scope, receive, send)
        return self._rooms[name].public(scope, receive, send)

    def local(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Everything of the workspace that a header names, ``default`` when none does."""
        name = _header(scope, WORKSPACE_HEADER).decode("latin-1") or WORKSPACE_NAME
        rooms = self._rooms.get(name)
        if rooms is None:
            message = f"there is no workspace {name!r}: 'backstory workspaces list' shows all"
            return failure(404, message)(scope, receive, send)
        return rooms.local(scope, receive, send)


def _header(scope: Scope, wanted: bytes) -> bytes:
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    return headers.get(wanted, b"")
