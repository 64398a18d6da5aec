"""The process of a command: its output is whole, its code is the command's, and what others do at the exit is done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backstory.edge.entry import code_of

AT_EXIT = """
import atexit, sys
from backstory.edge import cli, entry
def main():
    atexit.register(print, "later", file=sys.stderr)
    print("x" * 1_000_000)
    {end}
cli.main = main
entry.run()
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def test_a_command_is_a_process() -> None:
    """It prints what it has to say and exits with success, or with the code for being called wrongly."""
    told = run("-m", "backstory", "--version")
    assert (told.returncode, told.stdout.split(",")[0]) == (0, "backstory")
    assert run("-m", "backstory", "no-such-command").returncode == 2


@pytest.mark.parametrize(
    ("end", "code"),
    [("pass", 0), ("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('said')", 1), ("raise ValueError('told')", 1)],
)
def test_everything_is_written_before_the_process_ends(end: str, code: int) -> None:
    """All output arrives, functions registered for the exit are called, and an error that nobody caught is told."""
    done = run("-c", AT_EXIT.format(end=end))
    assert (done.returncode, len(done.stdout)) == (code, 1_000_001)
    assert "later" in done.stderr
    assert all(word in done.stderr for word in ("said", "told") if word in end)


def test_output_that_nobody_takes_is_no_success() -> None:
    """As Python has it when the last of the output, which lay in memory till then, cannot be written."""
    code = AT_EXIT.replace("1_000_000", "10").format(end="pass")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as nowhere:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=nowhere, stderr=subprocess.DEVNULL, env=buffered, check=False
        )
    assert done.returncode == 120


def test_codes_are_those_of_python() -> None:
    """None is success, a text is a failure."""
    assert [code_of(SystemExit(code)) for code in (None, 0, 7, "said")] == [0, 0, 7, 1]
