"""Before an import starts: what is refused leaves nothing behind; what was begun can be ended."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstory.core.error import BackstoryError, ConflictError, NotFoundError, RequestError
from backstory.core.fact import StartImport
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_check import check
from backstory.engine.file.file_shape import is_csv
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.unpack import SourceError
from backstory.store.manifest import read_imports
from tests.live import Live


def options(*paths: Path, **changes: Any) -> BackfillOptions:
    given = {"kind": "events", "paths": [str(path) for path in paths], **changes}
    return msgspec.convert(given, BackfillOptions)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text("user,what,ordered_at\n1,purchased,2024-01-01T00:00:00Z\n")
    return path


def test_columns_that_are_there_pass(csv: Path) -> None:
    """As do those of JSON lines, where every line may have others."""
    check(options(csv, map={"user": "customer_id", "what": "name"}, time="ordered_at"))
    lines = csv.with_name("log.jsonl")
    lines.write_text('{"customer_id": "1", "name": "purchased"}\n')
    check(options(csv, lines, map={"elsewhere": "customer_id"}))


@pytest.mark.parametrize("changes", [{"map": {"orderd_at": "timestamp"}}, {"time": "orderd_at"}])
def test_a_misspelt_column_is_refused(csv: Path, changes: dict[str, Any]) -> None:
    """It would silently change what every row means."""
    with pytest.raises(RequestError, match="no file has a column 'orderd_at'; did you mean 'ordered_at'"):
        check(options(csv, **changes))


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00a,b\n", b"a,a\n1,2\n"])
def test_a_file_without_a_header_starts_nothing(tmp_path: Path, content: bytes) -> None:
    """No import is left that waits to be gone on with."""
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    live = Live(tmp_path / "workspace")
    try:
        with pytest.raises(SourceError):
            backfill.run(live.workspace, options(path), lambda progress: None)
        assert not read_imports(live.workspace.folder.state.db)
    finally:
        live.close()


def test_a_missing_file_and_contradictions_are_refused(csv: Path) -> None:
    """Before anything else is looked at."""
    with pytest.raises(BackstoryError, match="gone"):
        check(options(csv.with_name("gone.csv")))
    with pytest.raises(RequestError, match="at least one file"):
        check(options())
    with pytest.raises(RequestError, match="not both"):
        check(options(csv, time="ordered_at", as_of_us=1))
    with pytest.raises(RequestError, match="only_new is for people"):
        check(options(csv, rows="only_new"))


def test_csv_is_told_from_json_lines_by_the_name_or_the_first_character(tmp_path: Path) -> None:
    """Where the name says nothing, JSON lines begin with an object."""
    plain = tmp_path / "events"
    plain.write_text('\ufeff {"customer_id": "1"}\n')
    assert not is_csv(plain)
    plain.write_text("customer_id,name\n")
    assert is_csv(plain)
    assert is_csv(tmp_path / "not-there.TSV.gz")
    assert not is_csv(tmp_path / "not-there.ndjson")


def test_an_unfinished_import_can_be_ended(tmp_path: Path, csv: Path) -> None:
    """Once; and the same files may then be read from the start."""
    live = Live(tmp_path / "workspace")
    try:
        wanted = options(csv, map={"user": "customer_id", "what": "name"}, time="ordered_at")
        text = msgspec.json.encode(wanted)
        (receipt,) = live.send(StartImport(options=text, fingerprint=text.decode()))
        assert receipt.subject == 1
        backfill.cancel(live.workspace, 1)
        with pytest.raises(ConflictError, match="already canceled"):
            backfill.cancel(live.workspace, 1)
        with pytest.raises(NotFoundError, match="there is no import 2"):
            backfill.cancel(live.workspace, 2)
        summary = backfill.run(live.workspace, wanted, lambda progress: None)
        assert (summary.import_id, summary.created) == (2, 1)
    finally:
        live.close()
