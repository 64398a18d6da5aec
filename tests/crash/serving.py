"""`backstory serve` as a process of its own, for tests that ask what it does under blows."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def process_serving(folder: Path, keys: Mapping[str, str]) -> "Iterator[tuple[int, subprocess.Popen[bytes], Path]]":
    """Its port, the process, and the file with what it says; ended in order behind the block."""
    said = folder / "said"
    command = [sys.executable, "-m", "backstory", "serve", "--data", str(folder / "data"), "--port", "0"]
    with said.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **keys}, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while (found := re.search(rb"ready at http://[^:]+:(\d+)", said.read_bytes())) is None:
            assert time.monotonic() < deadline, said.read_text()
            assert process.poll() is None, said.read_text()
            time.sleep(0.05)
        yield int(found.group(1)), process, said
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
