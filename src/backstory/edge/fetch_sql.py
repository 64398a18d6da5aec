"""The rows of a query as JSON lines in a spool: any database that SQLAlchemy knows, read with a cursor of the server.

With a key column the rows come in its order, and a query that broke off goes on behind the last key that came. Without
one it starts again; what an import has of it by then are duplicates.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from backstory.core.error import BackstoryError
from backstory.engine.file.plain_value import plain
from backstory.engine.file.spool import Spool
from backstory.engine.file.unpack import SourceError

if TYPE_CHECKING:
    from sqlalchemy import Engine

ROWS_AT_ONCE = 2000
LINE_BYTES_MAX = 8 << 20
_encode = msgspec.json.Encoder().encode
# Is told how many bytes came.
OnBytes = Callable[[int, int], None]


class SqlMissing(BackstoryError):
    """The extra that reads databases is not installed: pip install 'backstory[sql]'"""

    def __init__(self) -> None:
        super().__init__(self.__doc__ or "")


def origin(url: str) -> str:
    """A database's address without its password. Raises ``SourceError`` for what is no such address."""
    return _engine(url).url.render_as_string(hide_password=True)


def fetch(
    url: str,
    query: str,
    spool: Spool,
    *,
    key: str | None,
    keep_nulls: bool,
    on_bytes: OnBytes = lambda came, of: None,
) -> None:
    """Bring the rows of a query into an open spool. Raises ``SourceError``."""
    engine = _engine(url)
    from sqlalchemy import exc

    last = _go_on(spool, key) if key else None
    if last is None:
        spool.start_again()
    try:
        with engine.connect() as connection:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=ROWS_AT_ONCE)
            rows = streamed.execute(*_statement(engine, query, key, last))
            names = _names(list(rows.keys()), key)
            for some in rows.partitions(ROWS_AT_ONCE):
                spool.write(b"".join(_line(names, row, key, keep_nulls) for row in some))
                on_bytes(spool.size, 0)
    except exc.SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip()
        raise SourceError(
            f"the query failed: {said}; nothing was imported"
            + ("; the same command goes on from there" if key and spool.size else "")
        ) from None
    finally:
        engine.dispose()


def _engine(url: str) -> "Engine":
    try:
        from sqlalchemy import create_engine, exc
    except ImportError:
        raise SqlMissing from None
    try:
        engine = create_engine(url)
    except exc.ArgumentError as error:
        raise SourceError(f"--sql takes an address such as postgresql://user@host/database: {error}") from None
    except ImportError as error:
        raise SourceError(f"the driver of this database is not installed: {error}") from None
    file = engine.url.database
    # SQLite would make it.
    if engine.dialect.name == "sqlite" and file and not file.startswith((":", "file:")) and not Path(file).exists():
        raise SourceError(f"there is no database {file}: the address of a file is sqlite:///its/path")
    return engine


def _statement(engine: "Engine", query: str, key: str | None, last: Any) -> tuple[Any, dict[str, Any]]:
    from sqlalchemy import text

    # A colon in the query is a colon: nothing is filled in there.
    bare = query.strip().rstrip(";").replace(":", r"\:")
    if key is None:
        return text(bare), {}
    column = engine.dialect.identifier_preparer.quote(key)
    behind = "" if last is None else f" WHERE q.{column} >= :last"
    values = {} if last is None else {"last": last}
    return text(f"SELECT * FROM (\n{bare}\n) AS q{behind} ORDER BY q.{column}"), values


def _names(names: list[str], key: str | None) -> list[str]:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"the query has two columns named {twice!r}: give one of them another name with AS")
    if key is not None and key not in names:
        raise SourceError(f"the query has no column {key!r} for --key; there are {', '.join(names)}")
    return names


def _line(names: list[str], row: Any, key: str | None, keep_nulls: bool) -> bytes:
    cells = {name: plain(cell) for name, cell in zip(names, row, strict=True) if cell is not None or keep_nulls}
    if key is not None and cells.get(key) is None:
        raise SourceError(f"the key column {key!r} is null in some row: choose one that never is")
    return _encode(cells) + b"\n"


def _go_on(spool: Spool, key: str) -> Any:
    """The key to go on from; its rows, which may not all have come, are cut off. None: from the beginning."""
    text = spool.tail(2 * LINE_BYTES_MAX)
    whole = text[: text.rfind(b"\n") + 1]
    lines = whole.splitlines(keepends=True)
    # The first line of what was looked at may have lost its beginning.
    known = lines if len(text) == spool.size else lines[1:]
    if not known:
        return None
    last = msgspec.json.decode(known[-1])[key]
    size = spool.size - (len(text) - len(whole))
    while known and msgspec.json.decode(known[-1])[key] == last:
        size -= len(known.pop())
    if not known and len(text) != spool.size:
        return None
    spool.cut(size)
    return last
