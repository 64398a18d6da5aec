"""The summary of an import as lines for people: what became of its rows, and what to do with those that failed."""

from pathlib import Path

from backstory.edge.cli_preview import counted, hint_text, skipped_name
from backstory.engine.file.options import Summary


def summary_text(summary: Summary, kind: str = "") -> str:
    """The summary of an import of a kind as lines for people; what did not occur is left out."""
    # Of a moment nobody wants to know the speed.
    speed = f" ({summary.rows / summary.seconds:,.0f} rows/s)" if summary.seconds > 1 else ""
    took = f"{counted(summary.rows)} in {summary.seconds:,.1f} s{speed}"
    lines = [f"import {summary.import_id} is {summary.state}: {took}"]
    counts = {
        "created": summary.created,
        "updated": summary.updated,
        "unchanged": summary.unchanged,
        "stale (a newer value stays)": summary.stale,
        "duplicate (already there)": summary.duplicate,
        skipped_name(kind): summary.skipped,
        "people created": summary.people_created,
        "journeys started in campaigns": summary.journeys_started,
        "events held back from campaigns": summary.held_back.event,
        "segment changes held back from campaigns": summary.held_back.segment,
        "warnings": summary.warnings,
        "failed at first, mended since": summary.mended,
        "errors": summary.errors,
    }
    lines += [f"  {name:<42}{count:>14,}" for name, count in counts.items() if count]
    if summary.error_file:
        rows = "the rows with errors" if summary.errors else "the rows that had failed"
        lines.append(f"  {rows} are in {summary.error_file}{_to_mend(summary)}")
    if summary.warning_file:
        lines.append(f"  the rows with warnings are in {summary.warning_file}")
    if summary.hint:
        lines.append(hint_text(summary.hint))
    return "\n".join(lines)


def _to_mend(summary: Summary) -> str:
    """What to do with the rows with errors, while any is to be mended; of an import taken back none can be."""
    if not summary.to_mend or summary.state in ("retracted", "purged"):
        return ""
    retry = f"'backstory imports retry {summary.import_id} COPY'"
    if summary.error_file and Path(summary.error_file).is_dir():
        return f", one file for each of the input: correct a copy of each, and {retry} one by one"
    return f": correct a copy, and {retry}"
