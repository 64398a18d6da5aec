"""No word of acceptance before a counted sync, seen from outside the process."""

from pathlib import Path

import pytest

from tests.crash import one_by_one
from tests.crash.watch import Call, Unwatchable, watch

FACTS = 12
LOG = "journal.db-wal"


def between_words(calls: list[Call]) -> list[list[Call]]:
    """The calls before each word the child said, and those after the last."""
    stretches: list[list[Call]] = [[]]
    for call in calls:
        if call == Call("write", "stdout"):
            stretches.append([])
        else:
            stretches[-1].append(call)
    return stretches


@pytest.mark.crash
def test_each_fact_is_synced_before_it_is_accepted(tmp_path: Path) -> None:
    """Between two words of acceptance the journal's log is written, then synced, and not written again."""
    try:
        calls = watch(Path(one_by_one.__file__), str(tmp_path / "default"), str(FACTS))
    except Unwatchable as reason:
        pytest.skip(f"cannot count system calls: {reason}")
    stretches = between_words(calls)
    assert len(stretches) == FACTS + 2
    for stretch in stretches[:FACTS]:
        journal = [call.kind for call in stretch if call.file == LOG]
        assert journal, stretch
        assert journal[0] == "write"
        assert journal[-1] == "sync"
    check_the_end(stretches[-1])


def check_the_end(calls: list[Call]) -> None:
    """The state is synced before the journal lets go of what the state holds."""
    state_synced = calls.index(Call("sync", "state.db-wal"))
    assert Call("write", LOG) not in calls[:state_synced]
    assert Call("write", LOG) in calls[state_synced:]
