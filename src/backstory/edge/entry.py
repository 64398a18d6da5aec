"""The process of a command: ``backstory``, or ``python -m backstory``.

It knows nothing of commands, and is there before anything else is loaded, because it is about the loading too.
"""

import atexit
import os
import sys
from contextlib import suppress

from backstory.engine.cycle import collect_seldom

# What Python itself exits with when the last of the output cannot be written.
UNWRITTEN = 120


class _Leaving:
    """The end of the process, once everything is closed and written.

    Python would take apart whatever was loaded, object by object: half a second after a large import, for nothing.
    """

    def __init__(self) -> None:
        # Whatever ends a command without saying how it ended has failed.
        self.code = 1

    def leave(self) -> None:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError):
            self.code = self.code or UNWRITTEN
        with suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.flush()
        os._exit(self.code)


def run() -> None:
    """Run a command and exit with its code."""
    collect_seldom()
    leaving = _Leaving()
    # The first to be registered is the last to be called, behind all that others do at the exit.
    atexit.register(leaving.leave)
    from backstory.edge.cli import main

    try:
        main()
        leaving.code = 0
    except SystemExit as end:
        leaving.code = code_of(end)
        raise


def code_of(end: SystemExit) -> int:
    """The code with which Python exits: none is success, and a text is printed as what went wrong."""
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 1
