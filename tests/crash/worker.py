"""A process that accepts facts from several threads until it is killed, and says each id once it is acknowledged.

It lives with the real clock: windows of seconds expire while it runs, leaves are checkpointed, the journal is trimmed.
"""

import os
import random
import sys
import threading
from pathlib import Path

from backstory.core.error import BackstoryError, Busy
from backstory.core.fact import DeletePerson, Fact, Identifier, Identify, Track
from backstory.engine import loop
from backstory.engine import workspace as workspaces
from backstory.engine.clock import SystemClock
from backstory.engine.workspace import Workspace, open_workspace

THREADS = 3
PEOPLE = 40


def say(text: str) -> None:
    """Whole lines, also from several threads: a write of less than a page to a pipe is not torn."""
    os.write(1, text.encode() + b"\n")


def fail(error: BackstoryError) -> None:
    say(f"error {error}")


def send(workspace: Workspace, prefix: str) -> None:
    """Events with ids of their own, and every now and then attributes or a deletion, as fast as they are taken."""
    chance = random.Random(prefix)
    now_us = SystemClock().now_us
    number = 0
    while True:
        number += 1
        event_id = f"{prefix}-{number}"
        person = Identifier("id", f"p{chance.randrange(PEOPLE)}")
        time_us = now_us() - chance.choice((0, 0, 500_000, 3_000_000, -700_000))
        if chance.random() < 0.1:
            # Who comes and goes has no late events: those would be refused, and not be there.
            person, time_us = Identifier("id", f"guest{chance.randrange(5)}"), None
        name = chance.choice(("came", "left"))
        facts: list[Fact] = [Track(person=person, name=name, event_id=event_id, time_us=time_us)]
        if chance.random() < 0.1:
            facts.append(Identify(person=person, attributes=b'{"visits":%d}' % chance.randrange(5)))
        if chance.random() < 0.03:
            facts.append(DeletePerson(person=Identifier("id", f"guest{chance.randrange(5)}")))
        try:
            workspace.submit(facts, on_accept=lambda told=event_id: say(f"accepted {told}"), on_error=fail)
        except Busy:
            continue
        if number % 5 == 0:
            threading.Event().wait(0.004)


def main(folder: Path, prefix: str) -> None:
    # What else comes once in half a minute happens all the time.
    loop.SYNC_EVERY_US, loop.TRIM_EVERY_US, workspaces.CHECKPOINT_S = 20_000, 50_000, 0.05
    workspace = open_workspace(folder, clock=SystemClock())
    say("ready")
    for number in range(THREADS):
        threading.Thread(target=send, args=(workspace, f"{prefix}-{number}"), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
