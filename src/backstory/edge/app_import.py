"""Imports over the App API: list them, look at one, ask for one by URL or upload, its rows with errors and warnings.

Sources: ``semantics.md`` section 2.3, ``api-surface.md`` section 7.2; what stands in ``import`` beside the published
keys is ours (issue 5).
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from starlette.responses import Response, StreamingResponse

from backstory.core.condition import Json
from backstory.core.error import NotFoundError, RequestError
from backstory.core.time import TimeUnreadable, from_asked, from_unix
from backstory.edge import app_shape
from backstory.edge.app_answer import UnprocessableError, answer
from backstory.edge.app_definition import name_of, text_of
from backstory.edge.app_import_control import progress_fields
from backstory.edge.app_option import flag_of, refuse_unknown
from backstory.edge.app_request import Call, Desk, Handler
from backstory.edge.fetch_url import is_web_address
from backstory.engine.file.notation import DATE_ORDERS, DECIMAL_MARKS
from backstory.engine.file.options import BackfillOptions, Policy
from backstory.engine.file.row_shape import ItemShape, PinnedType
from backstory.engine.file.unpack import ENCODINGS, SourceError

_PATH = "$.import"
_KINDS = {
    "people": "people", "event": "events", "object": "objects", "relationship": "relationships", "members": "members",
}  # fmt: skip
_ROWS = ("all", "only_new", "only_existing")
# Options of ours that are handed on as they are.
_OPTIONS = (
    "triggers", "on_empty", "map", "time", "delimiter", "encoding", "quote", "shape", "types", "zone", "same_rows",
    "decimal", "dates",
)  # fmt: skip
# Those of them that are one of a few words.
_CHOICES: dict[str, tuple[str, ...]] = {
    "triggers": get_args(Policy),
    "on_empty": ("ignore", "clear"),
    "shape": get_args(ItemShape),
    "same_rows": ("once", "all"),
    "encoding": ENCODINGS,
    "decimal": DECIMAL_MARKS,
    "dates": DATE_ORDERS,
}
_KEYS = frozenset((
    *_OPTIONS, "name", "description", "type", "identifier", "data_file_url", "upload", "preview", "as_of",
    "data_to_process", "people_to_process", "rows", "only_new", "only_existing", "object_type_id", "segment_id",
))  # fmt: skip
_BLOCK_BYTES = 1 << 16
_PAGE_MAX = 1000


def all_imports(call: Call) -> Response:
    """``GET /v1/imports``: all of them, or ``limit`` from ``start`` on (ours: the original lists them in its UI only).

    The oldest first; ``next`` is the start of the page after, empty behind the last.
    """
    start = call.whole("start") or 0
    views = sorted((view for view in call.reader.imports() if view.import_id >= start), key=lambda view: view.import_id)
    limit = call.limit(default=len(views), greatest=_PAGE_MAX)
    following = str(views[limit].import_id) if limit < len(views) else ""
    return answer({"imports": [app_shape.import_(view) for view in views[:limit]], "next": following})


def one(call: Call) -> Response:
    """``GET /v1/imports/{id}``; one that runs has ``progress`` too."""
    import_id = call.number("import_id", "import")
    shown = app_shape.import_(call.reader.import_(import_id))
    progress = call.workspace.imports.progress(import_id)
    return answer({"import": shown if progress is None else {**shown, "progress": progress_fields(progress)}})


def create(call: Call) -> Response:
    """``POST /v1/imports`` with a JSON body: of a URL or an upload. With ``preview`` it says what would happen."""
    wanted = call.part("import")
    refuse_unknown(call.document(), ("import",), what="imports", path="$")
    upload_id = wanted.get("upload")
    options = _options(wanted)
    url = wanted.get("data_file_url")
    if upload_id is None and not (isinstance(url, str) and is_web_address(url)):
        path = f"{_PATH}.data_file_url"
        raise RequestError(
            f"data_file_url must be an address like https://example.com/people.csv, not {url!r}", path=path
        )
    if upload_id is not None and not isinstance(upload_id, str):
        raise RequestError(f"upload must be the id of an upload, not {upload_id!r}", path=f"{_PATH}.upload")
    desk = desk_of(call)
    source: dict[str, Any] = {"url": url} if upload_id is None else {"upload_id": upload_id}
    return _answer(desk, options, preview=flag_of(call, wanted, "preview", path=_PATH), **source)


def of_upload(desk: Desk, wanted: dict[str, Any], upload_id: str) -> Response:
    """The same, of a file that came with the request."""
    return _answer(desk, _options(wanted), preview=_preview(wanted), upload_id=upload_id)


def desk_of(call: Call) -> Desk:
    """Whoever takes imports; raises ``UnprocessableError`` where nobody does."""
    if call.desk is None:
        raise UnprocessableError("only a running server takes imports: run 'backstory backfill' instead", path=_PATH)
    return call.desk


def _answer(desk: Desk, options: BackfillOptions, *, preview: bool, **source: Any) -> Response:
    try:
        if preview:
            return answer({"preview": desk.preview(options, **source)})
        return answer({"import": app_shape.import_(desk.view(desk.create(options, **source)))})
    except SourceError as error:
        raise UnprocessableError(str(error), path=_PATH) from error
    except RequestError as error:
        # What looks at options without a request calls them by their names alone.
        if error.path and not error.path.startswith("$"):
            error.path = f"{_PATH}.{error.path}"
        raise


def _preview(wanted: dict[str, Json]) -> bool:
    found = wanted.get("preview", False)
    if not isinstance(found, bool):
        raise RequestError(f"preview must be true or false, not {found!r}", path=f"{_PATH}.preview")
    return found


def _options(wanted: dict[str, Json]) -> BackfillOptions:
    """The options of an import, without paths; raises ``RequestError`` with the key that is wrong."""
    _check_keys(wanted)
    name = name_of(wanted.get("name"), path=f"{_PATH}.name")
    description = text_of(wanted.get("description"), path=f"{_PATH}.description")
    kind = _one_of(wanted, "type", tuple(_KINDS))
    # Of objects the original takes none.
    needed = {} if kind in ("people", "event") else {"identifier": "id"}
    identifier = _one_of({**needed, **wanted}, "identifier", ("id", "email"))
    # Older names of the same key.
    key = next((key for key in ("data_to_process", "people_to_process", "rows") if key in wanted), "rows")
    rows = _one_of({"rows": "all", **wanted}, key, _ROWS)
    for other in ("only_new", "only_existing"):
        if wanted.get(other) in (True, "true"):
            rows = other
    if kind == "event" and rows == "only_new":
        raise RequestError("events are all or only_existing: they belong to people", path=f"{_PATH}.{key}")
    given = {
        "kind": _KINDS[kind],
        "paths": (),
        "identifier": identifier if "identifier" in wanted else None,
        **_numbers(wanted),
        "rows": rows,
        "name": name,
        "description": description,
        "as_of_us": _moment(wanted.get("as_of")),
        **{key: wanted[key] for key in _OPTIONS if key in wanted},
    }
    for key, allowed in _CHOICES.items():
        if wanted.get(key) is not None:
            _one_of(wanted, key, allowed)
    _check_types(wanted.get("types"))
    try:
        return msgspec.convert(given, BackfillOptions)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$")
        raise RequestError(f"import: {said}", path=_PATH + where.removesuffix("`")) from None


def _check_types(types: Json) -> None:
    """Raises ``RequestError`` for a column with a type there is none of."""
    allowed = get_args(PinnedType)
    for column, kind in types.items() if isinstance(types, dict) else ():
        if kind not in allowed:
            raise RequestError(
                f"the type of {column!r} must be one of {', '.join(allowed)}, not {kind!r}",
                path=f"{_PATH}.types.{column}",
            )


def _check_keys(wanted: dict[str, Json]) -> None:
    """A misspelt option would silently do something else than was asked for."""
    for key in wanted:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(_KEYS))}"
            raise UnprocessableError(f"import has no key {key!r}; {hint}", path=f"{_PATH}.{key}")


def _numbers(wanted: dict[str, Json]) -> dict[str, int]:
    """The published shape has the type of objects as text."""
    found: dict[str, int] = {}
    for key in ("object_type_id", "segment_id"):
        value = wanted.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            found[key] = value
        elif value is not None:
            raise RequestError(f"{key} must be a number, not {value!r}", path=f"{_PATH}.{key}")
    return found


def _one_of(wanted: dict[str, Json], key: str, allowed: tuple[str, ...]) -> str:
    found = wanted.get(key)
    if not isinstance(found, str) or found not in allowed:
        raise RequestError(f"{key} must be one of {', '.join(allowed)}, not {found!r}", path=f"{_PATH}.{key}")
    return found


def _moment(value: Json) -> int | None:
    if value is None or value == "now":
        return None
    try:
        if isinstance(value, str):
            return from_asked(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return from_unix(value)[0]
    except TimeUnreadable as error:
        raise RequestError(f"as_of: {error}", path=f"{_PATH}.as_of") from None
    raise RequestError(f"as_of must be a time, not {value!r}", path=f"{_PATH}.as_of")


def errors(call: Call) -> Response:
    """``GET /v1/imports/{id}/errors``: the rows with errors, in the input's own form."""
    return _report(call, "error_file")


def warnings(call: Call) -> Response:
    """``GET /v1/imports/{id}/warnings``: the rows that were taken with a doubt."""
    return _report(call, "warning_file")


def _report(call: Call, key: str) -> Response:
    view = call.reader.import_(call.number("import_id", "import"))
    found = view.summary.get(key)
    path = Path(found) if isinstance(found, str) else None
    if path is None or not path.exists():
        raise NotFoundError(f"import {view.import_id} has no {key.replace('_', ' ')}")
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    with files[0].open("rb") as first:
        ending, media = (".jsonl", "application/x-ndjson") if first.read(1) == b"{" else (".csv", "text/csv")
    disposition = f'attachment; filename="{path.stem}{ending}"'
    return StreamingResponse(_pieces(files), media_type=media, headers={"Content-Disposition": disposition})


def _pieces(files: list[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                yield block


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/imports", all_imports),
    ("POST", "/v1/imports", create),
    ("GET", "/v1/imports/{import_id}", one),
    ("GET", "/v1/imports/{import_id}/errors", errors),
    ("GET", "/v1/imports/{import_id}/warnings", warnings),
]
