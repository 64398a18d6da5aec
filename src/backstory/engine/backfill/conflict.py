"""Why a row of an import that names people cannot be taken, in words: which column, which value, and whose it is.

The activity of a live call has the original's words (``core.identity``); these are ours.
"""

import re
from collections.abc import Mapping

from backstory.core.fact import Identifier, IdentifierKind
from backstory.core.identity import ALREADY_TAKEN, NOT_TO_BE_CHANGED, Refuse
from backstory.store.people import cio_id_of

Owned = Mapping[int, Mapping[IdentifierKind, str]]
# Reports are searched for the names of people who go, word by word: other names are not written into them.
_ONE_WORD = re.compile(r"[\w.@+-]*\w")


def conflict(found: Refuse, named: tuple[Identifier, ...], owner: Mapping[Identifier, int], owned: Owned) -> str:
    """``named``: what the row names, the path first; ``owner`` and ``owned`` as ``decide`` got them."""
    wrong = next(one for one in named if (one.kind, one.value) == (found.attribute, found.value))
    by = next((one for one in named if one != wrong and owner.get(one) == found.person), None)
    if found.reason == ALREADY_TAKEN and wrong in owner:
        return f"{wrong.kind}: {wrong.value!r} belongs to somebody else ({_called(owner[wrong], owned)})"
    if found.person is None or by is None:
        return f"{found.attribute}: {found.reason}"
    whose = _called(found.person, owned)
    if wrong == named[0]:
        return (
            f"{by.kind}: {by.value!r} belongs to somebody ({whose}) who has another {wrong.kind} than {wrong.value!r}; "
            "address them by cio_id to change it"
        )
    end = "the workspace changes none" if found.reason == NOT_TO_BE_CHANGED else "address them by cio_id to change it"
    return f"{wrong.kind}: {wrong.value!r} is another {wrong.kind} than the person ({whose}) has; {end}"


def _called(person: int, owned: Owned) -> str:
    name = owned.get(person, {}).get("id", "")
    return f"id {name!r}" if _ONE_WORD.fullmatch(name) else f"cio_id {cio_id_of(person)}"
