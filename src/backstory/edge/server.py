"""The running server: one event loop, a TCP listener, a local socket, and the APIs behind them.

The one place where a running system is put together from settings. Both listeners serve the same endpoints; who can
open the local socket (0600, in the data folder) may read the data anyway, so it asks for no keys and offers the
``/local`` endpoints as well. Until the workspaces are open, everything answers 503.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Protocol, TypeVar, cast

import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.core.error import BackstoryError
from backstory.edge import track_answer
from backstory.edge.app import app_api
from backstory.edge.app_key import KeyTools
from backstory.edge.app_local import LocalTools, local_tools
from backstory.edge.auth import WORKSPACE_NAME, Authenticator, first_keys, prepare_keys, tell_keys
from backstory.edge.bridge import Bridge, Intake
from backstory.edge.decoding import Decoding
from backstory.edge.dispatch import build_app, starting
from backstory.edge.express import Express
from backstory.edge.gate import Gate, Rooms
from backstory.edge.listener import Listener, bind_local, bind_tcp, listener, unlink_local
from backstory.edge.pipeline import PipelinesApi
from backstory.edge.rate import Rate
from backstory.edge.sending import Sending
from backstory.edge.tls import Certificate, certificate, trust_hint
from backstory.edge.track import TrackApi
from backstory.engine.clock import Clock, SystemClock
from backstory.engine.port import Workspace
from backstory.engine.settings import Settings
from backstory.store.credential import CredentialStore
from backstory.store.database import make_folder

REFRESH_KEYS_S = 1.0

_log = logging.getLogger(__name__)


class ServedWorkspace(Intake, Workspace, Protocol):
    """An open workspace as the server uses it."""

    @property
    def healthy(self) -> bool:
        """Whether its threads still run; when they do not, nothing is accepted any more."""
        ...

    @property
    def faults(self) -> list[str]:
        """What is wrong, in words, while the rest goes on: files missing or damaged, a clock in doubt."""
        ...

    def close(self) -> None:
        """Apply what was accepted and let the folder go."""
        ...


W = TypeVar("W", bound=ServedWorkspace)
MakeTools = Callable[[W, CredentialStore], LocalTools]
MakeSending = Callable[[W], Sending]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that is ready. ``stop`` may be called from any thread; ``port`` is the one really listened on."""

    url: str
    port: int
    certificate: Certificate | None
    stop: Callable[[], None]


def serve_folder(settings: Settings, *, on_ready: Callable[[Running], None] | None = None) -> int:
    """``backstory serve``: everything that runs, put together from settings; returns as ``serve`` does."""
    # The engine loads slowly; what tests put in its place does not need it.
    from backstory.engine.house import House

    clock, house = SystemClock(), House(settings)
    return serve(
        settings, house.open,
        create_workspace=house.create,
        make_tools=lambda opened, credentials: local_tools(opened, credentials, clock.now_us, serving=settings),
        make_sending=lambda opened: Sending(opened, _settings_of(settings, opened.name), clock.now_us),
        on_ready=on_ready,
        clock=clock, names=house.names(),
    )  # fmt: skip


def _settings_of(settings: Settings, name: str) -> Settings:
    """What a workspace writes besides its stores (its mailbox) lies in its own folder; the default's in DIR."""
    return settings if name == WORKSPACE_NAME else replace(settings, data=settings.data / "workspaces" / name)


def serve(
    settings: Settings,
    open_workspace: Callable[[str], W],
    *,
    create_workspace: Callable[[str], W] | None = None,
    make_tools: MakeTools[W] | None = None,
    make_sending: MakeSending[W] | None = None,
    on_ready: Callable[[Running], None] | None = None,
    clock: Clock | None = None,
    names: Sequence[str] = (WORKSPACE_NAME,),
) -> int:
    """Serve until SIGTERM, SIGINT or ``Running.stop``; returns the exit code of the process.

    ``open_workspace`` opens one of the workspaces ``names`` (blocking, in a thread) and takes the lock of the data
    folder, ``create_workspace`` makes one more while the server runs; ``make_tools`` gives the local socket its tools,
    ``make_sending`` each workspace its outbox. In a thread other than the main one no signals are handled.
    """
    server = _Server(
        settings, open_workspace, create_workspace, make_tools, make_sending, on_ready, clock or SystemClock(), names
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.run())
    except (BackstoryError, OSError) as error:
        sys.stderr.write(f"backstory: {error}\n")
        return 1
    return 0


class _Front:
    """What the public listener calls: 503 until ``inner`` is set to the real application."""

    def __init__(self) -> None:
        self.inner: ASGIApp = starting
        self.express: Express | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.inner(scope, receive, send)


class _Server(Generic[W]):
    def __init__(
        self,
        settings: Settings,
        open_workspace: Callable[[str], W],
        create_workspace: Callable[[str], W] | None,
        make_tools: MakeTools[W] | None,
        make_sending: MakeSending[W] | None,
        on_ready: Callable[[Running], None] | None,
        clock: Clock,
        names: Sequence[str],
    ) -> None:
        self._names = names
        self._settings = settings
        self._open_workspace = open_workspace
        self._create_workspace = create_workspace
        self._make_tools = make_tools
        self._make_sending = make_sending
        self._on_ready = on_ready
        self._clock = clock
        self._listeners: list[Listener] = []
        self._workspaces: dict[str, W] = {}
        self._sending: list[Sending] = []
        self._tools: list[LocalTools] = []
        self._decoding: Decoding | None = None

    async def run(self) -> None:
        """Listen, open, serve until stopped, finish what was accepted, close."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._make_folder()
        secure = certificate(self._settings)
        public = bind_tcp(self._settings.host, self._settings.port)
        self._handle_signals()
        front = _Front()
        tasks = [self._listen(front, public, secure, lambda: front.express)]
        try:
            await asyncio.to_thread(self._open)
            if not self._stopped.is_set():
                front.inner, front.express, local_app, keys = self._wire()
                tasks.append(self._listen(local_app, bind_local(self._settings.data), None))
                self._start_sending()
                self._announce(public, secure)
                await self._until_stopped(keys, tasks)
        finally:
            for one in self._listeners:
                one.should_exit = True
            await asyncio.gather(*tasks, *(one.stop() for one in self._sending), return_exceptions=True)
            if self._decoding is not None:
                await self._decoding.close()
            await asyncio.to_thread(self._close)

    def stop(self) -> None:
        """Ask for an orderly end; a second time, for a quick one. Only on the event loop."""
        if self._stopped.is_set():
            for one in self._listeners:
                one.force_exit = True
        for tools in self._tools:
            tools.stopping.set()
        self._stopped.set()

    def _make_folder(self) -> None:
        data = self._settings.data
        try:
            make_folder(data, 0o700)
        except OSError as error:
            raise BackstoryError(f"cannot make the data folder {data}: {error.strerror or error}") from None

    def _open(self) -> None:
        for name in self._names:
            self._workspaces[name] = self._open_workspace(name)

    def _close(self) -> None:
        """The socket goes before the lock of the folder does: after that, it may be another server's."""
        for tools in self._tools:
            tools.close()
        if self._workspaces:
            unlink_local(self._settings.data)
        while self._workspaces:
            self._workspaces.popitem()[1].close()

    def _wire(self) -> tuple[ASGIApp, Express, ASGIApp, Authenticator]:
        """The applications of both listeners, the public one with its lane; keys are made here if there are none."""
        data = self._settings.data
        stores = {name: CredentialStore(data / "workspaces" / name) for name in self._workspaces}
        prepare_keys(
            stores[WORKSPACE_NAME],
            self._settings,
            created_us=self._clock.now_us(),
            tell=lambda keys: tell_keys(keys, data, sys.stdout),
        )
        keys = Authenticator(stores)
        self._bridge = Bridge(self._loop)
        self._decoding = Decoding(self._loop, self._settings.decoders)
        rate = Rate(self._settings.rate_per_s, self._clock.monotonic_us) if self._settings.rate_per_s else None
        self._gate = Gate[W](keys, keys.paced("app", rate))
        for name, workspace in self._workspaces.items():
            self._gate.admit(name, workspace, self._rooms(name, workspace, stores[name]))
        track = keys.paced("track", rate)
        public = build_app(
            TrackApi(self._gate.workspaces, track, self._bridge, decoding=self._decoding),
            PipelinesApi(self._gate.workspaces, keys.paced("cdp", rate), self._bridge, decoding=self._decoding),
            self._gate.public,
            self._health,
        )
        return public, Express(self._gate.workspaces, track, self._bridge), self._gate.local, keys

    def _rooms(self, name: str, workspace: W, store: CredentialStore) -> Rooms:
        """The applications of one workspace."""
        keys = KeyTools(credentials=store, now_us=self._clock.now_us, changed=self._keys_changed)
        tools = None
        if self._make_tools is not None:
            tools = replace(
                self._make_tools(workspace, store),
                keys_changed=self._keys_changed,
                workspaces=lambda: [WORKSPACE_NAME, *sorted(self._gate.workspaces.keys() - {WORKSPACE_NAME})],
                create_workspace=self._create,
            )
            self._tools.append(tools)
        only = {name: workspace}
        local = build_app(
            TrackApi(only, lambda authorization: name, self._bridge, decoding=self._decoding),
            PipelinesApi(only, lambda authorization: name, self._bridge, decoding=self._decoding),
            app_api(workspace, lambda scope: True, trusted=True, tools=tools, keys=keys, desk=tools and tools.desk),
            lambda: self._health(named=True),
        )
        # The gate looked at the key already: whoever comes to the public application may.
        public = app_api(workspace, lambda scope: True, keys=keys, desk=tools and tools.desk)
        return Rooms(public=public, local=local)

    def _keys_changed(self) -> None:
        """Called in a thread: the event loop takes the change up before it sends the answer that tells of it."""
        _call_soon(self._loop, self._gate.keys.refresh)

    def _create(self, name: str) -> dict[str, str]:
        """Make a workspace while the server runs (in a thread); returns its keys, which are shown this once."""
        if self._create_workspace is None:
            raise BackstoryError("this server makes no workspaces")
        workspace = self._create_workspace(name)
        self._workspaces[name] = workspace
        store = CredentialStore(self._settings.data / "workspaces" / name)
        keys = first_keys(store, self._settings, created_us=self._clock.now_us())
        asyncio.run_coroutine_threadsafe(self._move_in(name, workspace, store), self._loop).result()
        return keys

    async def _move_in(self, name: str, workspace: W, store: CredentialStore) -> None:
        self._gate.keys.add(name, store)
        self._gate.admit(name, workspace, self._rooms(name, workspace, store))
        if self._make_sending is not None:
            sending = self._make_sending(workspace)
            self._sending.append(sending)
            sending.start()

    def _start_sending(self) -> None:
        if self._make_sending is not None:
            self._sending = [self._make_sending(workspace) for workspace in self._workspaces.values()]
        for sending in self._sending:
            sending.start()

    def _health(self, *, named: bool = False) -> track_answer.Answer:
        """``named``: faults are told in words, which is for the owner of the folder only."""
        if not all(workspace.healthy for workspace in self._workspaces.values()):
            return track_answer.FAILED
        faults = [fault for one in (*self._workspaces.values(), *self._sending) for fault in one.faults]
        return track_answer.degraded(faults, named=named) if faults else track_answer.READY

    def _listen(
        self,
        app: ASGIApp | _Front,
        listening: socket.socket,
        secure: Certificate | None,
        express: Callable[[], Express | None] = lambda: None,
    ) -> "asyncio.Task[None]":
        one = listener(cast("ASGIApp", app), secure, express)
        self._listeners.append(one)
        return self._loop.create_task(one.serve(sockets=[listening]))

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


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # The loop is closed: stopped already.
        loop.call_soon_threadsafe(call)
