"""Arrays that are used again, chunk after chunk.

Memory a process touches for the first time has to be found and cleared by the system, and on a virtual machine by its
host too; for the arrays of a large import that costs more than what is done with them.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Chunks differ a little in size; the next one shall fit as well.
_ROOM = 8


class Buffers:
    """Arrays by name. Whoever asks for a name again gets the same memory: what was there before is lost."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}

    def array(self, name: str, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """An array of so many items, of which nothing is known."""
        held = self._held.get(name)
        if held is None or len(held) < count or held.dtype != dtype:
            # Let go of first: both together would be the peak.
            self._held.pop(name, None)
            held = self._held[name] = np.empty(count + count // _ROOM, dtype)
        return held[:count]
