"""Verdicts: an attribute test judged of everybody by their stored documents, each different value once.

Only documents in which the attribute's name occurs at all are read, and of those only that attribute is decoded. All
other people have nothing there, and one answer. From any thread; reads what is committed, a stretch at a time.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from backstory.core.column import People, Truth
from backstory.core.comparison import holds, next_change_us, read_path
from backstory.core.condition import AttributeTest, Json
from backstory.core.leaf import NEVER_US
from backstory.core.person import Register, decode_document, values
from backstory.core.timeline import root_of
from backstory.engine.context import shown_values
from backstory.store.folder import Folder
from backstory.store.people import PROFILE_COLUMNS, Profile

PEOPLE_AT_ONCE = 5000
# Different values whose verdict is remembered.
VERDICTS_KEPT = 100_000
# What people are called lies beside their documents.
_BESIDE = frozenset(("id", "email", "phone", "cio_id"))
# What msgspec does not take in the name of a field.
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')
_value = msgspec.json.Decoder().decode
# Whether the test holds, and when time changes that.
Verdict = tuple[bool, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Of the sorted ``people`` in whose documents the name occurs; ``others`` is the answer of everybody else."""

    people: People
    truth: Truth
    moments_us: NDArray[np.int64]
    others: bool


def judge_everybody(folder: Folder, test: AttributeTest, now_us: int) -> Verdicts:
    """Judge all stored people at a moment."""
    root = root_of(test.field)
    inside = root not in _BESIDE
    judge = _inside(test, root, now_us) if inside else _beside(test, now_us)
    columns = "person, document" if inside else f"{PROFILE_COLUMNS}, document"
    chosen, name = (" AND instr(document, CAST(? AS BLOB))", (root.encode(),)) if inside else ("", ())
    people: list[int] = []
    found: list[Verdict] = []
    last, stop = -1, folder.state.next_person
    while last < stop:
        # A stretch of numbers, not of rows: how many of them have the attribute nobody knows.
        high = last + PEOPLE_AT_ONCE
        rows = folder.state.rows(
            f"SELECT {columns} FROM person WHERE person > ? AND person <= ?{chosen} ORDER BY person",
            (last, high, *name),
        )
        people += [row[0] for row in rows]
        found += map(judge, rows)
        last = high
    return Verdicts(
        people=np.array(people, np.uint32),
        truth=np.array([one[0] for one in found], bool),
        moments_us=np.array([one[1] for one in found], np.int64),
        others=holds(test, [], now_us),
    )


def _verdict(test: AttributeTest, shown: dict[str, Json], now_us: int) -> Verdict:
    found = read_path(shown, test.field)
    moment = next_change_us(test, found, now_us)
    return holds(test, found, now_us), NEVER_US if moment is None else moment


def _beside(test: AttributeTest, now_us: int) -> Callable[[tuple[Any, ...]], Verdict]:
    """Judges rows of people by all that is shown of them."""

    def judge(row: tuple[Any, ...]) -> Verdict:
        *profile, body = row
        return _verdict(test, shown_values(Profile(*profile), decode_document(body)), now_us)

    return judge


def _inside(test: AttributeTest, root: str, now_us: int) -> Callable[[tuple[Any, ...]], Verdict]:
    """Judges rows of people by one attribute; whole documents are looked at only where paths may lie over it."""
    register_in = _chooser(root)
    # Names that begin like it: paths into it, and what only looks like a place in a list.
    dotted, listed = root.encode() + b".", root.encode() + b"["
    known: dict[bytes | None, Verdict] = {}

    def judge(row: tuple[Any, ...]) -> Verdict:
        body = row[1]
        if not root or dotted in body or listed in body:
            return _verdict(test, values(decode_document(body)), now_us)
        chosen = register_in(body)
        value = None if chosen is None else chosen.value
        verdict = known.get(value)
        if verdict is None:
            shown: dict[str, Json] = {} if value is None else {root: _value(value)}
            verdict = _verdict(test, shown, now_us)
            if len(known) < VERDICTS_KEPT:
                known[value] = verdict
        return verdict

    return judge


def _chooser(root: str) -> Callable[[bytes], Register | None]:
    """Finds one attribute in a document and decodes nothing else, where its name can be that of a field."""
    if _UNNAMEABLE.search(root):
        return lambda body: decode_document(body).get(root)
    shape = msgspec.defstruct("Chosen", [("chosen", Register | None, None)], rename={"chosen": root}, gc=False)
    decode = msgspec.msgpack.Decoder(shape).decode
    return lambda body: getattr(decode(body), "chosen")  # noqa: B009 - the shape is made above
