"""The decision table of identify where a workspace chose what may be changed (semantics sections 1.1 and 1.2)."""

import msgspec
import pytest

from backstory.core.fact import Identifier, IdentifierKind
from backstory.core.identity import (
    ALREADY_SET,
    ALREADY_TAKEN,
    NOT_TO_BE_CHANGED,
    Apply,
    Drop,
    Refuse,
    Rules,
    decide,
)

# 1 has both, 2 only an email, 3 only an id.
OWNED: dict[int, dict[IdentifierKind, str]] = {
    1: {"id": "ann", "email": "ann@x.org"}, 2: {"email": "bob@x.org"}, 3: {"id": "cid"},
}  # fmt: skip
TABLE = """
    path         body              change_by_cio_id change_email_by_id   outcome
    cio_id=1     id=new            yes              no                   1 gets id=new
    cio_id=1     id=new            no               no                   not to be changed
    cio_id=1     email=new@x.org   yes              no                   1 gets email=new@x.org
    cio_id=1     email=new@x.org   no               no                   not to be changed
    cio_id=1     email=new@x.org   no               yes                  not to be changed
    cio_id=1     id=ann            no               no                   1 gets nothing
    cio_id=1     email=ann@x.org   no               no                   1 gets nothing
    cio_id=2     id=new            no               no                   2 gets id=new
    cio_id=3     email=new@x.org   no               no                   3 gets email=new@x.org
    cio_id=1     email=bob@x.org   yes              no                   taken
    cio_id=1     email=bob@x.org   no               no                   taken
    cio_id=9     id=new            yes              no                   nobody
    cio_id=9     id=new            no               yes                  nobody
    id=ann       email=new@x.org   yes              no                   already set
    id=ann       email=new@x.org   yes              yes                  1 gets email=new@x.org
    id=ann       email=new@x.org   no               yes                  1 gets email=new@x.org
    id=ann       email=bob@x.org   yes              yes                  taken
    id=ann       email=ann@x.org   yes              yes                  1 gets nothing
    id=cid       email=new@x.org   no               no                   3 gets email=new@x.org
    email=ann@x.org id=new         yes              yes                  already set
    email=bob@x.org id=new         no               no                   2 gets id=new
"""
ROWS = [line.split(maxsplit=4) for line in TABLE.strip().splitlines()[1:]]
WORDS = {ALREADY_SET: "already set", ALREADY_TAKEN: "taken", NOT_TO_BE_CHANGED: "not to be changed"}


def identifier(text: str) -> Identifier:
    kind, _, value = text.partition("=")
    return Identifier(msgspec.convert(kind, IdentifierKind), value)


@pytest.mark.parametrize(("path", "body", "by_cio_id", "email_by_id", "outcome"), ROWS)
def test_who_may_be_called_otherwise(path: str, body: str, by_cio_id: str, email_by_id: str, outcome: str) -> None:
    """What is set may be set again to the same; what is unset may be set by any address; the rest is chosen."""
    owner = {Identifier("cio_id", str(number)): number for number in OWNED}
    owner |= {Identifier(kind, value): number for number, names in OWNED.items() for kind, value in names.items()}
    rules = Rules(auto_merge=False, change_by_cio_id=by_cio_id == "yes", change_email_by_id=email_by_id == "yes")
    match decide(identifier(path), (identifier(body),), owner, OWNED, update_only=False, rules=rules):
        case Apply(person=person, assign=assign):
            given = ", ".join(f"{one.kind}={one.value}" for one in assign) or "nothing"
            found = f"{person} gets {given}"
        case Refuse(reason=reason):
            found = WORDS[reason]
        case Drop():
            found = "nobody"
        case other:
            found = str(other)
    assert found == outcome
