"""``backstory workspaces``: list, create."""

import click

from backstory.edge.cli_command import Run, columns, fields, row_of, rows_of, workspace_command


@click.group()
def workspaces() -> None:
    """Several workspaces in one data folder, each with its own people, campaigns and keys.

    A server serves all of them; the key of a call says which one is meant. Commands take --workspace NAME.

    \b
    Example:
      backstory workspaces create staging --data ./data
    """


@workspaces.command("list")
@workspace_command
def list_workspaces(run: Run) -> None:
    """All workspaces of the data folder.

    \b
    Example:
      backstory workspaces list --json
    """
    with run.session() as session:
        body = session.ask("GET", "/local/workspaces")
    run.show(body, columns(rows_of(body, "workspaces"), ("id", "name"), empty="no workspaces"))


@workspaces.command("create")
@click.argument("name")
@workspace_command
def create_workspace(run: Run, name: str) -> None:
    """Make a workspace and a key of each kind for it, and show the keys this once.

    A running server serves it at once.

    \b
    Examples:
      backstory workspaces create staging
      backstory segments list --workspace staging
    """
    with run.session(may_create=True) as session:
        body = session.ask("POST", "/local/workspaces", body={"name": name})
    made = row_of(body, "workspace")
    shown = fields(row_of(made, "keys"))
    run.show(body, f"The workspace {name} is there. Its keys, which cannot be shown again:\n{shown}")
