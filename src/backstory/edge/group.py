"""Groups: calls that are there at the same time are handed to their workspace together, and settled together.

Between the event loop and the engine stands the interpreter lock: each time one of the two threads wakes the other,
both pay, and what either had in its caches is gone. So calls gather for as long as the sockets have more of them to
read, which needs no timer: the event loop is asked to come back once it has looked at its sockets, and if that brought
no further call, the group goes. A call that comes alone waits for one such look. Knows nothing of HTTP.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from backstory.core.error import BackstoryError, Busy
from backstory.core.fact import Fact
from backstory.edge.bridge import Bridge, Intake

C = TypeVar("C")
# A group goes when it has so many facts, or when its first call has waited for so long.
GROUP_FACTS = 256
GROUP_S = 0.002


class Groups(Generic[C]):
    """The groups that are gathering, one for each workspace; used on the event loop only.

    ``settle`` is called with calls of a group, in the order in which they came, and what the engine said of all of
    them: None once they are durable, or the error that refused them. After None it may be called with an error.
    With room for some of a group, these are all calls up to one of them, and the others.
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
            group = self._open[name] = _Group(name, self._bridge.loop.time() + GROUP_S)
            self._bridge.loop.call_soon(self._look, group)
        group.facts += facts
        group.calls.append(call)
        group.ends.append(len(group.facts))
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
        """Hand all of it over; where the engine has no room for that, as many calls as it has, from the first on."""
        del self._open[group.name]
        at, count = 0, len(group.calls)
        while at < len(group.calls):
            try:
                self._submit(group, at, min(at + count, len(group.calls)))
            except Busy as error:
                if count == 1:
                    self._settle(group.calls[at:], error)
                    return
                count //= 2
            except Exception as error:
                self._settle(group.calls[at:], error)
                return
            else:
                at += count

    def _submit(self, group: "_Group[C]", low: int, high: int) -> None:
        """Some calls of a group, one behind the other, which are accepted together or not at all."""
        facts = group.facts[group.ends[low - 1] if low else 0 : group.ends[high - 1]]
        sent = _Sent(group.calls[low:high], self._bridge, self._settle)
        self._workspaces[group.name].submit(
            facts, on_accept=sent.on_accept, on_applied=None, on_error=sent.on_error
        )


class _Group(Generic[C]):
    """Calls that gather; ``ends`` says of each how many facts there are with its own."""

    __slots__ = ("calls", "ends", "facts", "name", "seen", "until_s")

    def __init__(self, name: str, until_s: float) -> None:
        self.name = name
        self.until_s = until_s
        self.facts: list[Fact] = []
        self.calls: list[C] = []
        self.ends: list[int] = []
        # How many calls there were at the last look.
        self.seen = 0


class _Sent(Generic[C]):
    """Calls that went together; its methods are the callbacks of ``Intake.submit``, called on the engine's thread."""

    __slots__ = ("_bridge", "_calls", "_settle")

    def __init__(
        self, calls: Sequence[C], bridge: Bridge, settle: Callable[[Sequence[C], Exception | None], None]
    ) -> None:
        self._calls = calls
        self._bridge = bridge
        self._settle = settle

    def on_accept(self) -> None:
        self._bridge.hand_over(self._settled, None)

    def on_error(self, error: BackstoryError) -> None:
        self._bridge.hand_over(self._settled, error)

    def _settled(self, error: object) -> None:
        assert error is None or isinstance(error, Exception)
        self._settle(self._calls, error)
