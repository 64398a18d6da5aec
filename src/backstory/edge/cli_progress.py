"""The progress bar of long commands: on a terminal, nothing elsewhere."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from backstory.engine.file import options as engine_options


class Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        shown: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows  {task.fields[speed]:,.0f}/s"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*shown, console=console, disable=not console.is_terminal)
        self._task: TaskID = self._progress.add_task("starting", total=None, rows=0, speed=0.0)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def fetched(self, came: int, of: int) -> None:
        """Show how many bytes came, of how many (0: not known)."""
        self._progress.update(self._task, description="fetching", completed=came, total=of or None)

    def update(self, now: engine_options.Progress) -> None:
        """Show where the import is: by bytes where they are known, else by rows."""
        done, total = (now.bytes, now.bytes_total) if now.bytes_total else (now.rows, now.rows_total_estimate)
        self._progress.update(
            self._task, description=now.phase, completed=done, total=total, rows=now.rows, speed=now.rows_per_s
        )
