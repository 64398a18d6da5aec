"""Imports over the App API: list them, look at one, ask for one by URL.

Sources: ``semantics.md`` section 2.3, ``api-surface.md`` section 7.2.
"""

from urllib.parse import urlsplit

from starlette.responses import Response

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.edge import app_shape
from backstory.edge.app_answer import UnprocessableError, answer
from backstory.edge.app_definition import name_of, text_of
from backstory.edge.app_request import Call, Handler

_PATH = "$.import"


def all_imports(call: Call) -> Response:
    """``GET /v1/imports`` (ours: the original lists them in its UI only)."""
    return answer({"imports": [app_shape.import_(view) for view in call.reader.imports()]})


def one(call: Call) -> Response:
    """``GET /v1/imports/{id}``."""
    return answer({"import": app_shape.import_(call.reader.import_(call.number("import_id", "import")))})


def create(call: Call) -> Response:
    """``POST /v1/imports``: a right request is refused with 422 as well, because files cannot be fetched yet."""
    wanted = call.part("import")
    _check(wanted)
    raise UnprocessableError(
        "this server cannot fetch files yet: download it and run "
        f"'backstory backfill {_kind(wanted)} FILE --identifier {wanted['identifier']}'",
        path=f"{_PATH}.data_file_url",
    )


def _check(wanted: dict[str, Json]) -> None:
    name_of(wanted.get("name"), path=f"{_PATH}.name")
    text_of(wanted.get("description"), path=f"{_PATH}.description")
    _one_of(wanted, "type", ("people", "event"))
    _one_of(wanted, "identifier", ("id", "email"))
    # The older name of the same key.
    rows = "data_to_process" if "data_to_process" in wanted else "people_to_process"
    _one_of({rows: "all", **wanted}, rows, ("all", "only_new", "only_existing"))
    url = wanted.get("data_file_url")
    if not _is_web_address(url):
        path = f"{_PATH}.data_file_url"
        raise RequestError(
            f"data_file_url must be an address like https://example.com/people.csv, not {url!r}", path=path
        )


def _is_web_address(url: Json) -> bool:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _one_of(wanted: dict[str, Json], key: str, allowed: tuple[str, ...]) -> None:
    if wanted.get(key) not in allowed:
        raise RequestError(f"{key} must be one of {', '.join(allowed)}, not {wanted.get(key)!r}", path=f"{_PATH}.{key}")


def _kind(wanted: dict[str, Json]) -> str:
    return "events" if wanted["type"] == "event" else "people"


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/imports", all_imports),
    ("POST", "/v1/imports", create),
    ("GET", "/v1/imports/{import_id}", one),
]
