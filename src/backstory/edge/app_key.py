"""The keys of a workspace, and the workspace itself, over HTTP: made, listed, revoked.

    GET    /v1/workspaces       the workspace the App key opens; nobody hears of another
    GET    /v1/keys             every key by its last characters
    POST   /v1/keys             {"kind": "track" | "app" | "cdp", "site_id"}: the only time the key is shown
    DELETE /v1/keys/{key_id}    invalid at once

The local socket has the same under ``/local/keys``.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from backstory.core.error import RequestError
from backstory.core.time import to_unix
from backstory.edge.app_answer import answer, nothing
from backstory.edge.app_option import refuse_unknown
from backstory.edge.app_request import Answer, Call, Handler
from backstory.edge.auth import SITE_ID_BYTES, new_key, new_salt, workspace_number
from backstory.store.credential import Credential, CredentialStore

Kind = Literal["track", "app", "cdp"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which key to make; ``site_id`` names the Track key's user, by default the one that is there."""

    kind: Kind
    site_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTools:
    """The keys of one workspace. ``changed`` is called after each change, so that it holds at once."""

    credentials: CredentialStore
    now_us: Callable[[], int]
    changed: Callable[[], None] = lambda: None


def routes(tools: KeyTools, root: str) -> list[tuple[str, str, Handler]]:
    """The endpoints of keys under ``root``."""

    def all_keys(call: Call) -> Answer:
        """``GET /v1/keys``: every key by its last characters; only hashes are kept."""
        return answer({"keys": [_shape(one) for one in tools.credentials.list()]})

    def create(call: Call) -> Answer:
        """``POST /v1/keys``: a new key of a kind; the only time it is shown."""
        return _create(tools, call)

    def revoke(call: Call) -> Answer:
        """``DELETE /v1/keys/{id}``: invalid at once and for good."""
        tools.credentials.revoke(call.number("key_id", "key"))
        tools.changed()
        return nothing()

    return [
        ("GET", f"{root}/keys", all_keys),
        ("POST", f"{root}/keys", create),
        ("DELETE", f"{root}/keys/{{key_id}}", revoke),
    ]


def own_workspace(call: Call) -> Answer:
    """``GET /v1/workspaces``: the one the key opens."""
    name = call.workspace.name
    return answer({"workspaces": [{"id": workspace_number(name), "name": name}]})


ROUTES: list[tuple[str, str, Handler]] = [("GET", "/v1/workspaces", own_workspace)]


def _create(tools: KeyTools, call: Call) -> Answer:
    document = call.document()
    refuse_unknown(document, NewKey.__struct_fields__, what="a new key", path="$")
    if document.get("kind") not in KINDS:
        raise RequestError(f"kind must be one of {', '.join(KINDS)}, not {document.get('kind')!r}", path="$.kind")
    try:
        wanted = msgspec.convert(document, NewKey)
    except msgspec.ValidationError as error:
        raise RequestError(str(error)) from None
    key = new_key()
    credential = tools.credentials.create(
        wanted.kind, key, salt=new_salt(), created_us=tools.now_us(), site_id=_site_id(tools, wanted)
    )
    tools.changed()
    return answer({"key": {**_shape(credential), "key": key}})


def _site_id(tools: KeyTools, wanted: NewKey) -> str | None:
    if wanted.kind != "track":
        if wanted.site_id is not None:
            raise RequestError("only a track key stands beside a site id", path="$.site_id")
        return None
    if wanted.site_id is not None and (not wanted.site_id.isascii() or not wanted.site_id or ":" in wanted.site_id):
        raise RequestError("a site id is ASCII without a colon", path="$.site_id")
    known = (one.site_id for one in tools.credentials.list() if one.kind == "track")
    return wanted.site_id or next(known, None) or secrets.token_hex(SITE_ID_BYTES)


def _shape(credential: Credential) -> dict[str, object]:
    return {
        "id": credential.credential_id,
        "kind": credential.kind,
        "site_id": credential.site_id,
        "hint": credential.hint,
        "preset": credential.preset,
        "created_at": to_unix(credential.created_us),
    }
