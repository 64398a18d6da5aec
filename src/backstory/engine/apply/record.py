"""What devices and relationships share when they are applied: who is meant, when, and what follows for segments."""

from dataclasses import dataclass

from backstory.core.error import LimitError
from backstory.core.fact import Identifier
from backstory.core.identity import normal
from backstory.core.leaf_key import LeafKey
from backstory.core.limit import Limit
from backstory.core.person import Written
from backstory.core.time import MINUTE_US
from backstory.core.trace import PROFILE_CREATE, SKIPPED_UPDATE
from backstory.engine.apply.addressee import FORGOTTEN, SUPPRESSED, Addressees
from backstory.engine.apply.profile import Profiles, changes_json, losses_json
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Audience, Context, shown_values
from backstory.store.tombstone import Gone

FUTURE_US = MINUTE_US
TOO_OLD = "older than the deletion of this person"
UNKNOWN_CIO_ID = "nobody has this cio_id"
UNKNOWN = "nobody has this identifier"


@dataclass(frozen=True, slots=True)
class Found:
    """Who is meant; ``person`` None: nobody, for the reason given."""

    person: int | None
    is_new: bool = False
    reason: str = ""


class Subjects:
    """People as facts about their records name them."""

    def __init__(self, context: Context, profiles: Profiles, transitions: Transitions, audience: Audience) -> None:
        self._context = context
        self._folder = context.folder
        self._segments = context.segments
        self._profiles = profiles
        self._addressees = Addressees(context.folder)
        self._transitions = transitions
        self._audience = audience

    def find(self, identifier: Identifier, time_us: int | None) -> Found:
        """The person who has the identifier, for a fact that names this time."""
        path = normal(identifier)
        person = self._addressees.find(path, time_us)
        if isinstance(person, Gone):
            return Found(None, reason=FORGOTTEN if person.hidden else TOO_OLD)
        if person is not None:
            return Found(person)
        if self._addressees.blocked(path):
            return Found(None, reason=SUPPRESSED)
        return Found(None, reason=UNKNOWN_CIO_ID if path.kind == "cio_id" else UNKNOWN)

    def find_or_make(self, identifier: Identifier, time_us: int | None, now_us: int) -> Found:
        """The same; an identifier that nobody has makes a person, as an event of theirs would."""
        found = self.find(identifier, time_us)
        if found.reason != UNKNOWN:
            return found
        effective_us = min(self.effective_us(time_us, now_us), now_us)
        person = self._profiles.create(
            (identifier,), {}, time_us=effective_us, now_us=now_us, import_id=self._context.importing
        )
        self._context.activity(person, PROFILE_CREATE, effective_us, now_us, {})
        profile = self._folder.people.profile(person)
        self._segments.feed_attributes(person, None, lambda: shown_values(profile, {}), now_us)
        return Found(person, is_new=True)

    def effective_us(self, time_us: int | None, now_us: int) -> int:
        """When it became true: a time too far in the future is taken as now (design section 6)."""
        return now_us if time_us is None or time_us > now_us + FUTURE_US else time_us

    def settle(
        self, found: Found, touched: set[LeafKey], effective_us: int, now_us: int, *, own: bool = True
    ) -> None:
        """A fact about a record of this person was applied: judge the person anew.

        ``own``: it was a fact about this person, who has been known since then at the latest.
        """
        assert found.person is not None
        if own:
            touched = touched | self._segments.feed_known(found.person, min(effective_us, now_us), now_us)
        moved = self._segments.settle(found.person, None if found.is_new else touched, now_us)
        if moved:
            self._transitions.take(moved, now_us, late=effective_us < now_us)
        self._audience.on_person(found.person, now_us)

    def warn_of_future(self, person: int | None, time_us: int | None, now_us: int) -> None:
        if time_us is not None and time_us > now_us + FUTURE_US:
            reason = "The time lies in the future; the time of receipt was taken."
            self._context.activity(person, SKIPPED_UPDATE, now_us, now_us, {"timestamp": {"reason": reason}})


def past(limit: Limit, amount: int) -> str:
    """The refusal of an amount that is past a limit; empty when it is not."""
    try:
        limit.check(amount)
    except LimitError as error:
        return error.message
    return ""


def written_json(written: Written) -> dict[str, object]:
    """What a write did, as entries of the activity log show it."""
    shown: dict[str, object] = {}
    if written.changed:
        shown["attributes"] = changes_json(written.changed)
    if written.lost:
        shown["skipped"] = losses_json(written.lost)
    return shown
