"""The scanner of event files in JSON lines: one pass over the bytes, strict, compiled.

It takes a line only when that is an object of flat values, each key once, texts without escapes and in UTF-8, numbers
that have one canonical form, and every field such that ``engine.file.event_row`` would read it without a word of doubt.
Every other line is left to that module, which stays the truth: saying "not sure" is always right.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backstory.engine.file.buffer import Buffers
from backstory.engine.file.event_field import (
    DATA,
    F_EMAIL,
    F_ID_AT,
    F_ID_LEN,
    F_KIND,
    F_NAME_AT,
    F_NAME_LEN,
    F_TIME,
    F_TIMED,
    F_WHO_AT,
    F_WHO_LEN,
    FOUND,
    NAME,
    PAIR,
    WHO,
    field_of,
    take_field,
)  # fmt: skip
from backstory.engine.file.json_token import blank_end, text_end, value_end
from backstory.engine.file.kernel import copy, kernel, piece, pointer, same
from backstory.engine.file.row_value import BLANKS, NOTHING_WORDS

LINE_BYTES_MAX = 60_000
PAIRS_MAX = 64
MARKS_MAX = PAIRS_MAX + 8
NAMES_MAX = 4096
# What became of a line.
BLANK, TAKEN, UNSURE = 0, 1, 2

# Of each byte: is it a blank, does a word that says nothing begin with it?
_BLANK, _FIRST = 1, 2
_BYTES = np.zeros(256, np.uint8)
_BYTES[[ord(blank) for blank in BLANKS]] = _BLANK
_BYTES[[ord(letter) for word in NOTHING_WORDS for letter in (word[0], word[0].upper())]] = _FIRST
_WORD_BYTES_MAX = max(map(len, NOTHING_WORDS))

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int32]


@dataclass(slots=True, kw_only=True)
class Scan:
    """The lines taken, one item each, in the order of the file; ``_at`` are places in the chunk's bytes.

    ``id_len`` is -1 without an event id. ``texts`` holds canonical data; ``data_at`` and ``data_len`` say where.
    ``unsure`` are the numbers of the other lines, from 0; ``line_at`` has where each line of the chunk begins, and one
    place more. ``peculiar`` are the rows that may have an identifier of which ``row_value.doubt_of`` says something.
    """

    line: Ints
    kind: NDArray[np.uint8]
    who_at: Ints
    who_len: Ints
    by_email: NDArray[np.bool_]
    name: Ints
    timed: NDArray[np.bool_]
    time_us: NDArray[np.int64]
    id_at: Ints
    id_len: Ints
    data_at: Ints
    data_len: Ints
    texts: Bytes
    names: list[bytes]
    unsure: Ints
    line_at: Ints
    peculiar: Ints


# The columns of the numbers a line leaves behind; one row of them for each line.
_R_LINE, _R_KIND, _R_WHO_AT, _R_WHO_LEN, _R_EMAIL, _R_NAME, _R_TIMED, _R_ID_AT, _R_ID_LEN, _COLUMNS = range(10)


def scan(body: bytes | memoryview, count: int, identifier: int, buffers: Buffers | None = None) -> Scan:
    """Scan a chunk of ``count`` lines; ``identifier``: BY_ANY, BY_ID or BY_EMAIL, as the import was told.

    What is found lies in the ``buffers``.
    """
    source = np.frombuffer(body, np.uint8)
    array = (buffers or Buffers()).array
    rows: Ints = array("rows", _COLUMNS * count, np.int32).reshape(_COLUMNS, count)
    times_us: NDArray[np.int64] = array("times_us", count, np.int64)
    cuts: Ints = array("cuts", count + 1, np.int32)
    # Canonical data is never longer than the line it came from; some room, because eight bytes are copied at once.
    texts: Bytes = array("texts", len(source) + 16, np.uint8)
    unsure: Ints = array("unsure", count, np.int32)
    line_at: Ints = array("line_at", count + 1, np.int32)
    name_spans = np.zeros((NAMES_MAX, 2), np.int32)
    scratch = (
        np.full(4 * NAMES_MAX, -1, np.int32),
        np.zeros(4 * PAIRS_MAX, np.int32),
        np.zeros(PAIRS_MAX, np.int32),
        np.zeros(5 * MARKS_MAX, np.int32),
        np.zeros(FOUND, np.int64),
    )
    peculiar: Ints = array("peculiar", count, np.int32)
    taken, odd, names, doubts = _scan(
        source, identifier, rows, times_us, cuts, texts, unsure, line_at, name_spans, peculiar, _BYTES,
        _WORD_BYTES_MAX, *scratch,
    )  # fmt: skip
    rows = rows[:, :taken]
    return Scan(
        line=rows[_R_LINE],
        kind=rows[_R_KIND].astype(np.uint8),
        who_at=rows[_R_WHO_AT],
        who_len=rows[_R_WHO_LEN],
        by_email=rows[_R_EMAIL] != 0,
        name=rows[_R_NAME],
        timed=rows[_R_TIMED] != 0,
        time_us=times_us[:taken],
        id_at=rows[_R_ID_AT],
        id_len=rows[_R_ID_LEN],
        data_at=cuts[:taken],
        data_len=np.diff(cuts[: taken + 1]),
        texts=texts[: cuts[taken]],
        names=[bytes(body[at : at + length]) for at, length in name_spans[:names].tolist()],
        unsure=unsure[:odd],
        line_at=line_at,
        peculiar=peculiar[:doubts],
    )


@kernel
def _scan(
    source, identifier, rows, times_us, cuts, texts, unsure, line_at, name_spans, peculiar, byte_kinds,
    word_bytes_max, name_slots, pair_items, pair_order, mark_items, found_items,
):  # fmt: skip
    size, count = len(source), len(times_us)
    body, target, out, starts = pointer(source), pointer(texts), pointer(rows), pointer(cuts)
    slots, spans, pairs, order = pointer(name_slots), pointer(name_spans), pointer(pair_items), pointer(pair_order)
    marks, found, bytes_ = pointer(mark_items), pointer(found_items), pointer(byte_kinds)
    names = taken = odd = line = at = marked = doubts = 0
    cuts[0] = 0
    while at < size:
        line_at[line] = at
        found[F_ID_LEN], found[F_TIMED], found[F_TIME], found[F_KIND] = -1, 0, 0, 0
        verdict, some = TAKEN, 0
        after = -1
        if marked:
            after, some = _like_before(body, at, size, identifier, found, pairs, marks, marked)
        if after < 0:
            found[F_ID_LEN], found[F_TIMED], found[F_TIME], found[F_KIND] = -1, 0, 0, 0
            verdict, after, some, marked = _line(body, at, size, identifier, found, pairs, marks)
            if verdict == TAKEN and not _sorted(body, pairs, some, order):
                verdict, marked = UNSURE, 0
        if verdict == TAKEN:
            code = _name_code(body, found[F_NAME_AT], found[F_NAME_LEN], slots, spans, names)
            names += code == names
            if code < 0:
                verdict = UNSURE
            else:
                out[_R_LINE * count + taken] = line
                out[_R_KIND * count + taken] = found[F_KIND]
                out[_R_WHO_AT * count + taken] = found[F_WHO_AT]
                out[_R_WHO_LEN * count + taken] = found[F_WHO_LEN]
                out[_R_EMAIL * count + taken] = found[F_EMAIL]
                out[_R_NAME * count + taken] = code
                out[_R_TIMED * count + taken] = found[F_TIMED]
                out[_R_ID_AT * count + taken] = found[F_ID_AT]
                out[_R_ID_LEN * count + taken] = found[F_ID_LEN]
                times_us[taken] = found[F_TIME]
                starts[taken + 1] = _write(body, size, pairs, some, order, target, starts[taken])
                if _peculiar(body, found[F_WHO_AT], found[F_WHO_LEN], bytes_, word_bytes_max) or (
                    found[F_ID_LEN] > 0 and _peculiar(body, found[F_ID_AT], found[F_ID_LEN], bytes_, word_bytes_max)
                ):
                    peculiar[doubts] = taken
                    doubts += 1
                taken += 1
        if verdict == UNSURE:
            unsure[odd] = line
            odd += 1
            after = at
            while after < size and body[after] != 10:
                after += 1
        at = after + 1
        line += 1
    line_at[line] = size
    return taken, odd, names, doubts


@piece
def _peculiar(body, at, length, bytes_, word_bytes_max):
    """Has a text a blank at an end, or is it as short as a word that says nothing and begins like one?"""
    first, last = bytes_[body[at]], bytes_[body[at + length - 1]]
    return (first | last) & _BLANK or (first == _FIRST and length <= word_bytes_max)


@piece
def _like_before(body, start, size, identifier, found, pairs, marks, marked):
    """Read a line that has the keys, blanks and order of the one before: (where it ends or -1, pairs of data)."""
    at, some = start, 0
    for mark in range(0, 5 * (marked - 1), 5):
        length = np.int64(marks[mark + 1])
        if at + length >= size or not same(body, at, np.int64(marks[mark]), length, size):
            return -1, 0
        at += length
        field = marks[mark + 2]
        after = -1
        if field == PAIR:
            after = _pair(body, at, size, pairs, some, at - marks[mark + 3], marks[mark + 4])
            some += 1
        else:
            after = take_field(body, at, size, field, np.int64(marks[mark + 3]), identifier, found)
        if after < 0:
            return -1, 0
        at = after
    mark = 5 * (marked - 1)
    length = np.int64(marks[mark + 1])
    if at + length > size or not same(body, at, np.int64(marks[mark]), length, size):
        return -1, 0
    at += length
    if (at < size and body[at] != 10) or at - start > LINE_BYTES_MAX:
        return -1, 0
    return at, some


@piece
def _line(body, start, size, identifier, found, pairs, marks):
    """Read a line key by key: (what became of it, where it ends, pairs of data, marks left for the next line)."""
    at = blank_end(body, start, size)
    if at >= size or body[at] == 10:
        return BLANK, at, 0, 0
    if body[at] != 123:
        return UNSURE, start, 0, 0
    seen = some = marked = 0
    last, inside = start, False
    at = blank_end(body, at + 1, size)
    while True:
        # Here a key begins, of the line or of its data.
        if at >= size or body[at] != 34:
            return UNSURE, start, 0, 0
        key = at + 1
        end, ascii_only = text_end(body, key, size)
        if end <= key or not ascii_only:
            return UNSURE, start, 0, 0
        at = blank_end(body, end + 1, size)
        if at >= size or body[at] != 58:
            return UNSURE, start, 0, 0
        at = blank_end(body, at + 1, size)
        if at >= size:
            return UNSURE, start, 0, 0
        field, who = (PAIR, 0) if inside else field_of(body, key, end - key)
        if field < 0 or field & seen or some >= PAIRS_MAX:
            return UNSURE, start, 0, 0
        seen |= field
        if field == DATA:
            if body[at] != 123:
                return UNSURE, start, 0, 0
            at = blank_end(body, at + 1, size)
            if at >= size:
                return UNSURE, start, 0, 0
            if body[at] != 125:
                inside = True
                continue
            at += 1
        else:
            base = 5 * marked
            marks[base], marks[base + 1], marks[base + 2], marks[base + 3] = last, at - last, field, who
            if field == PAIR:
                marks[base + 3], marks[base + 4] = at - key, end - key
                at = _pair(body, at, size, pairs, some, key, end - key)
                some += 1
            else:
                at = take_field(body, at, size, field, who, identifier, found)
            if at < 0:
                return UNSURE, start, 0, 0
            marked += 1
            last = at
        at = blank_end(body, at, size)
        if inside and at < size and body[at] == 125:
            inside = False
            at = blank_end(body, at + 1, size)
        if at >= size:
            return UNSURE, start, 0, 0
        if body[at] == 125 and not inside:
            break
        if body[at] != 44:
            return UNSURE, start, 0, 0
        at = blank_end(body, at + 1, size)
    at = blank_end(body, at + 1, size)
    whole = at >= size or body[at] == 10
    if not whole or seen & (WHO | NAME) != WHO | NAME or at - start > LINE_BYTES_MAX:
        return UNSURE, start, 0, 0
    base = 5 * marked
    marks[base], marks[base + 1] = last, at - last
    return TAKEN, at, some, marked + 1


@piece
def _pair(body, at, size, pairs, some, key, key_len):
    """Take a pair of data: the place behind its value, or -1."""
    after, keep = value_end(body, at, size)
    base = 4 * some
    pairs[base], pairs[base + 1], pairs[base + 2], pairs[base + 3] = key, key_len, at, keep - at
    return after


@piece
def _before(body, left, left_len, right, right_len):
    """Compare two keys by their bytes: negative, zero, positive."""
    for step in range(min(left_len, right_len)):
        if body[left + step] != body[right + step]:
            return np.int64(body[left + step]) - np.int64(body[right + step])
    return left_len - right_len


@piece
def _sorted(body, pairs, some, order):
    """Put the pairs in the order of their keys; False when a key is there twice."""
    for rank in range(some):
        at = rank
        while at > 0:
            other = 4 * order[at - 1]
            found = _before(body, pairs[4 * rank], pairs[4 * rank + 1], pairs[other], pairs[other + 1])
            if found == 0:
                return False
            if found > 0:
                break
            order[at] = order[at - 1]
            at -= 1
        order[at] = rank
    return True


@piece
def _write(body, size, pairs, some, order, texts, out):
    """Canonical data: pairs in order without blanks; returns the place behind it."""
    texts[out] = 123
    out += 1
    for rank in range(some):
        base = 4 * order[rank]
        key, length, value, value_len = pairs[base], pairs[base + 1], pairs[base + 2], pairs[base + 3]
        if rank:
            texts[out] = 44
            out += 1
        if value != key + length + 2:
            out = copy(body, key - 1, texts, out, length + 2, size)
            texts[out] = 58
            out = copy(body, value, texts, out + 1, value_len, size)
        else:
            out = copy(body, key - 1, texts, out, length + 3 + value_len, size)
    texts[out] = 125
    return out + 1


@piece
def _name_code(body, at, length, slots, spans, names):
    """The number of a name among the chunk's, in the order of their first rows; -1 when there are too many."""
    mixed = np.uint64(length)
    for step in range(length):
        mixed = (mixed ^ np.uint64(body[at + step])) * np.uint64(0x100000001B3)
    slot = np.int64((mixed ^ (mixed >> np.uint64(29))) & np.uint64(4 * NAMES_MAX - 1))
    while slots[slot] >= 0:
        code = slots[slot]
        if spans[2 * code + 1] == length and same(body, at, np.int64(spans[2 * code]), length, at + length):
            return code
        slot = (slot + 1) & (4 * NAMES_MAX - 1)
    if names == NAMES_MAX:
        return -1
    slots[slot] = names
    spans[2 * names], spans[2 * names + 1] = at, length
    return names
