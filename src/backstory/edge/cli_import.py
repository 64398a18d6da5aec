"""``backstory imports``: list, show."""

import click

from backstory.core.condition import Json
from backstory.edge.cli_command import Run, columns, fields, row_of, rows_of, workspace_command

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
    shown = row_of(body, "import")
    summary = shown.get("summary")
    flat: dict[str, Json] = {
        name: value for name, value in shown.items() if name not in ("summary", "people_to_process")
    }
    run.show(body, fields({**(summary if isinstance(summary, dict) else {}), **flat}))
