"""The compiled kernels of imports against the plain functions that say the same."""

import json

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.event import canonical_of, content_key, id_key
from backstory.engine.backfill.event_chunk import count_known
from backstory.engine.backfill.event_fast import read_fast
from backstory.engine.backfill.field_column import BYTES_KEPT, VALUES_KEPT, FieldColumns
from backstory.engine.backfill.identifier_table import UNKNOWN, IdentifierTable
from backstory.engine.backfill.key_count import count_many
from backstory.engine.backfill.known_key import KEYS_PER_WORD, WORDS_MIN, KeySieve, KnownKeys, marks_of
from backstory.engine.backfill.radix import Radix
from backstory.engine.file.event_row import RowError, RowShape, read_event
from backstory.engine.file.event_scan import scan
from backstory.engine.file.row_value import decode_line
from backstory.engine.file.source import Chunk, Place
from backstory.engine.file.text_column import gather
from backstory.store.keyrun import Keys, OpenRun, PeopleArray, order_by_head, order_by_key
from backstory.store.manifest import KeyRun
from tests.hunt import examples

digits = st.text("0123456789", min_size=1, max_size=17)
NUMBERS = st.one_of(
    st.builds("{}{}".format, st.sampled_from(("", "-")), digits),
    st.builds("{}{}.{}".format, st.sampled_from(("", "-")), digits, digits),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**17), 10**17).map(str),
    st.builds("{}.{}".format, st.integers(0, 10**6), st.integers(0, 10**9)),
    st.sampled_from(("1e5", "-0", "-0.0", "0.0", "1.10", "0.0001", "0.00001", "00", "1.", ".5", "+1", "1E-7", "--1")),
)
TIMES = st.one_of(
    NUMBERS,
    st.datetimes().map(lambda moment: f'"{moment.isoformat()}Z"'),
    st.builds(
        '"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z"'.format,
        st.sampled_from((0, 1, 1900, 1999, 2000, 2024, 2100, 9999)), st.integers(0, 13), st.integers(0, 32),
        st.integers(0, 25), st.integers(0, 61), st.integers(0, 61),
        st.sampled_from(("", ".5", ".123456", ".1234567", ".", ",5")),
    ),
    # On both sides of the microseconds that have sixteen digits.
    st.sampled_from(
        (
            '"2001-09-09T01:46:39.999999Z"', '"2001-09-09T01:46:40Z"',
            '"2286-11-20T17:46:39.999999Z"', '"2286-11-20T17:46:40Z"',
        )
    ),
)  # fmt: skip


def chunk_of(body: bytes) -> Chunk:
    lines = body.count(b"\n") + (0 if body.endswith(b"\n") else 1)
    return Chunk(body, 1, Place(len(body), lines, 0))


def compare(line: bytes) -> bool:
    """Whether the scanner takes a line; what it takes it reads as the strict lane does."""
    # A line like it before, so that it is read by its likeness as well.
    for body, last in ((line, 0), (line + b"\n" + line, 1)):
        found = read_fast(chunk_of(body), None)
        if len(found) <= last:
            assert len(found) == 0
            return False
        row = read_event(decode_line(line), 1, RowShape())
        rows = found.rows(7, all_timed=False)
        assert not row.warning
        assert rows.data[last].as_py().encode() == row.data
        assert (row.time_us if row.time_us is not None else 7) == rows.times_us[last]
        assert rows.timed[last] == (row.time_us is not None)
        assert (rows.names[last].as_py(), rows.kinds[last].as_py()) == (row.name, row.kind)
        assert rows.event_ids[last].as_py() == row.event_id
        if row.event_id is not None:
            assert rows.keys[last] == id_key(row.event_id)
        elif row.time_us is not None:
            assert rows.keys[last] == content_key(row.kind, row.name, row.time_us, row.data)
    return True


@settings(max_examples=examples(200))
@given(NUMBERS)
def test_numbers_get_their_canonical_form(text: str) -> None:
    """Whatever is taken is what decoding and encoding it makes of it."""
    compare(b'{"id":"a","name":"n","timestamp":5,"data":{"x":%s}}' % text.encode())


@settings(max_examples=examples(200))
@given(TIMES)
def test_times_are_read_to_the_microsecond(text: str) -> None:
    """Whatever is taken is the time the strict lane reads."""
    compare(b'{"id":"a","name":"n","timestamp":%s}' % text.encode())


@settings(max_examples=examples(120))
@given(
    st.one_of(
        st.text(min_size=1, max_size=160),
        st.text("0123456789abcdefABCDEF-", min_size=30, max_size=38),
        st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZilou", min_size=25, max_size=27),
        st.uuids().map(lambda one: str(one).upper()),
        st.uuids().map(lambda one: one.hex.upper()),
    )
)
def test_ids_have_the_keys_of_live_events(event_id: str) -> None:
    """ULIDs and UUIDs in any case, everything else as it is."""
    compare(b'{"id":"a","name":"n","event_id":%s}' % json.dumps(event_id, ensure_ascii=False).encode())


@settings(max_examples=examples(120))
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.one_of(st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(0, 1000), st.text(max_size=20)),
        max_size=8,
    ),
    st.sampled_from(((",", ":"), (", ", ": "), (" ,\t", " :  "))),
    st.booleans(),
)
def test_data_gets_its_canonical_form(data: dict[str, object], marks: tuple[str, str], flat: bool) -> None:
    """Keys sorted, no blanks, as an object of its own or beside the fields."""
    row = {"customer_id": "a", "name": "n", **({} if flat else {"data": data}), "timestamp": 5}
    if flat:
        row = {**data, **row}
    line = json.dumps(row, ensure_ascii=False, separators=marks).encode()
    try:
        read_event(decode_line(line), 1, RowShape())
    except RowError:
        assert len(read_fast(chunk_of(line), None)) == 0
        return
    taken = compare(line)
    plain = all(key.isascii() and key.isalpha() and key not in ("id", "email", "type") for key in data)
    simple = all(not isinstance(value, str | float) for value in data.values())
    assert taken or not (plain and simple)


@settings(max_examples=examples(100))
@given(
    st.lists(st.tuples(st.text("aB1é@AZ[`z{", min_size=1, max_size=30), st.integers(0, 2**32 - 1)), max_size=60),
    st.booleans(),
)
def test_a_table_of_people_is_a_dictionary(pairs: list[tuple[str, int]], lower: bool) -> None:
    """It finds what was put last, and nothing else, however often it grew."""
    table = IdentifierTable(lower=lower)
    plain: dict[bytes, int] = {}
    for text, number in pairs:
        table.put_texts([text.encode()], [number])
        plain[normal(text, lower)] = number
    asked = [text.encode() for text, _ in pairs] + [b"a", b"B", b"1" * 31, b"\xc3\xa9\x00", b""]
    length = np.array([len(text) for text in asked], np.int32)
    at = (np.cumsum(length) - length).astype(np.int32)
    found = table.find(b"".join(asked), at, length).tolist()
    assert found == [plain.get(normal(text.decode(), lower), UNKNOWN) for text in asked]


def normal(text: str, lower: bool) -> bytes:
    return text.encode().lower() if lower else text.encode()


def test_a_table_grows_and_keeps_everybody() -> None:
    """Thousands at once, more than it began with room for; whoever is kept stays."""
    table = IdentifierTable(lower=False)
    texts = [b"person-%d" % number for number in range(5000)]
    table.put_texts(texts[:3000], range(3000))
    table.put_texts(texts, range(5000))
    length = np.array([len(text) for text in texts], np.int32)
    at = (np.cumsum(length) - length).astype(np.int32)
    assert table.find(b"".join(texts), at, length).tolist() == list(range(5000))
    kept = table.put(b"".join(texts), at, length, np.full(5000, 7), keep=True)
    assert kept.tolist() == list(range(5000))


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_gathering_takes_texts_in_any_order(texts: list[str | None], random: object) -> None:
    """None is null; a text may be taken more than once."""
    encoded = [None if text is None else text.encode() for text in texts]
    length = np.array([-1 if text is None else len(text) for text in encoded], np.int32)
    at = (np.cumsum(np.maximum(length, 0)) - np.maximum(length, 0)).astype(np.int32)
    source = np.frombuffer(b"".join(text or b"" for text in encoded) + b"", np.uint8)
    order = np.array([random.randrange(len(texts)) for _ in range(40)])  # type: ignore[attr-defined]
    assert gather(source, at, length, order).to_pylist() == [texts[place] for place in order]


texts = st.text(st.sampled_from('ab"\\,:{}[]é\n'), max_size=6)
nested = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(0, 2), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


objects = st.lists(st.dictionaries(texts, nested, max_size=5), min_size=1, max_size=8)


@settings(max_examples=examples(120))
@given(st.lists(objects, min_size=1, max_size=3), texts, st.integers(0, 2))
def test_values_at_a_key_are_found(chunks: list[list[dict[str, object]]], key: str, skipped: int) -> None:
    """Each row's value, or none, whatever stands around it; each distinct value is told once, over all chunks."""
    columns = FieldColumns()
    for some in chunks:
        data = pa.array([canonical_of(one).decode() for one in some], pa.string()).slice(skipped)
        numbers, values = columns.values_at(data, key)
        assert len(values.texts) == len(set(values.texts))
        for number, one in zip(numbers.tolist(), some[skipped:], strict=True):
            assert (number >= 0) == (key in one)
            if key in one:
                assert values.texts[number] == canonical_of(one[key]).decode()


def test_many_values_at_a_key_are_found() -> None:
    """More than there is room for at first, and more than are kept from one chunk to the next."""
    columns = FieldColumns()
    for first in (0, VALUES_KEPT // 2, VALUES_KEPT, 0):
        wanted = [f'"{"x" * (number % 50)}{number}"' for number in range(first, first + VALUES_KEPT)]
        data = pa.array([f'{{"a":1,"key":{value}}}' for value in wanted], pa.string())
        numbers, values = columns.values_at(data, "key")
        assert [values.texts[number] for number in numbers.tolist()] == wanted


def test_long_values_at_a_key_are_forgotten_by_their_bytes() -> None:
    """Few values of many bytes each do not add up chunk after chunk."""
    columns, long = FieldColumns(), "x" * 90_000
    held: list[int] = []
    for chunk in range(12):
        wanted = [f'"{chunk}-{number}-{long}"' for number in range(40)]
        numbers, values = columns.values_at(pa.array([f'{{"k":{text}}}' for text in wanted]), "k")
        assert [values.texts[number] for number in numbers.tolist()] == wanted
        held.append(sum(map(len, values.texts)))
    assert max(held) <= BYTES_KEPT + held[0]
    assert len(columns.values_at(pa.array(["{}"]), "k")[1].texts) < 12 * 40



pairs = st.lists(st.tuples(st.integers(-1, 1).map(lambda key: key << 60), st.integers(0, 3)), max_size=60)


@given(pairs, pairs)
def test_keys_are_counted_as_one_by_one(held: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    """By the kernel, and by the searches for few keys."""
    held, asked = sorted(held), sorted(asked)
    marks = KeyRun(run_id=1, path="", rows=len(held), checksum="", import_id=1, duplicate=False)
    run = OpenRun(marks, *columns(held))
    keys, people = columns(asked)
    expected = [held.count(pair) for pair in asked]
    assert count_many(run, keys, people).tolist() == expected
    assert run.count_many(keys, people).tolist() == expected
    assert [run.count(key, person) for key, person in asked] == expected


spread = st.lists(st.tuples(st.integers(0, 200).map(lambda n: (n * 0x9E3779B97F4A7C15) % 2**63), st.integers(0, 2)))


@given(
    st.lists(st.tuples(spread, st.integers(1, 2), st.booleans()), max_size=5),
    st.lists(spread, max_size=3),
    st.lists(st.booleans(), min_size=7, max_size=7),
)
def test_keys_are_counted_behind_a_sieve_as_without_it(
    held: list[tuple[list[tuple[int, int]], int, bool]], asked: list[list[tuple[int, int]]], flags: list[bool]
) -> None:
    """Whatever runs there are, of whichever import, though more come in between, and in whichever order they ask.

    Where it is enough to know whether a key counts, that is what is told.
    """
    runs: list[OpenRun] = []
    known = KnownKeys()
    for number, (some, import_id, duplicate) in enumerate(held):
        marks = KeyRun(
            run_id=number, path=str(number), rows=len(some), checksum="", import_id=import_id, duplicate=duplicate
        )
        runs.append(OpenRun(marks, *columns(sorted(some))))
        # Those of the runs in their order, as a file asks that is read again.
        for wanted in [*asked, *(some for some, _, _ in held)]:
            keys, people = columns(sorted(wanted))
            once = np.resize(np.array(flags), len(keys))
            kept, mine = known.count(runs, keys, people, 1, once)
            all_kept, all_mine = count_known(runs, keys, people, 1, once)
            assert kept[~once].tolist() == all_kept[~once].tolist()
            assert mine[~once].tolist() == all_mine[~once].tolist()
            assert (kept > 0).tolist() == (all_kept > 0).tolist()


def test_a_sieve_lets_few_through() -> None:
    """No key that is there is left out, and of those that are not hardly one in a hundred is looked for."""
    numbers = np.random.default_rng(1)
    keys = np.sort(numbers.integers(-(2**63), 2**63, 2 * KEYS_PER_WORD * WORDS_MIN))
    sieve = KeySieve(len(keys))
    for some in (keys[: len(keys) // 3], keys[len(keys) // 3 :]):
        assert sieve.has_room(len(some))
        sieve.put(some)
        assert len(sieve.near(some, marks_of(some))) == len(some)
    assert not sieve.has_room(1)
    others = numbers.integers(-(2**63), 2**63, 10_000)
    assert len(sieve.near(others, marks_of(others))) < 100


def test_more_keys_come_than_there_was_room_for() -> None:
    """Those of before are found still, and each once."""
    keys = np.sort(np.random.default_rng(1).integers(-(2**63), 2**63, 2 * KEYS_PER_WORD * WORDS_MIN))
    runs = [
        OpenRun(
            KeyRun(run_id=at, path=str(at), rows=len(some), checksum="", import_id=1, duplicate=False),
            some,
            np.zeros(len(some), np.uint32),
        )
        for at, some in enumerate((keys[::3], keys[1::3], keys[2::3]))
    ]
    known = KnownKeys()
    nobody = np.zeros(len(keys), np.uint32)
    for count in (1, 2, 3):
        kept, mine = known.count(runs[:count], keys, nobody, 1, nobody > 0)
        expected = (np.arange(len(keys)) % 3 < count).astype(int).tolist()
        assert kept.tolist() == mine.tolist() == expected


@given(pairs)
def test_keys_are_put_in_order_with_their_people(some: list[tuple[int, int]]) -> None:
    """By key, then person."""
    order = order_by_key(*columns(some)).tolist()
    assert [some[place] for place in order] == sorted(some)
    assert sorted(order) == list(range(len(some)))


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**20) | st.integers(-3, 3)))
def test_numbers_are_put_in_order_by_their_digits(some: list[int]) -> None:
    """As by comparing them; again and again, in memory that is used again."""
    radix = Radix()
    for numbers in (np.array(some, np.int64), np.array(some[::-1], np.int64) >> 7, np.arange(len(some))):
        for found, expected in zip(radix.order_by_head(numbers), order_by_head(numbers), strict=True):
            assert found.tolist() == expected.tolist()


@given(st.integers(1, 5000), st.integers(0, 63))
def test_many_numbers_are_put_in_order_by_their_digits(count: int, shift: int) -> None:
    """Of any width."""
    numbers = np.random.default_rng(count).integers(-(2**63), 2**63, count) >> shift
    for found, expected in zip(Radix().order_by_head(numbers), order_by_head(numbers), strict=True):
        assert found.tolist() == expected.tolist()


def columns(some: list[tuple[int, int]]) -> tuple[Keys, PeopleArray]:
    return np.array([key for key, _ in some], np.int64), np.array([person for _, person in some], np.uint32)


def test_names_are_numbered_over_a_chunk() -> None:
    """As many as there is room for; the rest goes to the strict lane."""
    lines = [b'{"id":"a","name":"n%d"}' % (number % 5000) for number in range(6000)]
    body = b"\n".join(lines)
    found = scan(body, len(lines), 0)
    assert [found.names[code] for code in found.name[:4096]] == [b"n%d" % number for number in range(4096)]
    assert found.unsure.tolist() == list(range(4096, 5000))
    assert len(found.line) == 4096 + 1000
