"""What is rewritten next: few files, each row rewritten seldom, nothing mixed that must stay apart."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from backstory.store.compaction import BUSY_PARTS, RATIO, RUNS_MAX, MergeParts, MergeRuns, Move, Sizes, plan, restless
from backstory.store.manifest import KeyRun, Part

SIZES = Sizes(tail_rows=10, move_rows=4, part_rows=100, run_rows=100)


def part(number: int, rows: int, kind: str = "event") -> Part:
    return Part(
        part_id=number, kind=kind, path=f"{number}", rows=rows, checksum="", bytes=0, low_us=0, high_us=0, import_id=0,
        seq=number,
    )  # fmt: skip


def run(number: int, rows: int, import_id: int = 0, *, duplicate: bool = False) -> KeyRun:
    return KeyRun(
        run_id=number, path=f"{number}", rows=rows, checksum="", import_id=import_id, duplicate=duplicate
    )


def test_a_tail_that_is_long_enough_moves_first() -> None:
    """And not while its rows have to stay."""
    parts = [part(1, 5), part(2, 5)]
    assert plan(parts, [], {"event": 10, "write": 3}, SIZES) == Move("event")
    assert plan(parts, [], {"event": 10, "write": 3}, SIZES, may_move=False) == MergeParts(tuple(parts))
    assert plan([], [], {"event": 9, "write": 9}, SIZES) is None


def test_many_small_runs_of_keys_are_merged_before_more_rows_move() -> None:
    """Whether an event is known is asked of each run; a few more cost little."""
    runs = [run(number, 4) for number in range(1, RUNS_MAX + 1)]
    assert plan([], runs[1:], {"event": 10}, SIZES) == Move("event")
    assert plan([], [run(0, 90), *runs], {"event": 10}, SIZES) == MergeRuns(tuple(runs))


def test_while_facts_come_in_parts_are_merged_many_at_a_time() -> None:
    """Fewer wait until nothing comes any more, or until they are enough; runs, which every event asks, do not."""
    parts = [part(number, 5) for number in range(BUSY_PARTS)]
    assert plan(parts[1:], [], {}, SIZES, busy=True) is None
    assert plan(parts, [], {}, SIZES, busy=True) == MergeParts(tuple(parts))
    assert plan(parts[:2], [], {}, SIZES) == MergeParts(tuple(parts[:2]))
    runs = (run(1, 5), run(2, 5))
    assert plan(parts[:2], runs, {}, SIZES, busy=True) == MergeRuns(runs)


def test_large_files_and_lonely_ones_rest() -> None:
    """Nothing is rewritten that need not be."""
    assert plan([part(1, 150), part(2, 200)], [], {}, SIZES) is None
    assert plan([part(1, 90), part(2, 30), part(3, 15)], [], {}, SIZES) is None
    assert plan([part(1, 5), part(2, 5, "write")], [], {}, SIZES) is None


def test_runs_of_different_imports_stay_apart() -> None:
    """And those of events that count from those that do not."""
    apart = [run(1, 5, 1), run(2, 5, 2), run(3, 5, 2, duplicate=True)]
    assert plan([], apart, {}, SIZES) is None
    assert plan([], [*apart, run(4, 5, 2)], {}, SIZES) == MergeRuns((apart[1], run(4, 5, 2)))


@given(sizes=st.lists(st.integers(1, 250), max_size=60))
def test_few_files_are_left(sizes: list[int]) -> None:
    """Done until nothing is left to do, all rows are there, in large files and a few small ones."""
    files = [part(number, rows) for number, rows in enumerate(sizes)]
    number = len(files)
    while some := restless(files, 100):
        assert len(some) > 1
        assert all(file.rows < 100 for file in some)
        merged = replace(some[0], part_id=number, rows=sum(file.rows for file in some))
        assert merged.rows < 200
        files = [file for file in files if file not in some] + [merged]
        number += 1
    assert sum(file.rows for file in files) == sum(sizes)
    small = sorted(file.rows for file in files if file.rows < 100)
    assert all(rows >= RATIO * sum(small[:at]) for at, rows in enumerate(small))
    assert len(small) <= 6


def test_rows_that_come_in_small_pieces_are_rewritten_seldom() -> None:
    """A thousand moves of the tail: each row is written about as often as the logarithm says."""
    files: list[Part] = []
    written = 0
    for number in range(1000):
        files.append(part(number, 20))
        while some := restless(files, 2000):
            rows = sum(file.rows for file in some)
            files = [file for file in files if file not in some] + [part(number, rows)]
            written += rows
    assert written <= 7 * 1000 * 20
    assert len(files) <= 10 + 6
