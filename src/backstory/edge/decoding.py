"""Decoding batches beside the server: large bodies are read by a process of their own, on another processor.

The server's own interpreter does one thing at a time, and applying facts takes all it has. The process is started when
the first large batch comes, and again when it ended. Until it is ready, when too much waits for it, and for whatever it
left unanswered, bodies are read here: what it is for is speed alone, and no batch is lost or accepted in part with it.
"""

import asyncio
import logging
import socket
import subprocess
import sys
from collections import deque
from typing import cast

from backstory.edge.decoder import LENGTH, READERS, Reader, question, understood
from backstory.edge.track2_batch import Decoded

# Smaller ones are read sooner than sent.
FROM_BYTES = 64 * 1024
WAITING_MAX = 16
ANSWER_S = 10.0
# When a process ended by itself, the next one is started no sooner; each time that one cannot be, twice as late.
RESTART_S, RESTART_MAX_S = 1.0, 60.0

_log = logging.getLogger(__name__)


class Decoding:
    """Reads batches, on one event loop. ``processes``: 0 reads all of them here."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        processes: int = 1,
        *,
        answer_s: float = ANSWER_S,
        restart_s: float = RESTART_S,
    ) -> None:
        self._loop = loop
        self._processes = processes
        self._answer_s, self._restart_s = answer_s, restart_s
        self._lines: list[_Line] = []
        self._starting = 0
        self._start_from_s, self._pause_s = 0.0, restart_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The processes that are ready."""
        return [line.process.pid for line in self._lines]

    async def read(self, reader: Reader, body: bytes) -> Decoded:
        """The facts of a batch, as ``READERS`` have them; raises what they raise."""
        if len(body) >= FROM_BYTES and self._processes:
            line = self._line()
            decoded = None if line is None else await self._ask(line, reader, body)
            if decoded is not None:
                return decoded
        return READERS[reader](body)

    async def close(self) -> None:
        """End the processes."""
        self._closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(line.end() for line in self._lines), return_exceptions=True)

    def _line(self) -> "_Line | None":
        """The process with the least to do; more are started while there are not enough."""
        missing = self._processes - len(self._lines) - self._starting
        if missing > 0 and not self._closed and self._loop.time() >= self._start_from_s:
            self._start_from_s = self._loop.time() + self._pause_s
            for _ in range(missing):
                self._starting += 1
                task = self._loop.create_task(self._start())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        line = min(self._lines, key=lambda one: len(one.waiting), default=None)
        return None if line is None or len(line.waiting) >= WAITING_MAX else line

    async def _ask(self, line: "_Line", reader: Reader, body: bytes) -> Decoded | None:
        """What a process says of a body; None: it has to be read here."""
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await line.ask(reader, body)
        except TimeoutError:
            _log.error("the process that reads batches does not answer: it is ended")
            line.process.kill()
            return None
        except ConnectionError:
            return None
        return understood(answer)

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            line = _Line(await asyncio.to_thread(_run, theirs), self._lines)
            await self._loop.create_unix_connection(lambda: line, sock=ours)
            await line.ready
            self._lines.append(line)
            self._pause_s = self._restart_s
        except OSError as error:
            self._pause_s = min(2 * self._pause_s, RESTART_MAX_S)
            _log.error("no process reads batches, the server does it itself: %s", error)
        finally:
            self._starting -= 1


def _run(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    with theirs:
        command = [sys.executable, "-m", "backstory.edge.decoder"]
        return subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)


class _Line(asyncio.Protocol):
    """The line to one process: questions are answered in their order."""

    def __init__(self, process: "subprocess.Popen[bytes]", lines: "list[_Line]") -> None:
        self.process = process
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[bytes] = self._loop.create_future()
        self.waiting = deque([self.ready])
        self._received = bytearray()
        self._lost: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def ask(self, reader: Reader, body: bytes) -> "asyncio.Future[bytes]":
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self.waiting.append(answer)
        self._transport.writelines(question(reader, body))
        return answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            answer = bytes(self._received[LENGTH.size : end])
            del self._received[:end]
            waiting = self.waiting.popleft()
            if not waiting.done():
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._lines:
            self._lines.remove(self)
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_exception(ConnectionResetError("the process that reads batches ended"))
        self.waiting.clear()
        # It keeps nothing: wherever it is, it may be ended.
        self.process.kill()
        self.ended = self._loop.run_in_executor(None, self.process.wait)
        self._lost.set_result(None)

    async def end(self) -> None:
        """Close the line; the process ends with it."""
        self._transport.close()
        await self._lost
        await self.ended
