"""What verify finds, told line by line: what was compared, what differs, what is worth knowing."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from backstory.core.error import StorageError

OnLine = Callable[[dict[str, object]], None]

# Of one kind of difference so many are told one by one; the rest are counted.
TOLD_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``checked`` things were compared, ``differences`` of them are not as they must be."""

    ok: bool
    checked: int
    differences: int


class Findings:
    """Tells ``on_line`` as it goes; whatever that raises ends the work."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._checked = 0
        self._found: dict[str, int] = {}

    def checked(self, what: str, count: int) -> None:
        """So many things of a kind were compared."""
        self._checked += count
        self._on_line({"checked": {"what": what, "count": count}})

    def progress(self, what: str, count: int, total: int) -> None:
        """A long check is on its way."""
        self._on_line({"progress": {"what": what, "count": count, "of": total}})

    def note(self, what: str, text: str, **where: object) -> None:
        """Something that is no difference."""
        self._on_line({"note": {"what": what, **where, "note": text}})

    def difference(self, what: str, problem: str, **where: object) -> None:
        """Something is not what it must be; ``where`` names it."""
        self._found[what] = self._found.get(what, 0) + 1
        if self._found[what] <= TOLD_MAX:
            self._on_line({"difference": {"what": what, **where, "problem": problem}})

    @contextmanager
    def reading(self, what: str) -> Generator[None, None, None]:
        """What cannot be read in here is a difference."""
        try:
            yield
        except (StorageError, msgspec.MsgspecError) as error:
            self.difference(what, f"cannot be compared: {error}")

    def verdict(self) -> Verdict:
        """Tell what was counted and not told, and the result."""
        for what, count in self._found.items():
            if count > TOLD_MAX:
                self._on_line({"difference": {"what": what, "problem": f"{count - TOLD_MAX} more like these"}})
        differences = sum(self._found.values())
        verdict = Verdict(ok=not differences, checked=self._checked, differences=differences)
        self._on_line({"result": {"ok": verdict.ok, "checked": verdict.checked, "found": verdict.differences}})
        return verdict
