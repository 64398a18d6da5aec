"""Handing facts to a workspace and waiting: until they are durable, or until they are applied.

What is accepted stays accepted whatever happens then, so from there on no answer speaks of failure: receipts are
``pending`` when applying takes too long. Source: design section 5.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

from backstory.core.error import BackstoryError, RequestError
from backstory.core.fact import Fact, Receipt
from backstory.edge.bridge import Bridge, Intake, Waiter

WAIT_HEADER = b"backstory-wait"
WAIT_S = 30.0


def wants_applied(wanted: bytes | None) -> bool:
    """Does ``Backstory-Wait`` ask for an answer after the facts are applied?"""
    if wanted is None:
        return False
    if wanted.strip().lower() != b"applied":
        raise RequestError(f"Backstory-Wait must be applied, not {wanted[:40].decode('latin-1')!r}")
    return True


class Submission:
    """The way of facts into a workspace, for one event loop."""

    def __init__(self, bridge: Bridge, *, wait_s: float = WAIT_S) -> None:
        self._bridge = bridge
        self._wait_s = wait_s

    async def accept(self, workspace: Intake, facts: list[Fact]) -> None:
        """Returns once the facts are durable; raises ``Busy`` or ``StorageError`` when nothing was accepted."""
        if not facts:
            return
        waiter = Waiter(self._bridge)
        workspace.submit(facts, on_accept=waiter.on_accept, on_applied=None, on_error=waiter.on_error)
        refused = await waiter.accepted
        if refused is not None:
            raise cast("BackstoryError", refused)

    async def apply(self, workspace: Intake, facts: list[Fact]) -> list[Receipt]:
        """A receipt for each fact once all reads show it; ``pending`` ones when that takes too long."""
        if not facts:
            return []
        waiter = Waiter(self._bridge, until_applied=True)
        assert waiter.applied is not None
        deadline = self._bridge.loop.time() + self._wait_s
        workspace.submit(facts, on_accept=waiter.on_accept, on_applied=waiter.on_applied, on_error=waiter.on_error)
        refused = await waiter.accepted
        if refused is not None:
            raise cast("BackstoryError", refused)
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await waiter.applied
        except TimeoutError:
            return [Receipt(result="pending", reason="accepted, but not applied within the time") for _ in facts]
        if isinstance(outcome, BackstoryError):
            reason = f"accepted, but applying it was put off: {outcome}"
            return [Receipt(result="pending", reason=reason) for _ in facts]
        return cast("list[Receipt]", outcome)


def receipt_shape(receipts: Sequence[Receipt]) -> dict[str, object]:
    """The receipt of one request or item, which may have become several facts: then ``parts`` has all of them.

    What it says itself is the first fact's: an identify before the relationships that came with it.
    """
    first = _shape(receipts[0])
    return first if len(receipts) == 1 else {**first, "parts": [_shape(one) for one in receipts]}


def refused_shape(error: RequestError) -> dict[str, object]:
    """The receipt of an item that was refused before it became a fact."""
    return {"result": "refused", "position": None, "skipped": [], "reason": error.message, "field": error.path}


def is_pending(receipts: Sequence[Receipt]) -> bool:
    """Is anything of it not yet applied?"""
    return any(one.result == "pending" for one in receipts)


def _shape(one: Receipt) -> dict[str, object]:
    return {"result": one.result, "position": one.position, "skipped": one.skipped, "reason": one.reason}
