"""``backstory segments``: add, remove, clear, for manual segments."""

import csv
from collections.abc import Iterator
from pathlib import Path

import click

from backstory.edge.cli_command import Run, workspace_command

# A body stays well within its limit.
_AT_ONCE = 5000
_ID_TYPE = click.option(
    "--id-type",
    type=click.Choice(["id", "email", "cio_id"]),
    default="id",
    show_default=True,
    help="Which identifier the people are named by.",
)
_CSV = click.option(
    "--csv",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a heading; the column is named like the identifier.",
)


@click.command("add")
@click.argument("segment_id", type=int)
@click.argument("people", nargs=-1)
@_CSV
@_ID_TYPE
@workspace_command
def add(run: Run, segment_id: int, people: tuple[str, ...], path: Path | None, id_type: str) -> None:
    """Put people into a manual segment.

    \b
    Examples:
      backstory segments add 3 ann bob
      backstory segments add 3 --csv testers.csv --id-type email
    """
    _change(run, f"/v1/segments/{segment_id}/members", "added", _named(people, path, id_type), id_type)


@click.command("remove")
@click.argument("segment_id", type=int)
@click.argument("people", nargs=-1)
@_CSV
@_ID_TYPE
@workspace_command
def remove(run: Run, segment_id: int, people: tuple[str, ...], path: Path | None, id_type: str) -> None:
    """Take people out of a manual segment.

    \b
    Examples:
      backstory segments remove 3 ann
      backstory segments remove 3 --csv left.csv
    """
    _change(run, f"/v1/segments/{segment_id}/members/remove", "removed", _named(people, path, id_type), id_type)


@click.command("clear")
@click.argument("segment_id", type=int)
@workspace_command
def clear(run: Run, segment_id: int) -> None:
    """Take everybody out of a manual segment.

    \b
    Example:
      backstory segments clear 3
    """
    with run.session() as session:
        body = session.ask("DELETE", f"/v1/segments/{segment_id}/members")
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


def _named(people: tuple[str, ...], path: Path | None, id_type: str) -> list[str]:
    if bool(people) == (path is not None):
        raise click.UsageError("name people, or give a file with --csv")
    return list(people) if path is None else list(dict.fromkeys(_column(path, id_type)))


def _column(path: Path, name: str) -> Iterator[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if name not in (rows.fieldnames or []):
                raise click.UsageError(f"{path} has no column {name!r}; it has {', '.join(rows.fieldnames or [])}")
            for row in rows:
                if row[name]:
                    yield row[name]
    except (csv.Error, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from None


COMMANDS: tuple[click.Command, ...] = (add, remove, clear)
