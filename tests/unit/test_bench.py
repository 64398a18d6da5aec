"""The instruments of `bench/`: what they make and how they read."""

import hashlib
import importlib
import json
from pathlib import Path

import pytest

from bench import client, data, entry_probe, process, restart, run
from bench.workload import Figure, Workload


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_generated_files_are_the_same_everywhere(tmp_path: Path) -> None:
    """A file is a function of its name: the same bytes on every machine and with every version of NumPy."""
    assert digest(data.events(tmp_path, 1000, 100)) == "a30f2f0f57709804"
    assert digest(data.people(tmp_path, 1000)) == "3518720d546ff7ac"


def test_generated_events_are_distinct_when_they_carry_ids(tmp_path: Path) -> None:
    """With ids asked for, every event has one of its own, and the rest of the row is unchanged."""
    plain = [json.loads(line) for line in data.events(tmp_path, 500, 50).read_text().splitlines()]
    marked = [json.loads(line) for line in data.events(tmp_path, 500, 50, ids=True).read_text().splitlines()]
    assert len({row.pop("event_id") for row in marked}) == 500
    assert marked == plain


def test_generated_events_can_end_at_another_moment(tmp_path: Path) -> None:
    """Only the times move, all by as much; the files do not get in each other's way."""
    usual = [json.loads(line) for line in data.events(tmp_path, 100, 10).read_text().splitlines()]
    moved = data.events(tmp_path, 100, 10, end_s=data.END_S + 60)
    later = [json.loads(line) for line in moved.read_text().splitlines()]
    assert [row.pop("timestamp") - 60 for row in later] == [row.pop("timestamp") for row in usual]
    assert later == usual


def test_people_of_live_calls_do_not_depend_on_where_one_begins() -> None:
    """A call of one number is always about the same person."""
    assert data.people_of(5, 3, 1000) == [data.person_of(number, 1000) for number in (5, 6, 7)]
    assert client.requests(1000, "site:key", first=5, count=3) == client.requests(1000, "site:key", count=8)[5:]


def test_peak_memory_is_read_from_the_status_of_a_process() -> None:
    """A process that has ended, and is not yet waited for, has none."""
    assert process.high_water_kb("Name:\tpython\nVmPeak:\t  99 kB\nVmHWM:\t   12 kB\nVmRSS:\t 11 kB\n") == 12
    assert process.high_water_kb("Name:\tpython\nState:\tZ (zombie)\n") == 0


def test_probe_sees_whether_a_segment_is_shown() -> None:
    """By its number, among all segments of the person."""
    body = json.dumps({"segments": [{"id": 3, "name": "7"}, {"id": 17}]}).encode()
    assert entry_probe.shows(body, 17)
    assert not entry_probe.shows(body, 7)


def test_restart_knows_which_counts_may_differ() -> None:
    """None but those of windows, which time empties, and of the load's own segment, by one unanswered call."""
    window = min(restart.WINDOWS)
    ticks, other = restart.SEGMENTS + 1, window + 1
    before = {window: 100, other: 50, ticks: 5}
    assert restart.wrong({window: 99, other: 50, ticks: 13}, before, ticks, 7) == {}
    assert restart.wrong({window: 101, other: 49, ticks: 11}, before, ticks, 7) == {
        window: (100, 101),
        other: (50, 49),
        ticks: (5, 11),
    }
    assert restart.wrong({}, {other: 50}, ticks, 0) == {other: (50, -1)}


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("length", range(len(ANSWER)))
def test_client_waits_for_the_whole_answer(length: int) -> None:
    """An answer cut anywhere is not yet an answer."""
    assert client.answer_end(ANSWER[:length]) is None


def test_client_finds_the_end_of_an_answer() -> None:
    """What follows an answer is not part of it."""
    assert client.answer_end(ANSWER + b"HTTP/1.1") == len(ANSWER)


def test_percentile_is_one_of_the_values() -> None:
    """Percentiles are taken from what was measured, not between."""
    assert client.percentile(list(range(100)), 0.99) == 99
    assert client.percentile([], 0.99) == 0


def test_figures_know_whether_they_meet_their_budget() -> None:
    """A budget is met at its bound; without a budget there is nothing to meet."""
    assert Figure(name="a", value=2.2, unit="x", most=2.2).met is True
    assert Figure(name="a", value=2.3, unit="x", most=2.2).met is False
    assert Figure(name="a", value=9, unit="1/s", least=10).met is False
    assert Figure(name="a", value=9, unit="1/s").met is None


@pytest.mark.parametrize("name", run.WORKLOADS)
def test_workloads_say_what_they_expect(name: str) -> None:
    """Every registered workload is there under its own name and says beforehand what it expects."""
    workload = importlib.import_module(f"bench.{name}").WORKLOAD
    assert isinstance(workload, Workload)
    assert workload.name == name
    assert workload.expects
    assert f"| {name} |" in (process.ROOT / "bench" / "README.md").read_text()
