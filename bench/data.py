"""Input for the workloads, the same on every machine: row i of a file is a pure function of i and the seed.

No library's random numbers are used, so a new version of one changes nothing. Ids are "p0" to "p{people-1}".
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 100_000
# Unless asked otherwise, events lie in the two years before this moment (21 September 2026).
END_S = 1_790_000_000
SPAN_S = 2 * 365 * 86_400
EVENT_NAMES = ("purchased", "viewed", "signed_in", "added_to_cart", "page_read")
TRUTH = ("false", "true")
PLANS = ("free", "silver", "gold", "platinum")
COUNTRIES = ("DE", "FR", "US", "GB", "JP", "BR", "IN", "NG")
PEOPLE_COLUMNS = (
    "id", "email", "plan", "country", "age", "visits", "score", "active", "created_at", "city", "referrer", "note",
)  # fmt: skip


def mix(index: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """SplitMix64 of each index: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014)."""
    value = (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt * 0xD1B54A32D192ED03 % 2**64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def below(index: NDArray[np.uint64], salt: int, bound: int) -> list[int]:
    """An even number from 0 up to ``bound`` for each index."""
    return (mix(index, salt) % np.uint64(bound)).tolist()


def events(
    folder: Path, rows: int, people: int, *, seed: int = 1, ids: bool = False, end_s: int = END_S
) -> Path:
    """A file of JSON lines: events of known people over the two years before ``end_s``, in no order of time.

    With event ids if asked.
    """

    def chunk(index: NDArray[np.uint64]) -> list[str]:
        salt = seed * 100
        columns = zip(
            index.tolist(),
            below(index, salt, people),
            below(index, salt + 1, SPAN_S),
            below(index, salt + 2, 10_000),
            strict=True,
        )
        return [
            f'{{"customer_id":"p{person}","name":"{EVENT_NAMES[i % 5]}",{event_id(i)}"timestamp":{end_s - age},'
            f'"data":{{"price":{cents / 100},"sku":"sku-{i % 1000}","qty":{i % 7}}}}}\n'
            for i, person, age, cents in columns
        ]

    def event_id(i: int) -> str:
        return f'"event_id":"e{seed}-{i}",' if ids else ""

    until = "" if end_s == END_S else f"-until-{end_s}"
    name = f"events-{rows}-{people}-{seed}{'-ids' if ids else ''}{until}.jsonl"
    return _made(folder / name, lambda path: _write(path, rows, "", chunk))


def people(folder: Path, rows: int, *, seed: int = 1) -> Path:
    """A CSV file of people: id, email and ten attributes (text, whole numbers, fractions, booleans, times)."""

    def chunk(index: NDArray[np.uint64]) -> list[str]:
        salt = seed * 100 + 50
        columns = zip(
            index.tolist(),
            below(index, salt, 90),
            below(index, salt + 1, 1000),
            below(index, salt + 2, 10_000),
            below(index, salt + 3, SPAN_S),
            strict=True,
        )
        return [
            f"p{i},p{i}@example.com,{PLANS[visits % 4]},{COUNTRIES[age % 8]},{age},{visits},{score / 100},"
            f"{TRUTH[score % 2]},{END_S - since},city-{visits % 500},ref-{score % 50},note {since % 9973}\n"
            for i, age, visits, score, since in columns
        ]

    header = ",".join(PEOPLE_COLUMNS) + "\n"
    return _made(folder / f"people-{rows}-{seed}.csv", lambda path: _write(path, rows, header, chunk))


def person_of(number: int, people: int) -> str:
    """Whom the live call of this number is about."""
    return people_of(number, 1, people)[0]


def people_of(first: int, count: int, people: int) -> list[str]:
    """Whom the live calls from this number on are about."""
    return [f"p{person}" for person in below(np.arange(first, first + count, dtype=np.uint64), 7, people)]


def live_event(number: int) -> dict[str, object]:
    """The body of a live call: an event with five properties and no time of its own."""
    return {
        "name": EVENT_NAMES[number % 5],
        "data": {
            "price": (number * 37 % 10_000) / 100,
            "sku": f"sku-{number % 1000}",
            "qty": number % 7,
            "coupon": number % 3 == 0,
            "source": f"campaign-{number % 20}",
        },
    }


def live_person(number: int, attributes: int) -> dict[str, object]:
    """The body of a live identify: so many attributes, numbers and texts in turn, most of them other ones each time."""
    known: dict[str, object] = {"plan": PLANS[number % 4], "visits": number % 1000}
    more = {f"field_{i}": number * i % 1000 if i % 2 else f"value {number * i % 500}" for i in range(attributes - 2)}
    return known | more


def _made(path: Path, write: Callable[[Path], None]) -> Path:
    """The file, made if it is not there yet; it appears whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        write(unfinished)
        os.replace(unfinished, path)
    return path


def _write(path: Path, rows: int, header: str, chunk: Callable[[NDArray[np.uint64]], list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(header)
        for start in range(0, rows, CHUNK_ROWS):
            file.writelines(chunk(np.arange(start, min(start + CHUNK_ROWS, rows), dtype=np.uint64)))
