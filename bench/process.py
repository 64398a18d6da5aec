"""Processes that are measured: what they and their children cost, told by Linux's /proc, and servers to load.

Only processes started here are ever ended, each by its own id.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# The program, whether it is on the PATH or not.
BACKSTORY = (sys.executable, "-m", "backstory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a command took: wall and processor seconds, and the peak memory of its process tree.

    The peak is the greatest sum of what the living processes of the tree had at their own peaks: never too little.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    output: str


def tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    pids = [pid]
    for parent in pids:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            for task in os.listdir(f"/proc/{parent}/task"):
                if int(task) != parent:
                    children += Path(f"/proc/{parent}/task/{task}/children").read_text().split()
        except OSError:
            continue
        pids += [int(child) for child in children]
    return pids


def until_idle(pid: int, *, quiet_s: float = 12, most_s: float = 240) -> float:
    """Wait until a process has done next to nothing for a while; returns the processor seconds it took until then."""
    began_s = last_s = cpu_s(pid)
    since = started = time.monotonic()
    while time.monotonic() - since < quiet_s:
        if time.monotonic() - started > most_s:
            raise RuntimeError(f"process {pid} was still at work after {most_s} s")
        time.sleep(1)
        now_s = cpu_s(pid)
        if now_s - last_s > 0.05:
            since = time.monotonic()
        last_s = now_s
    return last_s - began_s


def cpu_s(pid: int) -> float:
    """Processor seconds of a living process tree so far, children that have ended and were waited for included."""
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Resident memory of a process tree now; pages shared between its processes count once in each."""
    pages = 0
    for one in tree(pid):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * PAGE_BYTES


def peak_bytes(pid: int) -> int:
    """What the living processes of a tree had at most, each by itself, summed."""
    kilobytes = 0
    for one in tree(pid):
        try:
            kilobytes += high_water_kb(Path(f"/proc/{one}/status").read_text())
        except OSError:
            continue
    return kilobytes * 1024


def high_water_kb(status: str) -> int:
    """The greatest resident memory, out of a process's status; 0 for one that has none (any more)."""
    found = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(next(found, 0))


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, sample_s: float = 0.05) -> Cost:
    """Run a command to its end and say what it cost; raises ``RuntimeError`` with its output if it fails."""
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = 0
    while True:
        try:
            output, errors = process.communicate(timeout=sample_s)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, peak_bytes(process.pid))
    seconds, after = time.perf_counter() - started, os.times()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {output[-500:]}{errors[-2000:]}")
    cpu = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return Cost(seconds=seconds, cpu_s=cpu, peak_bytes=peak, output=output)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without settings of Backstory that stand in it, and with the package to be found.

    Modules are compiled once and kept, as they are where the package is installed, also where developers have that
    switched off: each start would compile some two hundred of them otherwise.
    """
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("BACKSTORY_") and key != "PYTHONDONTWRITEBYTECODE"
    }
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(command: Sequence[str], port: int, *, env: Mapping[str, str] | None = None) -> Generator[int]:
    """A server process until the block ends; yields its process id once it accepts connections on loopback."""
    process = start_server(command, env=env)
    try:
        wait_until_ready(process, port)
        yield process.pid
    finally:
        end(process)


def start_server(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


def end(process: "subprocess.Popen[bytes]", timeout_s: float = 60) -> None:
    """Have a process of ours end in order, or else hard."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def helper(command: Sequence[str]) -> Generator["Helper"]:
    """A process that works beside the block and prints one JSON object when it is done; gone after the block."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield Helper(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@dataclass(frozen=True, slots=True)
class Helper:
    """A process that ``helper`` started."""

    process: "subprocess.Popen[bytes]"

    def result(self, timeout_s: float, *, stop: bool = False) -> dict[str, Any]:
        """What it printed; ``stop`` tells it to come to its end. Asked once; raises ``RuntimeError`` if it failed."""
        if stop:
            self.process.send_signal(signal.SIGTERM)
        output, errors = self.process.communicate(timeout=timeout_s)
        if self.process.returncode != 0:
            raise RuntimeError(f"{self.process.args} ended with {self.process.returncode}: {errors[-2000:]!r}")
        return json.loads(output)


def wait_until_ready(
    process: "subprocess.Popen[bytes]", port: int, *, timeout_s: float = 120, poll_s: float = 0.05
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(poll_s)
    raise RuntimeError(f"no answer on port {port} within {timeout_s} s")


def call(
    port: int, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: object = None
) -> dict[str, Any]:
    """One JSON call to a server on loopback; raises ``RuntimeError`` with the answer if it is refused."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None
