"""Watches the system calls of a child process that concern durability: what it wrote, synced and said, in order.

Like strace, but with nothing installed: the kernel's ptrace through ctypes. Where it is not allowed (some containers)
or not known (other machines than Linux on x86-64 and arm64) ``Unwatchable`` is raised.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
# Stops at system calls are told from real signals, and the child dies with us.
OPTIONS = 0x1 | 0x100000
STOPPED_AT_CALL = signal.SIGTRAP | 0x80
ENTRY, EXIT = 1, 2
CANNOT = 97
NUMBERS = {
    "x86_64": {1: "write", 18: "write", 20: "write", 74: "sync", 75: "sync"},
    "aarch64": {64: "write", 68: "write", 66: "write", 82: "sync", 83: "sync"},
}


class Unwatchable(Exception):
    """This machine does not let us watch a child."""


@dataclass(frozen=True, slots=True)
class Call:
    """A write to, or a sync of, a file (by its name; ``stdout`` for what the child said) that succeeded."""

    kind: str
    file: str


def be_watched() -> None:
    """In the child: from now on this thread is watched. Its other threads are not."""
    if _ptrace(TRACEME, 0, 0, None) != 0:
        os._exit(CANNOT)
    os.kill(os.getpid(), signal.SIGSTOP)


def watch(program: Path, *arguments: str) -> list[Call]:
    """Run a Python program, which calls ``be_watched``, to its end; returns what its main thread did from then on."""
    numbers = NUMBERS.get(platform.machine())
    if sys.platform != "linux" or numbers is None:
        raise Unwatchable(f"not on {sys.platform} {platform.machine()}")
    quiet = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pid = os.posix_spawn(
        sys.executable, [sys.executable, str(program), *arguments], environment, file_actions=[quiet]
    )
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == CANNOT:
        raise Unwatchable("ptrace is not allowed here")
    assert os.WIFSTOPPED(status), f"the child ended before it could be watched: {status}"
    if _ptrace(SETOPTIONS, pid, 0, ctypes.c_void_p(OPTIONS)) != 0:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise Unwatchable("ptrace takes no options here")
    return _follow(pid, numbers)


def _follow(pid: int, numbers: dict[int, str]) -> list[Call]:
    calls: list[Call] = []
    pending: Call | None = None
    signal_number = 0
    while True:
        _ptrace(SYSCALL, pid, 0, ctypes.c_void_p(signal_number))
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            assert status == 0, f"the child failed: {status}"
            return calls
        signal_number = 0
        if os.WSTOPSIG(status) != STOPPED_AT_CALL:
            signal_number = os.WSTOPSIG(status)
            continue
        info = ctypes.create_string_buffer(88)
        if _ptrace(GET_SYSCALL_INFO, pid, ctypes.c_void_p(len(info)), info) <= 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Unwatchable("the kernel does not tell system calls (it is older than 5.3)")
        if info.raw[0] == ENTRY:
            number, file_number = struct.unpack_from("<QQ", info, 24)
            kind = numbers.get(number)
            pending = None if kind is None else Call(kind, _name(pid, file_number))
        elif info.raw[0] == EXIT and pending is not None:
            (result,) = struct.unpack_from("<q", info, 24)
            if result >= 0:
                calls.append(pending)
            pending = None


def _name(pid: int, file_number: int) -> str:
    return "stdout" if file_number == 1 else os.path.basename(os.readlink(f"/proc/{pid}/fd/{file_number}"))


def _ptrace(request: int, pid: int, address: object, data: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return libc.ptrace(request, pid, address, data)
