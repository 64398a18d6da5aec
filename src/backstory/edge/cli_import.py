"""``backstory imports``: list, show, pause, resume, cancel, retry, undo, redo, purge."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from backstory.core.condition import Json
from backstory.edge.cli_backfill import long_work
from backstory.edge.cli_command import (
    EXIT_FOUND,
    Run,
    at_terminal,
    columns,
    fields,
    moment,
    row_of,
    rows_of,
    workspace_command,
)
from backstory.edge.cli_summary import summary_text
from backstory.edge.cli_undo import preview_text, undone_text
from backstory.engine.file.options import Summary

F = TypeVar("F", bound=Callable[..., object])
_SHOWN = ("id", "name", "description", "type", "state", "identifier", "data_to_process", "error", "created_at")
_COLUMNS = ("id", "name", "type", "state", "rows_imported", "rows_to_import", "created_at")


@click.group()
def imports() -> None:
    """Files that were read in, each under a number.

    \b
    Example:
      backstory imports list --data ./data
    """


@imports.command("list")
@workspace_command
def list_imports(run: Run) -> None:
    """All imports.

    \b
    Examples:
      backstory imports list
      backstory imports list --json
    """
    with run.session() as session:
        body = session.ask("GET", "/v1/imports")
    empty = "no imports yet: 'backstory backfill events FILE' makes one"
    rows = [{**row, "state": _state(row)} for row in rows_of(body, "imports")]
    run.show(body, columns(rows, _COLUMNS, empty=empty))


@imports.command("show")
@click.argument("import_id", type=int)
@workspace_command
def show_import(run: Run, import_id: int) -> None:
    """One import: its state, what it was asked to do, and what became of its rows.

    \b
    Example:
      backstory imports show 3
    """
    with run.session() as session:
        body = session.ask("GET", f"/v1/imports/{import_id}")
    run.show(body, _text(row_of(body, "import")))


@imports.command("cancel")
@click.argument("import_id", type=int)
@workspace_command
def cancel_import(run: Run, import_id: int) -> None:
    """End an unfinished import where it stands: what came in stays, and the same files may be read from the start.

    \b
    Example:
      backstory imports cancel 3
    """
    with run.session() as session:
        body = session.ask("POST", f"/v1/imports/{import_id}/cancel")
    shown = row_of(body, "import")
    run.show(body, f"import {import_id} is {shown['state']}; of its rows {shown['rows_imported']} came in")


@imports.command("pause")
@click.argument("import_id", type=int)
@workspace_command
def pause_import(run: Run, import_id: int) -> None:
    """Have a running import wait behind the rows at hand, until it is resumed.

    \b
    Example:
      backstory imports pause 3
    """
    with run.session() as session:
        body = session.ask("POST", f"/v1/imports/{import_id}/pause")
    run.show(body, f"import {import_id} is {row_of(body, 'import')['state']}")


@imports.command("resume")
@click.argument("import_id", type=int)
@workspace_command
def resume_import(run: Run, import_id: int) -> None:
    """Have an import go on that was paused, or whose command ended before it was done.

    \b
    Example:
      backstory imports resume 3
    """
    with run.session() as session:
        body = session.ask("POST", f"/v1/imports/{import_id}/resume", query={"here": "false"})
        if body["running"]:
            run.show(body, f"import {import_id} goes on")
            return
        found = long_work(session, f"/local/imports/{import_id}/run", {}, "summary")
    run.show(found, summary_text(msgspec.convert(found, Summary)))


@imports.command("retry")
@click.argument("import_id", type=int)
@click.argument("fixed_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@workspace_command
def retry_import(run: Run, import_id: int, fixed_file: Path) -> None:
    """Take in the rows of an import that failed, mended, under the same import.

    Copy its file of errors (see imports show), correct the rows, leave the columns as they are: each row is known by
    its "line", and one that was mended before changes nothing again. Rows without a time stand where they stood in
    the input. Interrupted, the same command goes on. Exit 0 when nothing is left to be mended, else 1.

    \b
    Examples:
      backstory imports retry 3 fixed.csv
      backstory imports retry 3 fixed.jsonl --json
    """
    with run.session() as session:
        body = {"path": str(fixed_file.absolute())}
        found = long_work(session, f"/local/imports/{import_id}/retry", body, "summary")
    summary = msgspec.convert(found, Summary)
    run.show(found, summary_text(summary))
    if summary.to_mend or summary.state != "imported":
        click.get_current_context().exit(EXIT_FOUND)


def _undoing(function: F) -> F:
    for decorate in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--preview", is_flag=True, help="Say exactly what would change, and change nothing."),
        click.argument("import_id", type=int),
    ):
        function = decorate(function)
    return function


@imports.command("undo")
@_undoing
@workspace_command
def undo_import(run: Run, import_id: int, **flags: bool) -> None:
    """Take an import back, as if it had never been.

    Its events and values go, and the people it alone brought; memberships follow, and nothing starts by it. Messages
    that were sent stay sent. It can be brought in again with redo, until it is purged.

    \b
    Examples:
      backstory imports undo 3 --preview
      backstory imports undo 3
      backstory imports undo 3 --yes --json
    """
    _through(run, import_id, "undo", flags)


@imports.command("redo")
@_undoing
@workspace_command
def redo_import(run: Run, import_id: int, **flags: bool) -> None:
    """Bring an import in again that was taken back, as if it had never gone.

    Where that is not possible exactly any more, nothing is changed and it is said what is in the way: somebody else has
    an identifier of its people by now, or one of theirs was set, used, merged or deleted meanwhile. Run the file again
    then, with backfill. Its people who were deleted or suppressed meanwhile stay away.

    \b
    Examples:
      backstory imports redo 3 --preview
      backstory imports redo 3 --yes
    """
    _through(run, import_id, "redo", flags)


def _through(run: Run, import_id: int, way: str, flags: dict[str, bool]) -> None:
    path = f"/v1/imports/{import_id}/{way}"
    asks = not flags["yes"] and not flags["preview"]
    if asks and not at_terminal():
        raise click.UsageError(f"see what would change with --preview, confirm with --yes: imports {way} {import_id}")
    with run.session() as session:
        if flags["preview"] or asks:
            seen = row_of(session.ask("POST", path, body={"preview": True}), "preview")
            if not asks:
                run.show(seen, preview_text(seen))
                return
            click.echo(preview_text(seen), err=True)
            click.confirm("Go on?", abort=True, err=True)
        body = session.ask("POST", path)
    run.show(row_of(body, way), undone_text(row_of(body, way)))


@imports.command("purge")
@click.argument("import_id", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@workspace_command
def purge_import(run: Run, import_id: int, yes: bool) -> None:
    """Delete the rows of an import that was taken back, for good: it cannot be brought in again.

    \b
    Example:
      backstory imports purge 3 --yes
    """
    if not yes and not at_terminal():
        raise click.UsageError(f"what is purged cannot be brought back: confirm with --yes: imports purge {import_id}")
    if not yes:
        click.confirm(f"The rows of import {import_id} go for good. Go on?", abort=True, err=True)
    with run.session() as session:
        body = session.ask("POST", f"/v1/imports/{import_id}/purge")
    run.show(body, f"import {import_id} is purged")


def _state(shown: dict[str, Json]) -> str:
    """The state, in words for what the published ones do not tell apart."""
    if shown["purged"]:
        return "purged"
    at_rest = shown["state"] in ("importing", "preprocessing") and not shown["running"]
    return "interrupted" if at_rest else str(shown["state"])


def _text(shown: dict[str, Json]) -> str:
    """What it is and was asked to do, then what became of its rows."""
    asked, state = row_of(shown, "options"), _state(shown)
    if state == "interrupted":
        state += f": nobody is at work on it; 'backstory imports resume {shown['id']}' goes on"
    text = fields({**shown, "state": state}, _SHOWN) + "\n\nasked for\n"
    text += "\n".join("  " + line for line in fields(asked | {"as of": _as_of(asked)}, _asked(asked)).splitlines())
    if not shown["summary"]:
        return text
    said = "purged" if shown["purged"] else str(shown["state"])
    summary = msgspec.structs.replace(msgspec.convert(shown["summary"], Summary), state=said)
    return f"{text}\n\n{summary_text(summary, str(shown['type']))}"


def _asked(asked: dict[str, Json]) -> list[str]:
    """What to show of the options: where it came from and what decides what rows do; of the rest what was told."""
    always = ("sources", "rows", "time", "as of", "triggers", "on_empty", "map", "same_rows")
    told = [name for name, value in asked.items() if value and value != "auto"]
    return [*always, *(name for name in told if name not in (*always, "as_of"))]


def _as_of(asked: dict[str, Json]) -> str:
    as_of = asked["as_of"]
    return moment(int(as_of)) if isinstance(as_of, int | float) else "now"
