"""``backstory people``: list, show."""

from typing import cast
from urllib.parse import quote

import click

from backstory.core.condition import Json
from backstory.edge.cli_command import Run, cell, columns, fields, moment, more, row_of, rows_of, workspace_command
from backstory.edge.local import CommandError, NotThere, Session

# In the order in which they are tried where nobody says which one is meant.
_KINDS = ("id", "email", "cio_id")
_RELATIONSHIPS_MAX = 100
# Longer values would push everything else off the screen; --json has them whole.
_SHOWN_MAX = 120


@click.group()
def people() -> None:
    """Who is known, and what is known of them.

    \b
    Examples:
      backstory people show ann
      backstory people list --where plan=pro
    """


@people.command("list")
@click.option("--where", "tests", multiple=True, metavar="ATTRIBUTE=VALUE", help="Those with this value; several: all.")
@click.option("--segment", "segment_id", type=int, metavar="ID", help="Those in this segment.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many to print.")
@click.option("--start", default="", help="Where to go on, as the page before said.")
@workspace_command
def list_people(run: Run, tests: tuple[str, ...], segment_id: int | None, limit: int, start: str) -> None:
    """People by their attributes and segments, as they are now.

    \b
    Examples:
      backstory people list
      backstory people list --where plan=pro --where address.city=Bern
      backstory people list --segment 1 --json
    """
    parts = [_test(text) for text in tests]
    if segment_id is not None:
        parts.append({"segment": {"id": segment_id}})
    # Everybody has a cio_id.
    wanted: Json = {"and": [*parts] or [{"attribute": {"field": "cio_id", "operator": "exists"}}]}
    with run.session() as session:
        query = {"limit": limit, "start": start or None}
        found = session.ask("POST", "/v1/customers", body={"filter": wanted}, query=query)
    run.show(found, columns(rows_of(found, "identifiers"), ("id", "email", "cio_id"), empty="nobody"))
    more(found)


@people.command("show")
@click.argument("person")
@click.option(
    "--id-type",
    type=click.Choice([*_KINDS, "phone"]),
    help="Which identifier PERSON is; without it the first of id, email and cio_id that somebody has.",
)
@click.option(
    "--activities", "newest", type=click.IntRange(1, 100), default=10, show_default=True, help="How many to print."
)
@workspace_command
def show_person(run: Run, person: str, id_type: str | None, newest: int) -> None:
    """One person: identifiers, attributes and since when each is so, segments, devices, relationships, activities.

    Activities are the newest of all times.

    \b
    Examples:
      backstory people show ann
      backstory people show ann@example.com --id-type email
      backstory people show ann --activities 100 --json
    """
    with run.session() as session:
        customer = _found(session, person, id_type)
        # By what never changes from here on.
        cio_id = str(row_of(customer, "identifiers")["cio_id"])
        path, kind = f"/v1/customers/{quote(cio_id, safe='')}", {"id_type": "cio_id"}
        segments = session.ask("GET", f"{path}/segments", query=kind)["segments"]
        related = session.ask("GET", f"{path}/relationships", query={**kind, "limit": _RELATIONSHIPS_MAX})
        log = session.ask("GET", f"{path}/activities", query={**kind, "limit": newest, "all": "true"})
    shown: dict[str, Json] = {
        "customer": customer,
        "segments": segments,
        "relationships": related["cio_relationships"],
        "activities": log["activities"],
    }
    run.show(shown, _text(shown))
    if related["next"]:
        click.echo(f"there are more relationships: backstory objects relationships --person {cio_id}", err=True)


def _found(session: Session, person: str, id_type: str | None) -> dict[str, Json]:
    """The person with that identifier; raises ``CommandError`` where nobody has it."""
    kinds = _KINDS if id_type is None else (id_type,)
    for kind in kinds:
        try:
            found = session.ask("GET", f"/v1/customers/{quote(person, safe='')}/attributes", query={"id_type": kind})
        except NotThere:
            continue
        return row_of(found, "customer")
    raise CommandError(
        f"nobody has the {_either(kinds)} {person!r}; 'backstory people list --where ATTRIBUTE=VALUE' finds people"
    )


def _either(kinds: tuple[str, ...]) -> str:
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _text(shown: dict[str, Json]) -> str:
    customer = row_of(shown, "customer")
    named, times = row_of(customer, "identifiers"), row_of(customer, "timestamps")
    head = {
        **{kind: named.get(kind) for kind in _KINDS},
        "created": times["cio_id"],
        "unsubscribed": customer["unsubscribed"],
    }
    tables = {
        "attributes": _attributes(customer),
        "segments": columns(rows_of(shown, "segments"), ("id", "name", "description"), empty="none"),
        "devices": _devices(customer),
        "relationships": _relationships(shown),
        "newest activities": _activities(shown),
    }
    return "\n\n".join([fields(head), *(f"{name}\n{_indented(table)}" for name, table in tables.items())])


def _attributes(customer: dict[str, Json]) -> str:
    times = row_of(customer, "timestamps")
    rows: list[dict[str, Json]] = [
        {"attribute": name, "since": _moment(times.get(name)), "value": _short(value)}
        for name, value in row_of(customer, "attributes").items()
        if name not in _KINDS
    ]
    return columns(rows, ("attribute", "since", "value"), empty="none")


def _devices(customer: dict[str, Json]) -> str:
    rows = [
        {**device, "last_used": _moment(device.get("last_used")), "attributes": _short(device["attributes"])}
        for device in rows_of(customer, "devices")
    ]
    return columns(rows, ("id", "platform", "last_used", "attributes"), empty="none")


def _relationships(shown: dict[str, Json]) -> str:
    rows = [
        {**row, **row_of(row, "identifiers"), "attributes": _short(row["attributes"])}
        for row in rows_of(shown, "relationships")
    ]
    return columns(rows, ("object_type_id", "object_id", "cio_object_id", "attributes"), empty="none")


def _activities(shown: dict[str, Json]) -> str:
    rows: list[dict[str, Json]] = [
        {
            "time": _moment(row["timestamp"]),
            "type": row["type"],
            "name": row.get("name", row.get("url")),
            "data": _short(row["data"]),
        }
        for row in rows_of(shown, "activities")
    ]
    return columns(rows, ("time", "type", "name", "data"), empty="none")


def _indented(table: str) -> str:
    return "\n".join("  " + line for line in table.splitlines())


def _moment(unix: Json) -> str:
    # A device of which nobody said when it was last used has zero.
    return moment(cast("int", unix)) if unix else ""


def _short(value: Json) -> str:
    text = cell(value or "")
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def _test(text: str) -> Json:
    """An attribute and its value as a condition."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise click.BadParameter(f"{text!r} is not ATTRIBUTE=VALUE", param_hint="--where")
    return {"attribute": {"field": name, "operator": "eq", "value": value}}
