"""What a preview wants noted while its run is at work: new people by attribute, and the first rows of each outcome."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backstory.engine.file.csv_cell import dialect_of
from backstory.engine.file.csv_source import CsvSource
from backstory.engine.file.file_shape import is_csv, reading_of
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.source import Place, Source
from backstory.engine.preview.preview_view import RowSample

SAMPLES_MAX = 5
OUTCOMES = ("created", "updated", "unchanged", "stale", "duplicate", "skipped")
_BLOCK_BYTES = 4 << 20
_TEXT_CHARACTERS = 200
_LINE_FEED = 10


@dataclass(slots=True)
class Tally:
    """``new_people``: those without any peculiarity, by attribute. ``samples``: (file, line) of rows by outcome."""

    new_people: Counter[str] = field(default_factory=Counter[str])
    samples: dict[str, list[tuple[int, int]]] = field(default_factory=dict[str, list[tuple[int, int]]])

    def note(self, outcome: str, file: int, lines: Sequence[int] | NDArray[np.int64]) -> None:
        """Of these lines the first, until there are enough of the outcome."""
        noted = self.samples.setdefault(outcome, [])
        if (room := SAMPLES_MAX - len(noted)) > 0 and len(lines):
            noted += [(file, int(line)) for line in np.sort(np.asarray(lines, np.int64))[:room]]

    def shown(self, options: BackfillOptions) -> dict[str, list[RowSample]]:
        """The rows by outcome, with what stands in their lines."""
        wanted: dict[int, set[int]] = {}
        for file, line in (place for places in self.samples.values() for place in places):
            wanted.setdefault(file, set()).add(line)
        several = len(options.paths) > 1
        texts = {
            (file, line): text
            for file, lines in wanted.items()
            for line, text in _texts(Path(options.paths[file]), options, lines)
        }
        return {
            outcome: [
                RowSample(
                    line=line, text=texts.get((file, line), ""), file=Path(options.paths[file]).name if several else ""
                )
                for file, line in self.samples[outcome]
            ]
            for outcome in OUTCOMES
            if self.samples.get(outcome)
        }


def _texts(path: Path, options: BackfillOptions, lines: set[int]) -> Iterator[tuple[int, str]]:
    """(line, text) of some lines of a file, as its rows were numbered."""
    if is_csv(path):
        source = CsvSource(path, dialect=dialect_of(options, path))
        source.close()
        reading = source.reading
    else:
        reading = reading_of(options, path)
    text = Source(path, Place(), reading=reading)
    try:
        last = max(lines)
        for chunk in text.chunks(_BLOCK_BYTES):
            here = [line for line in lines if chunk.first_line <= line <= chunk.end.line]
            if here and len(chunk.body):
                yield from _lines(chunk.body, chunk.first_line, here)
            if chunk.end.line >= last:
                return
    finally:
        text.close()


def _lines(body: bytes | memoryview, first: int, wanted: Iterable[int]) -> Iterator[tuple[int, str]]:
    ends = np.flatnonzero(np.frombuffer(body, np.uint8) == _LINE_FEED)
    for line in wanted:
        at = line - first
        low = int(ends[at - 1]) + 1 if at else 0
        high = int(ends[at]) if at < len(ends) else len(body)
        # A character has up to four bytes.
        text = bytes(body[low : min(high, low + 4 * _TEXT_CHARACTERS)]).decode("utf-8", "replace").strip("\ufeff\r")
        yield line, text if len(text) <= _TEXT_CHARACTERS else text[: _TEXT_CHARACTERS - 1] + "…"
