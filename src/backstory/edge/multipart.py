"""Bodies of several parts, read as they come: small fields are kept, a file is handed on block by block."""

import re
from collections.abc import Callable
from email.message import Message

from backstory.core.error import RequestError

HEAD_BYTES = 16 << 10
FIELD_BYTES = 256 << 10
FIELDS_MAX = 100
_NAME = re.compile(r"[^A-Za-z0-9._-]")


def boundary_of(content_type: str) -> bytes:
    """The boundary that a content type names; raises ``RequestError``."""
    found = _parameter("Content-Type", content_type, "boundary")
    if not found or len(found) > 200:
        raise RequestError("multipart needs a boundary in its Content-Type")
    return found.encode()


def safe_name(name: str) -> str:
    """What a file is called, as a name for one of ours."""
    return _NAME.sub("", name.replace("\\", "/").rpartition("/")[2])[-60:].lstrip(".")


class Multipart:
    """``fields`` are texts by name; ``on_file`` takes what comes of the one file, which is called ``file_name``."""

    def __init__(self, boundary: bytes, on_file: Callable[[bytes], None]) -> None:
        self._mark = b"\r\n--" + boundary
        self._on_file = on_file
        # The first mark has no line before it.
        self._held: bytes = b"\r\n"
        self._part: str | None = None
        self._is_file = False
        self._field: bytes = b""
        self._state = "before"
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None

    @property
    def whole(self) -> bool:
        """Did the last mark come?"""
        return self._state == "after"

    def feed(self, block: bytes) -> None:
        """Take what came; raises ``RequestError`` for what is no such body."""
        self._held += block
        while self._step():
            pass

    def _step(self) -> bool:
        """Do something with what is held; False when more has to come first."""
        match self._state:
            case "before" | "inside":
                return self._content()
            case "mark":
                return self._behind_mark()
            case "head":
                return self._head()
            case _:
                self._held = b""
                return False

    def _content(self) -> bool:
        at = self._held.find(self._mark)
        # A mark may have come in part.
        sure = at if at >= 0 else max(len(self._held) - len(self._mark), 0)
        if sure:
            self._take(self._held[:sure])
            self._held = self._held[sure:]
        if at < 0:
            return False
        self._held = self._held[len(self._mark) :]
        self._end()
        self._state = "mark"
        return True

    def _behind_mark(self) -> bool:
        if len(self._held) < 2:
            return False
        if self._held.startswith(b"--"):
            self._state = "after"
        elif self._held.startswith(b"\r\n"):
            self._state, self._held = "head", self._held[2:]
        else:
            raise RequestError("the multipart body is broken behind a boundary")
        return True

    def _head(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            if len(self._held) > HEAD_BYTES:
                raise RequestError("a part of the multipart body has too long a head")
            return False
        head, self._held = self._held[:end].decode("utf-8", "replace"), self._held[end + 4 :]
        lines = [line.partition(":") for line in head.split("\r\n")]
        said = next((value for name, _, value in lines if name.strip().lower() == "content-disposition"), "")
        self._part = _parameter("Content-Disposition", said.strip(), "name")
        name = _parameter("Content-Disposition", said.strip(), "filename")
        self._is_file = name is not None or self._part == "file"
        if self._is_file and self.file_name is not None:
            raise RequestError("one file in a request: make an import of each")
        if self._is_file:
            self.file_name = safe_name(name or "")
        self._state = "inside"
        return True

    def _take(self, content: bytes) -> None:
        if self._state == "before":
            return
        if self._is_file:
            self._on_file(content)
            return
        self._field += content
        if len(self._field) > FIELD_BYTES:
            raise RequestError(f"the field {self._part!r} is longer than {FIELD_BYTES} bytes")

    def _end(self) -> None:
        if self._state == "inside" and not self._is_file and self._part is not None:
            self.fields[self._part] = self._field.decode("utf-8", "replace")
            if len(self.fields) > FIELDS_MAX:
                raise RequestError(f"the multipart body has more than {FIELDS_MAX} fields")
        self._field = b""


def _parameter(header: str, value: str, name: str) -> str | None:
    message = Message()
    message[header] = value
    found = message.get_param(name, header=header)
    return found if isinstance(found, str) else None
