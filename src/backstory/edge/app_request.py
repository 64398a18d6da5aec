"""One request to the App API as a handler sees it: path, query and body, read and checked.

Handlers are plain functions from a ``Call`` to a response and run in a thread pool. Everything malformed raises
``RequestError`` with a message that names what was received and what is expected.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from backstory.core.condition import Json
from backstory.core.error import ConflictError, NotFoundError, RequestError
from backstory.core.fact import Fact, IdentifierKind, Receipt
from backstory.core.limit import JSON_DEPTH
from backstory.core.time import TimeUnreadable, from_asked
from backstory.edge.app_answer import StillPending, answer
from backstory.engine.answer.view import ImportView
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.spool import Spool
from backstory.engine.port import Reader, Workspace

_TRUE = frozenset({"true", "1", "yes", "t"})
_FALSE = frozenset({"false", "0", "no", "f", ""})
# The largest number SQLite and the published shapes can hold; a longer one names nothing.
_NUMBER_MAX = 2**63 - 1


class Desk(Protocol):
    """What takes uploads and imports: see ``edge.import_desk.Desk``."""

    def new_upload(self, name: str = "") -> str: ...

    def upload(self, upload_id: str) -> Spool: ...

    def hold(self, upload_id: str) -> None: ...

    def release(self, upload_id: str) -> None: ...

    def size(self, upload_id: str) -> int: ...

    def drop(self, upload_id: str) -> None: ...

    def drop_if_there(self, upload_id: str) -> None: ...

    def rename(self, upload_id: str, name: str) -> None: ...

    def create(self, options: BackfillOptions, *, url: str | None = None, upload_id: str | None = None) -> int: ...

    def take_up(self, import_id: int) -> bool: ...

    def retry(self, import_id: int, upload_id: str) -> int: ...

    def preview(
        self, options: BackfillOptions, *, url: str | None = None, upload_id: str | None = None
    ) -> dict[str, Any]: ...

    def view(self, import_id: int) -> ImportView: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request and the workspace it is for."""

    workspace: Workspace
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    wants_receipt: bool
    # Where there is somebody who takes imports.
    desk: Desk | None = None

    @property
    def reader(self) -> Reader:
        return self.workspace.reader

    def apply(self, fact: Fact, *, refused: type[RequestError] = ConflictError, path: str = "") -> Receipt:
        """Write a fact and wait until it is applied; a dropped one raises ``refused`` with the reason.

        One that conflicts with what there is raises ``ConflictError``.
        """
        receipt = self.workspace.apply([fact])[0]
        if receipt.result == "pending":
            raise StillPending
        if receipt.result in ("dropped", "conflict"):
            error = ConflictError if receipt.result == "conflict" else refused
            raise error(receipt.reason or "this cannot be done now", path=path)
        return receipt

    def written(self, body: dict[str, object], receipt: Receipt | None) -> Response:
        """The answer to a write; ``Backstory-Wait`` adds the receipt."""
        if self.wants_receipt and receipt is not None:
            body = {**body, "receipt": receipt_shape(receipt)}
        return answer(body)

    def number(self, name: str, noun: str) -> int:
        """A number in the path; what is no number names nothing, hence 404."""
        text = self.path[name]
        if not (text.isascii() and text.isdigit()) or int(text[:20]) > _NUMBER_MAX:
            raise not_found(noun, text)
        return int(text)

    def text(self, name: str) -> str | None:
        """A query parameter; None when absent or empty."""
        return self.query.get(name) or None

    def whole(self, name: str) -> int | None:
        """A query parameter that is a whole number."""
        text = self.text(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise RequestError(f"{name} must be a whole number, not {text!r}")
        return int(text)

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false (the default)."""
        text = self.query.get(name, "").lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise RequestError(f"{name} must be true or false, not {text!r}")

    def limit(self, *, default: int, greatest: int) -> int:
        """The size of a page; more than the greatest is cut to it, nonsense is refused."""
        wanted = self.whole("limit")
        if wanted is None:
            return default
        if wanted < 1:
            raise RequestError(f"limit must be a whole number from 1 to {greatest}, not {wanted}")
        return min(wanted, greatest)

    def moment_us(self, name: str) -> int | None:
        """A query parameter that is a time: unix seconds (fractions allowed) or ISO 8601 with a zone."""
        text = self.text(name)
        if text is None:
            return None
        try:
            # A plus sign of a zone arrives as a blank when it was not percent-encoded.
            return from_asked(text.replace(" ", "+") if "T" in text else text)
        except TimeUnreadable as error:
            raise RequestError(f"{name}: {error}") from None

    def id_type(self) -> IdentifierKind:
        """Which identifier the customer is named by: ``id`` unless ``id_type`` says otherwise."""
        text = self.text("id_type")
        match text:
            case None | "id":
                return "id"
            case "email" | "cio_id" | "phone":
                return text
            case _:
                raise RequestError(f"id_type must be one of id, email, cio_id, phone, not {text!r}")

    def customer(self) -> tuple[IdentifierKind, str]:
        """The person in the path."""
        return person_key(self.id_type(), self.path["customer_id"])

    def document(self) -> dict[str, Json]:
        """The body as a JSON object."""
        try:
            value = cast("Json", msgspec.json.decode(self.body))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"the body is not valid JSON: {error}") from None
        except RecursionError:
            raise RequestError(JSON_DEPTH.message.format(value=JSON_DEPTH.value)) from None
        JSON_DEPTH.check(_depth(value))
        if not isinstance(value, dict):
            raise RequestError("the body must be a JSON object", path="$")
        return value

    def part(self, name: str) -> dict[str, Json]:
        """The object the body must hold under ``name``."""
        value = self.document().get(name)
        if not isinstance(value, dict):
            raise RequestError(f'the body must be a JSON object like {{"{name}": {{…}}}}', path=f"$.{name}")
        return value


# Anything that can answer a request: a whole response, or a stream of lines.
Answer = ASGIApp
Handler = Callable[[Call], Answer]


def person_key(kind: IdentifierKind, value: str) -> tuple[IdentifierKind, str]:
    """How the reader is asked for a person; a ``cio_`` before a cio_id is taken off."""
    return (kind, value.removeprefix("cio_")) if kind == "cio_id" else (kind, value)


def not_found(noun: str, name: str) -> NotFoundError:
    """The error for something that does not exist."""
    return NotFoundError(f"there is no {noun} {name!r}")


def receipt_shape(receipt: Receipt) -> dict[str, object]:
    """The receipt as ``Backstory-Wait`` shows it (design section 5)."""
    return {
        "result": receipt.result,
        "position": receipt.position,
        "skipped": receipt.skipped,
        "reason": receipt.reason,
    }


def _depth(value: Json) -> int:
    """How deep arrays and objects are nested, without recursion: the depth is not yet known to be small."""
    level: list[Json] = [value]
    depth = 0
    while holders := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        if depth > JSON_DEPTH.value:
            break
        level = [item for holder in holders for item in (holder.values() if isinstance(holder, dict) else holder)]
    return depth
