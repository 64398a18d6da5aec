"""Wildcards in names: three ways to match them agree, and segments follow what people look at."""

import re
import sqlite3

import duckdb
from hypothesis import example, given
from hypothesis import strategies as st

from backstory.core.wildcard import glob_of, like_of, name_matches

letters = st.text(st.sampled_from("ab*?[]%_\\.\nÄ"), max_size=8)


@given(pattern=letters, name=letters)
@example(pattern="a*", name="A")
@example(pattern="*ab*ab", name="ab")
@example(pattern="a*a", name="a")
def test_a_pattern_means_the_same_everywhere(pattern: str, name: str) -> None:
    """What is matched here is matched by a regular expression, by SQLite and by DuckDB."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None
    if "*" not in pattern:
        expected = pattern == name
    assert name_matches(pattern, name) == expected
    with sqlite3.connect(":memory:") as db:
        assert db.execute("SELECT ? GLOB ?", (name, glob_of(pattern))).fetchone()[0] == expected
    with duckdb.connect() as duck:
        row = duck.execute("SELECT $1 LIKE $2 ESCAPE '\\'", [name, like_of(pattern)]).fetchone()
    assert row is not None
    assert row[0] == expected
