"""Compaction: what is to be rewritten next, as a pure function of the manifest and the tail's size.

Old rows of the tail become parts, and small files are merged into larger ones. A file rests when it is at least
``RATIO`` times as large as all smaller ones of its sort together, or large enough; so there are never more than a
logarithm of them, and each row is rewritten about as often. Runs of keys stay within one import: which import a key
came with decides whether it counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from backstory.store.manifest import KeyRun, Part

F = TypeVar("F", Part, KeyRun)
RATIO = 2
# Whoever asks whether an event is known looks into every run: so many small ones are merged before more rows leave the
# tail.
RUNS_MAX = 8
# While facts come in, parts are merged so many at a time: two by two each row would be rewritten three times as often.
BUSY_PARTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """When something is done, in rows. ``move_rows`` leave the tail in one commit, which holds the loop meanwhile."""

    tail_rows: int = 60_000
    move_rows: int = 10_000
    part_rows: int = 2_000_000
    run_rows: int = 16_000_000


@dataclass(frozen=True, slots=True)
class Move:
    """The oldest rows of a kind are to leave the tail."""

    kind: str


@dataclass(frozen=True, slots=True)
class MergeParts:
    """Parts of one kind are to become one."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class MergeRuns:
    """Runs of keys of one import are to become one."""

    runs: tuple[KeyRun, ...]


Task = Move | MergeParts | MergeRuns


def plan(
    parts: Sequence[Part],
    runs: Sequence[KeyRun],
    tail: dict[str, int],
    sizes: Sizes,
    *,
    may_move: bool = True,
    busy: bool = False,
) -> Task | None:
    """What to do next, None: all is at rest. ``tail`` has how many rows of each kind there are.

    ``busy``: other work wants the processor, and what can be done at less cost later is left.
    """
    group = _restless_runs(runs, sizes)
    if len(group) < RUNS_MAX and may_move:
        for kind in sorted(tail):
            if tail[kind] >= sizes.tail_rows:
                return Move(kind)
    if group:
        return MergeRuns(tuple(sorted(group, key=lambda run: run.run_id)))
    for kind in sorted({part.kind for part in parts}):
        some = restless([part for part in parts if part.kind == kind], sizes.part_rows)
        if len(some) >= (BUSY_PARTS if busy else 1):
            return MergeParts(tuple(sorted(some, key=lambda part: part.part_id)))
    return None


def _restless_runs(runs: Sequence[KeyRun], sizes: Sizes) -> list[KeyRun]:
    """The runs of one import that are to become one, of that with the most such runs."""
    together: dict[tuple[int, bool], list[KeyRun]] = {}
    for run in runs:
        together.setdefault((run.import_id, run.duplicate), []).append(run)
    groups = [restless(together[key], sizes.run_rows) for key in sorted(together)]
    return max(groups, key=len) if groups else []


def restless(files: Sequence[F], rows_max: int) -> list[F]:
    """The smallest files that are to become one: two at least, or none.

    They are taken from the smallest up until they make a large one, so that the result has less than twice
    ``rows_max`` rows.
    """
    small = sorted((file for file in files if file.rows < rows_max), key=lambda file: file.rows)
    below = 0
    disturbed = 0
    for count, file in enumerate(small):
        if count and file.rows < RATIO * below:
            disturbed = count + 1
        below += file.rows
    chosen: list[F] = []
    rows = 0
    for file in small[:disturbed]:
        chosen.append(file)
        rows += file.rows
        if rows >= rows_max:
            break
    return chosen if len(chosen) > 1 else []
