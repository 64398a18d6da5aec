"""Verify: is everything that is kept what it must be?

Files against their checksums, imports against their rows, people and memberships against history and the oracle,
stored leaves against leaves made anew. It reads what is committed, and of memory one moment taken by the loop, so that
a running server is verified as it runs. What is missing or damaged is a difference, never the end of the check.
"""

from typing import TYPE_CHECKING

from backstory.engine.verify.file import verify_files, verify_imports
from backstory.engine.verify.finding import Findings, OnLine, Verdict
from backstory.engine.verify.leaf import verify_leaves
from backstory.engine.verify.moment import Moment, take_moment
from backstory.engine.verify.person import verify_people
from backstory.engine.verify.record import verify_records

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

BUILD_S = 60.0


def run(workspace: "Workspace", on_line: OnLine) -> Verdict:
    """Compare everything; lines are ``checked``, ``progress``, ``note``, ``difference``, at the end ``result``.

    Raises what ``on_line`` raises, and ``StorageError`` when the engine has stopped.
    """
    findings = Findings(on_line)
    folder = workspace.folder
    for fault in workspace.faults:
        if fault in folder.faults:
            findings.difference("fault", fault)
        else:
            findings.note("health", fault)
    whole = verify_files(folder, findings)
    with findings.reading("import"):
        verify_imports(folder, findings, whole=whole)
    _await_built(workspace)
    moment = take_moment(workspace)
    _verify_positions(moment, findings)
    for number in sorted(moment.unbuilt & moment.conditions.keys()):
        findings.difference("segment", "it is not built yet, so its members cannot be told", segment=number)
    with findings.reading("leaf"):
        verify_leaves(folder, moment, findings, whole=whole)
    if whole:
        with findings.reading("person"):
            verify_people(workspace, moment, findings)
        with findings.reading("record"):
            verify_records(workspace, findings)
    else:
        findings.note("person", "not compared: without its parts nobody knows what history says")
    return findings.verdict()


def _await_built(workspace: "Workspace") -> None:
    """Segments that are being built are compared when they are complete."""
    for number, kept in sorted(workspace.segments.segments.items()):
        if kept.building and workspace.builder.failure is None:
            workspace.await_built(number, timeout_s=BUILD_S)


def _verify_positions(moment: Moment, findings: Findings) -> None:
    """Every accepted fact has been applied or refused, but for those that wait their turn."""
    if moment.accepted != moment.applied + moment.backlog:
        problem = f"{moment.accepted} accepted, {moment.applied} applied or refused, {moment.backlog} waiting"
        findings.difference("fact", problem)
    findings.checked("fact", moment.accepted)
