"""Everybody by one kind of identifier, read a hundred thousand at a time: for those who look up many rows at once."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 100_000
Kind = Literal["id", "email"]
# Texts of identifiers, where each begins and how many bytes it has, whose they are.
Known = tuple[bytes, NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]
# Runs a query and returns all its rows.
Rows = Callable[[str, tuple[Any, ...]], list[Any]]


def everybody(rows: Rows, kind: Kind) -> Iterator[Known]:
    """Everybody with an identifier of a kind (in the form in which it is compared), in the order of these."""
    column = "id" if kind == "id" else "email_key"
    some = f"(SELECT {column}, person FROM person WHERE {column} > ? ORDER BY {column} LIMIT {AT_ONCE})"
    # Joined by SQLite: a row of Python values for each person would take longer than reading them.
    joined = f"SELECT CAST(group_concat({column}, char(0)) AS BLOB), group_concat(person), max({column})"
    counted = f"{joined}, count(*) FROM {some}"
    measured = f"{joined}, group_concat(length(CAST({column} AS BLOB))) FROM {some}"
    last = ""
    while True:
        texts, people, newest, count = rows(counted, (last,))[0]
        if not count:
            return
        ends = np.append(np.flatnonzero(np.frombuffer(texts, np.uint8) == 0), len(texts))
        if len(ends) != count:
            # Some hold the character that parts them: lengths take longer.
            texts, people, newest, lengths = rows(measured, (last,))[0]
            if newest is None:
                return
            ends = np.cumsum(_numbers(lengths) + 1) - 1
        at = np.append(0, ends[:-1] + 1)
        yield texts, at.astype(np.int32), (ends - at).astype(np.int32), _numbers(people)
        last = newest


def _numbers(text: str) -> NDArray[np.int64]:
    return np.fromstring(text, np.int64, sep=",")
