"""Is this event known? Sorted keys of the events in parts, as arrays mapped into memory.

A look-up is a binary search in each run: microseconds, whatever the number of events. A key counts only together
with its person, and may be that of millions of people (an event without data, imported for all at one moment), so a run
is sorted by key and, within a key, by person. Runs are immutable files, written aside and named by the manifest.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from backstory.core.error import StorageError
from backstory.store.database import sync_folder
from backstory.store.manifest import KeyRun

Keys = NDArray[np.int64]
PeopleArray = NDArray[np.uint32]
# A key shared by more rows of a run is looked up by itself.
WIDE = 16
_READ_BYTES = 1 << 20
# Puts numbers in order as ``order_by_head`` does.
OrderByHead = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]


def order_by_head(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of numbers by all but their lowest bits, as many as their count has; and what remains of each, sorted.

    In the place of those bits the position is sorted along, which is much faster than to sort positions.
    """
    bits = max(len(numbers) - 1, 0).bit_length()
    low = np.int64((1 << bits) - 1)
    packed = (numbers & ~low) | np.arange(len(numbers), dtype=np.int64)
    packed.sort()
    order = packed & low
    packed >>= bits
    return packed, order


def order_by_key(
    keys: Keys, people: PeopleArray, by_head: OrderByHead = order_by_head
) -> NDArray[np.int64]:
    """The order by key, then person."""
    heads, order = by_head(keys)
    shared = sharing(heads)
    if len(shared):
        # Few keys are shared as a rule, or begin alike: only those are sorted again.
        some = order[shared]
        order[shared] = some[np.lexsort((people[some], keys[some]))]
    return order


def sharing(heads: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of sorted numbers that are not alone."""
    if not len(heads):
        return np.empty(0, np.int64)
    shared = np.empty(len(heads) + 1, bool)
    shared[0] = shared[-1] = False
    np.equal(heads[1:], heads[:-1], out=shared[1:-1])
    return np.flatnonzero(shared[1:] | shared[:-1])


def write_run(
    folder: Path, name: str, keys: Keys, people: PeopleArray, *, lasting: bool = True
) -> tuple[str, str]:
    """Write keys with their people, in the order of both, as a run; returns (file name, checksum).

    Synced before return, but where it is not to last.
    """
    columns = (keys.astype("<i8", copy=False), people.astype("<u4", copy=False))
    digest = xxhash.xxh3_128()
    path = folder / f"{name}.keys"
    aside = path.with_suffix(".new")
    try:
        with open(aside, "wb") as file:
            for column in columns:
                body = np.ascontiguousarray(column).data
                digest.update(body)
                file.write(body)
            file.flush()
            if lasting:
                os.fdatasync(file.fileno())
        os.rename(aside, path)
        if lasting:
            sync_folder(folder)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    return path.name, digest.hexdigest()


def map_run(folder: Path, run: KeyRun) -> "OpenRun":
    """Map a run's file into memory; raises ``StorageError`` when it is missing or cut short."""
    path = folder / run.path
    try:
        raw: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r") if run.rows else np.empty(0, np.uint8)
    except (OSError, ValueError) as error:
        raise StorageError(f"the key file {run.path} cannot be read: {error}") from error
    if len(raw) != run.rows * 12:
        raise StorageError(f"the key file {run.path} has {len(raw)} bytes, not {run.rows * 12}")
    return OpenRun(run, np.asarray(raw[: run.rows * 8]).view(np.int64), np.asarray(raw[run.rows * 8 :]).view(np.uint32))


class OpenRun:
    """One run, ready for look-ups: keys ascending, each with its person, and these ascending within a key."""

    def __init__(self, run: KeyRun, keys: Keys, people: PeopleArray) -> None:
        self.run = run
        self.keys = keys
        self.people = people

    def count(self, key: int, person: int) -> int:
        """How many rows have this key and person."""
        low, high = self._stretch(np.int64(key))
        some = self.people[low:high]
        return int(some.searchsorted(np.uint32(person), side="right") - some.searchsorted(np.uint32(person)))

    def _stretch(self, key: np.int64) -> tuple[int, int]:
        return int(self.keys.searchsorted(key)), int(self.keys.searchsorted(key, side="right"))

    def count_many(self, keys: Keys, people: PeopleArray) -> NDArray[np.int64]:
        """How many rows have each key and person; ``keys`` sorted ascending."""
        counts = np.zeros(len(keys), dtype=np.int64)
        if not len(self.keys) or not len(keys):
            return counts
        # Both sides are sorted and keys are evenly spread: only the overlapping stretch is searched.
        low = self.keys.searchsorted(keys)
        low_safe = np.minimum(low, len(self.keys) - 1)
        hit = np.nonzero(self.keys[low_safe] == keys)[0]
        if not len(hit):
            return counts
        high = self.keys.searchsorted(keys[hit], side="right")
        start = low[hit]
        width = high - start
        for step in range(min(int(width.max()), WIDE)):
            inside = step < width
            counts[hit[inside]] += self.people[start[inside] + step] == people[hit[inside]]
        shared: Keys = keys[hit[width > WIDE]]
        for number in dict.fromkeys(shared.tolist()):
            key = np.int64(number)
            begin, end = self._stretch(key)
            rows = slice(int(keys.searchsorted(key)), int(keys.searchsorted(key, side="right")))
            held, asked = self.people[begin:end], people[rows]
            counts[rows] = held.searchsorted(asked, side="right") - held.searchsorted(asked)
        return counts


class KeyIndex:
    """All runs of a workspace. Replaced as a whole when the manifest changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.runs: list[OpenRun] = []

    def open(self, runs: list[KeyRun]) -> list[tuple[KeyRun, StorageError]]:
        """Take up these runs; returns those that cannot be read, for which nothing is known until ``put``."""
        # By their files: a number may be given again to another run once its run is gone.
        held = {(run.run.path, run.run.checksum, run.run.rows): run for run in self.runs}
        broken: list[tuple[KeyRun, StorageError]] = []
        opened: list[OpenRun] = []
        for run in runs:
            try:
                same = held.get((run.path, run.checksum, run.rows))
                opened.append(map_run(self._folder, run) if same is None else OpenRun(run, same.keys, same.people))
            except StorageError as error:
                opened.append(OpenRun(run, np.empty(0, np.int64), np.empty(0, np.uint32)))
                broken.append((run, error))
        self.runs = opened
        return broken

    def put(self, import_id: int, keys: Keys, people: PeopleArray) -> None:
        """Put keys (any order) in the place of every run of an import's events that count."""
        order = order_by_key(keys, people)
        keys, people = keys[order], people[order]
        for run in self.runs:
            if run.run.import_id == import_id and not run.run.duplicate:
                run.keys, run.people = keys, people
                keys, people = keys[:0], people[:0]

    def counts(self, key: int, person: int) -> list[tuple[int, bool, int]]:
        """Rows with this key and person: (import id, duplicate, how many)."""
        found: list[tuple[int, bool, int]] = []
        for run in self.runs:
            count = run.count(key, person)
            if count:
                found.append((run.run.import_id, run.run.duplicate, count))
        return found


def checksum_of(path: Path) -> str:
    """The checksum of a whole file, as the manifest records it: it finds damage, it is no seal against forgery."""
    digest = xxhash.xxh3_128()
    # Read into the same memory again: to be given new pages costs more than the sum over them.
    block = memoryview(bytearray(_READ_BYTES))
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(block):
                digest.update(block[:count])
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    return digest.hexdigest()
