"""The commands of the README, run as they stand there, one after the other, against a real server."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORT = ":8080"
START_S = 30


def blocks() -> list[str]:
    """The shell blocks behind the first one, which is make's."""
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1:]


class Shell:
    """Runs blocks in one folder; each remembers the variables of those before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = str(probe.getsockname()[1])
        self.known = (
            f'backstory() {{ "{sys.executable}" -m backstory "$@"; }}\n'
            'curl() { command curl --silent --show-error --fail-with-body "$@" && echo; }\n'
            f"export BACKSTORY_PORT={self.port} PYTHONPATH={ROOT / 'src'}\n"
        )

    def script(self, block: str) -> list[str]:
        return ["bash", "-euc", (self.known + block).replace(PORT, f":{self.port}")]

    def run(self, block: str) -> list[str]:
        """The lines a block prints; it must not fail."""
        done = subprocess.run(self.script(block), cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        self.known += "\n".join(line for line in block.splitlines() if re.match(r"export |[A-Z]+=", line)) + "\n"
        return done.stdout.splitlines()


def wait_for(ready: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while not ready.exists():
        assert server.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server is not ready"
        time.sleep(0.02)


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Shell]:
    """A shell in an empty folder, with the server of the first block."""
    (folder / "examples").symlink_to(ROOT / "examples")
    shell = Shell(folder)
    # In place of the shell, so that the signal at the end reaches the server.
    program = f'exec "{sys.executable}" -m backstory serve {" ".join(flags)}'
    server = subprocess.Popen(shell.script(blocks()[0].replace("backstory serve", program)), cwd=folder)
    try:
        wait_for(folder / "data" / "backstory.sock", server)
        yield shell
    finally:
        server.terminate()
        assert server.wait(START_S) == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_readme_do_what_it_says(tmp_path: Path) -> None:
    """Every block runs, and what it prints is what the text around it promises."""
    with serving(tmp_path) as shell:
        variables, calls, receipt, backfill, segment, campaign, *mending = [shell.run(block) for block in blocks()[1:]]
    assert variables == ['{"status":"ready"}']
    assert calls == ["{}", "{}"]
    assert json.loads(receipt[0])["receipt"]["result"] == "applied"
    activities = json.loads(receipt[1])["activities"]
    assert [one["data"] for one in activities if one["type"] == "event"] == [{"dollars": "80"}, {"dollars": "23.45"}]
    assert backfill[0].endswith("2 rows; nothing was changed")
    assert any(line.startswith("import 1 is imported: 2 rows") for line in backfill)
    assert any(line.startswith("import 2 is imported: 69,659 rows") for line in backfill)
    made, now, then, head, *members = segment
    assert json.loads(made)["segment"]["id"] == 1
    assert json.loads(now)["count"] == 0
    assert json.loads(then)["count"] > 0
    assert head.split() == ["id", "email", "cio", "id"]
    assert len(members) == 5
    journeys = json.loads(campaign[2])["journeys"]
    assert [one["customer_identifiers"]["id"] for one in journeys] == ["ann"]
    assert "Hello ann@example.com, thank you for spending $99." in campaign
    run, retry, undo = [list(map(str.split, lines)) for lines in mending]
    assert run.count(["created", "997"]) == 2
    assert run.count(["errors", "2"]) == 2
    assert retry.count(["created", "999"]) == 1
    assert ["failed", "at", "first,", "mended", "since", "2"] in retry
    assert undo.count(["events", "999"]) == 2
    assert ["state", "retracted"] in undo


@pytest.mark.wire
def test_the_official_client_does_what_the_readme_says(tmp_path: Path) -> None:
    """The Python block runs with the authority of `--tls-dev`."""
    found = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    with serving(tmp_path, "--tls-dev") as shell:
        code = found.group(1).replace("port=8080", f"port={shell.port}")
        trust = {**os.environ, "REQUESTS_CA_BUNDLE": str(tmp_path / "data" / "tls" / "ca.pem")}
        subprocess.run([sys.executable, "-c", code], env=trust, check=True, timeout=START_S)
        members = shell.run("""backstory segments create Gold --conditions '{"attribute": {"field": "plan",
            "operator": "eq", "value": "platinum"}}' --data data""")
    assert members == ["segment 1 'Gold' (dynamic, finished): 1 member"]
