"""A person's document: attributes as registers, each with the time its value became true.

Per-attribute last-writer-wins by time; at equal times a value beats a removal, then the larger canonical JSON
wins. A name with dots is a path (``address.city``) and a register of its own: the value shown is the newest
whole write plus later path writes. Timed writes in any order, any number of times, end in one document.
Source: design section 6.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from backstory.core.condition import Json

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class Register(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One value with its time; ``value`` is canonical JSON, None after a removal."""

    time_us: int
    value: bytes | None

    def beats(self, other: "Register") -> bool:
        """Does this write win against another of the same attribute?"""
        if self.time_us != other.time_us:
            return self.time_us > other.time_us
        return (self.value is not None, self.value or b"") > (other.value is not None, other.value or b"")


Document = dict[str, Register]


class Change(msgspec.Struct, frozen=True, gc=False):
    """An attribute as it was and as it is; None where it was or is not set."""

    name: str
    before: Json
    after: Json


class Loss(msgspec.Struct, frozen=True, gc=False):
    """A write that lost against a newer one."""

    name: str
    stored_at_us: int
    sent_at_us: int


class Written(msgspec.Struct, frozen=True, gc=False):
    """What a write did: ``changed`` names every register with another value, and every whole shown differently.

    ``touched``: some register took a new value or a new time. ``alone``: how many registers took what was written,
    where that was all of it and nothing has a path; else 0.
    """

    changed: tuple[Change, ...]
    lost: tuple[Loss, ...]
    touched: bool
    alone: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Register])


def encode_document(document: Document) -> bytes:
    return _encoder.encode(document)


def decode_document(body: bytes) -> Document:
    return _decoder.decode(body)


def register(value: Json, time_us: int) -> Register:
    """A write as a register: null and the empty string are removals."""
    return Register(time_us, None if value is None or value == "" else _encode(value))


def write(document: Document, attributes: Mapping[str, Json], time_us: int) -> Written:
    """Merge one call's attributes into ``document`` (in place) and say what came of each."""
    changed: list[Change] = []
    lost: list[Loss] = []
    touched = False
    layered = _layered(document, attributes)
    before_whole = {root: shown(document, root) for root in layered}
    held = document.get
    for name, value in attributes.items():
        body = None if value is None or value == "" else _encode(value)
        old = held(name)
        if old is None:
            before = None
        elif old.time_us < time_us or Register(time_us, body).beats(old):
            before = old.value
        else:
            if old.time_us != time_us or old.value != body:
                lost.append(Loss(name, old.time_us, time_us))
            continue
        document[name] = Register(time_us, body)
        touched = True
        if before != body:
            was = None if before is None else _decode(before)
            changed.append(Change(name, was, None if body is None else value))
    # A value sent again with a newer time may cover what lay over it, or come to lie over what covered it.
    for root in sorted(layered - root_names(tuple(changed))) if touched and layered else ():
        after = shown(document, root)
        if _encode(after) != _encode(before_whole[root]):
            changed.append(Change(root, before_whole[root], after))
    alone = 0 if layered or lost else len(attributes)
    return Written(tuple(changed), tuple(lost), touched, alone)


# How a register begins that holds a time of these, in an encoded document: nothing else has these bytes, as the second
# begins a character in texts, which the third, a zero, does not go on.
_STAMP, _STAMP_FROM_US, _STAMP_TO_US = b"\x92\xcf", 1 << 32, 1 << 56


def is_repeatable(body: bytes, written: Written, time_us: int) -> bool:
    """Would the attributes that were written at this time, written once more later, change nothing but times?

    ``body`` is the document, encoded, to which they were written: they, and no other registers, have this time.
    """
    if not written.alone or not _STAMP_FROM_US <= time_us < _STAMP_TO_US:
        return False
    return body.count(_STAMP + time_us.to_bytes(8)) == written.alone


def repeated(body: bytes, before_us: int, time_us: int) -> bytes | None:
    """The document after that (``is_repeatable`` said so of ``before_us``, and says so of ``time_us`` then).

    None: not by this way.
    """
    if not before_us < time_us < _STAMP_TO_US:
        return None
    stamp = _STAMP + time_us.to_bytes(8)
    if stamp in body:
        # Others have this time already: the next time they could not be told from what is repeated.
        return None
    return body.replace(_STAMP + before_us.to_bytes(8), stamp)


def _layered(document: Document, attributes: Mapping[str, Json]) -> set[str]:
    """The names over which paths lie, or come to lie."""
    names = (*document, *attributes)
    # Most people have none.
    if "." not in "".join(names):
        return set()
    return {name.partition(".")[0] for name in names if "." in name}


def folded(writes: Iterable[tuple[int, Mapping[str, Json]]]) -> Document:
    """The document that some writes, as (time, attributes), come to in any order."""
    document: Document = {}
    for time_us, attributes in writes:
        for name, value in attributes.items():
            new, old = register(value, time_us), document.get(name)
            if old is None or new.beats(old):
                document[name] = new
    return document


def origins(document: Document, writes: Iterable[tuple[int, Mapping[str, Json], int]]) -> dict[str, int]:
    """By name the first import that wrote a value, where no live call did; ``writes``: (time, attributes, import)."""
    found: dict[str, int] = {}
    for time_us, attributes, import_id in writes:
        for name, value in attributes.items():
            if document.get(name) == register(value, time_us):
                found[name] = 0 if import_id == 0 else found.get(name, import_id)
    return {name: import_id for name, import_id in found.items() if import_id}


def shown(document: Document, root: str) -> Json:
    """One attribute with the paths laid over it; None when it is not set."""
    return values({name: item for name, item in document.items() if name.partition(".")[0] == root}).get(root)


def _json(value: bytes | None) -> Json:
    return None if value is None else _decode(value)


def values(document: Document, roots: Collection[str] | None = None) -> dict[str, Json]:
    """The attributes as they are: paths laid over their wholes, removals left out; ``roots``: of these only."""
    if roots is not None:
        document = _under(document, roots)
    plain = {name: _json(item.value) for name, item in document.items() if item.value is not None and "." not in name}
    paths = [(item.time_us, name, item) for name, item in document.items() if "." in name]
    for time_us, name, item in sorted(paths, key=lambda path: path[:2]):
        whole = document.get(name.partition(".")[0])
        if whole is None or time_us > whole.time_us:
            _lay(plain, name.split("."), item.value)
    return plain


def _under(document: Document, roots: Collection[str]) -> Document:
    """The registers that fields with these root names may ask for."""
    if _is_flat(document):
        return {name: document[name] for name in document.keys() & roots}
    return {name: item for name, item in document.items() if root_name(name) in roots}


def _is_flat(names: Iterable[str]) -> bool:
    """Is each name its own root? So are most, and that takes no look at each."""
    together = "".join(names)
    return "." not in together and "[" not in together


def _lay(target: dict[str, Json], steps: list[str], value: bytes | None) -> None:
    for step in steps[:-1]:
        below = target.get(step)
        if not isinstance(below, dict):
            if value is None:
                return
            below = {}
        below = dict(below)
        target[step] = below
        target = below
    if value is None:
        target.pop(steps[-1], None)
    else:
        target[steps[-1]] = _json(value)


def times_us(document: Document) -> dict[str, int]:
    """When each attribute that is set became true."""
    return {name: item.time_us for name, item in document.items() if item.value is not None}


def root_names(changes: tuple[Change, ...]) -> set[str]:
    """The names under which fields look for what changed."""
    names = [change.name for change in changes]
    return set(names) if _is_flat(names) else {root_name(name) for name in names}


def root_name(name: str) -> str:
    """Under which name fields look for it: a field ``tags[0]`` may be a name or a path into ``tags``."""
    return name if "." not in name and "[" not in name else name.partition(".")[0].partition("[")[0]
