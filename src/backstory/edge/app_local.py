"""What only the local socket offers: imports from paths, ``verify``, keys, purging, the clock.

Whoever can open the socket (0600) may read the data folder anyway; these endpoints exist on no other listener.
Long work answers NDJSON lines:

    POST /local/backfill  {"progress": {…}} … {"summary": {…}}
    POST /local/preview   {"progress": {…}} … {"preview": {…}}
    POST /local/imports/{id}/run, /retry {"path"}  {"progress": {…}} … {"summary": {…}}
    POST /local/outline   {"files": [{"path", "form", "written", "shape", "person", "time", "columns"}]} (plain JSON)
    POST /local/privacy/purge  {"progress": {…}} … {"purge": {"pending", "stages", "due_at", "purged"}}
    POST /local/verify    {"checked" | "progress" | "note" | "difference": …} … {"result": {"ok", "checked", "found"}}

and ``{"error": {"message"}}`` as the last line when it fails.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from backstory.core.condition import Json
from backstory.core.error import ConflictError, RequestError
from backstory.core.time import SECOND_US
from backstory.edge import app_key
from backstory.edge.app_answer import answer
from backstory.edge.app_request import Answer, Call, Handler
from backstory.edge.app_stream import Emit, LineStream
from backstory.edge.auth import workspace_number
from backstory.edge.import_desk import Desk
from backstory.engine.file.options import BackfillOptions, Progress, Summary
from backstory.engine.settings import Settings
from backstory.store.credential import CredentialStore

if TYPE_CHECKING:
    from backstory.engine.purger import Progress as PurgeProgress
    from backstory.engine.workspace import Workspace

T = TypeVar("T")

Backfill = Callable[[BackfillOptions, Callable[[Progress], None]], Summary]
# Takes in the mended rows that are in a file under the import they are of.
Retry = Callable[[int, Path, Callable[[Progress], None]], Summary]
# The object that ``backstory backfill --preview --json`` prints.
Preview = Callable[[BackfillOptions, Callable[[Progress], None]], dict[str, Any]]
# Gives each line to the function it gets, the ``result`` last.
Verify = Callable[[Callable[[dict[str, object]], None]], None]
# Tells of each step; returns how it stands at the end.
Purge = Callable[[Callable[[dict[str, object]], None]], dict[str, object]]


def _no_retry(import_id: int, path: Path, on_progress: Callable[[Progress], None]) -> Summary:
    raise ConflictError(f"there is nobody here who mends import {import_id}")


class MendedRows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the file is; absolute."""

    path: str


class NewWorkspace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of a workspace to make."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTools:
    """The work behind the local endpoints."""

    backfill: Backfill
    verify: Verify
    credentials: CredentialStore
    now_us: Callable[[], int]
    # Says what an import would do.
    preview: Preview = lambda options, on_progress: {}
    retry: Retry = _no_retry
    # Says how the files of an import are read.
    outline: Callable[[BackfillOptions], list[Any]] = lambda options: []
    # Takes the clock as it is; answers by how many microseconds it had jumped, 0 when it was not in doubt.
    accept_clock: Callable[[], int] = lambda: 0
    # Purges everybody who is gone, now, telling of each step; and who waits for what.
    purge: Purge = lambda on_progress: {}
    purging: Callable[[], dict[str, object]] = dict
    # Called after a key was made or revoked.
    keys_changed: Callable[[], None] = lambda: None
    # The workspaces of the folder, and how to make one: answers its new keys by the names of the settings.
    workspaces: Callable[[], list[str]] = list
    create_workspace: Callable[[str], dict[str, str]] = lambda name: {}
    # Takes uploads and imports by API, where a server runs.
    desk: Desk | None = None
    # Set when the server stops: long work then ends at its next line.
    stopping: threading.Event = field(default_factory=threading.Event)


    def close(self) -> None:
        """Before the workspace is closed: imports by API end at a safe place."""
        if self.desk is not None:
            self.desk.close()


def local_tools(
    workspace: "Workspace",
    credentials: CredentialStore,
    now_us: Callable[[], int],
    *,
    serving: Settings | None = None,
) -> LocalTools:
    """The real tools of a workspace; a server, with its settings, takes imports by API too."""
    stopping = threading.Event()

    # Imports and verify load DuckDB and NumPy, which a server that only takes calls can do without.
    def backfill(options: BackfillOptions, on_progress: Callable[[Progress], None]) -> Summary:
        from backstory.engine.backfill import backfill

        return backfill.run(workspace, options, on_progress=on_progress)

    def retry(import_id: int, path: Path, on_progress: Callable[[Progress], None]) -> Summary:
        from backstory.engine.backfill import mend

        return mend.retry(workspace, import_id, path, on_progress)

    def preview(options: BackfillOptions, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        from backstory.engine.preview import preview

        return preview.as_json(preview.preview(workspace, options, on_progress))

    def verify(on_line: Callable[[dict[str, object]], None]) -> None:
        from backstory.engine.verify import verify

        verify.run(workspace, on_line)

    def purge(on_progress: Callable[[dict[str, object]], None]) -> dict[str, object]:
        purger = workspace.purger
        return _purge_shape(purger.run(lambda progress: on_progress(_purge_shape(progress))))

    def outline(options: BackfillOptions) -> list[Any]:
        from backstory.engine.backfill import import_check, import_outline

        import_check.check(options)
        return msgspec.to_builtins(import_outline.outline(options))

    desk = None
    if serving is not None:
        desk = Desk(workspace, serving, backfill=backfill, preview=preview, now_us=now_us, stopping=stopping)
        desk.start()
    return LocalTools(
        purge=purge,
        purging=lambda: _purge_shape(workspace.purger.progress()),
        desk=desk,
        stopping=stopping,
        outline=outline,
        backfill=backfill,
        retry=retry,
        preview=preview,
        verify=verify,
        credentials=credentials,
        now_us=now_us,
        accept_clock=workspace.accept_clock,
    )


def routes(tools: LocalTools) -> list[tuple[str, str, Handler]]:
    """The local endpoints."""
    return [
        ("POST", "/local/backfill", lambda call: _backfill(tools, call)),
        ("POST", "/local/preview", lambda call: _preview(tools, call)),
        ("POST", "/local/outline", lambda call: answer({"files": tools.outline(_options(call))})),
        ("POST", "/local/imports/{import_id}/run", lambda call: _run_import(tools, call)),
        ("POST", "/local/imports/{import_id}/retry", lambda call: _retry_import(tools, call)),
        ("POST", "/local/verify", lambda call: _verify(tools, call)),
        *app_key.routes(
            app_key.KeyTools(credentials=tools.credentials, now_us=tools.now_us, changed=tools.keys_changed), "/local"
        ),
        ("GET", "/local/workspaces", lambda call: _workspaces(tools, call)),
        ("POST", "/local/workspaces", lambda call: _create_workspace(tools, call)),
        ("GET", "/local/privacy/purge", lambda call: answer({"purge": cast("Json", tools.purging())})),
        ("POST", "/local/privacy/purge", lambda call: _purge(tools)),
        ("POST", "/local/clock/accept", lambda call: _accept_clock(tools, call)),
    ]


def _options(call: Call) -> BackfillOptions:
    options = _decoded(call.document(), BackfillOptions)
    if options.kind == "events" and options.rows == "only_new":
        raise RequestError("rows can be only_new for people only: an event is of somebody new or known", path="$.rows")
    return options


def _preview(tools: LocalTools, call: Call) -> Answer:
    options = _options(call)

    def work(emit: Emit) -> None:
        emit({"preview": tools.preview(options, lambda progress: emit({"progress": progress}))})

    return LineStream(work, tools.stopping)


def _backfill(tools: LocalTools, call: Call) -> Answer:
    options = _options(call)

    def work(emit: Emit) -> None:
        summary = tools.backfill(options, lambda progress: emit({"progress": progress}))
        emit({"summary": summary})

    return LineStream(work, tools.stopping)


def _run_import(tools: LocalTools, call: Call) -> Answer:
    """An unfinished import goes on, as its own command would have it."""
    options = call.workspace.imports.options(call.number("import_id", "import"))

    def work(emit: Emit) -> None:
        emit({"summary": tools.backfill(options, lambda progress: emit({"progress": progress}))})

    return LineStream(work, tools.stopping)


def _retry_import(tools: LocalTools, call: Call) -> Answer:
    import_id = call.number("import_id", "import")
    path = Path(_decoded(call.document(), MendedRows).path)

    def work(emit: Emit) -> None:
        summary = tools.retry(import_id, path, lambda progress: emit({"progress": progress}))
        emit({"summary": summary})

    return LineStream(work, tools.stopping)


def _verify(tools: LocalTools, call: Call) -> Answer:
    return LineStream(tools.verify, tools.stopping)


def _purge_shape(progress: "PurgeProgress") -> dict[str, object]:
    """How many people wait, or are at which stage, and by when the first of them has to be gone."""
    due_us = progress.due_us
    return {
        "pending": sum(progress.stages.values()),
        "stages": dict(progress.stages),
        "due_at": None if due_us is None else due_us // SECOND_US,
        "purged": progress.purged,
    }


def _purge(tools: LocalTools) -> Answer:
    def work(emit: Emit) -> None:
        emit({"purge": tools.purge(lambda progress: emit({"progress": progress}))})

    return LineStream(work, tools.stopping)


def _workspaces(tools: LocalTools, call: Call) -> Answer:
    names = tools.workspaces()
    return answer({"workspaces": [{"id": workspace_number(name), "name": name} for name in names]})


def _create_workspace(tools: LocalTools, call: Call) -> Answer:
    name = _decoded(call.document(), NewWorkspace).name
    keys = tools.create_workspace(name)
    return answer({"workspace": {"id": workspace_number(name), "name": name, "keys": keys}})


def _accept_clock(tools: LocalTools, call: Call) -> Answer:
    return answer({"clock": {"moved_s": round(tools.accept_clock() / SECOND_US)}})


def _decoded(value: Json, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RequestError(str(error)) from None
