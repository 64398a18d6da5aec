"""The only reader of the clock."""

import time
from typing import Protocol

DRIFT_US = 60_000_000


class Clock(Protocol):
    def now_us(self) -> int:
        """Wall time, microseconds since 1970."""
        ...

    def monotonic_us(self) -> int:
        """Time that never jumps, from an arbitrary zero."""
        ...

    def pause(self, seconds: float) -> None:
        """Let so much time pass, blocking this thread."""
        ...


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that stands where it was put: for tests."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us
        self._monotonic_us = 0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_us(self) -> int:
        return self._monotonic_us

    def pause(self, seconds: float) -> None:
        """Nothing: this clock moves only by hand."""

    def advance(self, by_us: int) -> None:
        """Time passes."""
        self._now_us += by_us
        self._monotonic_us += by_us

    def jump(self, by_us: int) -> None:
        """Somebody sets the clock."""
        self._now_us += by_us


class ClockGuard:
    """Notices when wall time and monotonic time come apart by more than a minute (design section 3)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us = clock.now_us() - clock.monotonic_us()

    def apart_us(self) -> int:
        """How far the wall clock has moved against monotonic time since it was last accepted."""
        return self._clock.now_us() - self._clock.monotonic_us() - self._offset_us

    def jumped(self) -> bool:
        return abs(self.apart_us()) > DRIFT_US

    def now_us(self) -> int:
        """Wall time; while it is in doubt, the wall time there would be had nobody touched the clock."""
        return self._clock.monotonic_us() + self._offset_us if self.jumped() else self._clock.now_us()

    def accept(self) -> None:
        """A user says that the clock is right as it is."""
        self._offset_us = self._clock.now_us() - self._clock.monotonic_us()
