"""``backstory objects``: list, show, relationships."""

from typing import cast
from urllib.parse import quote

import click

from backstory.core.condition import Json
from backstory.edge.cli_command import Run, cell, columns, fields, moment, more, row_of, rows_of, workspace_command

_type_option = click.option(
    "--object-type", "type_id", type=click.IntRange(min=1), default=1, show_default=True, help="The type of the object."
)
_limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many to print."
)
_start_option = click.option("--start", default="", help="Where to go on, as the page before said.")


@click.group()
def objects() -> None:
    """What people are related to: companies, courses, accounts; each of a numbered type.

    \b
    Examples:
      backstory objects list --where plan=pro
      backstory objects relationships acme
    """


@objects.command("list")
@_type_option
@click.option("--where", "tests", multiple=True, metavar="ATTRIBUTE=VALUE", help="Those with this value; several: all.")
@_limit_option
@_start_option
@workspace_command
def list_objects(run: Run, type_id: int, tests: tuple[str, ...], limit: int, start: str) -> None:
    """The objects of a type, in the order in which they were made.

    \b
    Examples:
      backstory objects list
      backstory objects list --object-type 2 --where city=Bern --json
    """
    body = {"object_type_id": str(type_id), "filter": {"and": [_test(text, type_id) for text in tests or ("",)]}}
    with run.session() as session:
        found = session.ask("POST", "/v1/objects", body=body, query={"limit": limit, "start": start or None})
        types = rows_of(session.ask("GET", "/v1/object_types"), "types")
    known = ", ".join(str(one["id"]) for one in types)
    empty = f"no such objects of type {type_id}" + (f"; there are objects of type {known}" if known else "")
    run.show(found, columns(rows_of(found, "identifiers"), ("object_id", "cio_object_id"), empty=empty))
    more(found)


@objects.command("show")
@click.argument("object_id")
@_type_option
@workspace_command
def show_object(run: Run, object_id: str, type_id: int) -> None:
    """One object: its attributes, since when each is so, and which import it came with.

    \b
    Example:
      backstory objects show acme --object-type 1
    """
    with run.session() as session:
        found = session.ask("GET", f"{_path(type_id, object_id)}/attributes")
    shown = row_of(found, "object")
    attributes, times = row_of(shown, "attributes"), row_of(shown, "timestamps")
    imports = row_of(shown, "import_ids") if "import_ids" in shown else {}
    rows: list[dict[str, Json]] = [
        {
            "attribute": name,
            "value": cell(value),
            "since": moment(cast("int", times[name])),
            "import": imports.get(name, ""),
        }
        for name, value in attributes.items()
    ]
    named = {"type": shown["object_type_id"], **row_of(shown, "identifiers")}
    if "import_id" in shown:
        named["import"] = shown["import_id"]
    table = columns(rows, ("attribute", "value", "since", "import"), empty="no attributes")
    run.show(found, f"{fields(named, tuple(named))}\n\n{table}")


@objects.command("relationships")
@click.argument("object_id", required=False)
@_type_option
@click.option("--person", metavar="ID", help="Instead of an object: what this person is related to.")
@_limit_option
@_start_option
@workspace_command
def relationships(
    run: Run, object_id: str | None, type_id: int, person: str | None, limit: int, start: str
) -> None:
    """Who is related to an object, or what a person is related to.

    \b
    Examples:
      backstory objects relationships acme
      backstory objects relationships --person ann --json
    """
    if (object_id is None) == (person is None):
        raise click.UsageError("name an object, or a person with --person")
    path = f"/v1/customers/{quote(person, safe='')}" if person is not None else _path(type_id, object_id or "")
    with run.session() as session:
        found = session.ask("GET", f"{path}/relationships", query={"limit": limit, "start": start or None})
    rows = [{**row, **row_of(row, "identifiers")} for row in rows_of(found, "cio_relationships")]
    if person is None:
        text = columns(rows, ("id", "email", "cio_id"), empty="nobody is related to it")
    else:
        text = columns(rows, ("object_type_id", "object_id", "cio_object_id", "attributes"), empty="no relationships")
    run.show(found, text)
    more(found)


def _path(type_id: int, object_id: str) -> str:
    return f"/v1/objects/{type_id}/{quote(object_id, safe='')}"


def _test(text: str, type_id: int) -> Json:
    """An attribute and its value; with none, what holds for every object."""
    if not text:
        return {"object_attribute": {"field": "object_id", "operator": "exists", "type_id": str(type_id)}}
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise click.BadParameter(f"{text!r} is not ATTRIBUTE=VALUE", param_hint="--where")
    return {"object_attribute": {"field": name, "operator": "eq", "value": value, "type_id": str(type_id)}}
