"""A mail server in a thread of its own, for servers that run in threads or processes of theirs."""

import asyncio
import email
import email.policy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import cast

from tests.contract.post_office import Post, post_office
from tests.wire.conftest import READY_S, eventually


class Office:
    """A mail server on a loop of its own, whose handling of a message can be held up."""

    def __init__(self, port: int, post: Post, loop: asyncio.AbstractEventLoop) -> None:
        self.url = f"smtp://127.0.0.1:{port}"
        self.post = post
        self._loop = loop

    def hold(self) -> None:
        """From now on a message is taken and not answered."""
        self.post.hang = asyncio.Event()

    def release(self) -> None:
        """What is held is answered, and what comes next at once."""
        held, self.post.hang = self.post.hang, None
        assert held is not None
        self._loop.call_soon_threadsafe(held.set)

    def wait_for(self, count: int) -> list[EmailMessage]:
        """The first so many messages that arrived, answered or not."""
        eventually(lambda: len(self.post.got) >= count)
        found = [email.message_from_bytes(body, policy=email.policy.default) for _, _, body in self.post.got]
        return cast("list[EmailMessage]", found)


@contextmanager
def open_office() -> Iterator[Office]:
    """A mail server that takes everything at first."""
    ready, found, done = threading.Event(), list[Office](), list[asyncio.Event]()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        post = Post()
        async with post_office(post) as port:
            done.append(asyncio.Event())
            loops.append(asyncio.get_running_loop())
            found.append(Office(port, post, loops[0]))
            ready.set()
            await done[0].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(READY_S)
    try:
        yield found[0]
    finally:
        loops[0].call_soon_threadsafe(done[0].set)
        thread.join(READY_S)
    assert not thread.is_alive()
