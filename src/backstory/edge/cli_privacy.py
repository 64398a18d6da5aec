"""``backstory privacy``: purge."""

from typing import cast

import click

from backstory.core.condition import Json
from backstory.edge.cli_command import Row, Run, moment, row_of, workspace_command


@click.group()
def privacy() -> None:
    """What is left of people who were deleted or suppressed, and when it is gone.

    \b
    Example:
      backstory privacy purge --data ./data
    """


@privacy.command()
@click.option("--now", is_flag=True, help="Purge everybody who is gone, instead of saying who waits.")
@workspace_command
def purge(run: Run, now: bool) -> None:
    """Say what of deleted people waits to be purged; with --now, purge it.

    A deletion takes a person out of every answer at once. A purge in the background takes the rest out of the folder
    (rows in parts, old traces, archived mail, the free pages of databases) within BACKSTORY_PURGE_DAYS, 30 by
    default. With --now writers wait while databases are rebuilt: about a second for 150 MB.

    \b
    Examples:
      backstory privacy purge
      backstory privacy purge --now
    """
    found: dict[str, Json] = {}

    def on_line(line: dict[str, Json]) -> None:
        found.update(line)
        if "progress" in line and not run.as_json:
            click.echo(_stages(row_of(line, "progress")), err=True)

    with run.session() as session:
        if now:
            session.work("/local/privacy/purge", {}, on_line)
        else:
            found = session.ask("GET", "/local/privacy/purge")
    purged = row_of(found, "purge")
    run.show({"purge": purged}, _stages(purged))


def _stages(progress: Row) -> str:
    """One line: who waits for what, and until when."""
    stages = cast("dict[str, int]", progress["stages"])
    done = f"{progress['purged']:,} purged so far"
    if not stages:
        return f"nobody who is gone has data here; {done}"
    text = ", ".join(f"{count:,} {_SAID[name]}" for name, count in stages.items())
    return f"{text}; gone by {moment(cast('int', progress['due_at']))}; {done}"


_SAID = {
    "waiting": "waiting",
    "rows": "in tables",
    "history": "in history",
    "names": "in tombstones",
    "traces": "in traces",
    "files": "in reports and mail",
    "bytes": "in free pages",
}
