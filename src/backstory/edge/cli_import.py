"""``backstory imports``: list, show, cancel."""

import click
import msgspec

from backstory.core.condition import Json
from backstory.edge.cli_backfill import summary_text
from backstory.edge.cli_command import Run, columns, fields, row_of, rows_of, workspace_command
from backstory.engine.options import Summary

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
    run.show(body, columns(rows_of(body, "imports"), _COLUMNS, empty=empty))


@imports.command("show")
@click.argument("import_id", type=int)
@workspace_command
def show_import(run: Run, import_id: int) -> None:
    """One import: its state and what became of its rows.

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
        body = session.ask("POST", f"/local/imports/{import_id}/cancel")
    shown = row_of(body, "import")
    run.show(body, f"import {import_id} is {shown['state']}; of its rows {shown['rows_imported']} came in")


def _text(shown: dict[str, Json]) -> str:
    """What it is, then what became of its rows."""
    text = fields(shown, _SHOWN)
    if not shown["summary"]:
        return text
    summary = msgspec.convert(shown["summary"], Summary)
    return f"{text}\n\n{summary_text(msgspec.structs.replace(summary, state=str(shown['state'])))}"
