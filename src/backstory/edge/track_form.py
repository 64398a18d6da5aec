"""Form submissions turned into facts: the fields become attributes, the submission an event.

The original keeps forms as a noun of their own; here a submission is the event ``form_submit`` with the form's id
among its data, so that segments and campaigns can ask for it. Source: ``api-surface.md`` section 4.
"""

from urllib.parse import unquote_to_bytes

from backstory.core.error import RequestError
from backstory.core.fact import Identify, Track
from backstory.core.limit import ID_BYTES
from backstory.edge.track_body import attributes_of
from backstory.edge.value import Body, identifier, read_email, read_id, stored

SUBMITTED = "form_submit"
IGNORED = frozenset({"form_id", "form_name", "form_type", "form_url", "form_url_param"})


def form_facts(raw_id: bytes, body: Body) -> list[Identify | Track]:
    """``POST /forms/{form_id}/submit``: ``{"data": {exactly one of id and email, fields…}}``."""
    form_id = _form_id(raw_id)
    data = body.get("data")
    if not isinstance(data, dict):
        raise RequestError("data must be an object with the fields of the form", path="$.data")
    fields = {name: value for name, value in data.items() if name not in IGNORED}
    person_id, email = read_id(fields.pop("id", None)), read_email(fields.pop("email", None))
    if (person_id is None) == (email is None):
        raise RequestError("data must name the person by exactly one of id and email", path="$.data")
    person = identifier("email", email) if email is not None else identifier("id", person_id or "")
    return [
        Identify(person=person, attributes=attributes_of(fields)),
        Track(person=person, name=SUBMITTED, data=stored({**fields, "form_id": form_id})),
    ]


def _form_id(raw: bytes) -> str:
    try:
        form_id = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise RequestError("the form in the path is not UTF-8 text") from None
    if not form_id or "\0" in form_id:
        raise RequestError("the form in the path has no id")
    ID_BYTES.check(len(form_id.encode()))
    return form_id
