"""Which keys of a chunk of events are known, and how often: a sieve in front of all runs of keys, compiled.

A chunk's keys against the runs of fifty million events, side by side, is a walk over all of these for each chunk. The
sieve says of nearly every key that is in none of them that it is in none, with one look at memory; only the others are
searched. It forgets no key and may name a few too many, so what is counted does not depend on it.

Like the bits of a Bloom filter that lie in one word: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
Filters" (2007). Keys are halves of an MD5, so their bits need no further hashing.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.engine.event_chunk import count_known
from backstory.engine.kernel import kernel, piece
from backstory.engine.key_count import count_many
from backstory.store.keyrun import Keys, OpenRun, PeopleArray

# Words of eight bytes: at least, at most (256 MB), and for how many keys one is enough. With three keys to a word and
# four bits for each, about one key in three hundred that is not there passes.
WORDS_MIN = 1 << 16
WORDS_MAX = 1 << 25
KEYS_PER_WORD = 3
# Where so great a part of the keys passes, walking side by side is the faster way.
MANY = 1 / 16


class KnownKeys:
    """Of one import; ``count`` takes what it is asked about every time, so that runs may come and go meanwhile."""

    def __init__(self) -> None:
        self._words: NDArray[np.uint64] = np.zeros(WORDS_MIN, np.uint64)
        # The files of the runs whose keys are in.
        self._taken: set[str] = set()
        self._keys = 0

    def count(
        self, runs: Sequence[OpenRun], keys: Keys, people: PeopleArray, import_id: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See ``count_known``."""
        self._take_up(runs)
        near = np.nonzero(self.may_hold(keys))[0]
        if len(near) > MANY * len(keys):
            return count_known(runs, keys, people, import_id, count_many)
        kept, mine = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        if len(near):
            kept[near], mine[near] = count_known(runs, keys[near], people[near], import_id, count_many)
        return kept, mine

    def may_hold(self, keys: Keys) -> Truth:
        """Which keys may be in a run that was taken up; false only for those that are in none."""
        out = np.empty(len(keys), dtype=bool)
        _may_hold(self._words, keys, out)
        return out

    def _take_up(self, runs: Sequence[OpenRun]) -> None:
        new = [run for run in runs if run.run.path not in self._taken]
        self._keys += sum(len(run.keys) for run in new)
        if self._keys > KEYS_PER_WORD * len(self._words) and len(self._words) < WORDS_MAX:
            words = WORDS_MIN
            while words < WORDS_MAX and KEYS_PER_WORD * words < self._keys:
                words *= 2
            self._words = np.zeros(words, np.uint64)
            # Whose files are gone by now, is counted nowhere.
            new, self._keys = list(runs), sum(len(run.keys) for run in runs)
            self._taken.clear()
        for run in new:
            _put(self._words, run.keys)
            self._taken.add(run.run.path)


@piece
def _mark(key):
    """The bits of a key in its word, told by other bits of it than the word is."""
    bits = key >> np.uint64(40)
    mark = np.uint64(0)
    for _ in range(4):
        mark |= np.uint64(1) << (bits & np.uint64(63))
        bits >>= np.uint64(6)
    return mark


@kernel
def _put(words, keys):
    last = np.uint64(len(words) - 1)
    for row in range(len(keys)):
        key = np.uint64(keys[row])
        words[key & last] |= _mark(key)


@kernel
def _may_hold(words, keys, out):
    last = np.uint64(len(words) - 1)
    for row in range(len(keys)):
        key, mark = np.uint64(keys[row]), _mark(np.uint64(keys[row]))
        out[row] = words[key & last] & mark == mark
