"""Types of entries in the activity log that are not events. Source: semantics section 8."""

from typing import Final

PROFILE_CREATE: Final = "profile_create"
PROFILE_DELETE: Final = "profile_delete"
ATTRIBUTE_CHANGE: Final = "attribute_change"
FAILED_ATTRIBUTE_CHANGE: Final = "failed_attribute_change"
SKIPPED_UPDATE: Final = "skipped_update"
FAILED_EVENT: Final = "failed_event"
EVENT_KINDS: Final = ("event", "page", "screen")
