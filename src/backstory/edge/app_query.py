"""Which query parameters the App API reads, and what becomes of one that was mistyped.

A parameter that nobody reads is let be, as in the original: clients send what we have no use for. But a mistyped one
would be answered as if it had not been given, today's number for that of a past day, so what looks like a name that
the endpoint reads is refused. So is ``as_of`` or ``known_at`` where the past is not told: only we have these words.
Handlers see the names of this table and no others. What is asked of imports changes much at once: there every name that
nobody reads is refused, as the words of a body are.
"""

import difflib
from collections.abc import Mapping

from backstory.core.error import RequestError
from backstory.edge.app_option import refuse_unknown

_OURS = ("as_of", "known_at")
# Of 1: alike enough to be a slip of the keyboard ("asof", "strat", "known"), and not another word ("sort", "page").
_LIKENESS = 0.75
_MESSAGES = "start limit type metric state drafts start_ts end_ts action_id"

# Where they differ, names the published description has for a path and we do not read stand among them too.
_NAMES: dict[tuple[str, str], str] = {
    ("GET", "/v1/activities"): "start limit type name deleted customer_id id_type all",
    ("GET", "/v1/customers/{customer_id}/activities"): "start limit type name id_type all",
    ("GET", "/v1/campaigns/{campaign_id}/actions"): "start",
    ("GET", "/v1/campaigns/{campaign_id}/journeys"): "start limit",
    ("GET", "/v1/campaigns/{campaign_id}/messages"): _MESSAGES,
    ("GET", "/v1/customers"): "email",
    ("POST", "/v1/customers"): "start limit",
    ("GET", "/v1/customers/{customer_id}/attributes"): "id_type",
    ("GET", "/v1/customers/{customer_id}/messages"): f"{_MESSAGES} id_type",
    ("GET", "/v1/customers/{customer_id}/relationships"): "start limit id_type",
    ("GET", "/v1/customers/{customer_id}/segments"): "id_type",
    ("GET", "/v1/customers/{customer_id}/segments/history"): "id_type",
    ("GET", "/v1/customers/{customer_id}/segments/{segment_id}/explain"): "id_type as_of known_at",
    ("GET", "/v1/imports"): "start limit",
    ("POST", "/v1/imports"): "preview",
    ("POST", "/v1/imports/{import_id}/resume"): "here",
    ("POST", "/v1/imports/{import_id}/undo"): "preview",
    ("POST", "/v1/imports/{import_id}/redo"): "preview",
    ("GET", "/v1/messages"): f"{_MESSAGES} campaign_id newsletter_id",
    ("POST", "/v1/objects"): "start limit",
    ("GET", "/v1/objects/{object_type_id}/{object_id}/attributes"): "id_type",
    ("GET", "/v1/objects/{object_type_id}/{object_id}/relationships"): "start limit id_type",
    ("GET", "/v1/segments/{segment_id}/customer_count"): "as_of known_at",
    ("GET", "/v1/segments/{segment_id}/history"): "start end step known_at",
    ("POST", "/v1/segments/{segment_id}/members"): "id_type",
    ("POST", "/v1/segments/{segment_id}/members/remove"): "id_type",
    ("GET", "/v1/segments/{segment_id}/membership"): "start limit as_of known_at",
    ("GET", "/v1/segments/{segment_id}/transitions"): "start limit",
}
# A name that some endpoint has is no slip where another is asked, however much alike: "state", "start".
_WORDS = frozenset(" ".join(_NAMES.values()).split())


def names_of(method: str, path: str) -> frozenset[str]:
    """The query parameters an endpoint knows, by its method and the template of its path."""
    return frozenset(_NAMES.get((method, path), "").split())


def read_query(given: Mapping[str, str], method: str, path: str) -> dict[str, str]:
    """What a handler sees of a query; raises ``RequestError`` for a name that was surely meant to be another."""
    known = names_of(method, path)
    if method == "POST" and path.startswith("/v1/imports"):
        refuse_unknown(given, known, what=path.rpartition("/")[2])
    for name in given:
        if name in _OURS and name not in known:
            raise RequestError(f"{name} is not taken here: what is asked for is not kept for past moments", path=name)
        if name in _WORDS:
            continue
        if near := difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=_LIKENESS):
            raise RequestError(f"there is no parameter {name!r} here; did you mean {near[0]}?", path=name)
    return {name: value for name, value in given.items() if name in known}
