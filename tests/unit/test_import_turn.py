"""Who begins when: imports of a workspace, the same one twice, and what has to be alone."""

import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from backstory.engine.import_turn import Turns

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


def _through(turns: Turns, key: str) -> None:
    with turns.importing(key):
        pass
