"""Everybody by one kind of identifier, read a hundred thousand at a time: for those who look up many rows at once."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 100_000
Kind = Literal["id", "email"]
# Texts of identifiers in a row, their lengths in bytes, whose they are.
Known = tuple[bytes, NDArray[np.int32], NDArray[np.int64]]
# Runs a query and returns all its rows.
Rows = Callable[[str, tuple[Any, ...]], list[Any]]


def everybody(rows: Rows, kind: Kind) -> Iterator[Known]:
    """Everybody with an identifier of a kind (in the form in which it is compared), in the order of these."""
    column = "id" if kind == "id" else "email_key"
    # Joined by SQLite: a row of Python values for each person would take longer than reading them.
    joined = (
        f"SELECT CAST(group_concat({column}, '') AS BLOB), group_concat(length(CAST({column} AS BLOB))),"
        f" group_concat(person), max({column}) FROM"
        f" (SELECT {column}, person FROM person WHERE {column} > ? ORDER BY {column} LIMIT {AT_ONCE})"
    )
    last = ""
    while True:
        texts, lengths, people, last = rows(joined, (last,))[0]
        if last is None:
            return
        yield texts, np.fromstring(lengths, np.int32, sep=","), np.fromstring(people, np.int64, sep=",")
