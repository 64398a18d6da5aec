"""``backstory verify``: is everything kept what it must be?"""

import click
from rich.console import Console

from backstory.core.condition import Json
from backstory.edge.cli_command import EXIT_FOUND, Run, cell, row_of, workspace_command


@click.command()
@workspace_command
@click.pass_context
def verify(context: click.Context, run: Run) -> None:
    """Hold all that is kept against history.

    Every segment against the slow and obvious rules, every attribute against its history, files against their
    checksums, imports against their row counts. Prints what differs; exit code 1 if anything does.

    \b
    Examples:
      backstory verify --data ./data
      backstory verify --json
    """
    lines: dict[str, list[Json]] = {"difference": [], "result": []}

    def on_line(line: dict[str, Json]) -> None:
        for name, value in line.items():
            lines.setdefault(name, []).append(value)
            if name == "progress" and isinstance(value, dict):
                status.update(f"checking {value['what']} {value['count']:,} of {value['of']:,}")
            elif not run.as_json and name in _SAID:
                click.echo(f"{_SAID[name]}: {_text(name, value)}")

    # On a terminal only, and gone at the end.
    with run.session() as session, Console(stderr=True).status("verifying") as status:
        session.work("/local/verify", {}, on_line)
    result = row_of({"result": lines["result"][-1]}, "result") if lines["result"] else {"ok": False}
    # Of many alike only the first are told one by one.
    found = result.get("found", len(lines["difference"]))
    text = "everything is as it must be" if result["ok"] else f"{found} {'difference' if found == 1 else 'differences'}"
    run.show({**result, "differences": lines["difference"]}, text)
    if not result["ok"]:
        context.exit(EXIT_FOUND)


_SAID = {"checked": "checked", "difference": "differs", "note": "note"}


def _text(name: str, value: Json) -> str:
    """What is meant; how many were compared, or where, and the problem."""
    if not isinstance(value, dict):
        return cell(value)
    if name == "checked":
        return f"{cell(value['what']):<13}{value['count']:>11,}"
    details = [f"{key} {cell(item)}" for key, item in value.items() if key != "what"]
    return ", ".join([cell(value.get("what")), *details])
