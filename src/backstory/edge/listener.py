"""Listening sockets, and the HTTP server behind each: uvicorn with uvloop and httptools."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from backstory.core.error import BackstoryError
from backstory.edge.express import Express, ExpressProtocol
from backstory.edge.local import SOCKET_NAME
from backstory.edge.tls import Certificate

BACKLOG = 2048
KEEP_ALIVE_S = 75
# Requests under way get this long to finish; container runtimes kill after ten seconds.
GRACE_S = 8
# What the kernel allows for the address of a local socket, with some to spare (Linux 108, macOS 104).
SOCKET_PATH_BYTES_MAX = 100


class Listener(uvicorn.Server):
    """uvicorn without its own handling of signals: two of them share a process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def listener(
    app: ASGIApp, secure: Certificate | None, express: Callable[[], Express | None] = lambda: None
) -> Listener:
    """An HTTP server for an application; the caller gives it its socket. ``express``: the lane, once it is open."""
    config = uvicorn.Config(
        cast("Any", app),
        http=cast("Any", partial(ExpressProtocol, express)),
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
    return Listener(config)


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening socket; raises ``BackstoryError`` that says what to change."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name that means both gets the older address: clients try that one in any case.
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return socket.create_server(cast("tuple[str, int]", address[:2]), family=family, backlog=BACKLOG)
    except OSError as error:
        raise BackstoryError(
            f"cannot listen on {host}:{port}: {_reason(error)}. Choose another with --host and --port"
        ) from None


def _reason(error: OSError) -> str:
    """The words of the system, without those the library adds to them."""
    return (error.strerror or str(error)).partition(" (while")[0]


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


def unlink_local(data: Path) -> None:
    """Take the local socket away; before the lock of the folder goes: after that, it may be another server's."""
    path = data / SOCKET_NAME
    with contextlib.suppress(OSError):
        if path.is_symlink():
            target = Path(os.readlink(path))
            target.unlink(missing_ok=True)
            target.parent.rmdir()
        path.unlink(missing_ok=True)
