"""Files sent to the App API: uploads that can be gone on with, and imports whose file is the body itself.

    POST /v1/uploads {"upload": {"name"}}      an upload, with its id
    PUT /v1/uploads/{id}?offset=N              more of it, from its N-th byte on; 409 where that is not its end
    GET, DELETE /v1/uploads/{id}               how much came; let go of it
    POST /v1/imports                           as multipart/form-data with one file, or as the file itself
    POST /v1/imports/{id}/retry                the same with mended rows of that import

Bodies go to disk as they come. Source: issue 2; design section 10.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.core.error import ConflictError, NotFoundError, RequestError, StorageError
from backstory.core.limit import BODY_WAIT_S
from backstory.edge import app_import, app_shape
from backstory.edge.app_answer import TooLargeError, answer, nothing, refusal, unauthorised
from backstory.edge.app_option import refuse_unknown
from backstory.edge.app_request import Call, Desk, Handler
from backstory.edge.multipart import Multipart, boundary_of
from backstory.engine.file.spool import TooMuch
from backstory.engine.file.unpack import SourceError

_ENDINGS = {
    "text/csv": ".csv", "text/tab-separated-values": ".tsv", "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl", "application/vnd.apache.parquet": ".parquet", "application/octet-stream": "",
    "application/gzip": "", "application/zstd": "",
}  # fmt: skip


_SEND = "send the file as the body, or as multipart/form-data with one file"


class Take(Protocol):
    def __call__(self, block: bytes, /) -> None: ...


class Receiving:
    """In front of an endpoint: takes the requests whose bodies are files, and leaves it the others."""

    def __init__(self, desk: Desk, authorise: Callable[[Scope], bool], inner: ASGIApp) -> None:
        self._desk = desk
        self._authorise = authorise
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] != "PUT" and not _sends_file(scope, kind):
            await self._inner(scope, receive, send)
            return
        try:
            if not self._authorise(scope):
                response = unauthorised()
            elif scope["method"] == "PUT":
                response = await self._more(scope, receive)
            else:
                response = await self._import(scope, receive, kind)
        except ClientDisconnect:
            # What came is on disk: the sender asks how much that is, and goes on.
            return
        except TooMuch as error:
            response = refusal(TooLargeError(str(error)))
        except SourceError as error:
            # The disk did not take it.
            response = refusal(StorageError(str(error)))
        except Exception as error:
            response = refusal(error)
        await response(scope, receive, send)

    async def _more(self, scope: Scope, receive: Receive) -> Response:
        upload_id: str = scope["path_params"]["upload_id"]
        offset = QueryParams(scope["query_string"]).get("offset", "0")
        self._desk.hold(upload_id)
        try:
            with self._desk.upload(upload_id) as spool:
                if not (offset.isascii() and offset.isdigit()) or int(offset[:20]) != spool.size:
                    raise ConflictError(f"upload {upload_id} has {spool.size} bytes: go on with ?offset={spool.size}")
                async for block in _blocks(receive):
                    await run_in_threadpool(spool.write, block)
                return answer({"upload": {"id": upload_id, "offset": spool.size}})
        finally:
            self._desk.release(upload_id)

    async def _import(self, scope: Scope, receive: Receive, kind: str) -> Response:
        query = dict(QueryParams(scope["query_string"]))
        parser: Multipart | None = None
        if "import_id" in scope["path_params"]:
            refuse_unknown(query, ("file_name",), what="retry")
        name = query.pop("file_name", "") or "file" + _ENDINGS.get(kind, "")
        upload_id = await run_in_threadpool(self._desk.new_upload, name)
        try:
            with self._desk.upload(upload_id) as spool:
                take: Take = spool.write
                if kind == "multipart/form-data":
                    parser = Multipart(boundary_of(Headers(scope=scope)["content-type"]), spool.write)
                    take = parser.feed
                async for block in _blocks(receive):
                    await run_in_threadpool(take, block)
                if not spool.size and parser is None:
                    raise RequestError(_SEND)
            if parser is not None and (not parser.whole or parser.file_name is None):
                raise RequestError("the multipart body ends before its last boundary, or holds no file")
            if "import_id" in scope["path_params"]:
                refuse_unknown(parser.fields if parser else (), (), what="retry", path="$")
                return await run_in_threadpool(_retry, self._desk, scope["path_params"]["import_id"], upload_id)
            wanted = wanted_of(query if parser is None else {**query, **parser.fields})
            if parser is not None and parser.file_name:
                wanted.setdefault("name", parser.file_name)
                await run_in_threadpool(self._desk.rename, upload_id, parser.file_name)
            wanted.setdefault("name", name)
            return await run_in_threadpool(app_import.of_upload, self._desk, wanted, upload_id)
        except BaseException:
            # Whoever sends a file with its import sends both again.
            self._desk.drop_if_there(upload_id)
            raise


def _sends_file(scope: Scope, kind: str) -> bool:
    """Is the body a file? What a retry is sent is nothing else; JSON has no ``type`` in the query.

    curl calls every body a form unless it is told otherwise.
    """
    if scope["method"] != "POST" or not scope["path"].startswith("/v1/imports"):
        return False
    if kind == "multipart/form-data" or kind in _ENDINGS or "import_id" in scope["path_params"]:
        return True
    return kind != "application/json" and "type" in QueryParams(scope["query_string"])


def wanted_of(fields: dict[str, str]) -> dict[str, Any]:
    """What ``import`` would hold, from the parameters of a URL or the fields of a form.

    The field ``import`` is the whole of it as JSON; ``map`` and ``types`` are JSON, ``preview`` is true or false.
    """
    wanted: dict[str, Any] = {}
    for name, value in fields.items():
        if name in ("import", "map", "types", "preview"):
            try:
                decoded: Any = msgspec.json.decode(value)
            except msgspec.MsgspecError as error:
                raise RequestError(f"{name} is not valid JSON: {error}", path=f"$.{name}") from None
            if name == "import" and isinstance(decoded, dict):
                wanted |= decoded
            else:
                wanted[name] = decoded
        else:
            wanted[name] = value
    return wanted


async def _blocks(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes; nothing for too long ends it."""
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), BODY_WAIT_S.value)
        except TimeoutError:
            raise RequestError(BODY_WAIT_S.message.format(value=BODY_WAIT_S.value)) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)


def _retry(desk: Desk, import_id: str, upload_id: str) -> Response:
    if not (import_id.isascii() and import_id.isdigit() and len(import_id) <= 18):
        raise NotFoundError(f"there is no import {import_id}")
    try:
        return answer({"import": app_shape.import_(desk.view(desk.retry(int(import_id), upload_id)))})
    except SourceError as error:
        raise RequestError(str(error), path="file") from error


def retry(call: Call) -> Response:
    """``POST /v1/imports/{id}/retry``: mended rows of its errors come in under the same import."""
    app_import.desk_of(call)
    raise RequestError(_SEND)


def create(call: Call) -> Response:
    """``POST /v1/uploads``."""
    desk = app_import.desk_of(call)
    wanted = call.part("upload") if call.body else {}
    name = wanted.get("name")
    upload_id = desk.new_upload(name if isinstance(name, str) else "")
    return answer({"upload": {"id": upload_id, "offset": 0}})


def one(call: Call) -> Response:
    """``GET /v1/uploads/{id}``: where to go on."""
    upload_id = call.path["upload_id"]
    return answer({"upload": {"id": upload_id, "offset": app_import.desk_of(call).size(upload_id)}})


def delete(call: Call) -> Response:
    """``DELETE /v1/uploads/{id}``."""
    app_import.desk_of(call).drop(call.path["upload_id"])
    return nothing()


def more(call: Call) -> Response:
    """``PUT /v1/uploads/{id}``: the file, or what of it is missing, from ``offset`` on."""
    # One with a body was taken by ``Receiving`` before it comes here.
    app_import.desk_of(call)
    raise RequestError("send more of the upload as the body")


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/imports/{import_id}/retry", retry),
    ("POST", "/v1/uploads", create),
    ("GET", "/v1/uploads/{upload_id}", one),
    ("PUT", "/v1/uploads/{upload_id}", more),
    ("DELETE", "/v1/uploads/{upload_id}", delete),
]
