"""The rows an import could not use, or used with a doubt, in the input's own form with ``line`` and ``error`` added.

A report is cut back to the length the last commit knew when an import goes on, so that no row is told twice.
"""

import csv
import io
import os
from pathlib import Path

import msgspec

from backstory.core.condition import Json

TEXT_MAX = 100_000


class Report:
    """One file, made when the first row comes."""

    def __init__(self, path: Path, *, header: list[str] | None, length: int) -> None:
        self.path = path
        self._header = header
        self._pending: list[str] = []
        self._told: list[str] = []
        self._length = length
        if path.exists():
            os.truncate(path, length)

    def add_json(self, line: int, text: bytes, error: str) -> None:
        """A line of a JSON lines file: its keys where it is an object, else its text."""
        try:
            row: Json = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row = None
        if not isinstance(row, dict):
            row = {"text": text[:TEXT_MAX].decode("utf-8", "replace").rstrip("\r\n")}
        self._pending.append(msgspec.json.encode({**row, "line": line, "error": error}).decode() + "\n")

    def add_csv(self, line: int, cells: list[str], error: str) -> None:
        assert self._header is not None
        width = len(self._header)
        padded = (cells + [""] * width)[:width]
        self._pending.append(_csv_line([*padded, str(line), error]))

    def take(self) -> list[str]:
        """The lines added so far, handed over to be told later."""
        lines, self._pending = self._pending, []
        return lines

    def tell(self, lines: list[str]) -> None:
        """Have lines written at the next flush."""
        self._told += lines

    def flush(self) -> int:
        """Write what was told, synced; returns the length of the file."""
        if not self._told:
            return self._length
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            if file.tell() == 0 and self._header is not None:
                file.write(_csv_line([*self._header, "line", "error"]).encode())
            file.write("".join(self._told).encode("utf-8", "replace"))
            file.flush()
            os.fdatasync(file.fileno())
            self._length = file.tell()
        self._told.clear()
        return self._length

    @property
    def name(self) -> str | None:
        """Where the file is, None when there is none."""
        return str(self.path) if self._length else None


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
