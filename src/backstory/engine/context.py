"""What the appliers of all kinds of facts share: the stores, the segments, and what is to happen after the commit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from backstory.core.condition import Json
from backstory.core.identity import Rules
from backstory.core.person import Document, values
from backstory.core.segment import SegmentEngine, Transition
from backstory.store.folder import Folder
from backstory.store.people import Profile, cio_id_of

encode_json = msgspec.json.Encoder().encode


class Audience(Protocol):
    """Whoever reacts to people, events and transitions: the campaigns."""

    def waits_for(self, kind: str, name: str) -> bool:
        """May such an event start something? Events are many: asked before anything is made ready for ``on_event``."""
        ...

    def on_event(self, person: int, event: "Happened", now_us: int) -> str:
        """Returns why the event started nothing, where somebody waited for it."""
        ...

    def on_transition(self, transition: Transition, effective_us: int, now_us: int) -> None: ...

    def segment_triggers(self) -> set[int]:
        """The segments whose transitions may start something."""
        ...

    def people_waiting(self) -> set[int]:
        """Those for whom something waits that any change of theirs may let go on."""
        ...

    def on_person(self, person: int, now_us: int) -> None:
        """Something about the person changed: filters that wait may hold now."""
        ...

    def on_delete(self, person: int, now_us: int) -> None: ...

    def on_merge(self, survivor: int, other: int, now_us: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event as a trigger: ``accept_us`` is what its age is measured against."""

    seq: int
    kind: str
    name: str
    event_id: str | None
    time_us: int
    accept_us: int
    data: bytes


@dataclass(slots=True, kw_only=True)
class Context:
    """Shared by everything that runs on the loop's thread."""

    folder: Folder
    segments: SegmentEngine
    trigger_age_us: int
    rules: Rules = field(default_factory=Rules)
    # The import whose rows are being applied as live calls are (0: none): all that is written names it, and what it
    # moves is judged at its end.
    importing: int = 0
    # The import on whose behalf the loop works, or that is being taken back: whom it moves is logged under its number.
    import_at_work: int = 0
    after_commit: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    # Done at the end of every transaction, inside it.
    before_commit: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def activity(
        self, person: int | None, kind: str, time_us: int, accept_us: int, data: object, delivery_id: str | None = None
    ) -> None:
        """Leave a visible trace."""
        seq = self.folder.state.take_seq()
        text = encode_json(data).decode()
        self.folder.tail.add_activity(seq, person, kind, time_us, accept_us, text, delivery_id, self.importing)

    def shown(self, profile: Profile, document: Document) -> dict[str, Json]:
        """A person's values as conditions and templates see them: attributes and identifiers."""
        return shown_values(profile, document)


def shown_values(profile: Profile, document: Document) -> dict[str, Json]:
    """Attributes with the identifiers laid over them."""
    shown = values(document)
    shown["cio_id"] = cio_id_of(profile.person)
    if profile.id is not None:
        shown["id"] = profile.id
    if profile.email is not None:
        shown["email"] = profile.email
    if profile.phone is not None:
        shown["phone"] = profile.phone
    return shown


def identifiers_of(profile: Profile) -> dict[str, str | None]:
    """The three identifiers as the published shapes carry them."""
    return {"id": profile.id, "email": profile.email, "cio_id": cio_id_of(profile.person)}


Settle = Callable[[Sequence[Transition], int | None, int], None]
