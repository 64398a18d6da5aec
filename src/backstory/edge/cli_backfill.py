"""``backstory backfill``: people and years of events from files, in bulk.

Flags and output are those of issue 2, point 6. Wrong flags and missing files end with 2 before anything is opened.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
import msgspec

from backstory.core.condition import Json
from backstory.core.error import BackstoryError
from backstory.core.time import TimeUnreadable, from_asked
from backstory.edge.cli_command import EXIT_FOUND, Run, at_terminal, moment, row_of, rows_of, workspace_command
from backstory.edge.cli_preview import empty_folder, outline_text, preview_text
from backstory.edge.cli_summary import summary_text
from backstory.edge.fetch import Input, Inputs, called, fetch_all
from backstory.edge.local import ServerGone, Session
from backstory.engine.backfill.preload import Preload
from backstory.engine.file import options as engine_options
from backstory.engine.file.notation import DATE_ORDERS, DECIMAL_MARKS
from backstory.engine.file.options import BackfillOptions, Summary
from backstory.engine.file.row_shape import PinnedType
from backstory.engine.file.unpack import ENCODINGS
from backstory.engine.settings import Settings

if TYPE_CHECKING:
    from backstory.edge.cli_progress import Bar

QUOTES = {"double": '"', "single": "'", "none": ""}
F = TypeVar("F", bound=Callable[..., object])


@click.group()
def backfill() -> None:
    """Read people, events, objects, relationships or members of a segment from files, in bulk.

    FILE is a file, a folder (its files in the order of their names), - (standard input) or an http(s) URL. Text is
    CSV or JSON lines, or a Parquet file; plain, .gz or .zst. --sql reads the rows of a query from a database instead.
    With --preview it says what would happen and changes nothing. It returns when counts are exact and everything is
    durable. Killed, the same command goes on where it was; run again, it adds nothing.

    \b
    Examples:
      backstory backfill people customers.csv --data ./data --preview
      backstory backfill people customers.csv --data ./data
      backstory backfill events 1997.csv 1998.csv.gz --map CustomerID=customer_id --time Date
      backstory backfill events exports/ --preview
      zcat log.gz | backstory backfill events -
      backstory backfill people https://example.com/people.parquet
      backstory backfill events --sql postgresql://reader@db/shop --query 'SELECT * FROM orders' --key order_id
    """


def _form(function: F) -> F:
    """How the files are written, where that is not to be found or cannot be."""
    for decorate in reversed(
        (
            click.option("--delimiter", help="What stands between the cells of CSV files; otherwise found."),
            click.option(
                "--encoding", type=click.Choice(ENCODINGS), help="The encoding of the text; otherwise found."
            ),
            click.option(
                "--quote",
                type=click.Choice(["double", "single", "none"]),
                help="The quotes around cells of CSV files; otherwise found.",
            ),
            click.option(
                "--shape",
                type=click.Choice(["auto", "flat", "track2", "pipelines"]),
                default="auto",
                show_default=True,
                help="What items of JSON lines look like: flat keys, Track v2, or Pipelines (Segment) calls.",
            ),
            click.option(
                "--type",
                "types",
                multiple=True,
                metavar="COLUMN=TYPE",
                help="What a column holds: string, number, boolean, json, time, seconds, milliseconds, microseconds.",
            ),
            click.option(
                "--decimal",
                type=click.Choice(DECIMAL_MARKS),
                help="What stands before the decimals of numbers in CSV files; otherwise a point.",
            ),
            click.option(
                "--dates",
                type=click.Choice(DATE_ORDERS),
                help="How dates are written that are not as ISO 8601 has them: day first (31.12.1980) or month first.",
            ),
            click.option("--zone", help="The zone of times that name none, such as Europe/Berlin."),
        )
    ):
        function = decorate(function)
    return function


def _flags(function: F) -> F:
    for decorate in reversed(
        (
            click.argument("inputs", nargs=-1, type=Input(), metavar="FILE…"),
            click.option("--identifier", type=click.Choice(["id", "email"]), help="What the people are named by."),
            click.option("--map", "pairs", multiple=True, metavar="COLUMN=FIELD", help="Read a column as a field."),
            click.option(
                "--on-empty",
                type=click.Choice(["ignore", "clear"]),
                default="ignore",
                show_default=True,
                help="An empty cell leaves the value as it is, or removes it.",
            ),
            click.option(
                "--rows",
                type=click.Choice(["all", "only_new", "only_existing"]),
                default="all",
                show_default=True,
                help="Which rows to take: of new people, of those already known, or all.",
            ),
            click.option(
                "--triggers",
                type=click.Choice(["recent", "none", "all"]),
                default="recent",
                show_default=True,
                help="What may start campaigns: what is at most 72 hours old, nothing, or all as if live.",
            ),
            click.option("--time", metavar="COLUMN", help="The column with the time of each row."),
            click.option("--as-of", metavar="TIME", help="The time of rows that have none; otherwise now."),
            click.option("--sql", metavar="URL", help="Read the rows of a query instead of files, from this database."),
            click.option("--query", metavar="SQL", help="The query, whose columns are those of the rows."),
            click.option("--key", metavar="COLUMN", help="A column that orders the query's rows, to go on from."),
            _form,
            click.option(
                "--same-rows",
                type=click.Choice(["once", "all"]),
                default="once",
                show_default=True,
                help="Equal events without an id that are there already count once, or all of them again.",
            ),
            click.option("--name", default="", help="What to call the import; otherwise the first file's name."),
            click.option("--preview", is_flag=True, help="Say exactly what the import would do, and change nothing."),
            click.option("--yes", is_flag=True, help="Do not ask before --triggers all."),
        )
    ):
        function = decorate(function)
    return function


@backfill.command()
@_flags
@workspace_command
def people(run: Run, **flags: Any) -> None:
    """Read people: one row each, columns are attributes.

    A person is named by the column id, else customer_id, else email. The time of the values is the column
    _timestamp, or --time, or --as-of, or now. A newer value already known stays.

    \b
    Examples:
      backstory backfill people customers.csv --data ./data
      backstory backfill people leads.jsonl.gz --identifier email --as-of 2024-05-01T00:00:00Z
      backstory backfill people crm.csv --map CustomerNo=id --rows only_new --json
    """
    _backfill(run, "people", flags)


@backfill.command()
@_flags
@workspace_command
def events(run: Run, **flags: Any) -> None:
    """Read events: one row each.

    The person is in customer_id (else id, email), the event's name in name, its time in timestamp (unix seconds or
    ISO 8601 with a zone), its id in event_id; columns data.x and all others are event data. JSON lines have the same
    keys with data as an object, or are Track v2 items.

    \b
    Examples:
      backstory backfill events purchases.csv --data ./data
      backstory backfill events log.jsonl.gz --triggers none
      backstory backfill events orders.csv --map user=customer_id --map what=name --time ordered_at --json
    """
    _backfill(run, "events", flags)


@backfill.command()
@_flags
@click.option("--object-type", default=1, show_default=True, help="The type of objects whose rows name none.")
@workspace_command
def objects(run: Run, **flags: Any) -> None:
    """Read objects: one row each, named by object_id and object_type_id; columns are attributes.

    \b
    Examples:
      backstory backfill objects accounts.csv --data ./data
      backstory backfill objects courses.jsonl --object-type 2 --map sku=object_id
    """
    _backfill(run, "objects", flags)


@backfill.command()
@_flags
@click.option("--object-type", default=1, show_default=True, help="The type of objects whose rows name none.")
@workspace_command
def relationships(run: Run, **flags: Any) -> None:
    """Read relationships: who (customer_id, id, email) belongs to which object (object_id). Others are its attributes.

    \b
    Example:
      backstory backfill relationships seats.csv --data ./data --map account=object_id
    """
    _backfill(run, "relationships", flags)


@backfill.command()
@_flags
@click.option("--segment", type=int, required=True, help="The number of the manual segment.")
@workspace_command
def members(run: Run, **flags: Any) -> None:
    """Put people into a manual segment: one row each (customer_id, id, email). Whom nobody knows is left out.

    \b
    Example:
      backstory backfill members testers.csv --segment 3 --data ./data
    """
    _backfill(run, "members", flags)


def _backfill(run: Run, kind: str, flags: dict[str, Any]) -> None:
    inputs = _inputs(flags)
    options = _options(kind, flags, inputs)
    asks = options.triggers == "all" and not flags["yes"] and not flags["preview"]
    if asks and not at_terminal():
        raise click.UsageError("--triggers all may send many messages: see how many by --preview, confirm with --yes")
    with ExitStack() as stack:
        if not (run.settings.data / "workspaces").is_dir():
            click.echo(f"{run.settings.data} is a new data folder", err=True)  # it may be mistyped
            if flags["preview"]:
                run = stack.enter_context(empty_folder(run))
        preload = None if run.is_served else Preload(options)
        session = stack.enter_context(run.session(may_create=True, aside=flags["preview"], preload=preload))
        options = _fetched(run.settings, options, inputs)
        stack.enter_context(called(inputs, options.paths))
        if not run.as_json:
            files = session.ask("POST", "/local/outline", body=msgspec.to_builtins(options))
            shown = outline_text(rows_of(files, "files"), options, inputs.title if inputs.is_one_fetched else "")
            if shown:
                click.echo(shown, err=True)
        if flags["preview"] or asks:
            seen = long_work(session, "/local/preview", options, "preview")
            if not asks:
                run.show(seen, preview_text(seen, options.kind))
                return
            click.echo(preview_text(seen, options.kind), err=True)
            click.confirm("Go on?", abort=True, err=True)
        found = long_work(session, "/local/backfill", options, "summary")
    summary = msgspec.convert(found, Summary)
    run.show(found, summary_text(summary, options.kind))
    if summary.errors or summary.state != "imported":
        click.get_current_context().exit(EXIT_FOUND)


def _bar() -> "Bar":
    # Takes long to load, and there is nothing to show before there is a session.
    from rich.console import Console

    from backstory.edge.cli_progress import Bar

    return Bar(Console(stderr=True))


# Which import it is tells the list: the command that began it may not have heard.
_GOES_ON = (
    "what came in stays, and the same command goes on from there, also without the server; so does 'backstory imports "
    "resume ID' (see 'backstory imports list')"
)


def long_work(session: Session, path: str, body: object, answer: str) -> dict[str, Json]:
    """Have long work done behind a progress bar; returns what its last line holds under ``answer``."""
    found: list[dict[str, Json]] = []
    with _bar() as bar:

        def on_line(line: dict[str, Json]) -> None:
            if "progress" in line:
                bar.update(msgspec.convert(line["progress"], engine_options.Progress))
            if answer in line:
                found.append(row_of(line, answer))

        try:
            session.work(path, msgspec.to_builtins(body), on_line)
        except ServerGone as error:
            said = "run it again" if answer == "preview" else _GOES_ON
            raise ServerGone(f"{error}; {said}") from None
        except KeyboardInterrupt:
            raise BackstoryError("stopped: the same command goes on from here") from None
    if not found:
        raise BackstoryError(f"the work ended without a {answer}: the same command goes on from there")
    return found[-1]


def _inputs(flags: dict[str, Any]) -> Inputs:
    inputs: tuple[str, ...] = flags["inputs"]
    if flags["sql"] is None:
        if flags["query"] or flags["key"]:
            raise click.UsageError("--query and --key go with --sql, which names the database")
        if not inputs:
            raise click.UsageError("name a FILE, a folder, a URL or -, or a database with --sql and --query")
        return Inputs(names=inputs)
    if inputs or not flags["query"]:
        raise click.UsageError("--sql takes a --query, and no files beside it")
    return Inputs(names=(), sql=flags["sql"], query=flags["query"], key=flags["key"])


def _fetched(settings: Settings, options: BackfillOptions, inputs: Inputs) -> BackfillOptions:
    """The same, once everything that comes from elsewhere is a file."""
    if not inputs.elsewhere:
        return options

    def on_kept(title: str, at_s: float) -> None:
        kept = f"{title} is read as it was fetched at {moment(int(at_s))}, for a preview or a command that broke off"
        click.echo(f"{kept}; an hour after that it is fetched again", err=True)

    with _bar() as bar:
        paths = fetch_all(
            settings,
            inputs,
            sys.stdin.buffer,
            keep_nulls=options.on_empty == "clear",
            on_bytes=bar.fetched,
            on_kept=on_kept,
        )
    return msgspec.structs.replace(options, paths=paths)


def _options(kind: str, flags: dict[str, Any], inputs: Inputs) -> BackfillOptions:
    if kind == "events" and flags["rows"] == "only_new":
        raise click.UsageError("--rows only_new is for people: an event adds to somebody new or known alike")
    if flags["time"] and flags["as_of"]:
        raise click.UsageError("--time and --as-of exclude each other: the time is in a column, or it is one for all")
    delimiter: str | None = flags["delimiter"]
    return msgspec.convert(
        {
            "kind": kind,
            "paths": inputs.names,
            "identifier": flags["identifier"],
            "map": _map(flags["pairs"]),
            "on_empty": flags["on_empty"],
            "rows": flags["rows"],
            "triggers": flags["triggers"],
            "time": flags["time"],
            "as_of_us": _moment(flags["as_of"]),
            "name": flags["name"] or inputs.title,
            "delimiter": "\t" if delimiter in ("tab", "\\t") else delimiter,
            "encoding": flags["encoding"],
            "quote": QUOTES.get(flags["quote"]),
            "shape": flags["shape"],
            "types": _types(flags["types"]),
            "zone": flags["zone"],
            "decimal": flags["decimal"],
            "dates": flags["dates"],
            "same_rows": flags["same_rows"],
            "object_type_id": flags.get("object_type", 1),
            "segment_id": flags.get("segment"),
            "sources": inputs.sources,
        },
        BackfillOptions,
    )


def _map(pairs: tuple[str, ...]) -> dict[str, str]:
    mapped: dict[str, str] = {}
    for pair in pairs:
        column, equals, field = pair.rpartition("=")
        if not (equals and column and field):
            raise click.UsageError(f"--map takes COLUMN=FIELD, such as CustomerNo=id, not {pair!r}")
        if column in mapped:
            raise click.UsageError(f"--map names the column {column!r} twice")
        mapped[column] = field
    return mapped


def _types(pairs: tuple[str, ...]) -> dict[str, str]:
    types = {column: kind for column, _, kind in (pair.rpartition("=") for pair in pairs)}
    for column, kind in types.items():
        if not column or kind not in get_args(PinnedType):
            known = ", ".join(get_args(PinnedType))
            raise click.UsageError(f"--type takes COLUMN=TYPE with one of {known}, not {column}={kind}")
    return types


def _moment(text: str | None) -> int | None:
    if text is None or text == "now":
        return None
    try:
        return from_asked(text)
    except TimeUnreadable as error:
        raise click.UsageError(f"--as-of: {error}") from None
