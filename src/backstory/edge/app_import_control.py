"""Imports under way and imports of the past, over the App API: pause, resume, cancel, undo, redo, purge, progress.

Each may be asked for again: what is so already stays so. 404 for an import there is not, 409 with what to do for one in
another state. Source: issue 5, design section 10.
"""

import threading
import time
from collections.abc import Callable
from typing import Literal

import msgspec
from starlette.responses import Response

from backstory.core.condition import Json
from backstory.core.error import Busy
from backstory.core.limit import PROGRESS_STREAMS
from backstory.edge import app_shape
from backstory.edge.app_answer import answer
from backstory.edge.app_option import body_of, flag_of
from backstory.edge.app_request import Answer, Call, Handler
from backstory.edge.app_stream import Emit, LineStream, event_frame
from backstory.engine.file.options import Progress
from backstory.engine.port import Workspace

# A stream says something at least so often, so that whoever went away is noticed.
BEAT_S = 1.0
_ENDED = frozenset({"imported", "failed", "canceled", "retracted"})
_streams = threading.Semaphore(PROGRESS_STREAMS.value)


def pause(call: Call) -> Response:
    """``POST /v1/imports/{id}/pause``: it waits behind the chunk at hand until it is resumed."""
    return _done(call, "pause", call.workspace.imports.pause)


def resume(call: Call) -> Response:
    """``POST /v1/imports/{id}/resume``: it goes on; the server runs it itself when nobody does any more."""
    body_of(call, (), what="resume")
    import_id = call.number("import_id", "import")
    imports, desk = call.workspace.imports, call.desk
    goes_on = imports.resume(import_id) or ("here" in call.query and not call.flag("here"))
    if not goes_on and (desk is None or not desk.take_up(import_id)):
        imports.run_aside(import_id)
    return _shown(call, import_id, running=call.workspace.imports.runs(import_id))


def cancel(call: Call) -> Response:
    """``POST /v1/imports/{id}/cancel``: it ends where it stands; what came in stays."""
    return _done(call, "cancel", call.workspace.imports.cancel)


def undo(call: Call) -> Response:
    """``POST /v1/imports/{id}/undo``: as if it had never been; ``preview`` (body or query) only says what would be."""
    return _through(call, "undo")


def redo(call: Call) -> Response:
    """``POST /v1/imports/{id}/redo``: an undo undone; ``preview`` (body or query) only says what would be."""
    return _through(call, "redo")


def purge(call: Call) -> Response:
    """``POST /v1/imports/{id}/purge``: the rows of an import that was taken back go for good; there is no preview."""
    return _done(call, "purge", call.workspace.imports.purge)


def events(call: Call) -> Answer:
    """``GET /v1/imports/{id}/events``: progress as server-sent events until the import is over.

    429 when ``PROGRESS_STREAMS`` are open already.
    """
    import_id = call.number("import_id", "import")
    call.reader.import_(import_id)
    if not _streams.acquire(blocking=False):
        raise Busy(f"{PROGRESS_STREAMS.value} streams are open: ask GET /v1/imports/{import_id}", retry_after_s=5)
    workspace = call.workspace

    def work(emit: Emit) -> None:
        try:
            _follow(workspace, import_id, emit)
        finally:
            _streams.release()

    return LineStream(work, threading.Event(), media_type=b"text/event-stream", frame=event_frame)


def _follow(workspace: Workspace, import_id: int, emit: Emit) -> None:
    last: dict[str, Json] = {}
    while True:
        now = shown_progress(workspace, import_id)
        if now != last:
            emit(now)
            last = now
        else:
            emit(None)
        if now["state"] in _ENDED and not workspace.imports.runs(import_id):
            return
        began_s = time.monotonic()
        with workspace.imports.changed:
            workspace.imports.changed.wait(BEAT_S)
        # Never more often than a few times a second.
        if time.monotonic() - began_s < BEAT_S / 4:
            time.sleep(BEAT_S / 4)


def shown_progress(workspace: Workspace, import_id: int) -> dict[str, Json]:
    """Where an import is: ``{state, rows, percent, rows_per_s, seconds_left, phase}``; the last four while it runs."""
    view = workspace.reader.import_(import_id)
    now = workspace.imports.progress(import_id)
    if now is None:
        return {"state": view.state, "rows": view.rows_to_import}
    return {"state": view.state, **progress_fields(now)}


def progress_fields(now: Progress) -> dict[str, Json]:
    """``percent`` is of the bytes to read; None where it is not known, as is ``seconds_left``."""
    left: int | None = None
    if now.rows_total_estimate is not None and now.rows_per_s > 0:
        left = round(max(now.rows_total_estimate - now.rows, 0) / now.rows_per_s)
    return {
        "rows": now.rows,
        "percent": round(100 * now.bytes / now.bytes_total, 1) if now.bytes_total else None,
        "rows_per_s": now.rows_per_s,
        "seconds_left": left,
        "phase": now.phase,
    }


def _through(call: Call, way: Literal["undo", "redo"]) -> Response:
    given = body_of(call, ("preview",), what=way)
    import_id = call.number("import_id", "import")
    imports = call.workspace.imports
    if flag_of(call, given, "preview"):
        return answer({"preview": msgspec.to_builtins(imports.preview(import_id, way))})
    done = (imports.undo if way == "undo" else imports.redo)(import_id)
    return answer({"import": app_shape.import_(call.reader.import_(import_id)), way: msgspec.to_builtins(done)})


def _done(call: Call, what: str, work: Callable[[int], None]) -> Response:
    body_of(call, (), what=what)
    import_id = call.number("import_id", "import")
    work(import_id)
    return _shown(call, import_id)


def _shown(call: Call, import_id: int, **more: Json) -> Response:
    return answer({"import": app_shape.import_(call.reader.import_(import_id)), **more})


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/imports/{import_id}/pause", pause),
    ("POST", "/v1/imports/{import_id}/resume", resume),
    ("POST", "/v1/imports/{import_id}/cancel", cancel),
    ("POST", "/v1/imports/{import_id}/undo", undo),
    ("POST", "/v1/imports/{import_id}/redo", redo),
    ("POST", "/v1/imports/{import_id}/purge", purge),
    ("GET", "/v1/imports/{import_id}/events", events),
]
