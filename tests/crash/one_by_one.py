"""A child that accepts facts one at a time and says each, watched while it does; then it stores everything."""

import os
import sys
from pathlib import Path

from backstory.core.error import BackstoryError
from backstory.core.fact import Identifier, Track
from backstory.engine.clock import SystemClock
from backstory.engine.workspace import open_workspace
from tests.crash.watch import be_watched


def say(text: str) -> None:
    os.write(1, text.encode())


def fail(error: BackstoryError) -> None:
    raise error


def main(folder: Path, count: int) -> None:
    workspace = open_workspace(folder, clock=SystemClock(), threads=False)
    be_watched()
    for number in range(count):
        fact = Track(person=Identifier("id", "ann"), name="came", event_id=f"e{number}")
        workspace.submit([fact], on_accept=lambda: say("accepted\n"), on_error=fail)
        workspace.loop.turn()
    say("closing\n")
    workspace.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
