"""How many calls a key may make: a bucket for each key that fills by the clock. Off unless a setting asks for it."""

from collections.abc import Callable, Hashable

from backstory.core.error import Busy
from backstory.core.time import SECOND_US


class Rate:
    """So many calls a second for each key, and as many at once after a pause of a second."""

    def __init__(self, per_s: int, monotonic_us: Callable[[], int]) -> None:
        self._per_s = per_s
        self._monotonic_us = monotonic_us
        # What is left of each key's bucket in millionths of a call, and as of when.
        self._left: dict[Hashable, tuple[int, int]] = {}

    def take(self, key: Hashable) -> None:
        """One call of a key; raises ``Busy`` with the seconds until the next one when it has none left."""
        now_us, full = self._monotonic_us(), self._per_s * SECOND_US
        left, since_us = self._left.get(key, (full, now_us))
        left = min(full, left + (now_us - since_us) * self._per_s)
        if left < SECOND_US:
            self._left[key] = (left, now_us)
            raise Busy(f"this key may make {self._per_s} calls a second", retry_after_s=1)
        self._left[key] = (left - SECOND_US, now_us)
