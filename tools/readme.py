"""Write what `make demo` prints into the README: part of `make docs`.

A test runs the demo again and compares what ``stable`` leaves of both: everything but what differs from run to run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
START = "<!-- demo-output -->\n```text\n"
END = "```\n<!-- end of demo-output -->\n"

# What differs from run to run: places, moments, durations, and the ids made from moments.
_CHANGING = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "URL"),
    (re.compile(r"\S*backstory-demo-\w+"), "FOLDER"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "MOMENT"),
    (re.compile(r"\b\d{1,2} [A-Z][a-z]+ \d{4}\b"), "DAY"),
    (re.compile(r"[\d,.]+ s \([\d,]+ rows/s\)"), "DURATION"),
    (re.compile(r"\b\d+-\d+-\d+-[0-9a-f]+\b"), "DELIVERY"),
    (re.compile(r"(checked: (?:part|key run|leaf)) +\d+"), r"\1 COUNT"),  # how often it was written hangs on time
)


def demo_output() -> str:
    """What the demo prints without a terminal; raises ``RuntimeError`` with that if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKSTORY_")}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"],
        env={**environment, "ONCE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the demo ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def shown_output(readme: str) -> str:
    """What the README says the demo prints."""
    return readme.partition(START)[2].partition(END)[0]


def stable(output: str) -> str:
    """Output without what differs from run to run."""
    for pattern, word in _CHANGING:
        output = pattern.sub(word, output)
    return output


def with_output(readme: str, output: str) -> str:
    """The README with other output between its markers."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise RuntimeError("the README has no markers for the output of the demo")
    return f"{before}{START}{output}{END}{after}"


def main() -> None:
    README.write_text(with_output(README.read_text(), demo_output()))
    print("wrote README.md")


if __name__ == "__main__":
    main()
