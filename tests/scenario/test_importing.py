"""Every command of docs/importing.md does what the page says: it ends well, and its rows are in."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "importing.md"
FILES = {
    "people.csv": b"id,email,plan\nann,ann@x.org,pro\n",
    "western.csv": "id;city\nbob;Zürich\n".encode("cp1252"),
    "exports/1.csv": b"customer_id,name,timestamp\nann,bought,1700000000\n",
    "exports/2.jsonl": b'{"customer_id":"ann","name":"bought","timestamp":1700000001}\n',
    "events.jsonl": b'{"type":"track","userId":"ann","event":"seen","timestamp":1700000002}\n',
    "calls.jsonl": b'{"type":"group","userId":"ann","groupId":"acme","traits":{"plan":"pro"},"timestamp":1700000003}\n'
    b'{"type":"identify","userId":"ann","traits":{"plan":"pro"},"timestamp":1700000003}\n'
    b'{"type":"track","userId":"ann","event":"seen","timestamp":1700000004}\n',
    "zips.csv": b"id,zip,joined\nann,00123,2024-05-01\n",
    "visits.csv": b"who,what,day\nann,visited,2024-05-01\n",
    "preise.csv": b"id;price;born\nann;1,50;31.12.1980\n",
    "accounts.csv": b"object_id,plan\nacme,pro\n",
    "seats.csv": b"object_id,id,role\nacme,ann,owner\n",
}


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    """Without an error, each of them with rows."""
    for name, body in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("CREATE TABLE customers (id TEXT, email TEXT)")
        db.execute("INSERT INTO customers VALUES ('cid', 'cid@x.org')")
    db.close()
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) >= 9
    environment = {**os.environ, "BACKSTORY_DATA": str(tmp_path / "data")}
    for command in commands:
        ours = command.replace("backstory ", f"{sys.executable} -m backstory ", 1)
        line = re.sub(r"( < \S+)?$", r" --json\1", ours, count=1)
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        summary = json.loads(done.stdout)
        assert summary["rows"] > 0, command
        # Of a file of calls each import takes its own.
        assert (summary["state"], summary["errors"]) == ("imported", 0), command
        assert summary["skipped"] == (2 if "calls" in command else 0), command
