"""Which keys of a chunk of events are known, and how often: a sieve in front of all runs of keys, compiled.

A chunk's keys against the runs of fifty million events, side by side, is a walk over all of these for each chunk. The
sieve says of nearly every key that is in none of them that it is in none, with one look at memory; only the others are
searched. It forgets no key and may name a few too many, so what is counted does not depend on it.

Like the bits of a Bloom filter that lie in one word: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
Filters" (2007). Keys are hashes, so their bits need no further hashing.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.engine.backfill.key_count import count_many
from backstory.engine.file.kernel import kernel, piece
from backstory.store.keyrun import Keys, OpenRun, PeopleArray

# Words of eight bytes: at least, at most (256 MB), and for how many keys one is enough. With three keys to a word and
# four bits for each, about one key in three hundred that is not there passes.
WORDS_MIN = 1 << 16
WORDS_MAX = 1 << 25
KEYS_PER_WORD = 3
# Where so great a part of the keys passes, each run is asked only for those that pass a sieve of its own.
MANY = 1 / 16


# Of each key the bits that stand for it in its word.
Marks = NDArray[np.uint64]


def marks_of(keys: Keys) -> Marks:
    """The bits of each key, which are asked for in many words."""
    marks = np.empty(len(keys), np.uint64)
    _marks(keys, marks)
    return marks


class KeySieve:
    """Says of nearly every key that was not put in that it was not. It has room for so many keys."""

    def __init__(self, keys: int) -> None:
        words = WORDS_MIN
        while words < WORDS_MAX and KEYS_PER_WORD * words < keys:
            words *= 2
        self._words: NDArray[np.uint64] = np.zeros(words, np.uint64)
        self.keys = 0

    def has_room(self, keys: int) -> bool:
        """For more keys: is it not too full then, or as large as one may be?"""
        return self.keys + keys <= KEYS_PER_WORD * len(self._words) or len(self._words) >= WORDS_MAX

    def put(self, keys: Keys) -> None:
        _put(self._words, keys)
        self.keys += len(keys)

    def near(self, keys: Keys, marks: Marks) -> NDArray[np.int64]:
        """The places of the keys (with their ``marks_of``) that may have been put in; all others were not."""
        found = np.empty(len(keys), np.int64)
        return found[: _near(self._words, keys, marks, found)]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked, and how often it was found so far: among events that count, and among those of the import."""

    keys: Keys
    people: PeopleArray
    import_id: int
    once: Truth
    kept: NDArray[np.int64]
    mine: NDArray[np.int64]

    def open(self, rows: NDArray[np.int64]) -> Truth:
        """Of which of these rows is there more to know?"""
        return ~self.once[rows] | (self.kept[rows] == 0)

    def of(self, run: OpenRun, rows: slice | NDArray[np.int64] = slice(None)) -> int:
        """Ask a run for some of it; returns for how much of that the run has something."""
        counts = count_many(run, self.keys[rows], self.people[rows])
        if not run.run.duplicate:
            self.kept[rows] += counts
        if run.run.import_id == self.import_id:
            self.mine[rows] += counts
        return int(np.count_nonzero(counts))


class KnownKeys:
    """Of one import; ``count`` takes what it is asked about every time, so that runs may come and go meanwhile."""

    def __init__(self) -> None:
        self._all = KeySieve(0)
        # The files of the runs whose keys are in it.
        self._taken: set[str] = set()
        # Of runs that were asked for many keys each has one of its own, by its file.
        self._each: dict[str, KeySieve] = {}
        # The file of the run that had most of what was asked last, if it had much of it.
        self._last = ""

    def count(
        self, runs: Sequence[OpenRun], keys: Keys, people: PeopleArray, import_id: int, once: Truth
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See ``count_known``.

        A file that is read again asks in the order in which it was written: the run behind the one that knew most of
        what was asked last is asked first, and the others only for what is left.
        """
        runs = [run for run in runs if not run.run.duplicate or run.run.import_id == import_id]
        self._take_up(runs)
        asked = _Asked(keys, people, import_id, once, np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64))
        left = np.arange(len(keys))
        first, self._last = self._behind_last(runs), ""
        most = 0
        if first is not None:
            most = asked.of(first)
            self._last = first.run.path if most > MANY * len(keys) else ""
            left = left[asked.open(left)]
            runs = [run for run in runs if run is not first]
        marks = marks_of(keys[left])
        near = self._all.near(keys[left], marks)
        if len(near) > MANY * len(keys):
            self._ask_each(runs, asked, left[near], marks[near], most)
        elif len(near):
            for run in runs:
                asked.of(run, left[near])
        return asked.kept, asked.mine

    def _ask_each(
        self, runs: Sequence[OpenRun], asked: _Asked, rows: NDArray[np.int64], marks: Marks, most: int
    ) -> None:
        """A known key is in one run as a rule, so each is asked only for what may be its own.

        ``most``: so much another run has had.
        """
        for run in runs:
            near = rows[self._sieve_of(run).near(asked.keys[rows], marks)]
            found = asked.of(run, near) if len(near) else 0
            if found > MANY * len(asked.keys):
                more = asked.open(rows)
                rows, marks = rows[more], marks[more]
                if found > most:
                    most, self._last = found, run.run.path

    def _behind_last(self, runs: Sequence[OpenRun]) -> OpenRun | None:
        """The run behind the one that knew much of what was asked last."""
        for last, run in pairwise(runs):
            if last.run.path == self._last:
                return run
        return None

    def _sieve_of(self, run: OpenRun) -> KeySieve:
        sieve = self._each.get(run.run.path)
        if sieve is None:
            sieve = self._each[run.run.path] = KeySieve(len(run.keys))
            sieve.put(run.keys)
        return sieve

    def _take_up(self, runs: Sequence[OpenRun]) -> None:
        new = [run for run in runs if run.run.path not in self._taken]
        more = sum(len(run.keys) for run in new)
        if not self._all.has_room(more):
            self._all = KeySieve(self._all.keys + more)
            # Whose files are gone by now, is counted nowhere.
            new = list(runs)
            self._taken.clear()
        for run in new:
            self._all.put(run.keys)
            self._taken.add(run.run.path)


# Which word is told by the highest bits of a key: keys that come sorted, as those of runs and of chunks do, then walk
# through memory from one end to the other.


@piece
def _mark(key):
    """The bits of a key in its word, told by the lowest bits of it."""
    mark = np.uint64(0)
    for _ in range(4):
        mark |= np.uint64(1) << (key & np.uint64(63))
        key >>= np.uint64(6)
    return mark


@piece
def _shift(words):
    """How far a key is to be shifted to be the place of its word; there are a power of two of them."""
    shift = 64
    while words > 1:
        words >>= 1
        shift -= 1
    return np.uint64(shift)


@kernel
def _put(words, keys):
    shift = _shift(len(words))
    for row in range(len(keys)):
        key = np.uint64(keys[row])
        words[key >> shift] |= _mark(key)


@kernel
def _marks(keys, marks):
    for row in range(len(keys)):
        marks[row] = _mark(np.uint64(keys[row]))


@kernel
def _near(words, keys, marks, found):
    shift = _shift(len(words))
    count = 0
    for row in range(len(keys)):
        mark = marks[row]
        found[count] = row
        count += words[np.uint64(keys[row]) >> shift] & mark == mark
    return count
