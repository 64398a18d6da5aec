"""Types of entries in the activity log that are not events. Source: semantics section 8."""

from typing import Final

PROFILE_CREATE: Final = "profile_create"
PROFILE_DELETE: Final = "profile_delete"
PROFILE_MERGE: Final = "profile_merge"
ANON_MERGE: Final = "anon_merge"
ATTRIBUTE_CHANGE: Final = "attribute_change"
FAILED_ATTRIBUTE_CHANGE: Final = "failed_attribute_change"
SKIPPED_UPDATE: Final = "skipped_update"
FAILED_EVENT: Final = "failed_event"
# Ours: the original does not show what it ignored. Shown only to whoever asks for it.
DUPLICATE_EVENT: Final = "duplicate_event"
DEVICE_CHANGE: Final = "device_change"
FAILED_DEVICE_CHANGE: Final = "failed_device_change"
ADD_RELATIONSHIP: Final = "add_relationship"
DELETE_RELATIONSHIP: Final = "delete_relationship"
RELATIONSHIP_ATTRIBUTE_CHANGE: Final = "relationship_attribute_change"
RELATIONSHIP_FAILED_ATTRIBUTE_CHANGE: Final = "relationship_failed_attribute_change"
FAILED_METRIC: Final = "failed_metric"
EVENT_KINDS: Final = ("event", "page", "screen")
# All but those of messages (``sent_email``), objects and relationships (``_o:1:create``).
PLAIN_TYPES: Final = (
    *EVENT_KINDS, PROFILE_CREATE, PROFILE_DELETE, PROFILE_MERGE, ANON_MERGE, ATTRIBUTE_CHANGE, FAILED_ATTRIBUTE_CHANGE,
    SKIPPED_UPDATE, FAILED_EVENT, DUPLICATE_EVENT, DEVICE_CHANGE, FAILED_DEVICE_CHANGE, ADD_RELATIONSHIP,
    DELETE_RELATIONSHIP, RELATIONSHIP_ATTRIBUTE_CHANGE, RELATIONSHIP_FAILED_ATTRIBUTE_CHANGE, FAILED_METRIC,
)  # fmt: skip


def object_type(type_id: int, what: str) -> str:
    """The type of an entry about an object: ``_o:1:create``."""
    return f"_o:{type_id}:{what}"


def relationship_type(type_id: int, what: str) -> str:
    """The type of an entry about the attributes of a relationship: ``_r:1:attribute_change``."""
    return f"_r:{type_id}:{what}"
