"""What all commands share: their options, how they reach a workspace, how they print.

Standard output holds the result (a table, or one JSON value with ``--json``), standard error everything else.
Exit codes: 0 done, 1 it could not be done or found something, 2 the command was wrong.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Concatenate, NoReturn, ParamSpec, cast

import click

from backstory.core.condition import Json
from backstory.core.error import BackstoryError
from backstory.edge.local import SOCKET_NAME, Opened, Session
from backstory.engine.settings import SettingError, Settings, load

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from backstory.engine.backfill.preload import Preload

P = ParamSpec("P")
Row = Mapping[str, Json]
# Opens the data folder in this process and returns it with the application to call; for an import that is to follow
# with what is made ready for it.
OpenData = Callable[[Settings, "Preload | None"], tuple[Opened, "ASGIApp"]]

EXIT_FOUND = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What commands need of the world; tests give their own."""

    environment: Mapping[str, str]
    open_folder: OpenData
    open_aside: OpenData
    serve: Callable[[Settings], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a command."""

    runtime: Runtime
    settings: Settings
    as_json: bool

    @property
    def is_served(self) -> bool:
        """Does a server seem to run on the data folder, which then does the work?"""
        return (self.settings.data / SOCKET_NAME).exists()

    def session(self, *, may_create: bool = False, aside: bool = False, preload: "Preload | None" = None) -> Session:
        """A client of the data folder; one that holds nothing yet is refused unless it may be created.

        ``aside``: for a preview, which where no server runs has a replica and leaves the folder closed.
        ``preload``: for an import that is to follow, where this process opens it.
        """
        data = self.settings.data
        if not may_create and not (data / "workspaces").is_dir() and not self.is_served:
            raise BackstoryError(f"the folder {data} holds no workspace: 'backstory serve --data {data}' makes one")
        opens = self.runtime.open_aside if aside else self.runtime.open_folder
        return Session(data, lambda: opens(self.settings, preload), workspace=self.settings.workspace)

    def show(self, body: object, text: str) -> None:
        """Print the result: ``body`` as JSON if that was asked for, else ``text``."""
        click.echo(json.dumps(body, ensure_ascii=False) if self.as_json else text)


def workspace_command(function: Callable[Concatenate[Run, P], None]) -> Callable[..., None]:
    """Give a command ``--data``, ``--workspace`` and ``--json``, hand it its ``Run``, say its errors."""

    @click.option("--data", metavar="DIR", help="The data folder; otherwise BACKSTORY_DATA.")
    @click.option("--workspace", metavar="NAME", help="The workspace; otherwise BACKSTORY_WORKSPACE, or default.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.pass_obj
    @functools.wraps(function)
    def command(
        runtime: Runtime, data: str | None, workspace: str | None, as_json: bool, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        try:
            settings = load(runtime.environment, {"data": data, "workspace": workspace})
            function(Run(runtime=runtime, settings=settings, as_json=as_json), *args, **kwargs)
        except BackstoryError as error:
            fail(error)

    return cast("Callable[..., None]", command)


def fail(error: BackstoryError) -> NoReturn:
    """End the command with its error: a wrong setting is a wrong command."""
    if isinstance(error, SettingError):
        raise click.UsageError(str(error)) from error
    raise click.ClickException(str(error)) from error


def columns(rows: Sequence[Row], names: Sequence[str], *, empty: str) -> str:
    """Rows as aligned columns under their names; ``empty`` when there are none."""
    if not rows:
        return empty
    cells = [[name.replace("_", " ") for name in names]]
    cells += [[cell(row.get(name), name) for name in names] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def fields(row: Row, names: Sequence[str] | None = None) -> str:
    """One thing as lines of name and value."""
    shown = list(row) if names is None else names
    width = max(len(name) for name in shown)
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {cell(row.get(name), name)}".rstrip() for name in shown)


def cell(value: Json, name: str = "") -> str:
    """A value for people: times as dates in UTC, nothing as a blank."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() if name in _TIMES:
            return moment(value)
        case str():
            # What people typed may hold line ends, or codes that a terminal would obey.
            return "".join(letter if letter.isprintable() else " " for letter in value)
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def moment(unix: int) -> str:
    """Unix seconds as a date in UTC."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def more(body: Row) -> None:
    """Say on standard error how to get the next page."""
    if body.get("next"):
        click.echo(f"there is more: --start {body['next']}", err=True)


def rows_of(body: Row, name: str) -> list[dict[str, Json]]:
    """The list an answer holds under a name."""
    return cast("list[dict[str, Json]]", body[name])


def row_of(body: Row, name: str) -> dict[str, Json]:
    """The object an answer holds under a name."""
    return cast("dict[str, Json]", body[name])


def at_terminal() -> bool:
    """Can somebody answer a question?"""
    return sys.stdin.isatty()


_TIMES = frozenset(
    {"created_at", "updated_at", "created", "updated", "first_started", "started_at", "effective_at", "at"}
)
