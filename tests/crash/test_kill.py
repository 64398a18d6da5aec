"""The engine killed at any moment: all that was acknowledged is there, once, and every segment is what the oracle says.

The history is read back from the state, as facts in the order in which they were applied, and judged by the oracle.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from backstory.core import oracle
from backstory.core.condition import Condition, Json, parse
from backstory.core.fact import PutSegment
from backstory.core.oracle import PersonHistory
from backstory.engine.clock import SystemClock
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.people import cio_id_of
from tests.crash import worker

ROUNDS = 15
SEGMENTS: tuple[Json, ...] = (
    {"event": {"name": "came", "count": {"at_least": 3}}},
    {"event": {"name": "came", "within": {"last_s": 1}, "count": {"between": [1, 4]}}},
    {"event": {"name": "left", "performed": False, "within": {"last_s": 0.2}}},
    {"attribute": {"field": "visits", "operator": "ge", "value": 3}},
    {"and": [{"segment": {"id": 1}}, {"not": {"segment": {"id": 2}}}]},
)


class Child:
    """A worker under way; what it says is read by a thread, so that its pipe never fills."""

    def __init__(self, folder: Path, prefix: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, worker.__file__, str(folder), prefix], stdout=subprocess.PIPE, env=environment
        )
        self.lines: list[str] = []
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # The kill may have cut the last line.
            if line.endswith(b"\n"):
                self.lines.append(line.decode().strip())
                self.ready.set()
        self.ready.set()

    def kill_after(self, seconds: float, *, starting: bool) -> list[str]:
        """Kill it so long after it began to work, or ``starting`` to recover; returns the ids it acknowledged."""
        assert starting or self.ready.wait(60)
        threading.Event().wait(seconds)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert self.lines[:1] in ([], ["ready"]), self.lines
        assert not [line for line in self.lines if line.startswith("error")]
        return [line.removeprefix("accepted ") for line in self.lines[1:]]


def open_here(folder: Path) -> Workspace:
    """Recover in this process; one turn lets the time pass that nobody was there for."""
    workspace = open_workspace(folder, clock=SystemClock(), threads=False)
    workspace.builder.work_off()
    workspace.loop.turn()
    return workspace


def histories(workspace: Workspace) -> list[PersonHistory]:
    """Everybody who lives, as the oracle sees them, from the rows in which their facts are kept."""
    rows = workspace.folder.state.rows
    people: dict[int, PersonHistory] = {}
    for number, name in rows("SELECT person, id FROM person"):
        identifiers = {"id": name, "cio_id": cio_id_of(number)}
        people[number] = PersonHistory(
            person=number, identifiers=identifiers, events=[], writes=[], exists_since_us=1 << 62
        )
    for number, kind, name, time_us, data, accept_us in rows(
        "SELECT person, kind, name, time_us, data, accept_us FROM event WHERE NOT duplicate"
    ):
        if number in people:
            people[number].events.append((kind, name, time_us, json.loads(data)))
            people[number].exists_since_us = min(people[number].exists_since_us, time_us, accept_us)
    for number, time_us, attributes, accept_us in rows(
        "SELECT person, time_us, attributes, accept_us FROM attribute_write"
    ):
        if number in people:
            people[number].writes.append((time_us, json.loads(attributes)))
            people[number].exists_since_us = min(people[number].exists_since_us, time_us, accept_us)
    return list(people.values())


def check(workspace: Workspace, conditions: dict[int, Condition], acknowledged: set[str]) -> None:
    """Exactly once, and exactly the members the oracle names."""
    ids = [row[0] for row in workspace.folder.state.rows("SELECT event_id FROM event")]
    assert len(ids) == len(set(ids))
    assert acknowledged <= set(ids)
    now_us = workspace.folder.state.now_us
    everybody = histories(workspace)
    for segment_id, condition in conditions.items():
        members = set(workspace.segments.segments[segment_id].members)
        assert members == oracle.members(condition, everybody, now_us, conditions), condition
    for history in everybody:
        view = workspace.reader.person("cio_id", history.identifiers["cio_id"])
        assert view is not None
        assert view.attributes == oracle.values_at(history, now_us)


@pytest.mark.crash
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Fifteen lives, each ended by SIGKILL at a random moment, in the same folder."""
    moment = random.Random(11)
    folder = tmp_path / "default"
    workspace = open_here(folder)
    conditions: dict[int, Condition] = {}
    for body in SEGMENTS:
        (receipt,) = workspace.apply([PutSegment(name="some", conditions=msgspec.json.encode(body))])
        assert receipt.subject is not None
        conditions[receipt.subject] = parse(body)
    workspace.builder.work_off()
    workspace.close()
    acknowledged: set[str] = set()
    for number in range(ROUNDS):
        starting = number % 4 == 3
        seconds = moment.uniform(0.3, 1.0) if starting else moment.choice((0, 0.02, 0.1, 0.3, 0.6))
        acknowledged |= set(Child(folder, str(number)).kill_after(seconds, starting=starting))
        workspace = open_here(folder)
        check(workspace, conditions, acknowledged)
        workspace.folder.close() if number % 3 else workspace.close()
    assert len(acknowledged) > 100
