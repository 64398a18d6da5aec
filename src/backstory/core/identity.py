"""Who is meant: the decision table of identify, as a function of what was found.

Source: semantics section 1.2. A body identifier that contradicts the path is refused with a trace, the answer
stays 200; unless the two people it names are halves of one, which are merged (section 1.6). People are dense numbers
here, in the order in which they were made; finding them is the caller's work.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from backstory.core.fact import Identifier, IdentifierKind

ALREADY_TAKEN = "The identifier is already associated with a different profile."
ALREADY_SET = "The profile already has a different value for this identifier; address it by cio_id to change it."
NOT_TO_BE_CHANGED = "The profile already has a different value for this identifier, and the workspace changes none."
# Of a call whose path nobody has, while its body names somebody: which identifier that is, and which they have already.
NAMES_ANOTHER = "The {by} of the call belongs to a profile with another {kind}; address it by cio_id to change it."
NOTHING_TO_UPDATE = "No profile matches and the call asked not to create one."


@dataclass(frozen=True, slots=True)
class Apply:
    """Update ``person`` (None: create one) and give them ``assign``."""

    person: int | None
    assign: tuple[Identifier, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Change nothing, leave a failed attribute change on ``person`` (None: on nobody)."""

    person: int | None
    attribute: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Change nothing: nobody has this cio_id."""

    reason: str


@dataclass(frozen=True, slots=True)
class Join:
    """Merge ``secondary`` into ``primary``, then judge again."""

    primary: int
    secondary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a workspace chose: do two halves merge, may an identifier be changed by ``cio_id``, an email by ``id``?"""

    auto_merge: bool = True
    change_by_cio_id: bool = True
    change_email_by_id: bool = False


Decision = Apply | Refuse | Drop | Join


def normal(identifier: Identifier) -> Identifier:
    """The form in which an identifier is compared: emails without case and blanks around them."""
    if identifier.kind == "email":
        return Identifier("email", identifier.value.strip().lower())
    return identifier


def decide(
    path: Identifier,
    body: tuple[Identifier, ...],
    owner: Mapping[Identifier, int],
    owned: Mapping[int, Mapping[IdentifierKind, str]],
    *,
    update_only: bool,
    rules: Rules,
) -> Decision:
    """Judge one identify. All identifiers are normal; ``owner`` has those that are known, ``owned`` their people."""
    # A cio_id is never given: one that nobody has says nothing.
    body = tuple(identifier for identifier in body if identifier.kind != "cio_id" or identifier in owner)
    if rules.auto_merge and body:
        halves = _halves((path, *body), owner, owned)
        if halves is not None:
            return Join(*halves)
    person = owner.get(path)
    if path.kind == "cio_id":
        return _by_cio_id(person, body, owner, owned, change=rules.change_by_cio_id)
    if person is not None:
        change_email = path.kind == "id" and rules.change_email_by_id
        return _known(person, body, owner, owned[person], change_email=change_email)
    named = {owner[identifier] for identifier in body if identifier in owner}
    if len(named) > 1:
        clash = next(identifier for identifier in body if identifier in owner)
        return Refuse(None, clash.kind, clash.value, ALREADY_TAKEN)
    if named:
        return _relabel(named.pop(), path, body, owner, owned)
    return _create(path, body, update_only=update_only)


def _halves(
    named: tuple[Identifier, ...],
    owner: Mapping[Identifier, int],
    owned: Mapping[int, Mapping[IdentifierKind, str]],
) -> tuple[int, int] | None:
    """The two people an id and an email name, older first: the one has no email, the other no id, and nobody else
    is named. Source: semantics section 1.6.
    """
    by_kind = {identifier.kind: owner.get(identifier) for identifier in named}
    by_id, by_email = by_kind.get("id"), by_kind.get("email")
    if by_id is None or by_email is None or by_id == by_email or len(by_kind) < len(set(named)):
        return None
    others = set(by_kind.values()) - {by_id, by_email, None}
    if others or "cio_id" in by_kind or "email" in owned[by_id] or "id" in owned[by_email]:
        return None
    return min(by_id, by_email), max(by_id, by_email)


def _by_cio_id(
    person: int | None,
    body: tuple[Identifier, ...],
    owner: Mapping[Identifier, int],
    owned: Mapping[int, Mapping[IdentifierKind, str]],
    *,
    change: bool,
) -> Decision:
    if person is None:
        return Drop("nobody has this cio_id")
    for identifier in body:
        if owner.get(identifier, person) != person:
            return Refuse(person, identifier.kind, identifier.value, ALREADY_TAKEN)
        if not change and identifier not in owner and identifier.kind in owned[person]:
            return Refuse(person, identifier.kind, identifier.value, NOT_TO_BE_CHANGED)
    return Apply(person, tuple(identifier for identifier in body if identifier not in owner))


def _known(
    person: int,
    body: tuple[Identifier, ...],
    owner: Mapping[Identifier, int],
    owned: Mapping[IdentifierKind, str],
    *,
    change_email: bool = False,
) -> Decision:
    assign: list[Identifier] = []
    for identifier in body:
        if owner.get(identifier, person) != person:
            return Refuse(person, identifier.kind, identifier.value, ALREADY_TAKEN)
        if identifier in owner:
            continue
        if identifier.kind in owned and not (change_email and identifier.kind == "email"):
            return Refuse(person, identifier.kind, identifier.value, ALREADY_SET)
        assign.append(identifier)
    return Apply(person, tuple(assign))


def _relabel(
    person: int,
    path: Identifier,
    body: tuple[Identifier, ...],
    owner: Mapping[Identifier, int],
    owned: Mapping[int, Mapping[IdentifierKind, str]],
) -> Decision:
    """The path is unknown but the body names somebody: they get the path's identifier."""
    if path.kind in owned[person]:
        by = next(identifier.kind for identifier in body if owner.get(identifier) == person)
        # One email may be in the path, and another in the body.
        reason = ALREADY_SET if by == path.kind else NAMES_ANOTHER.format(by=by, kind=path.kind)
        return Refuse(person, path.kind, path.value, reason)
    others = tuple(identifier for identifier in body if identifier != path)
    decision = _known(person, others, owner, {**owned[person], path.kind: path.value})
    if isinstance(decision, Apply):
        return Apply(person, (path, *decision.assign))
    return decision


def _create(path: Identifier, body: tuple[Identifier, ...], *, update_only: bool) -> Decision:
    if update_only:
        return Refuse(None, path.kind, path.value, NOTHING_TO_UPDATE)
    for identifier in body:
        if identifier.kind == path.kind and identifier != path:
            reason = f"{path.kind} attribute and identifier are not the same value"
            return Refuse(None, identifier.kind, identifier.value, reason)
    return Apply(None, (path, *(identifier for identifier in body if identifier != path)))
