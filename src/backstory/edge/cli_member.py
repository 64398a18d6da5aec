"""``backstory segments``: add, remove, clear, for manual segments."""

import csv
from pathlib import Path

import click

from backstory.edge.cli_command import Run, at_terminal, row_of, workspace_command

# The columns that name people, in the order in which imports of members look for them.
PERSON = ("customer_id", "id", "email", "cio_id")
# A body stays well within its limit.
_AT_ONCE = 5000
_ID_TYPE = click.option(
    "--id-type",
    type=click.Choice(["id", "email", "cio_id"]),
    help="Which identifier the people are named by: id, or for a file what its first column of a name says.",
)
_CSV = click.option(
    "--csv",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a heading; people are in its column customer_id, id, email or cio_id, or that of --id-type.",
)


@click.command("add")
@click.argument("segment_id", type=int)
@click.argument("people", nargs=-1)
@_CSV
@_ID_TYPE
@workspace_command
def add(run: Run, segment_id: int, people: tuple[str, ...], path: Path | None, id_type: str | None) -> None:
    """Put people into a manual segment.

    \b
    Examples:
      backstory segments add 3 ann bob
      backstory segments add 3 --csv testers.csv --id-type email
    """
    _change(run, f"/v1/segments/{segment_id}/members", "added", *_named(people, path, id_type))


@click.command("remove")
@click.argument("segment_id", type=int)
@click.argument("people", nargs=-1)
@_CSV
@_ID_TYPE
@workspace_command
def remove(run: Run, segment_id: int, people: tuple[str, ...], path: Path | None, id_type: str | None) -> None:
    """Take people out of a manual segment.

    \b
    Examples:
      backstory segments remove 3 ann
      backstory segments remove 3 --csv left.csv
    """
    _change(run, f"/v1/segments/{segment_id}/members/remove", "removed", *_named(people, path, id_type))


@click.command("clear")
@click.argument("segment_id", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@workspace_command
def clear(run: Run, segment_id: int, yes: bool) -> None:
    """Take everybody out of a manual segment.

    \b
    Examples:
      backstory segments clear 3
      backstory segments clear 3 --yes
    """
    if not yes and not at_terminal():
        raise click.UsageError(f"everybody in it is taken out: confirm with --yes: segments clear {segment_id}")
    path = f"/v1/segments/{segment_id}"
    with run.session() as session:
        if not yes:
            name = row_of(session.ask("GET", path), "segment")["name"]
            count = session.ask("GET", f"{path}/customer_count")["count"]
            who = "1 member" if count == 1 else f"{count} members"
            click.confirm(f"Take {who} out of segment {segment_id} {name!r}?", abort=True, err=True)
        body = session.ask("DELETE", f"{path}/members")
    run.show(body, f"{body['removed']} removed")


def _change(run: Run, path: str, told: str, people: list[str], id_type: str) -> None:
    done = unchanged = unknown = 0
    with run.session() as session:
        for low in range(0, len(people), _AT_ONCE):
            some = people[low : low + _AT_ONCE]
            body = session.ask("POST", path, body={"ids": [*some]}, query={"id_type": id_type})
            done += int(str(body[told]))
            unchanged += int(str(body["unchanged"]))
            unknown += int(str(body["unknown"]))
    was = "in it already" if told == "added" else "not in it"
    stayed = f", {unchanged} {was}" if unchanged else ""
    left_out = f", {unknown} unknown and left out" if unknown else ""
    run.show({told: done, "unchanged": unchanged, "unknown": unknown}, f"{done} {told}{stayed}{left_out}")


def _named(people: tuple[str, ...], path: Path | None, id_type: str | None) -> tuple[list[str], str]:
    """The people, and which identifier they are named by."""
    if bool(people) == (path is not None):
        raise click.UsageError("name people, or give a file with --csv")
    return (list(people), id_type or "id") if path is None else _column(path, id_type)


def _column(path: Path, id_type: str | None) -> tuple[list[str], str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            names = rows.fieldnames or []
            # As for imports of members.
            wanted = PERSON if id_type is None else (id_type, "customer_id")
            column = next((name for name in wanted if name in names), None)
            if column is None:
                raise click.UsageError(f"{path} has no column {' or '.join(wanted)}; it has {', '.join(names)}")
            people = list(dict.fromkeys(row[column] for row in rows if row[column]))
            return people, id_type or ("id" if column == "customer_id" else column)
    except (csv.Error, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from None


COMMANDS: tuple[click.Command, ...] = (add, remove, clear)
