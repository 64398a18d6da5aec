"""What a request says beside its path: known keys of the body and known parameters of the query, nothing else.

For calls that change much at once: a misspelt option there would do something else than was asked for.
"""

import difflib
from collections.abc import Iterable

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.edge.app_request import Call


def refuse_unknown(names: Iterable[str], known: Iterable[str], *, what: str, path: str = "") -> None:
    """Raises ``RequestError`` at the first name that is not known, with the one that may be meant.

    ``what`` is said of the call, such as ``undo``; ``path`` is where the names stand, "" for the query.
    """
    allowed = sorted(known)
    for name in names:
        if name in allowed:
            continue
        close = difflib.get_close_matches(name, allowed, n=1)
        known_here = f"it has {', '.join(allowed)};" if allowed else "it has none;"
        hint = f"did you mean {close[0]!r}?" if close else known_here
        message = f"{what} has no option {name!r}: {hint} nothing was done"
        raise RequestError(message, path=f"{path}.{name}" if path else "")


def body_of(call: Call, known: Iterable[str], *, what: str) -> dict[str, Json]:
    """The body of a call that needs none: a JSON object of known keys; {} where there is none."""
    body = call.document() if call.body.strip() else {}
    refuse_unknown(body, known, what=what, path="$")
    return body


def flag_of(call: Call, given: dict[str, Json], name: str, *, path: str = "$") -> bool:
    """Whether ``name`` is asked for, in the body or in the query; both have to say the same."""
    said = given.get(name, False)
    if not isinstance(said, bool):
        raise RequestError(f"{name} must be true or false, not {said!r}", path=f"{path}.{name}")
    if name not in call.query:
        return said
    if not call.query[name]:
        raise RequestError(f"{name} must be true or false, not ''")
    asked = call.flag(name)
    if name in given and asked != said:
        raise RequestError(f"{name} is {said} in the body and {asked} in the query", path=f"{path}.{name}")
    return asked
