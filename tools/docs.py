"""Write the documents that are made from tables in the code: `make docs`.

A test compares what stands in the files with what ``documents`` answers, so a new limit, setting, fact, command
or module cannot stay undocumented.
"""

import ast
import importlib
import importlib.util
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
import msgspec

from backstory.core import fact, limit
from tools import operators

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "backstory"
PACKAGES = ("core", "store", "engine", "edge")
MADE = "<!-- Made by `make docs`: change the table in the code instead. -->\n"
MAP_START = "<!-- modules: made by `make docs` -->\n"
MAP_END = "<!-- end of modules -->\n"
OPERATORS_START = "<!-- operators: made by `make docs` -->\n"
OPERATORS_END = "<!-- end of operators -->\n"


def documents() -> dict[Path, str]:
    """Each generated file with the text it should have. Tables whose module does not exist yet are left out."""
    texts = {
        ROOT / "docs" / "limits.md": limits(limit.LIMITS),
        ROOT / "docs" / "facts.md": facts(typing.get_args(fact.Fact)),
        ROOT / "ARCHITECTURE.md": architecture((ROOT / "ARCHITECTURE.md").read_text()),
    }
    texts[ROOT / "docs" / "compat.md"] = compat()
    texts[ROOT / "docs" / "privacy.md"] = privacy()
    page = ROOT / "docs" / "conditions.md"
    texts[page] = between(page.read_text(), OPERATORS_START, OPERATORS_END, operator_table())
    table = settings_table()
    if table:
        texts[ROOT / "docs" / "settings.md"] = settings(table)
    group = command_group()
    if group is not None:
        texts[ROOT / "docs" / "commands.md"] = commands(group)
    return texts


def limits(table: Iterable[limit.Limit]) -> str:
    rows = ((f"`{one.name}`", f"{one.value:,}", one.unit, one.reason, one.message) for one in table)
    return (
        f"# Limits\n\n{MADE}\nEverything has a limit. One past it, the request is refused with the message.\n\n"
        + _table(("limit", "value", "unit", "why", "message"), rows)
    )


def facts(kinds: Iterable[type]) -> str:
    parts = [
        f"# Facts\n\n{MADE}\nA fact is one accepted change of any sort; the journal holds nothing else. "
        "Times (`_us`) are microseconds since 1970; fields marked `bytes` hold JSON text.\n"
    ]
    for kind in kinds:
        struct = typing.cast("type[msgspec.Struct]", kind)
        rows = (
            (f"`{field.name}`", f"`{_type_name(field.type)}`", "yes" if field.required else "")
            for field in msgspec.structs.fields(struct)
        )
        doc = f"{_paragraph(kind.__doc__)}\n\n" if kind.__doc__ else ""
        parts.append(f"## {struct.__struct_config__.tag}\n\n{doc}" + _table(("field", "type", "required"), rows))
    return "\n".join(parts)


COMPAT = """\
Backstory speaks Customer.io's wire protocols on one address: change the base URL of an official client, and keep the
rest. An endpoint in these tables is there, with everything its line says; what is in no table is not there and answers
404 in JSON. Where the original is documented and Backstory differs, the line says so.

Every write takes the header `Backstory-Wait: applied`: it is answered after all reads show it, with `{"receipt": {…}}`,
batches with `{"receipts": […]}` item by item (the refused ones too), with status 202 when that takes over 30 seconds.
Any endpoint may answer 408 (the body came too slowly), 429 with `Retry-After` (the backlog is full, or a key is over
its rate) and 503 (starting, or the disk refused). A key that an object has twice in a JSON body is refused.
"""

PIPELINES = """\
`timestamp` counts as it was sent, else `originalTimestamp`; `sentAt` does not move it. A time without a zone is in UTC.
`messageId` is the event's id. A wrong write key is 401 with or without strict mode. In strict mode a batch is taken as
a whole or not at all. Traits of somebody anonymous have nobody to go to and are refused.
"""


PRIVACY = """# Where a person's data are, and when they are gone

A deletion takes a person out of every answer at once: out of segments, searches, counts, conditions as of any day.
Suppressing does the same, blocks every name of theirs, and makes unreadable at once what `state.db` keeps of them. What
then still lies in files leaves by **the set time**: `BACKSTORY_PURGE_DAYS` after the deletion, 30 by default.

- A purge in the background takes the rest out, in stages: rows in tables, rows in parts and runs of keys (these are
  written again without them), names (hashed), other people's traces that name them, reports and archived mail, and at
  last the bytes: journal and `state.db` are rebuilt, as SQLite leaves remains of moved rows in its pages. It begins
  when nine tenths of the time are over. `backstory privacy purge` says who waits; `--now` does it at once.
- While a database is rebuilt nothing else can be written to it, which takes about a second for 150 MB. So one with more
  than 5 MB in use is rebuilt when a server starts, with `--now`, or at the latest when the set time is nearly over.
- `backstory privacy prove IDENTIFIER` searches the whole folder, and exits with 1 while anything is there. Identifiers
  of fewer than six characters are looked for as whole values only, not in raw bytes.
- What stays: a keyed hash (HMAC-SHA-256) of each name with the time of the deletion, so that an old file does not bring
  anybody back; the key is in the workspace's own `state.db`. A number without a name, so that it is never given again.
  A row for each message, without its text, so that counts of campaigns stay right.
- Somebody who was merged lives on in the survivor: what they had goes when the survivor is deleted.
- A call that names somebody who was purged or suppressed is refused without saying the name anywhere; what the journal
  holds of it goes by a set time again.
- Not ours to find: what other people's data say about somebody (a note, a referrer), names they had given up before
  they were deleted and that only a report still holds, backups and copies of the folder, mail that was sent, and blocks
  that a file system keeps of deleted files.

In the tables below *at once* means that the row is gone with the deletion; its bytes may lie in free pages, the log of
the database and the journal until the set time.
"""


def privacy() -> str:
    """The page about privacy, from the table of places."""
    from backstory.engine.verify import place

    head = ("place", "what of a person it holds", "when that is gone")
    tables = _table(head, [(f"`{one.name}`", one.holds, one.gone) for one in place.TABLES])
    files = _table(head, [(one.name, one.holds, one.gone) for one in place.FILES])
    return f"{PRIVACY}\n## Files\n\n{files}\n## Tables of `state.db`\n\n{tables}"


def compat() -> str:
    """Every endpoint with its state, from the tables the requests are routed by."""
    endpoint = importlib.import_module("backstory.edge.endpoint")
    app = importlib.import_module("backstory.edge.app")
    parts = [f"# Compatibility\n\n{MADE}\n{COMPAT}\n"]
    head = ("method", "path", "what it does", "answers", "credentials", "notes")
    words = {"track": "site id and Track key", "cdp": "write key", "none": "none needed"}
    for title, text, table in (("Track API", "", endpoint.TRACK), ("Pipelines API", PIPELINES, endpoint.PIPELINES)):
        rows = (
            (one.method, f"`{one.path}`", one.does, " ".join(map(str, one.statuses)), words[one.credential], one.note)
            for one in table
        )
        parts.append(f"## {title}\n\n{text and text + chr(10)}" + _table(head, rows) + "\n")
    # Handlers that need no words of their own have none.
    rows = ((method, f"`{path}`", _summary(handler)) for method, path, handler in app.public_routes(None))
    parts.append("## App API\n\nWith an App key as Bearer.\n\n" + _table(("method", "path", "what it does"), rows))
    return "".join(parts)


def _summary(handler: object) -> str:
    line = (getattr(handler, "__doc__", None) or "").strip().partition("\n")[0]
    return re.sub(r"^``[A-Z]+ [^`]+``[:;. ]*", "", line).replace("``", "`")


def settings_table() -> list[typing.Any]:
    """The rows of ``engine.settings.SETTINGS``; empty as long as there are none."""
    if importlib.util.find_spec("backstory.engine.settings") is None:
        return []
    table = getattr(importlib.import_module("backstory.engine.settings"), "SETTINGS", ())
    return list(table.values() if isinstance(table, Mapping) else table)


def settings(table: Iterable[typing.Any]) -> str:
    rows = ((f"`{one.name}`", _code(one.variable), _code(one.default), one.help) for one in table)
    rule = "A flag wins over the environment, the environment over the default. A variable that begins with\n"
    rule += "`BACKSTORY_` and is no setting is refused."
    return f"# Settings\n\n{MADE}\n{rule}\n\n" + _table(
        ("setting", "environment", "default", "what it does"), rows
    )


def command_group() -> click.Group | None:
    """The command line, once it exists."""
    if importlib.util.find_spec("backstory.edge.cli") is None:
        return None
    group: click.Group = importlib.import_module("backstory.edge.cli").main
    return group


def commands(group: click.Group) -> str:
    parts = [f"# Commands\n\n{MADE}"]
    for context in walk(root_context(group)):
        help_text = context.command.get_help(context).rstrip()
        parts.append(f"## {context.command_path}\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)


def root_context(group: click.Group) -> click.Context:
    """The outermost command as click would call it. A command keeps the help option of whoever asked for it first."""
    return click.Context(
        group,
        info_name="backstory",
        terminal_width=100,
        max_content_width=100,
        help_option_names=group.context_settings.get("help_option_names"),
    )


def walk(context: click.Context) -> Iterable[click.Context]:
    """The command and all beneath it, as click would see them when called."""
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from walk(
                    click.Context(child, info_name=name, parent=context, terminal_width=100, max_content_width=100)
                )


def architecture(text: str) -> str:
    """The text with its list of modules made anew from the first lines of their docstrings."""
    return between(text, MAP_START, MAP_END, module_map())


def between(text: str, start: str, end: str, made: str) -> str:
    """The text with what stands between two marks made anew."""
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}{made}{end}{after}"


def operator_table() -> str:
    """Every operator of conditions with an example."""
    return "\n" + _table(("operator", "value", "holds for", "does not hold for"), operators.rows()) + "\n"


def module_map() -> str:
    parts: list[str] = []
    for package in PACKAGES:
        folder = SOURCE / package
        parts.append(f"### {package}\n\n{_first_line(folder / '__init__.py')}\n\n")
        parts.append(_module_list(folder))
        for room in sorted(path.parent for path in folder.rglob("*/__init__.py")):
            parts.append(f"#### {room.relative_to(SOURCE)}\n\n{_first_line(room / '__init__.py')}\n\n")
            parts.append(_module_list(room))
    return "".join(parts)


def _module_list(folder: Path) -> str:
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    lines = "".join(f"- `{path.relative_to(SOURCE)}`: {_first_line(path)}\n" for path in modules)
    return f"{lines}\n" if modules else ""


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "(no description)").splitlines()[0]


def _paragraph(text: str) -> str:
    return " ".join(line.strip() for line in text.strip().split("\n\n")[0].splitlines())


def _type_name(kind: object) -> str:
    if isinstance(kind, type):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("backstory.core.fact.", "")


def _code(value: object) -> str:
    return "" if value is None or value == "" else f"`{value}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    for path, text in documents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
