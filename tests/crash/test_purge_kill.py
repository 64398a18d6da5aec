"""The real command killed hard in the middle of a purge: started again it finishes, and nothing of the gone is left."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from backstory.core.fact import DeletePerson, Fact, Identifier, SuppressPerson
from backstory.engine.clock import SystemClock
from backstory.engine.workspace import open_workspace

PEOPLE, GONE, EVENTS = 400, 60, 4
# What the command says of the stage it is at (edge/cli_privacy.py): it is killed when it has said so.
STAGES = ("in tables", "in history", "in tombstones", "in traces", "in reports and mail", "in free pages")


def backstory(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backstory", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def fill(folder: Path) -> Path:
    """People and events in parts, rows that were refused in a report, and some people who are gone since."""
    people, events, data = folder / "people.csv", folder / "events.jsonl", folder / "data"
    rows = [f"name-{n:04},name-{n:04}@example.com,secret-{n:04}," for n in range(PEOPLE)]
    wrong = [f"name-{n:04},name-{n:04}@example.com,secret-{n:04},no time" for n in range(0, PEOPLE, 20)]
    people.write_text("\n".join(["id,email,note,_timestamp", *rows, *wrong]) + "\n")
    lines = [
        json.dumps({"customer_id": f"name-{n:04}", "name": "bought", "timestamp": 1_600_000_000 + at})
        for n in range(PEOPLE)
        for at in range(EVENTS)
    ]
    events.write_text("\n".join(lines) + "\n")
    for kind, file in (("people", people), ("events", events)):
        backstory(data, "backfill", kind, str(file))
    workspace = open_workspace(data / "workspaces" / "default", clock=SystemClock(), threads=False)
    gone: list[Fact] = []
    for number in range(GONE):
        named = Identifier("id", f"name-{number:04}")
        gone.append(SuppressPerson(person=named) if number % 2 else DeletePerson(person=named))
    workspace.apply(gone)
    workspace.compactor.move_everything()
    workspace.close()
    people.unlink()
    events.unlink()
    return data


def killed_when_it_says(data: Path, words: str) -> bool:
    """Purge, and kill the process once it says these words; returns whether it did before it was done."""
    command = [sys.executable, "-m", "backstory", "privacy", "purge", "--now", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr:
        killed = any(words in line for line in process.stderr)
        if killed:
            process.send_signal(signal.SIGKILL)
    process.wait()
    return killed


def test_a_killed_purge_is_finished_by_the_next(tmp_path: Path) -> None:
    """Killed at one stage after the other: in the end nothing of the gone is in the folder, and the others are."""
    data = fill(tmp_path)
    assert backstory(data, "privacy", "prove", "name-0002").returncode == 1
    killed = [words for words in STAGES if killed_when_it_says(data, words)]
    # On a busy machine it is further than what it said by the time it is killed.
    assert len(killed) >= 3, killed
    done = backstory(data, "privacy", "purge", "--now", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["purge"]["stages"] == {}
    for number in (0, 1, 2, 3, GONE - 1):
        for name in (f"name-{number:04}", f"name-{number:04}@example.com", f"secret-{number:04}"):
            proof = backstory(data, "privacy", "prove", name)
            assert proof.returncode == 0, (name, [line for line in proof.stdout.splitlines() if " found;" in line])
    assert backstory(data, "verify").returncode == 0
    workspace = open_workspace(data / "workspaces" / "default", clock=SystemClock(), threads=False)
    try:
        alive = list(workspace.segments.alive)
        assert len(alive) == PEOPLE - GONE
        assert len(workspace.folder.history.events_of(alive)) == (PEOPLE - GONE) * EVENTS
    finally:
        workspace.close()
