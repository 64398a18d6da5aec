"""Who begins when: imports of a workspace, the same one twice, and what has to be alone."""

import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

from backstory.core.limit import IMPORTS_AT_ONCE
from backstory.engine.backfill.import_turn import Turns

LONG_S = 20.0


@contextmanager
def begun(pool: ThreadPoolExecutor, turns: Turns, key: str) -> Generator[Future[None]]:
    """Somebody who wants to import, and ends when this does; its future is done when it has begun."""
    told, end = Future[None](), threading.Event()

    def run() -> None:
        with turns.importing(key):
            told.set_result(None)
            end.wait(LONG_S)

    running = pool.submit(run)
    try:
        yield told
    finally:
        end.set()
        running.result(LONG_S)


def test_who_waits_for_the_same_import_holds_up_no_other() -> None:
    """A second call with the files of one that runs waits for its end; other files come in meanwhile."""
    turns = Turns(threading.Lock())
    with ThreadPoolExecutor(3) as pool:
        with begun(pool, turns, "one") as first:
            first.result(LONG_S)
            again = pool.submit(lambda: _through(turns, "one"))
            with begun(pool, turns, "two") as other:
                other.result(LONG_S)
            assert not again.done()
        again.result(LONG_S)


def test_a_run_that_is_paused_holds_up_no_other() -> None:
    """Others have its place meanwhile, but for the same import; it has one again as soon as there is one."""
    turns = Turns(threading.Lock())
    with ThreadPoolExecutor(6) as pool, ExitStack() as paused:
        ends = [threading.Event() for _ in range(IMPORTS_AT_ONCE.value)]
        back = [_pause(pool, turns, f"paused {at}", end) for at, end in enumerate(ends)]
        again = pool.submit(lambda: _through(turns, "paused 0"))
        others = [paused.enter_context(begun(pool, turns, f"other {at}")) for at in range(len(ends))]
        for other in others:
            other.result(LONG_S)
        ends[0].set()
        assert not back[0].done()
        assert not again.done()
        paused.close()
        back[0].result(LONG_S)
        again.result(LONG_S)
        ends[1].set()
        back[1].result(LONG_S)
    assert not turns.busy


def test_a_run_that_ends_while_it_is_paused_waits_for_nothing() -> None:
    """It was canceled; its import may run again."""
    turns = Turns(threading.Lock())
    with suppress(InterruptedError), turns.importing("one") as place, place.left():
        assert not turns.busy
        raise InterruptedError
    _through(turns, "one")
    assert not turns.busy


def _pause(pool: ThreadPoolExecutor, turns: Turns, key: str, end: threading.Event) -> Future[None]:
    """Somebody who imports and is paused until the ``end``; returns when they are."""
    told = Future[None]()

    def run() -> None:
        with turns.importing(key) as place, place.left():
            told.set_result(None)
            end.wait(LONG_S)

    running = pool.submit(run)
    told.result(LONG_S)
    return running


def _through(turns: Turns, key: str) -> None:
    with turns.importing(key):
        pass
