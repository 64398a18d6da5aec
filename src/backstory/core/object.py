"""Objects and relationships: which attributes they may have, and how conditions, templates and the API see them.

Source: semantics sections 1.5 and 1.9.
"""

from collections.abc import Mapping

import msgspec

from backstory.core.condition import Json
from backstory.core.error import LimitError
from backstory.core.limit import ATTRIBUTE_NAME_BYTES, OBJECT_ATTRIBUTE_BYTES, OBJECT_ATTRIBUTES
from backstory.core.person import Document, values
from backstory.core.record import Record

# In conditions and templates an object's relationship stands under this name, beside its attributes.
RELATIONSHIP = "relationship"
IDENTIFIERS = ("object_id", "cio_object_id", "object_type_id")
_encode = msgspec.json.Encoder().encode


def problem_of(attributes: Mapping[str, Json], *, of_object: bool) -> str:
    """Why these attributes cannot be written, judged by themselves; empty when they can."""
    if of_object and RELATIONSHIP in attributes:
        return f'"{RELATIONSHIP}" cannot be the name of an attribute of an object'
    try:
        OBJECT_ATTRIBUTES.check(len(attributes))
        OBJECT_ATTRIBUTE_BYTES.check(len(_encode(attributes)))
        for name in attributes:
            ATTRIBUTE_NAME_BYTES.check(len(name.encode()))
    except LimitError as error:
        return error.message
    return ""


def problem_of_document(document: Document) -> str:
    """Why a document is more than an object or a relationship may hold; empty when it is not."""
    try:
        # What was removed is kept to refuse older values; it is none of those the object has.
        shown = {name.partition(".")[0] for name, register in document.items() if register.value is not None}
        OBJECT_ATTRIBUTES.check(len(shown))
        held = sum(len(name.encode()) + len(register.value or b"") for name, register in document.items())
        OBJECT_ATTRIBUTE_BYTES.check(held)
    except LimitError as error:
        return error.message
    return ""


def asked_object(object_id: str, record: Record, relationship: Record) -> dict[str, Json]:
    """A related object as conditions ask for it."""
    return {**values(record.document), "object_id": object_id, RELATIONSHIP: values(relationship.document)}


def shown_object(
    type_id: int, object_id: str, cio_object_id: str, record: Record, relationship: Record
) -> dict[str, Json]:
    """A related object as templates see it: attributes and identifiers, and ``relationship``."""
    return {
        **values(record.document),
        "object_type_id": str(type_id),
        "object_id": object_id,
        "cio_object_id": cio_object_id,
        RELATIONSHIP: values(relationship.document),
    }
