"""The fast lane of event files against the strict one: both lanes together say what the strict one alone says."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.engine.backfill import backfill
from backstory.engine.backfill.event_fast import read_fast
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.clock import ManualClock
from backstory.engine.file.options import BackfillOptions, Summary
from backstory.engine.file.source import Place, Source
from backstory.engine.workspace import Workspace, open_workspace
from tests.hunt import examples
from tests.model.strategy import NOW_S, NOW_US

UUID = "01890a5d-ac96-774b-bcce-b302099a8057"
ULID = "01HZY3N5E6G7H8J9K0MNPQRSTV"


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the plain rows of a file look."""

    person: str
    times: str
    data: tuple[str, ...]
    with_id: bool
    blank: str
    keys_first: bool

    def line(self, values: dict[str, Any]) -> str:
        """A row as text; the order of keys is that of the form."""
        order = [self.person, "name", "timestamp", "event_id", "data"]
        if self.keys_first:
            order.reverse()
        comma, colon = f",{self.blank}", f":{self.blank}"
        pieces = [f'"{key}"{colon}{text(values[key], comma, colon)}' for key in order if key in values]
        return "{" + comma.join(pieces) + "}"


@dataclass(frozen=True)
class Raw:
    """JSON that stands in the file just so."""

    text: str


def text(value: Any, comma: str = ",", colon: str = ":") -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + comma.join(f"{text(key)}{colon}{text(item, comma, colon)}" for key, item in value.items()) + "}"
    return msgspec.json.encode(value).decode()


plain_people = st.sampled_from(("ann", "bob", "7", "00001", "x" * 100))
plain_emails = st.sampled_from(("ann@x.org", "Ann@X.org", "bob@x.org", "weird"))
plain_times = {
    "int": st.sampled_from((NOW_S, NOW_S - 5, 1, 4_100_000_000)),
    "decimal": st.sampled_from((NOW_S, Raw(f"{NOW_S}.25"), Raw(f"{NOW_S}.000001"), Raw("1717243199.999999"))),
    "iso": st.sampled_from(("2024-06-01T12:00:00Z", "2024-05-31T23:59:59.999999Z", "2000-02-29T00:00:00.5Z")),
}
plain_values = st.sampled_from(
    (0, 1, -7, 123456789012345, Raw("1.5"), Raw("-0.25"), Raw("123456.12345678"), Raw("0.0001"), True, False, None,
     "", "a", "é 日本", " x ", "a/b", "\x7f", "\u2028", "1.0", ".0", "null", "NaN", "2024-06-01", "it's")
)  # fmt: skip
odd_people = st.sampled_from(
    (None, "", " ", "ann@x.org", "cio_a3000000", "cio_zz", 7, 0, -1, 1.5, True, [], "x" * 150, "x" * 151, "é", "a b",
     Raw('"a\\u0041"'), Raw('"a\\u0000"'), Raw("12345678901234567"), Raw('"\\ud800"'), " ann ", "ANN", "Ann@X.org ")
)  # fmt: skip
odd_names = st.sampled_from((None, "", "  ", " bought ", "é", "x" * 100, "x" * 101, 3, Raw('"bou\\u0067ht"'), "a\tb"))
odd_times = st.sampled_from(
    (None, "", "abc", str(NOW_S), NOW_S * 1000, NOW_S * 10**6, 0, -5, True, Raw("1e9"), Raw("1717243200.0"), Raw("00"),
     Raw("1717243200.1234567"), Raw("4294967296.000001"), Raw("9999999999.999999"), 9999999999, 99999999999,
     "2024-06-01", "2024-06-01T24:00:00Z", "2024-06-01T23:59:60Z", "2024-02-30T00:00:00Z", "2024-06-01T12:00:00+02:00",
     "31.12.2023", "02/01/2024 7:05",
     "2024-06-01T12:00:00", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "2024-06-31T00:00:00Z", "2024-06-01 12:00Z")
)  # fmt: skip
odd_ids = st.sampled_from(
    (None, "", 5, 1.5, "x" * 150, "x" * 151, "a b", UUID, UUID.upper(), UUID.replace("-", ""), UUID.replace("-", "", 1),
     UUID.replace("-", "", 2).upper(), ULID, ULID.lower(), "8" + ULID[1:], "e1", "E1", Raw('"e\\u0031"'), "é", True)
)  # fmt: skip
odd_values = st.sampled_from(
    (Raw("1.10"), Raw("1.0"), Raw("-0"), Raw("-0.0"), Raw("1e5"), Raw("1E-7"), Raw("0.00001"), Raw("0.00010"),
     Raw("01"), Raw("+1"), Raw(".5"), Raw("1."), Raw("NaN"), Raw("Infinity"), Raw("1e400"), Raw("9007199254740993"),
     Raw("12345678901234567890123"), Raw("1234567.123456789"), Raw('"\\u00e9"'), Raw('"\\n"'), Raw('"\\ud800"'),
     Raw('"\\/"'), Raw('"a\tb"'), Raw('"\x01"'), Raw('"\\u0000"'), Raw("'a'"), Raw("nul"), Raw("True"), Raw(""), {}, [],
     {"b": 1, "a": 2}, [1, {"d": Raw("2.50")}], "x" * 70_000, "x" * 100_001, '"', "\\")
)  # fmt: skip
other_keys = st.sampled_from(
    ("id", "email", "customer_id", "type", "colour", "n", "é", "data.n", "data.x.y", "identifiers")
)
# Bytes that are no UTF-8, or that look like more than they are.
ODD_BYTES = (
    b"\x80", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xf0\x9f\x98\x80",
    b"\xc2\x85", b"\x00", b"\x7f", b"\x0b", b"\r\n", b"\n",
)  # fmt: skip
blanks = st.sampled_from((" ", "\r", "\t", ""))
scraps = st.sampled_from(("", ",", ":", '"', "{", "}", " ", "\\", "\n", "0", "1", ".", "-", "e", "null", '"n":1,'))


@st.composite
def forms(draw: st.DrawFn) -> Form:
    """How most lines of a file look, so that many of them are like the one before."""
    return Form(
        person=draw(st.sampled_from(("customer_id", "id", "email"))),
        times=draw(st.sampled_from(("int", "decimal", "iso"))),
        data=draw(st.sampled_from((("n",), ("b", "a"), ("a", "b", "B", "a-b", "c d"), ()))),
        with_id=draw(st.booleans()),
        blank=draw(st.sampled_from(("", " "))),
        keys_first=draw(st.booleans()),
    )


def plain_row(draw: st.DrawFn, form: Form, *, whole: bool = False) -> dict[str, Any]:
    """A row of the form; ``whole``: with every key."""
    present = st.just(True) if whole else st.sampled_from((True, True, True, False))
    row: dict[str, Any] = {
        form.person: draw(plain_emails if form.person == "email" else plain_people),
        "name": draw(st.sampled_from(("bought", "seen it", "Ab/c"))),
    }
    if draw(present):
        row["timestamp"] = draw(plain_times[form.times])
    if form.with_id and draw(present):
        row["event_id"] = draw(st.sampled_from(("e1", "e2", UUID, UUID.upper(), ULID, 12)))
    if draw(present):
        row["data"] = {key: draw(plain_values) for key in form.data if draw(present)}
    return row


@st.composite
def odd_lines(draw: st.DrawFn, form: Form) -> str:
    """A plain row with something about it that needs a closer look, or that is wrong."""
    row = plain_row(draw, form)
    data: dict[str, Any] = row.setdefault("data", {})
    match draw(st.sampled_from(("field", "field", "value", "value", "key", "swap", "blanks", "text", "text", "whole"))):
        case "field":
            name, values = draw(
                st.sampled_from(
                    ((form.person, odd_people), ("name", odd_names), ("timestamp", odd_times), ("event_id", odd_ids))
                )
            )
            row[name] = draw(values)
        case "value":
            data[draw(st.sampled_from((*form.data, "more")))] = draw(odd_values)
        case "key":
            row[draw(other_keys)] = draw(st.sampled_from(("ann", "page", "screen", "event", 1, None, {"id": "ann"})))
        case "swap":
            row["data"] = dict(reversed(data.items()))
        case "blanks":
            return draw(blanks) + form.line(row) + draw(blanks)
        case "text":
            return mangled(draw, form.line(row))
        case _:
            return draw(st.sampled_from(("", "  ", "\r", "{}", "[]", "null", "x", "{,}", "\ufeff{}")))
    return form.line(row)


def mangled(draw: st.DrawFn, line: str) -> str:
    """A line with one or two small mistakes of the kind that writers of JSON make."""
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(scraps) + line[at + draw(st.integers(0, 2)) :]
    return line


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Rows of one form, among them rows of all kinds."""
    form = draw(forms())
    kinds = draw(st.lists(st.sampled_from(("plain", "plain", "odd")), min_size=1, max_size=14))
    lines = [form.line(plain_row(draw, form)) if kind == "plain" else draw(odd_lines(form)) for kind in kinds]
    text = "\n".join(lines) + draw(st.sampled_from(("\n", "")))
    body = draw(st.sampled_from((b"", b"", b"", b"\xef\xbb\xbf"))) + text.encode()
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.sampled_from(ODD_BYTES)) + body[at:]
    return body


# -- both ways --------------------------------------------------------------------------------------------------------


@contextmanager
def opened() -> Iterator[tuple[Workspace, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="backstory-lanes-"))
    workspace = open_workspace(folder / "workspace", clock=ManualClock(NOW_US))
    try:
        yield workspace, folder
    finally:
        workspace.close()
        shutil.rmtree(folder)


def imported(body: bytes, identifier: Any, chunking: Chunking, notation: dict[str, Any]) -> dict[str, Any]:
    """Everything an import left behind, with people by their identifiers."""
    with opened() as (workspace, folder):
        path = folder / "events.jsonl"
        path.write_bytes(body)
        options = BackfillOptions(kind="events", paths=(str(path),), identifier=identifier, **notation)
        summary = backfill.run(workspace, options, lambda progress: None, chunking=chunking)
        rows = workspace.folder.state.rows("SELECT person, id, email_key, import_id FROM person")
        people = {row[0]: repr(row[1:3]) for row in rows}
        known = workspace.segments.known
        return {
            "counts": counts(summary),
            "events": sorted((people[row[0]], *row[1:]) for row in events(workspace)),
            "keys": sorted(
                (run.run.duplicate, key, people[person])
                for run in workspace.folder.keys.runs
                for key, person in zip(run.keys.tolist(), run.people.tolist(), strict=True)
            ),
            "people": sorted((people[row[0]], row[3], known.get_us(row[0])) for row in rows),
            "errors": report(summary.error_file),
            "warnings": report(summary.warning_file),
        }


def counts(summary: Summary) -> dict[str, Any]:
    found = msgspec.to_builtins(summary)
    return {name: value for name, value in found.items() if name not in ("seconds", "error_file", "warning_file")}


def events(workspace: Workspace) -> list[Any]:
    history = workspace.folder.history
    files = history.files(history.parts, "event")
    if not files:
        return []
    columns = "person, kind, name, time_us, data, coalesce(event_id, ''), coalesce(key, 0), accept_us, import_id"
    return history.rows(f"SELECT {columns} FROM read_parquet($1) WHERE NOT duplicate", files)


def report(path: str | None) -> list[Any]:
    if path is None:
        return []
    lines = [msgspec.json.decode(line) for line in Path(path).read_bytes().splitlines()]
    return sorted(lines, key=lambda row: row["line"])


STRICT = Chunking(fast_bytes_min=1 << 60)


@settings(max_examples=examples(25))
@given(
    files(),
    st.sampled_from((None, None, "id", "email")),
    st.sampled_from((400, 1 << 20)),
    st.sampled_from(({}, {}, {"dates": "dmy", "zone": "UTC"}, {"dates": "mdy", "decimal": "comma"})),
)
def test_both_lanes_together_say_what_the_strict_one_says(
    body: bytes, identifier: Any, chunk_bytes: int, notation: dict[str, Any]
) -> None:
    """The same people, events, data, keys, counts, errors and warnings."""
    fast = imported(body, identifier, Chunking(fast_bytes_min=0, bytes_max=chunk_bytes), notation)
    assert fast == imported(body, identifier, STRICT, notation)


def test_the_fast_lane_is_taken() -> None:
    """By plain rows; only the odd one among them goes to the strict lane."""
    form = Form(person="customer_id", times="int", data=("b", "a"), with_id=True, blank="", keys_first=False)
    row = {"customer_id": "ann", "name": "bought", "timestamp": NOW_S, "event_id": "e1", "data": {"b": "x", "a": 1}}
    odd = {**row, "data": {"b": Raw('"\\u0041"')}}
    body = "\n".join(form.line(one) for one in (row, {**row, "event_id": "e2"}, odd, row)).encode()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "events.jsonl"
        path.write_bytes(body)
        source = Source(path, Place())
        (chunk,) = source.chunks()
        source.close()
    found = read_fast(chunk, None)
    assert [line for line, _ in found.others()] == [3]
    rows = found.rows(NOW_US, all_timed=False)
    assert rows.event_ids.to_pylist() == ["e1", "e2", "e1"]
    assert set(rows.data.to_pylist()) == {'{"a":1,"b":"x"}'}
    assert set(rows.times_us.tolist()) == {NOW_US}
