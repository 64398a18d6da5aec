"""A real workspace without threads, on a clock that stands still, told what happens in words of campaigns."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from backstory.core import campaign
from backstory.core.condition import Json
from backstory.core.fact import (
    ChangeMembers,
    DeletePerson,
    EffectOutcome,
    Fact,
    Identifier,
    Identify,
    PutCampaign,
    PutSegment,
    Receipt,
    RetryDelivery,
    SetCampaignState,
    Track,
)
from backstory.core.message import Delivery
from backstory.core.time import SECOND_US
from backstory.engine.answer.view import JourneyView, MessageView
from backstory.engine.clock import ManualClock
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.journal import SqliteJournal

NOW_US = 1_717_243_200_000_000  # 2024-06-01T12:00:00Z
MAIL: dict[str, Json] = {
    "type": "email",
    "from": "shop@example.com",
    "to": "{{ customer.email }}",
    "subject": "Thank you",
    "body": "Hello",
}
PURCHASED: dict[str, Json] = {"event": {"name": "purchased"}}


def eq(field: str, value: Json) -> dict[str, Json]:
    """A test of one attribute."""
    return {"attribute": {"field": field, "operator": "eq", "value": value}}


class World:
    """A workspace, its clock, and short words for what happens to it."""

    def __init__(self, root: Path, now_us: int = NOW_US) -> None:
        self.root = root
        self.clock = ManualClock(now_us)
        self._folders = itertools.count()
        self._path = self._next_folder()
        self.workspace = self._open()

    def _next_folder(self) -> Path:
        return self.root / f"folder-{next(self._folders)}"

    def _open(self) -> Workspace:
        return open_workspace(self._path, clock=self.clock, threads=False)

    def close(self) -> None:
        self.workspace.close()

    # -- crashes ------------------------------------------------------------------------------------------------------

    def crash(self, *accepted: Fact) -> None:
        """The process is gone at once, with facts it had accepted and not applied; another one starts."""
        self._path = self._copied(*accepted)
        self.workspace.close()
        self.workspace = self._open()

    def copy(self, *accepted: Fact) -> "World":
        """Another process on a copy of what is on the disk."""
        other = World.__new__(World)
        other.root, other.clock, other._folders = self.root, self.clock, self._folders
        other._path = self._copied(*accepted)
        other.workspace = other._open()
        return other

    def checkpoint(self) -> None:
        """Store the leaves of segments, as the engine does every few seconds."""
        self.workspace.loop.commit(self.workspace.checkpoint.everything)

    def _copied(self, *accepted: Fact) -> Path:
        path = self._next_folder()
        shutil.copytree(self._path, path)
        if accepted:
            journal = SqliteJournal(path / "journal.db")
            journal.append(list(accepted), self.clock.now_us())
            journal.close()
        return path

    # -- what happens -------------------------------------------------------------------------------------------------

    def apply(self, *facts: Fact) -> list[Receipt]:
        """Accept and apply facts in one go."""
        return self.workspace.apply(list(facts))

    def elapse(self, seconds: float) -> None:
        """Time passes."""
        self.elapse_until(self.clock.now_us() + round(seconds * SECOND_US))

    def elapse_until(self, moment_us: int) -> None:
        self.clock.advance(moment_us - self.clock.now_us())
        self.workspace.loop.turn()

    def identify(self, person: str, /, *, ago_s: float | None = None, **attributes: Json) -> Receipt:
        return self.apply(self.identify_fact(person, ago_s=ago_s, **attributes))[0]

    def identify_fact(self, person: str, /, *, ago_s: float | None = None, **attributes: Json) -> Identify:
        email = attributes.pop("email", f"{person}@example.com")
        return Identify(
            person=Identifier("id", person),
            attributes=msgspec.json.encode(attributes),
            body_email=email if isinstance(email, str) else None,
            time_us=self._moment(ago_s),
        )

    def track(self, person: str, name: str = "purchased", /, *, ago_s: float | None = None, **data: Json) -> Receipt:
        return self.apply(self.track_fact(person, name, ago_s=ago_s, **data))[0]

    def track_fact(
        self,
        person: str,
        name: str = "purchased",
        /,
        *,
        ago_s: float | None = None,
        event_id: str | None = None,
        **data: Json,
    ) -> Track:
        return Track(
            person=Identifier("id", person),
            name=name,
            data=msgspec.json.encode(data),
            time_us=self._moment(ago_s),
            event_id=event_id,
        )

    @property
    def accept_us(self) -> int:
        """When the next fact will be accepted: no two at the same moment."""
        return max(self.clock.now_us(), self.workspace.folder.state.now_us + 1)

    def _moment(self, ago_s: float | None) -> int | None:
        return None if ago_s is None else self.accept_us - round(ago_s * SECOND_US)

    def delete(self, person: str) -> None:
        self.apply(DeletePerson(person=Identifier("id", person)))

    # -- definitions --------------------------------------------------------------------------------------------------

    def segment(self, conditions: Json = None, name: str = "A segment", segment_id: int | None = None) -> int:
        """A built segment; manual without conditions."""
        body = None if conditions is None else msgspec.json.encode(conditions)
        (receipt,) = self.apply(PutSegment(name=name, conditions=body, segment_id=segment_id))
        assert receipt.subject is not None, receipt
        self.workspace.builder.work_off()
        return receipt.subject

    def put_into(self, segment_id: int, *people: str, add: bool = True) -> None:
        """Into a manual segment, or out of it."""
        identifiers = tuple(Identifier("id", person) for person in people)
        self.apply(ChangeMembers(segment_id=segment_id, people=identifiers, add=add))

    def campaign(self, trigger: Json = None, *steps: Json, state: str = "running", **settings: Json) -> int:
        """A campaign; without steps it sends one mail."""
        (receipt,) = self.apply(self.campaign_fact(trigger, *steps, state=state, **settings))
        assert receipt.subject is not None, receipt
        return receipt.subject

    def campaign_fact(
        self, trigger: Json = None, *steps: Json, campaign_id: int | None = None, **settings: Json
    ) -> PutCampaign:
        value: dict[str, Json] = {
            "name": "A campaign", "trigger": trigger or PURCHASED, "steps": list(steps) or [MAIL], **settings,
        }  # fmt: skip
        definition = msgspec.json.encode(campaign.to_json(campaign.parse(value)))
        return PutCampaign(definition=definition, campaign_id=campaign_id)

    def stop(self, campaign_id: int) -> None:
        self.apply(SetCampaignState(campaign_id=campaign_id, state="stopped"))

    def start(self, campaign_id: int) -> None:
        self.apply(SetCampaignState(campaign_id=campaign_id, state="running"))

    # -- sending ------------------------------------------------------------------------------------------------------

    def claim(self) -> list[Delivery]:
        """What would be handed to the senders now."""
        return self.workspace.claim(1000)

    def report(
        self,
        delivery: Delivery,
        outcome: Literal["sent", "failed", "attempted", "dropped", "in_doubt"] = "sent",
        *,
        reason: str = "",
        again_in_s: float | None = None,
    ) -> Receipt:
        retry_at_us = None if again_in_s is None else self.clock.now_us() + round(again_in_s * SECOND_US)
        fact = EffectOutcome(
            delivery_id=delivery.delivery_id, outcome=outcome, reason=reason, retry_at_us=retry_at_us
        )
        return self.apply(fact)[0]

    def send(self) -> list[str]:
        """Send everything there is; returns the ids of the deliveries."""
        claimed = self.claim()
        for delivery in claimed:
            self.report(delivery)
        return [delivery.delivery_id for delivery in claimed]

    def retry(self, delivery_id: str) -> Receipt:
        return self.apply(RetryDelivery(delivery_id=delivery_id))[0]

    # -- what is seen -------------------------------------------------------------------------------------------------

    def journeys(self, campaign_id: int = 1) -> list[JourneyView]:
        return self.workspace.reader.journeys(campaign_id, start="", limit=1000)[0]

    def decisions(self, campaign_id: int = 1) -> list[tuple[str, str, str]]:
        """(type, decision, reason) of all journeys of a campaign, oldest first."""
        return [(step.type, step.decision, step.reason) for one in self.journeys(campaign_id) for step in one.steps]

    def messages(self, campaign_id: int | None = None) -> list[MessageView]:
        """Oldest first."""
        asked = self.workspace.reader.messages
        found, _ = asked(
            person=None, campaign_id=campaign_id, type=None, metric=None, start="", limit=1000,
            start_us=None, end_us=None,
        )  # fmt: skip
        return found[::-1]

    def mailed(self, campaign_id: int | None = None) -> list[str | None]:
        """The ids of the people with messages, oldest first."""
        return [message.identifiers["id"] for message in self.messages(campaign_id)]

    def states(self) -> list[str]:
        return [message.state for message in self.messages()]

    def log(self, person: str) -> list[str]:
        """The types of a person's activities, oldest first."""
        found, _ = self.workspace.reader.activities(
            "id", person, types=None, name=None, deleted=False, before=None, limit=1000, everything=True
        )
        return [entry.type for entry in found][::-1]

    def attributes(self, person: str) -> Mapping[str, Json]:
        view = self.workspace.reader.person("id", person)
        assert view is not None
        return view.attributes
