"""A server killed hard while it imports, and started again each time: the end is that of an undisturbed import.

Segments, campaigns and counts included. That a command without a server goes on where it was: ``test_import_kill``.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.crash.test_live_kill import APP, Server

KILLS = 5
FILES = 6
ROWS = 30_000
PEOPLE = 8_000
FRESH = 1_500
SEGMENTS = (
    {"event": {"name": "bought", "count": {"at_least": 20}}},
    {"event": {"name": "bought", "where": {"attribute": {"field": "price", "operator": "gt", "value": 20}}}},
    {"event": {"name": "seen", "within": {"last_s": 86_400}}},
    {"and": [{"attribute": {"field": "plan", "operator": "eq", "value": "pro"}}, {"segment": {"id": 1}}]},
)
DELAY = [{"type": "delay", "seconds": 86_400}]


def write_events(folder: Path) -> list[str]:
    """Several files, so that there are several chunks; some rows are fresh, some wrong, some there twice."""
    now_s = int(time.time())
    paths: list[str] = []
    for number in range(FILES):
        path = folder / f"{number}.jsonl"
        with path.open("w") as file:
            for at in range(number * ROWS, (number + 1) * ROWS):
                fresh = at % (FILES * ROWS // FRESH) == 0
                row: dict[str, Any] = {
                    "customer_id": f"p{at * 7919 % PEOPLE}",
                    "name": "seen" if fresh else "bought",
                    "timestamp": now_s - at % 3_000 if fresh else 1_600_000_000 + at % 5_000,
                    "data": {"price": at % 97 / 4},
                }
                if at % 1_000 == 7:
                    row["timestamp"] = "abc"
                if at % 10 == 3:
                    row["event_id"] = f"e{at % 50_000}"
                file.write(json.dumps(row) + "\n")
        paths.append(str(path))
    return paths


def write_people(folder: Path) -> list[str]:
    path = folder / "people.csv"
    lines = (
        f"p{at},p{at % 39_990}@example.com,{('free', 'pro')[at % 2]},{at}" for at in range(40_000)
    )
    path.write_text("id,email,plan,score\n" + "\n".join(lines) + "\n")
    return [str(path)]


class World:
    """A data folder with its server, segments and campaigns."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.server = Server(data)
        for conditions in SEGMENTS:
            self.post("/v1/segments", {"segment": {"name": "s", "conditions": conditions}})
        every = {"mode": "every"}
        for trigger in ({"event": {"name": "seen"}}, {"segment": {"id": 3, "transition": "entered"}}):
            campaign = {"name": "c", "trigger": trigger, "frequency": every, "steps": DELAY, "state": "running"}
            self.post("/v1/campaigns", {"campaign": campaign})

    def post(self, path: str, body: object) -> None:
        status, answer = self.server.call("POST", path, APP, body)
        assert status < 300, answer

    def get(self, path: str) -> dict[str, Any]:
        status, answer = self.server.call("GET", path, APP)
        assert status == 200, answer
        return json.loads(answer)

    def start(self, kind: str, paths: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "backstory", "backfill", kind, *paths, "--data", str(self.data), "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def bring_in(self, kind: str, paths: list[str]) -> tuple[dict[str, Any], float]:
        started_s = time.monotonic()
        output, _ = self.start(kind, paths).communicate()
        return json.loads(output), time.monotonic() - started_s

    def bring_in_killed(self, kind: str, paths: list[str], whole_s: float, moment: random.Random) -> dict[str, Any]:
        """Import under kills of the server; returns what the last run says."""
        killed = 0
        for _ in range(KILLS):
            command = self.start(kind, paths)
            alive = True
            try:
                command.wait(moment.uniform(0.3, 0.9) * whole_s)
            except subprocess.TimeoutExpired:
                self.server.kill()
                killed, alive = killed + 1, False
            output, _ = command.communicate()
            # The command may have heard the end just before the server was killed.
            if not alive:
                self.server = Server(self.data)
            if output:
                return json.loads(output)
        assert killed
        return self.bring_in(kind, paths)[0]

    def end(self) -> dict[str, Any]:
        """What there is in the end; the server stops."""
        segments = [self.get(f"/v1/segments/{n}/customer_count")["count"] for n in range(1, len(SEGMENTS) + 1)]
        journeys = [len(self.journeys(number)) for number in (1, 2)]
        self.server.stop()
        verify = [sys.executable, "-m", "backstory", "verify", "--data", str(self.data)]
        done = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return {"segments": segments, "journeys": journeys}

    def journeys(self, campaign_id: int) -> list[str]:
        found: list[str] = []
        start = ""
        while True:
            page = self.get(f"/v1/campaigns/{campaign_id}/journeys?limit=1000&start={start}")
            found += [str(journey["id"]) for journey in page["journeys"]]
            start = page["next"]
            if not start:
                return found


def without_time(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in ("seconds", "error_file", "warning_file")}


def rows_of(summary: dict[str, Any]) -> list[bytes]:
    """The lines of the error reports."""
    path = Path(summary["error_file"])
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [line for file in files for line in file.read_bytes().split(b"\n")]


def test_a_server_killed_while_it_imports_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    """The same counts, reports, members and journeys, nothing twice; and verify finds nothing."""
    events, people = write_events(tmp_path), write_people(tmp_path)
    moment = random.Random(5)
    whole, broken = World(tmp_path / "whole"), World(tmp_path / "broken")
    for kind, paths in (("events", events), ("people", people)):
        expected, whole_s = whole.bring_in(kind, paths)
        summary = broken.bring_in_killed(kind, paths, whole_s, moment)
        assert expected["errors"] > 0
        # A kill behind the very end leaves nothing to go on with: then the last run was one of its own.
        if summary["import_id"] == expected["import_id"]:
            assert without_time(summary) == without_time(expected)
            assert rows_of(summary) == rows_of(expected)
    end = whole.end()
    assert broken.end() == end
    assert all(end["segments"])
    assert all(end["journeys"])
