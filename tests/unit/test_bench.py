"""The instruments of `bench/`: what they make and how they read."""

import hashlib
import importlib
import json
from pathlib import Path

import pytest

from bench import client, data, process, run
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
