"""Exports over the App API: so far the reports of imports, whose ids an import tells (``error_export_id``).

The file itself is asked for with a key, as all else is. Source: ``api-surface.md`` section 7.2; issue 5, point 9.
"""

from collections.abc import Iterator
from typing import Literal

from starlette.responses import Response

from backstory.core.time import to_unix
from backstory.edge.app_answer import answer
from backstory.edge.app_request import Call, Handler, not_found
from backstory.edge.app_shape import Shape, export_id, report_url
from backstory.engine.answer.view import ImportView

Report = Literal["error", "warning"]
REPORTS: tuple[Report, ...] = ("error", "warning")


def all_exports(call: Call) -> Response:
    """``GET /v1/exports``: files of errors and warnings of imports, newest first."""
    found = [_export(view, report) for view in call.reader.imports() for report in _reports(view)]
    return answer({"exports": sorted(found, key=lambda one: -int(str(one["id"])))})


def one(call: Call) -> Response:
    """``GET /v1/exports/{id}``."""
    return answer({"export": _export(*_found(call))})


def download(call: Call) -> Response:
    """``GET /v1/exports/{id}/download``: where the file is; it takes the same key."""
    view, report = _found(call)
    return answer({"url": report_url(view.import_id, report)})


def _found(call: Call) -> tuple[ImportView, Report]:
    number = call.number("export_id", "export")
    for view in call.reader.imports():
        for report in _reports(view):
            if export_id(view.import_id, REPORTS.index(report)) == number:
                return view, report
    raise not_found("export", str(number))


def _reports(view: ImportView) -> Iterator[Report]:
    """The reports there are; while an import runs they grow."""
    return (report for report in REPORTS if view.summary.get(f"{report}_file"))


def _export(view: ImportView, report: Report) -> Shape:
    """The published shape; whoever asked is not kept, so there is no user. ``import_id`` is ours."""
    number, over = export_id(view.import_id, REPORTS.index(report)), view.state not in ("importing", "paused")
    return {
        "id": number,
        "deduplicate_id": f"{number}:{to_unix(view.updated_us)}",
        "type": "customers",
        "description": f"{report}s of import {view.import_id}" + (f", {view.name}" if view.name else ""),
        "status": "done" if over else "pending",
        "failed": False,
        "total": view.summary.get(f"{report}s", 0) if over else 0,
        "downloads": 0,
        "user_id": None,
        "user_email": None,
        "created_at": to_unix(view.created_us),
        "updated_at": to_unix(view.updated_us),
        "import_id": view.import_id,
    }


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/exports", all_exports),
    ("GET", "/v1/exports/{export_id}", one),
    ("GET", "/v1/exports/{export_id}/download", download),
]
