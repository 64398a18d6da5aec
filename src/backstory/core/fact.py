"""The facts the journal holds: a closed, versioned, tagged union.

The edge makes facts out of requests; the loop applies them. A fact never changes after it was accepted.
Times are microseconds; ``time_us`` is the time the sender named, None when it named none.
JSON that came from outside stays text (``msgspec.Raw`` bytes) until somebody needs to look inside.
"""

from typing import Literal, get_args

import msgspec

FORMAT_VERSION = 1

IdentifierKind = Literal["id", "email", "cio_id", "phone"]
IDENTIFIER_KINDS = frozenset[str](get_args(IdentifierKind))
EventKind = Literal["event", "page", "screen"]


class Identifier(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One way to address a person. Emails are compared without case, everything else exactly.

    A phone is in E.164 form; Track v2 and the App API know it, a v1 path never gives one.
    """

    kind: IdentifierKind
    value: str


class Identify(msgspec.Struct, frozen=True, tag="identify", omit_defaults=True, kw_only=True, gc=False):
    """Attributes of a person became true. ``attributes`` is a JSON object without control keys.

    ``body_id``, ``body_email`` and ``body_phone`` are the identifiers named inside the body; ``body_cio_id`` says whom
    it means, and is given to nobody; ``update_only`` is ``_update``; ``anonymous_id`` claims the events that carry it,
    and is an attribute too.
    """

    person: Identifier
    attributes: bytes = b"{}"
    body_id: str | None = None
    body_email: str | None = None
    body_phone: str | None = None
    body_cio_id: str | None = None
    anonymous_id: str | None = None
    time_us: int | None = None
    update_only: bool = False
    rescaled: bool = False


class Track(msgspec.Struct, frozen=True, tag="track", omit_defaults=True, kw_only=True, gc=False):
    """A person did something. ``data`` is a JSON object."""

    person: Identifier
    name: str
    kind: EventKind = "event"
    data: bytes = b"{}"
    time_us: int | None = None
    event_id: str | None = None
    rescaled: bool = False


class TrackAnonymous(msgspec.Struct, frozen=True, tag="anonymous", omit_defaults=True, kw_only=True, gc=False):
    """Somebody not yet known did something; kept until an identify claims the ``anonymous_id``."""

    anonymous_id: str | None
    name: str
    kind: EventKind = "event"
    data: bytes = b"{}"
    time_us: int | None = None
    event_id: str | None = None
    rescaled: bool = False


class DeletePerson(msgspec.Struct, frozen=True, tag="delete_person", kw_only=True, gc=False):
    """A person and their data go; the tombstone refuses older facts that name the identifiers."""

    person: Identifier


class MergePeople(msgspec.Struct, frozen=True, tag="merge_people", kw_only=True, gc=False):
    """Two people turn out to be one: ``secondary`` goes, what they had goes to ``primary``."""

    primary: Identifier
    secondary: Identifier


class SuppressPerson(msgspec.Struct, frozen=True, tag="suppress_person", kw_only=True, gc=False):
    """A person is deleted and all their identifiers are blocked; only a keyed hash of each is kept."""

    person: Identifier


class UnsuppressPerson(msgspec.Struct, frozen=True, tag="unsuppress_person", kw_only=True, gc=False):
    """An identifier is free again, others that were blocked with it stay; nothing is restored."""

    person: Identifier


class PutDevice(msgspec.Struct, frozen=True, tag="put_device", omit_defaults=True, kw_only=True, gc=False):
    """A device of a person, by its token: made or changed. ``attributes`` is a JSON object of flat values.

    ``platform`` is ``ios`` or ``android``; ``last_used_us`` None means the time of the fact.
    """

    person: Identifier
    token: str
    platform: str
    last_used_us: int | None = None
    attributes: bytes = b"{}"
    time_us: int | None = None


class DeleteDevice(msgspec.Struct, frozen=True, tag="delete_device", kw_only=True, gc=False):
    """A device goes; it comes back when it is put again."""

    person: Identifier
    token: str


class ObjectKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One way to address an object: its type with exactly one of ``object_id`` and ``cio_object_id``.

    Under a ``cio_object_id`` the type may be 0: it says itself which object it is.
    """

    type_id: int
    object_id: str | None = None
    cio_object_id: str | None = None


class IdentifyObject(msgspec.Struct, frozen=True, tag="identify_object", omit_defaults=True, kw_only=True, gc=False):
    """Attributes of an object became true. ``update_only``: an object nobody knows is not made."""

    object: ObjectKey
    attributes: bytes = b"{}"
    time_us: int | None = None
    update_only: bool = False


class DeleteObject(msgspec.Struct, frozen=True, tag="delete_object", kw_only=True, gc=False):
    """An object goes, with its relationships; the tombstone refuses older facts that name it."""

    object: ObjectKey


class Relate(msgspec.Struct, frozen=True, tag="relate", omit_defaults=True, kw_only=True, gc=False):
    """A person and an object belong together, with attributes of that; exactly one of ``person``, ``anonymous_id``.

    Makes the object and the person where nobody knows them, unless ``update_only``.
    """

    object: ObjectKey
    person: Identifier | None = None
    anonymous_id: str | None = None
    attributes: bytes = b"{}"
    time_us: int | None = None
    update_only: bool = False


class Unrelate(msgspec.Struct, frozen=True, tag="unrelate", omit_defaults=True, kw_only=True, gc=False):
    """A person and an object do not belong together any more."""

    object: ObjectKey
    person: Identifier | None = None
    anonymous_id: str | None = None
    time_us: int | None = None


class ReportMetric(msgspec.Struct, frozen=True, tag="report_metric", omit_defaults=True, kw_only=True, gc=False):
    """Somebody outside tells what became of a delivery. The first time of each metric counts.

    ``unsubscribe``: the delivery's person does not want messages any more.
    """

    delivery_id: str
    metric: str
    time_us: int | None = None
    recipient: str = ""
    reason: str = ""
    href: str = ""
    device_token: str = ""
    unsubscribe: bool = False


class PutSegment(msgspec.Struct, frozen=True, tag="put_segment", omit_defaults=True, kw_only=True):
    """A segment is made (``segment_id`` None) or edited. ``conditions`` is the JSON of the condition; None: manual."""

    name: str
    segment_id: int | None = None
    description: str = ""
    conditions: bytes | None = None


class DeleteSegment(msgspec.Struct, frozen=True, tag="delete_segment", kw_only=True):
    segment_id: int


class ChangeMembers(msgspec.Struct, frozen=True, tag="change_members", kw_only=True):
    """People are put into or taken out of a manual segment; unknown people are ignored."""

    segment_id: int
    people: tuple[Identifier, ...]
    add: bool


class PutCampaign(msgspec.Struct, frozen=True, tag="put_campaign", omit_defaults=True, kw_only=True):
    """A campaign is made (``campaign_id`` None) or edited. ``definition`` is its validated JSON."""

    definition: bytes
    campaign_id: int | None = None


class SetCampaignState(msgspec.Struct, frozen=True, tag="set_campaign_state", kw_only=True):
    campaign_id: int
    state: Literal["running", "stopped"]


class EffectOutcome(msgspec.Struct, frozen=True, tag="effect_outcome", omit_defaults=True, kw_only=True):
    """What came of attempting a delivery. ``retry_at_us`` is set when it is to be tried again."""

    delivery_id: str
    outcome: Literal["sent", "failed", "attempted", "dropped", "in_doubt"]
    reason: str = ""
    retry_at_us: int | None = None


class RetryDelivery(msgspec.Struct, frozen=True, tag="retry_delivery", kw_only=True):
    """A user asks for a failed or in-doubt delivery to be attempted again."""

    delivery_id: str


class StartImport(msgspec.Struct, frozen=True, tag="start_import", omit_defaults=True, kw_only=True):
    """An import begins; its accept time is the accept time of all its rows (design section 9)."""

    options: bytes
    fingerprint: str


class RetractImport(msgspec.Struct, frozen=True, tag="retract_import", kw_only=True):
    """An import that has ended is taken back: from now on all is as if it had never been."""

    import_id: int


class ReinstateImport(msgspec.Struct, frozen=True, tag="reinstate_import", kw_only=True):
    """The taking back of an import is taken back."""

    import_id: int


class FinishImport(msgspec.Struct, frozen=True, tag="finish_import", omit_defaults=True, kw_only=True):
    import_id: int
    state: Literal["imported", "failed", "canceled"]
    error: str = ""


Fact = (
    Identify | Track | TrackAnonymous | DeletePerson | MergePeople | SuppressPerson | UnsuppressPerson | PutDevice
    | DeleteDevice | IdentifyObject | DeleteObject | Relate | Unrelate | ReportMetric | PutSegment
    | DeleteSegment | ChangeMembers | PutCampaign | SetCampaignState | EffectOutcome | RetryDelivery
    | StartImport | FinishImport | RetractImport | ReinstateImport
)

Result = Literal["applied", "skipped", "duplicate", "conflict", "suppressed", "dropped", "pending"]


class SkippedValue(msgspec.Struct, frozen=True):
    """An attribute that lost against a newer value; times in unix seconds, for the receipt."""

    attribute: str
    stored_at: float
    sent_at: float


class Receipt(msgspec.Struct, omit_defaults=True):
    """What became of a fact (design section 5). ``subject`` is the number of a definition it made.

    ``changed`` is how many people it put into a segment or took out, who were not there, or in it, already.
    """

    result: Result
    position: int = -1
    skipped: list[SkippedValue] = []
    reason: str = ""
    subject: int | None = None
    changed: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Fact])


def encode(facts: list[Fact]) -> bytes:
    """The bytes of one journal row."""
    return _encoder.encode(facts)


def decode(body: bytes) -> list[Fact]:
    """The facts of one journal row; raises ``msgspec.DecodeError`` when damaged."""
    return _decoder.decode(body)
