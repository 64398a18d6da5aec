"""Wildcards in the names of events, pages and screens: ``*`` stands for any run of characters, also for none.

How a pattern is matched here, and how it is written for SQLite (GLOB) and DuckDB (LIKE), which must agree with it.
Case counts; there is no way to ask for a star and nothing else. Knows names only.
"""

from functools import lru_cache

STAR = "*"
# Names judged lately are remembered; pages have many.
_REMEMBERED = 16_384


def is_wildcard(name: str) -> bool:
    """Does the name stand for many?"""
    return STAR in name


@lru_cache(maxsize=_REMEMBERED)
def name_matches(pattern: str, name: str) -> bool:
    """Is ``name`` the name, or one of those, that ``pattern`` stands for? Linear in their lengths."""
    if STAR not in pattern:
        return name == pattern
    first, *middle, last = pattern.split(STAR)
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for piece in middle:
        at = name.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def glob_of(pattern: str) -> str:
    """For SQLite's GLOB, whose other wildcards are set in brackets."""
    return "".join(f"[{letter}]" if letter in "?[" else letter for letter in pattern)


def like_of(pattern: str) -> str:
    r"""For DuckDB's LIKE … ESCAPE '\'."""
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace(STAR, "%")
