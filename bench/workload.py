"""What a workload is, and what it answers.

A workload lives in a module of its own, which holds one ``WORKLOAD`` and is named in ``bench.run.WORKLOADS``.
Before it runs, it says what we expect and why; what it measures are figures, the important ones ratios to a
baseline that ran moments before on the same machine. A figure beyond its budget is told, it is not an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Scale = Literal["quick", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number that was measured, with the budget it is held against, if it has one.

    ``unit`` is "x" for ratios. ``most`` and ``least`` come from the table of budgets (design section 13).
    """

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None without one."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a workload may write.

    ``work`` is empty and goes away when the workload ends; ``cache`` holds folders that later workloads of the same run
    may use (``bench.stock``) and goes away with the run; ``data`` keeps generated input.
    """

    work: Path
    cache: Path
    data: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """``expects`` is printed first: what we expect to see, and why."""

    name: str
    expects: str
    run: Callable[[Scale, Place], Sequence[Figure]]
