"""A chunk of event rows made ready beside the loop: who, known or not, sorted, written as a part.

Nothing here changes what is true: people are made by the loop, and the part counts once the loop has named it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.core.fact import IdentifierKind
from backstory.store.keyrun import Keys, OpenRun, OrderByHead, PeopleArray, order_by_head, order_by_key, sharing

_FIT_BITS = 63
# The columns rows are staged in, whichever lane they came by.
STAGED = {
    "person": pa.uint32(),
    "time_us": pa.int64(),
    "timed": pa.bool_(),
    "key": pa.uint64(),
    "keyed": pa.bool_(),
    "has_id": pa.bool_(),
    "kind": pa.string(),
    "name": pa.string(),
    "data": pa.string(),
    "event_id": pa.string(),
    # By which kind of identifier the person is named: a place in ``NAMED_BY``.
    "named": pa.int8(),
    # The order of the rows in the file; only equal ids are told apart by it.
    "place": pa.int64(),
}


# The kinds of identifiers by which rows name people.
NAMED_BY: tuple[IdentifierKind, ...] = ("id", "email", "cio_id")
CountKnown = Callable[[Sequence[OpenRun], Keys, PeopleArray, int, Truth], tuple[NDArray[np.int64], NDArray[np.int64]]]
# Takes the texts of a column at some positions.
TakeTexts = Callable[[str, pa.Array, NDArray[np.int64]], pa.Array]


def _texts_at(name: str, texts: pa.Array, order: NDArray[np.int64]) -> pa.Array:
    return texts.take(pa.array(order))


@dataclass(slots=True, kw_only=True)
class Sorted:
    """Rows in the order of a part: arrays of one length. ``timed``: the row names its time itself."""

    people: NDArray[np.uint32]
    times_us: NDArray[np.int64]
    timed: Truth
    keys: Keys
    keyed: Truth
    kinds: pa.DictionaryArray
    names: pa.DictionaryArray
    data: pa.Array
    event_ids: pa.Array

    def __len__(self) -> int:
        return len(self.people)


@dataclass(slots=True, kw_only=True)
class Rows(Sorted):
    """Rows of a chunk in the order in which they are read.

    ``named``: by which of ``NAMED_BY`` each names its person. ``places`` ascend in the order of the file.
    """

    has_id: Truth
    named: NDArray[np.int8]
    places: NDArray[np.int64]

    def take(self, order: NDArray[np.int64]) -> "Rows":
        """The rows at these positions."""
        some = self.sorted(order)
        columns = {field.name: getattr(some, field.name) for field in fields(some)}
        return Rows(**columns, has_id=self.has_id[order], named=self.named[order], places=self.places[order])

    def sorted(self, order: NDArray[np.int64], take_texts: TakeTexts = _texts_at) -> Sorted:
        """The rows at these positions, as a part has them; ``take_texts`` does it for texts."""
        index = pa.array(order)
        return Sorted(
            people=self.people[order],
            times_us=self.times_us[order],
            timed=self.timed[order],
            keys=self.keys[order],
            keyed=self.keyed[order],
            kinds=_codes_at(self.kinds, index),
            names=_codes_at(self.names, index),
            data=take_texts("data", self.data, order),
            event_ids=take_texts("event_ids", self.event_ids, order),
        )


def _codes_at(coded: pa.DictionaryArray, index: pa.Array) -> pa.DictionaryArray:
    if len(coded.dictionary) == 1 and len(index) <= len(coded):
        # All are the same, and there are no more positions than rows.
        return cast("pa.DictionaryArray", coded.slice(0, len(index)))
    return cast("pa.DictionaryArray", coded.take(index))


def rows_of(table: pa.Table) -> Rows:
    """A table with a column for each field of ``Rows``; kind and name get coded."""
    return Rows(
        people=_numpy(table, "person", np.uint32),
        times_us=_numpy(table, "time_us", np.int64),
        timed=_numpy(table, "timed", np.bool_),
        keys=_numpy(table, "key", np.uint64).view(np.int64),
        keyed=_numpy(table, "keyed", np.bool_),
        has_id=_numpy(table, "has_id", np.bool_),
        kinds=_coded(table, "kind"),
        names=_coded(table, "name"),
        data=_array(table, "data"),
        event_ids=_array(table, "event_id"),
        named=_numpy(table, "named", np.int8),
        places=_numpy(table, "place", np.int64),
    )


def joined(first: Rows, second: Rows) -> Rows:
    """The rows of both, one behind the other."""
    return Rows(
        people=np.concatenate([first.people, second.people]),
        times_us=np.concatenate([first.times_us, second.times_us]),
        timed=np.concatenate([first.timed, second.timed]),
        keys=np.concatenate([first.keys, second.keys]),
        keyed=np.concatenate([first.keyed, second.keyed]),
        has_id=np.concatenate([first.has_id, second.has_id]),
        kinds=_coded_alike(first.kinds, second.kinds),
        names=_coded_alike(first.names, second.names),
        data=pa.concat_arrays([first.data, second.data]),
        event_ids=pa.concat_arrays([first.event_ids, second.event_ids]),
        named=np.concatenate([first.named, second.named]),
        places=np.concatenate([first.places, second.places]),
    )


def _coded_alike(first: pa.DictionaryArray, second: pa.DictionaryArray) -> pa.DictionaryArray:
    """Both behind each other, over the texts of the first and those that only the second has."""
    texts = dict.fromkeys([*first.dictionary.to_pylist(), *second.dictionary.to_pylist()])
    number = {text: code for code, text in enumerate(texts)}
    recoded = np.array([number[text] for text in second.dictionary.to_pylist()] or [0], np.int32)
    codes = [first.indices.to_numpy(zero_copy_only=False), recoded[second.indices.to_numpy(zero_copy_only=False)]]
    return pa.DictionaryArray.from_arrays(
        pa.array(np.concatenate(codes).astype(np.int32)), pa.array(list(texts), pa.string())
    )


def _numpy(table: pa.Table, name: str, kind: Any) -> NDArray[Any]:
    return np.asarray(table.column(name).to_numpy(), dtype=kind)


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _coded(table: pa.Table, name: str) -> pa.DictionaryArray:
    coded = _array(table, name).dictionary_encode()
    assert isinstance(coded, pa.DictionaryArray)
    return coded


def codes_of(coded: pa.DictionaryArray) -> NDArray[np.int64]:
    """The codes of a dictionary-coded array, renumbered so that they sort like their texts."""
    texts: list[str] = coded.dictionary.to_pylist()
    if len(texts) == 1:
        return np.zeros(len(coded), np.int64)
    rank = np.empty(max(len(texts), 1), dtype=np.int64)
    rank[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    return rank[coded.indices.to_numpy(zero_copy_only=False)]


def ranks_in_file(rows: Rows, some: NDArray[np.int64]) -> NDArray[np.int64]:
    """The how-manieth of some rows, at ascending positions, each row is in the file; of the others it says nothing."""
    ranks = np.zeros(len(rows), np.int64)
    ranks[some[np.argsort(rows.places[some])]] = np.arange(len(some))
    return ranks


def order_of(rows: Rows, by_head: OrderByHead = order_by_head) -> NDArray[np.int64]:
    """The order of the rows by kind, name, person, time, and place in the file."""
    if not len(rows):
        return np.empty(0, np.int64)
    return _order(codes_of(rows.kinds), codes_of(rows.names), rows.people, rows.times_us, rows.places, by_head)


def _order(
    kinds: NDArray[np.int64],
    names: NDArray[np.int64],
    people: PeopleArray,
    times_us: NDArray[np.int64],
    places: NDArray[np.int64],
    by_head: OrderByHead,
) -> NDArray[np.int64]:
    """Numbers packed into one are sorted where they fit. Few have the same person and name: only those go by time."""
    bits = [int(part.max()).bit_length() for part in (names, people)]
    place_bits = (len(people) - 1).bit_length()
    if int(kinds.max()).bit_length() + sum(bits) + place_bits > _FIT_BITS:
        return np.lexsort((places, times_us, people, names, kinds))
    packed = people.astype(np.int64)
    packed |= (kinds << bits[0] | names if kinds.any() else names) << bits[1]
    packed <<= place_bits
    heads, order = by_head(packed)
    shared = sharing(heads)
    some = order[shared]
    order[shared] = some[_order_by_time(heads[shared], times_us[some], places[some])]
    return order


def _order_by_time(
    heads: NDArray[np.int64], times_us: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The order by time, then place, within what has the same head."""
    if not len(heads):
        return np.empty(0, np.int64)
    group = np.zeros(len(heads), np.int64)
    np.cumsum(heads[1:] != heads[:-1], out=group[1:])
    span = times_us - int(times_us.min())
    bits = int(span.max()).bit_length()
    if int(group[-1]).bit_length() + bits > _FIT_BITS:
        return np.lexsort((places, times_us, group))
    packed = group << bits | span
    order = np.argsort(packed)
    # It is quicker to put the few that are equal in order by themselves than to sort all by one number more.
    ordered = packed[order]
    equal = sharing(ordered)
    some = order[equal]
    order[equal] = some[np.lexsort((places[some], ordered[equal]))]
    return order


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known about keys outside the parts: (key, person) of the tail's events, kept ones and live repeats."""

    keys: Keys
    people: PeopleArray
    duplicate: Truth
    import_ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ByKey:
    """The rows of a chunk that have a key, in the order of their keys, then people."""

    rows: NDArray[np.int64]
    keys: Keys
    people: PeopleArray

    def some(self, which: Truth) -> "ByKey":
        return ByKey(self.rows[which], self.keys[which], self.people[which])


def by_key(rows: Rows, by_head: OrderByHead = order_by_head) -> ByKey:
    """The rows that have a key."""
    if rows.keyed.all():
        order = order_by_key(rows.keys, rows.people, by_head)
    else:
        keyed = np.nonzero(rows.keyed)[0]
        order = keyed[order_by_key(rows.keys[keyed], rows.people[keyed], by_head)]
    return ByKey(order, rows.keys[order], rows.people[order])


@dataclass(frozen=True, slots=True)
class Arranged:
    """The rows of a chunk with the orders in which they are wanted: that of a part, and by key."""

    rows: Rows
    order: NDArray[np.int64]
    by_key: ByKey

    def order_where(self, which: Truth) -> NDArray[np.int64]:
        """The order of some of the rows."""
        return self.order if which.all() else self.order[which[self.order]]


def arranged(rows: Rows, by_head: OrderByHead = order_by_head) -> Arranged:
    """Put rows in order."""
    return Arranged(rows, order_of(rows, by_head), by_key(rows, by_head))


def count_known(
    runs: Sequence[OpenRun], keys: Keys, people: PeopleArray, import_id: int, once: Truth
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each key and person is in runs of events that count, and in those of an import (of both sorts).

    ``once``: where it is enough to know whether an event that counts has them; the numbers may be others there.
    """
    kept = np.zeros(len(keys), dtype=np.int64)
    mine = np.zeros(len(keys), dtype=np.int64)
    for run in runs:
        counts = run.count_many(keys, people)
        if not run.run.duplicate:
            kept += counts
        if run.run.import_id == import_id:
            mine += counts
    return kept, mine


def repeated(
    rows: Rows,
    held: ByKey,
    runs: Sequence[OpenRun],
    tail: Seen,
    import_id: int,
    count: CountKnown = count_known,
) -> Truth:
    """Which rows are already known (design section 7); ``count`` counts keys in runs.

    ``held`` are those of the rows that have a key. With an id: any kept event of the person has it, or an earlier row.
    Without: the row's ordinal among equals within this import is at most the number kept so far over all sources.
    """
    known = np.zeros(len(rows), dtype=bool)
    order, keys, people = held.rows, held.keys, held.people
    if not len(order):
        return known
    has_id = rows.has_id[order]
    kept, mine = count(runs, keys, people, import_id, has_id)
    _count_tail(keys, people, tail, import_id, kept, mine)
    rank = _ranks(keys, people, order, rows.places)
    if not (kept.any() or rank.any()):
        return known
    known[order] = np.where(has_id, (kept > 0) | (rank > 0), mine + rank + 1 <= kept)
    return known


def _count_tail(
    keys: Keys, people: PeopleArray, tail: Seen, import_id: int, kept: NDArray[np.int64], mine: NDArray[np.int64]
) -> None:
    if not len(tail.keys):
        return
    found = np.nonzero(np.isin(tail.keys, keys))[0]
    for at in found.tolist():
        probe: Keys = tail.keys[at : at + 1]
        low, high = int(keys.searchsorted(probe)[0]), int(keys.searchsorted(probe, side="right")[0])
        same = people[low:high] == tail.people[at]
        if not tail.duplicate[at]:
            kept[low:high] += same
        if tail.import_ids[at] == import_id:
            mine[low:high] += same


def _ranks(
    keys: Keys, people: PeopleArray, rows: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many equal (key, person) come before each row in the source; keys are sorted, ``rows`` are whose they are."""
    rank = np.zeros(len(keys), dtype=np.int64)
    # Only rows that share their key with a neighbour can have equals: those are grouped by person and counted.
    shared = sharing(keys)
    if not len(shared):
        return rank
    order = shared[np.lexsort((places[rows[shared]], people[shared], keys[shared]))]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (keys[order][1:] != keys[order][:-1]) | (people[order][1:] != people[order][:-1])
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    rank[order] = np.arange(len(order)) - start
    return rank


def by_flag(held: ByKey, known: Truth) -> Iterator[tuple[ByKey, int]]:
    """The rows that are new, and those that repeat others (1), where there are some."""
    again = known[held.rows]
    for some, flag in ((held, 0),) if not again.any() else ((held.some(~again), 0), (held.some(again), 1)):
        if len(some.rows):
            yield some, flag
