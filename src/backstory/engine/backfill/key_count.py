"""How often keys are there already, for many keys at once: two sorted columns walked side by side, compiled.

``store.keyrun`` says the same with a binary search for each key, which is right for a few keys and slow for millions.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import numpy as np
from numpy.typing import NDArray

from backstory.engine.file.kernel import kernel
from backstory.store.keyrun import Keys, OpenRun, PeopleArray

# Whoever asks for few of a run's keys goes through it in steps of so many.
_STRIDE = 16
# Where a run is so many times as long as the keys asked for, most of it is leapt over.
_LEAP_FROM = 64


def count_many(run: OpenRun, keys: Keys, people: PeopleArray) -> NDArray[np.int64]:
    """How many rows of a run have each key and person; both are in the order of keys, then people."""
    if len(run.keys) > _LEAP_FROM * len(keys):
        return run.count_many(keys, people)
    counts = np.zeros(len(keys), np.int64)
    _count(keys, people, run.keys, run.people, counts)
    return counts


@kernel
def _count(keys, people, run_keys, run_people, counts):
    at, size = 0, len(run_keys)
    for row in range(len(keys)):
        key, person = keys[row], people[row]
        if row and keys[row - 1] == key and people[row - 1] == person:
            counts[row] = counts[row - 1]
            continue
        while at + _STRIDE < size and run_keys[at + _STRIDE] < key:
            at += _STRIDE
        while at < size and (run_keys[at] < key or (run_keys[at] == key and run_people[at] < person)):
            at += 1
        place = at
        while place < size and run_keys[place] == key and run_people[place] == person:
            place += 1
        counts[row] = place - at
