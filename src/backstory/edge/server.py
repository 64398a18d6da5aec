"""The running server: one event loop, a TCP listener, a local socket, and the APIs behind them.

The one place where a running system is put together from settings. Both listeners serve the same endpoints; who can
open the local socket (0600, in the data folder) may read the data anyway, so it asks for no keys and offers the
``/local`` endpoints as well. Until the workspaces are open, everything answers 503.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.core.error import BackstoryError
from backstory.edge import track_answer
from backstory.edge.app import app_api
from backstory.edge.app_local import LocalTools
from backstory.edge.auth import WORKSPACE_NAME, Authenticator, prepare_keys, tell_keys
from backstory.edge.bridge import Bridge, Intake
from backstory.edge.local import SOCKET_NAME
from backstory.edge.tls import Certificate, certificate, trust_hint
from backstory.edge.track import TrackApi, raw_path
from backstory.engine.clock import Clock, SystemClock
from backstory.engine.port import Workspace
from backstory.engine.settings import Settings
from backstory.store.credential import CredentialStore

BACKLOG = 2048
KEEP_ALIVE_S = 75
# Requests under way get this long to finish; container runtimes kill after ten seconds.
GRACE_S = 8
REFRESH_KEYS_S = 1.0
# What the kernel allows for the address of a local socket, with some to spare (Linux 108, macOS 104).
SOCKET_PATH_BYTES_MAX = 100

_log = logging.getLogger(__name__)


class ServedWorkspace(Intake, Workspace, Protocol):
    """An open workspace as the server uses it."""

    @property
    def healthy(self) -> bool:
        """Whether its threads still run; when they do not, nothing is accepted any more."""
        ...

    def close(self) -> None:
        """Apply what was accepted and let the folder go."""
        ...


W = TypeVar("W", bound=ServedWorkspace)
MakeTools = Callable[[W, CredentialStore], LocalTools]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that is ready. ``stop`` may be called from any thread; ``port`` is the one really listened on."""

    url: str
    port: int
    certificate: Certificate | None
    stop: Callable[[], None]


def serve(
    settings: Settings,
    open_workspace: Callable[[str], W],
    *,
    make_tools: MakeTools[W] | None = None,
    on_ready: Callable[[Running], None] | None = None,
    clock: Clock | None = None,
    names: Sequence[str] = (WORKSPACE_NAME,),
) -> int:
    """Serve until SIGTERM, SIGINT or ``Running.stop``; returns the exit code of the process.

    ``open_workspace`` opens one of the workspaces ``names`` (blocking, in a thread) and takes the lock of the data
    folder; ``make_tools`` gives the local socket its tools. The local socket serves the workspace ``default``. In a
    thread other than the main one no signals are handled.
    """
    server = _Server(settings, open_workspace, make_tools, on_ready, clock or SystemClock(), names)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.run())
    except (BackstoryError, OSError) as error:
        sys.stderr.write(f"backstory: {error}\n")
        return 1
    return 0


def build_app(track: ASGIApp, app: ASGIApp, healthy: Callable[[], bool]) -> ASGIApp:
    """The ASGI application of a listener: Track under ``/api/``, the App API under ``/v1/`` and ``/local/``, health.

    A plain function that hands on the coroutine: the hot path gets no layer of its own.
    """

    def dispatch(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return _no_http(scope, receive, send)
        path = raw_path(scope)
        if path.startswith(b"/api/"):
            return track(scope, receive, send)
        if path.startswith((b"/v1/", b"/local/")):
            return app(scope, receive, send)
        if path == b"/health":
            return _send(track_answer.READY if healthy() else track_answer.FAILED, send)
        shown = path[:200].decode("latin-1")
        message = f"there is nothing at {shown}: the Track API is under /api/v1/, the App API under /v1/"
        return _send(track_answer.errors(404, message), send)

    return dispatch


def bind_local(data: Path) -> socket.socket:
    """A listening socket at ``DIR/backstory.sock`` that only its owner may open; the lock of the folder must be held.

    Where the path is longer than the kernel allows, the socket is in a private temporary folder and
    ``DIR/backstory.sock`` a link to it: clients connect to the resolved path.
    """
    path = data / SOCKET_NAME
    path.unlink(missing_ok=True)  # Left over: whoever holds the lock is the only server.
    address = os.path.abspath(path)
    if len(os.fsencode(address)) > SOCKET_PATH_BYTES_MAX:
        address = os.path.join(tempfile.mkdtemp(prefix="backstory-"), SOCKET_NAME)
        path.symlink_to(address)
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        local.bind(address)
        os.chmod(address, 0o600)  # Before it listens: nobody connects in between.
        local.listen(BACKLOG)
    except OSError:
        local.close()
        raise
    return local


class _Front:
    """What the public listener calls: 503 until ``inner`` is set to the real application."""

    def __init__(self) -> None:
        self.inner: ASGIApp = _starting

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.inner(scope, receive, send)


class _Listener(uvicorn.Server):
    """uvicorn without its own handling of signals: two of them share a process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Server(Generic[W]):
    def __init__(
        self,
        settings: Settings,
        open_workspace: Callable[[str], W],
        make_tools: MakeTools[W] | None,
        on_ready: Callable[[Running], None] | None,
        clock: Clock,
        names: Sequence[str],
    ) -> None:
        self._names = names
        self._settings = settings
        self._open_workspace = open_workspace
        self._make_tools = make_tools
        self._on_ready = on_ready
        self._clock = clock
        self._listeners: list[_Listener] = []
        self._workspaces: dict[str, W] = {}

    async def run(self) -> None:
        """Listen, open, serve until stopped, finish what was accepted, close."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        secure = certificate(self._settings)
        public = _bind_tcp(self._settings.host, self._settings.port)
        self._handle_signals()
        front = _Front()
        tasks = [self._listen(front, public, secure)]
        try:
            await asyncio.to_thread(self._open)
            if not self._stopped.is_set():
                front.inner, local_app, keys = self._wire()
                tasks.append(self._listen(local_app, bind_local(self._settings.data), None))
                self._announce(public, secure)
                await self._until_stopped(keys, tasks)
        finally:
            for listener in self._listeners:
                listener.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._close)

    def stop(self) -> None:
        """Ask for an orderly end; a second time, for a quick one. Only on the event loop."""
        if self._stopped.is_set():
            for listener in self._listeners:
                listener.force_exit = True
        self._stopped.set()

    def _open(self) -> None:
        for name in self._names:
            self._workspaces[name] = self._open_workspace(name)

    def _close(self) -> None:
        """The socket goes before the lock of the folder does: after that, it may be another server's."""
        if self._workspaces:
            _unlink_local(self._settings.data)
        while self._workspaces:
            self._workspaces.popitem()[1].close()

    def _wire(self) -> tuple[ASGIApp, ASGIApp, Authenticator]:
        """The applications of the two listeners; keys are made here if there are none."""
        data = self._settings.data
        stores = {name: CredentialStore(data / "workspaces" / name) for name in self._workspaces}
        prepare_keys(
            stores[WORKSPACE_NAME],
            self._settings,
            created_us=self._clock.now_us(),
            tell=lambda keys: tell_keys(keys, data, sys.stdout),
        )
        keys = Authenticator(stores)
        bridge = Bridge(self._loop)
        public = build_app(
            TrackApi(self._workspaces, keys.track, bridge), _public_app(self._workspaces, keys), self._healthy
        )
        main = self._workspaces[WORKSPACE_NAME]
        tools = None if self._make_tools is None else self._make_tools(main, stores[WORKSPACE_NAME])
        local = build_app(
            TrackApi(self._workspaces, _as_default, bridge),
            app_api(main, lambda scope: True, trusted=True, tools=tools),
            self._healthy,
        )
        return public, local, keys

    def _healthy(self) -> bool:
        return all(workspace.healthy for workspace in self._workspaces.values())

    def _listen(
        self, app: ASGIApp | _Front, listening: socket.socket, secure: Certificate | None
    ) -> "asyncio.Task[None]":
        config = uvicorn.Config(
            cast("Any", app),
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            ssl_certfile=None if secure is None else secure.cert,
            ssl_keyfile=None if secure is None else secure.key,
        )
        listener = _Listener(config)
        self._listeners.append(listener)
        return self._loop.create_task(listener.serve(sockets=[listening]))

    def _announce(self, public: socket.socket, secure: Certificate | None) -> None:
        port: int = public.getsockname()[1]
        host = self._settings.host
        url = f"{'http' if secure is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
        if secure is not None and secure.authority is not None:
            sys.stdout.write(trust_hint(secure.authority) + "\n")
        sys.stdout.write(f"Backstory is ready at {url}, data in {self._settings.data}\n")
        sys.stdout.flush()
        if self._on_ready is not None:
            stop = partial(_call_soon, self._loop, self.stop)
            self._on_ready(Running(url=url, port=port, certificate=secure, stop=stop))

    async def _until_stopped(self, keys: Authenticator, listeners: list["asyncio.Task[None]"]) -> None:
        """Wait for the end; meanwhile take up keys that a command made or revoked. A dead listener is the end too."""
        stopped = self._loop.create_task(self._stopped.wait())
        while True:
            done, _ = await asyncio.wait(
                [stopped, *listeners], timeout=REFRESH_KEYS_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done & set(listeners):
                stopped.cancel()
                task.result()
                raise BackstoryError("a listener ended by itself")
            if done:
                return
            try:
                keys.refresh()
            except BackstoryError as error:
                _log.error("the known keys stay valid: %s", error)

    def _handle_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self.stop)


def _public_app(workspaces: Mapping[str, ServedWorkspace], keys: Authenticator) -> ASGIApp:
    """The App API of whichever workspace the key opens; without a right key the first one says 401."""

    def opened(scope: Scope) -> str | None:
        return keys.app(dict(scope["headers"]).get(b"authorization", b""))

    def only(name: str) -> Callable[[Scope], bool]:
        return lambda scope: opened(scope) == name

    apps = {name: app_api(workspace, only(name)) for name, workspace in workspaces.items()}
    if len(apps) == 1:
        return apps[WORKSPACE_NAME]

    def choose(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return apps[opened(scope) or WORKSPACE_NAME](scope, receive, send)

    return choose


def _as_default(authorization: bytes) -> str:
    return WORKSPACE_NAME


def _bind_tcp(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name that means both gets the older address: clients try that one in any case.
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return socket.create_server(cast("tuple[str, int]", address[:2]), family=family, backlog=BACKLOG)
    except OSError as error:
        raise BackstoryError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another with --host and --port"
        ) from None


def _unlink_local(data: Path) -> None:
    path = data / SOCKET_NAME
    with contextlib.suppress(OSError):
        if path.is_symlink():
            target = Path(os.readlink(path))
            target.unlink(missing_ok=True)
            target.parent.rmdir()
        path.unlink(missing_ok=True)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # The loop is closed: stopped already.
        loop.call_soon_threadsafe(call)


async def _starting(scope: Scope, receive: Receive, send: Send) -> None:
    health = scope["type"] == "http" and raw_path(scope) == b"/health"
    await _send(track_answer.NOT_READY if health else track_answer.STARTING, send)


async def _send(answer: track_answer.Answer, send: Send) -> None:
    await send(answer[0])
    await send(answer[1])


async def _no_http(scope: Scope, receive: Receive, send: Send) -> None:
    """Under another ASGI server: the lifespan needs nothing of us; anything else is not spoken here."""
    if scope["type"] != "lifespan":
        raise RuntimeError(f"this application speaks HTTP only, not {scope['type']}")
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
