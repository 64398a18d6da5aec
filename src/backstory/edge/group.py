"""Groups: calls that are there at the same time are handed to their workspace together, and settled together.

Between the event loop and the engine stands the interpreter lock: each time one of the two threads wakes the other,
both pay, and what either had in its caches is gone. So calls gather for as long as the sockets have more of them to
read, which needs no timer: the event loop is asked to come back once it has looked at its sockets, and if that brought
no further call, the group goes. A call that comes alone waits for one such look. Knows nothing of HTTP.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from backstory.core.error import BackstoryError
from backstory.core.fact import Fact
from backstory.edge.bridge import Bridge, Intake

C = TypeVar("C")
# A group goes when it has so many facts, or when its first call has waited for so long.
GROUP_FACTS = 256
GROUP_S = 0.002


class Groups(Generic[C]):
    """The groups that are gathering, one for each workspace; used on the event loop only.

    ``settle`` is called with the calls of a group, in the order in which they came, and what the engine said of all of
    them: None once they are durable, or the error that refused them. After None it may be called with an error.
    """

    def __init__(
        self,
        workspaces: Mapping[str, Intake],
        bridge: Bridge,
        settle: Callable[[Sequence[C], Exception | None], None],
    ) -> None:
        self._workspaces = workspaces
        self._bridge = bridge
        self._settle = settle
        self._open: dict[str, _Group[C]] = {}

    def add(self, name: str, facts: list[Fact], call: C) -> None:
        """Put a call into the group of a workspace."""
        group = self._open.get(name)
        if group is None:
            group = self._open[name] = _Group(name, self._bridge, self._settle)
            group.until_s = self._bridge.loop.time() + GROUP_S
            self._bridge.loop.call_soon(self._look, group)
        group.facts += facts
        group.calls.append(call)
        if len(group.facts) >= GROUP_FACTS:
            self._send(group)

    def _look(self, group: "_Group[C]") -> None:
        """The sockets were looked at once more."""
        if self._open.get(group.name) is not group:
            return
        grown, group.seen = len(group.calls) > group.seen, len(group.calls)
        if grown and self._bridge.loop.time() < group.until_s:
            self._bridge.loop.call_soon(self._look, group)
        else:
            self._send(group)

    def _send(self, group: "_Group[C]") -> None:
        del self._open[group.name]
        try:
            self._workspaces[group.name].submit(
                group.facts, on_accept=group.on_accept, on_applied=None, on_error=group.on_error
            )
        except Exception as error:
            self._settle(group.calls, error)


class _Group(Generic[C]):
    """Calls that go together; its methods are the callbacks of ``Intake.submit``, called on the engine's thread."""

    __slots__ = ("_bridge", "_settle", "calls", "facts", "name", "seen", "until_s")

    def __init__(self, name: str, bridge: Bridge, settle: Callable[[Sequence[C], Exception | None], None]) -> None:
        self.name = name
        self._bridge = bridge
        self._settle = settle
        self.facts: list[Fact] = []
        self.calls: list[C] = []
        # How many calls there were at the last look.
        self.seen = 0
        self.until_s = 0.0

    def on_accept(self) -> None:
        self._bridge.hand_over(self._settled, None)

    def on_error(self, error: BackstoryError) -> None:
        self._bridge.hand_over(self._settled, error)

    def _settled(self, error: object) -> None:
        assert error is None or isinstance(error, Exception)
        self._settle(self.calls, error)
