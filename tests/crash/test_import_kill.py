"""The real command killed hard while it imports: started again it goes on, and ends where it would have ended."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from backstory.engine.backfill.import_job import Chunking

KILLS = 4
FILES = 3
ROWS = 390_000
PEOPLE = 20_000


def backstory(data: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "backstory", *arguments, "--data", str(data)]


def run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_events(folder: Path) -> list[str]:
    """Files large enough for the compiled readers, each with a commit of its own."""
    names: list[str] = []
    for first in range(0, ROWS, ROWS // FILES):
        path = folder / f"events-{first}.jsonl"
        with path.open("w") as file:
            for number in range(first, first + ROWS // FILES):
                row = {
                    "customer_id": f"p{number * 7919 % PEOPLE}",
                    "name": ("bought", "seen")[number % 2],
                    "timestamp": 1_600_000_000 + number % 5_000,
                    "data": {"price": number % 97 / 4},
                }
                file.write(json.dumps(row) + "\n")
        assert path.stat().st_size > Chunking().fast_bytes_min
        names.append(str(path))
    return names


def killed_now_and_then(command: list[str], whole_s: float) -> int:
    """Run a command, killing it at random moments of the time it takes; returns how often it was killed."""
    moment = random.Random(11)
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moment.uniform(0.3, 0.95) * whole_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    return killed


def timed(command: list[str]) -> tuple[dict[str, Any], float]:
    started_s = time.monotonic()
    return run(command), time.monotonic() - started_s


def test_a_killed_import_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """The same rows are kept, the same are duplicates, and verify finds nothing."""
    events = write_events(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    # On a new machine the first large import compiles its kernels: that time says nothing about the others.
    timed(backstory(tmp_path / "first", "backfill", "events", *events))
    expected, whole_s = timed(backstory(whole, "backfill", "events", *events))
    killed = killed_now_and_then(backstory(broken, "backfill", "events", *events), whole_s)
    assert killed
    summary = run(backstory(broken, "backfill", "events", *events))
    again = run(backstory(broken, "backfill", "events", *events))
    assert again["created"] == 0
    if summary["created"]:
        same = ("rows", "created", "duplicate", "errors", "people_created")
        assert {name: summary[name] for name in same} == {name: expected[name] for name in same}
    assert subprocess.run(backstory(broken, "verify"), capture_output=True, check=False).returncode == 0


def test_people_survive_kills_too(tmp_path: Path) -> None:
    """Every person once, with the history of their attributes."""
    people = tmp_path / "people.csv"
    lines = [f"p{number},p{number}@example.com,{('free', 'pro')[number % 2]},{number}" for number in range(60_000)]
    people.write_text("id,email,plan,score\n" + "\n".join(lines) + "\n")
    data = tmp_path / "data"
    _, whole_s = timed(backstory(tmp_path / "whole", "backfill", "people", str(people)))
    assert killed_now_and_then(backstory(data, "backfill", "people", str(people)), whole_s)
    run(backstory(data, "backfill", "people", str(people)))
    again = run(backstory(data, "backfill", "people", str(people)))
    assert (again["rows"], again["unchanged"], again["created"]) == (60_000, 60_000, 0)
    assert subprocess.run(backstory(data, "verify"), capture_output=True, check=False).returncode == 0
