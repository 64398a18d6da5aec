"""``backstory keys``: list, create, revoke."""

import click

from backstory.edge.cli_command import Run, columns, row_of, rows_of, workspace_command

_COLUMNS = ("id", "kind", "site_id", "hint", "preset", "created_at")


@click.group()
def keys() -> None:
    """Who may call the APIs. Only hashes are kept: a key is shown once.

    \b
    Example:
      backstory keys create app --data ./data
    """


@keys.command("list")
@workspace_command
def list_keys(run: Run) -> None:
    """All keys, by their last characters.

    \b
    Example:
      backstory keys list --json
    """
    with run.session() as session:
        body = session.ask("GET", "/local/keys")
    run.show(body, columns(rows_of(body, "keys"), _COLUMNS, empty="no keys: 'backstory keys create app' makes one"))


@keys.command("create")
@click.argument("kind", type=click.Choice(["track", "app", "cdp"]))
@click.option("--site-id", help="The user name beside a track key; otherwise the one in use.")
@workspace_command
def create_key(run: Run, kind: str, site_id: str | None) -> None:
    """Make a key for the Track API, the App API or Pipelines (cdp), and show it this once.

    \b
    Examples:
      backstory keys create app
      backstory keys create track --json
    """
    with run.session() as session:
        body = session.ask("POST", "/local/keys", body={"kind": kind, "site_id": site_id})
    made = row_of(body, "key")
    pair = f"{made['site_id']}:{made['key']}" if made["site_id"] else str(made["key"])
    run.show(body, f"{pair}\nThis is key {made['id']} ({kind}); it cannot be shown again.")


@keys.command("revoke")
@click.argument("key_id", type=int)
@workspace_command
def revoke_key(run: Run, key_id: int) -> None:
    """Make a key invalid, at once and for good.

    \b
    Example:
      backstory keys revoke 2
    """
    with run.session() as session:
        session.ask("DELETE", f"/local/keys/{key_id}")
    run.show({"revoked": key_id}, f"key {key_id} is revoked")
