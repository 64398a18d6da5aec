"""``backstory privacy``: prove, purge."""

from typing import cast

import click

from backstory.core.condition import Json
from backstory.core.error import BackstoryError
from backstory.core.time import DAY_US, SECOND_US
from backstory.edge.cli_command import EXIT_FOUND, Row, Run, cell, moment, row_of, workspace_command


@click.group()
def privacy() -> None:
    """What is left of people who were deleted or suppressed, and when it is gone.

    \b
    Examples:
      backstory privacy prove ann@example.com --data ./data
      backstory privacy purge --data ./data
    """


@privacy.command()
@click.argument("identifier")
@workspace_command
@click.pass_context
def prove(context: click.Context, run: Run, identifier: str) -> None:
    """Search the whole data folder for somebody; exit code 1 if anything of them is there.

    IDENTIFIER is an id, email, phone, cio_id or anonymous id. Looked for are the identifier, and what else is known
    of the person: other names, texts of attributes, their number. Every workspace, table, part, report, archived mail
    and the raw bytes of every file are searched, beside a running server or without one; nothing is written.

    \b
    Examples:
      backstory privacy prove ann@example.com
      backstory privacy prove 42 --json
    """
    # Reads Parquet, which loads slowly.
    from backstory.engine.verify.prove import Finding
    from backstory.engine.verify.prove import prove as search

    if not identifier.strip():
        # Not 1, which says that something is there.
        raise click.UsageError(f"IDENTIFIER is blank: {identifier!r} names nobody")
    found: list[Finding] = []
    settings = run.settings
    if not (settings.data / "workspaces").is_dir():
        raise BackstoryError(f"the folder {settings.data} holds no workspace")
    count = search(
        settings.data, identifier, keep_us=round(settings.purge_days * DAY_US), on_finding=found.append
    )
    rows: list[dict[str, Json]] = [
        {
            "workspace": one.workspace, "place": one.place, "file": one.file, "found": one.count,
            "gone_by": None if one.gone_us is None or not one.count else one.gone_us // SECOND_US,
            "why": one.why,
        }
        for one in found
    ]  # fmt: skip
    clean = f"nothing of them in {len(found) - count:,} {'other ' if count else ''}places: --json lists all"
    text = f"{_places(rows)}{count:,} places hold something of them, {clean}" if count else clean
    run.show({"clean": not count, "places": rows}, text)
    if count:
        context.exit(EXIT_FOUND)


def _places(rows: list[dict[str, Json]]) -> str:
    """A line for each place that holds something."""
    lines: list[str] = []
    for row in rows:
        if not row["found"]:
            continue
        gone_by = row["gone_by"]
        until = f", gone by {moment(gone_by)}" if isinstance(gone_by, int) else ""
        said = f"{row['found']:,} found; {row['why']}{until}"
        lines.append(f"{cell(row['workspace']) or '-'}: {cell(row['place'])} ({cell(row['file'])}): {said}\n")
    return "".join(lines)


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
