"""Verifying people: each document against its writes, each membership against the oracle.

Memberships are those of one moment. People about whom facts came since are not judged by that moment but looked at
again, in one piece with their history: so a running server need not stop, and is not accused of what it just did.
"""

import msgspec
from pyroaring import BitMap

from backstory.core import oracle
from backstory.core.condition import Json, attributes_in
from backstory.core.oracle import PersonHistory
from backstory.core.person import Document, decode_document, values
from backstory.engine.verify.finding import Findings
from backstory.engine.verify.moment import Moment, read_moment, when_quiet
from backstory.engine.verify.testimony import Stored, Witness, assemble, read_stored, witnesses
from backstory.engine.workspace import Workspace
from backstory.store.manifest import read_imports
from backstory.store.people import cio_id_of

# Later than every write: what a person's values are when all of them count.
END_US = 1 << 62
TELL_EVERY = 10_000
# Looked at in one piece, which holds the loop for some milliseconds.
LOOK_AT_ONCE = 50

_encode = msgspec.json.Encoder(order="sorted").encode


def verify_people(workspace: Workspace, moment: Moment, findings: Findings) -> None:
    """Everybody: documents, memberships, and that memory knows the people who are stored. Raises ``StorageError``."""
    judge = _Judge(moment)
    seen, doubtful, told = BitMap(), BitMap(), TELL_EVERY
    findings.progress("person", 0, len(moment.alive))
    for people in witnesses(workspace.folder, moment.names(), until_seq=moment.seq, stop=moment.next_person):
        for witness in people:
            seen.add(witness.person)
            verify_document(witness, findings)
            if judge.agrees(witness) or _coming(workspace, witness):
                continue
            if witness.touched:
                doubtful.add(witness.person)
            else:
                judge.tell(witness, findings)
        if len(seen) >= told:
            findings.progress("person", len(seen), len(moment.alive))
            told += TELL_EVERY
    _look_again(workspace, list(doubtful), findings)
    _verify_members(moment, findings)
    _verify_existence(workspace, moment, seen, findings)
    findings.checked("person", len(seen))
    findings.checked("segment", len(judge.conditions) + len(moment.manual))


# -- documents ------------------------------------------------------------------------------------------------


def verify_document(witness: Witness, findings: Findings) -> None:
    """The stored registers are what the writes come to, and read as the oracle reads them."""
    try:
        document = decode_document(witness.document)
    except msgspec.MsgspecError as error:
        findings.difference("document", f"it cannot be read: {error}", person=witness.cio_id)
        return
    told = fold(witness.writes + witness.late)
    stored = {name: (one.time_us, one.value is not None, one.value or b"") for name, one in document.items()}
    for name in sorted(told.keys() | stored.keys()):
        if told.get(name) != stored.get(name):
            problem = f"{_words(stored.get(name))} is stored, history says {_words(told.get(name))}"
            findings.difference("attribute", problem, person=witness.cio_id, attribute=name)
    if told == stored:
        _verify_shown(witness, document, findings)


def _verify_shown(witness: Witness, document: Document, findings: Findings) -> None:
    shown, true = values(document), oracle.values_at(witness.history(witness.writes + witness.late), END_US)
    if shown != true:
        findings.difference("document", f"it is shown as {shown}, history says {true}", person=witness.cio_id)


def fold(writes: list[tuple[int, dict[str, Json]]]) -> dict[str, tuple[int, bool, bytes]]:
    """Of each attribute the write that wins: (time, is it a value, the value as canonical JSON); design section 6."""
    best: dict[str, tuple[int, bool, bytes]] = {}
    for time_us, attributes in writes:
        for name, value in attributes.items():
            removal = value is None or value == ""
            one = (time_us, not removal, b"" if removal else _encode(value))
            best[name] = max(best.get(name, one), one)
    return best


def _words(register: tuple[int, bool, bytes] | None) -> str:
    if register is None:
        return "nothing"
    time_us, is_value, value = register
    return f"{value.decode() if is_value else 'a removal'} since {time_us / 1e6:.6f}"


# -- memberships ----------------------------------------------------------------------------------------------


class _Judge:
    """The oracle, asked about whole people."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self.conditions = moment.judged()
        self._segments = moment.segments()
        fields = {name for condition in moment.conditions.values() for name in attributes_in(condition)}
        self._roots = fields | {name.partition(".")[0].partition("[")[0] for name in fields}

    def agrees(self, witness: Witness) -> bool:
        """Is the person in just the segments the oracle would put them in?"""
        history = self._short(witness)
        now_us, members = self._moment.now_us, self._moment.members
        return all(
            oracle.member(condition, history, now_us, self._segments) == (witness.person in members.get(number, ()))
            for number, condition in self.conditions.items()
        )

    def tell(self, witness: Witness, findings: Findings) -> None:
        history = self._short(witness)
        for number, condition in self.conditions.items():
            true = oracle.member(condition, history, self._moment.now_us, self._segments)
            if true != (witness.person in self._moment.members.get(number, ())):
                problem = "is no member and must be one" if true else "is a member and must not be one"
                findings.difference("membership", problem, segment=number, person=witness.cio_id)

    def _short(self, witness: Witness) -> PersonHistory:
        """The history with all its writes as one: they count from when they are accepted, whatever their time.

        And only of attributes that some condition asks for, which spares the oracle most of its work.
        """
        history = witness.history(witness.writes)
        shown = oracle.values_at(history, END_US) if self._roots else {}
        asked = {name: value for name, value in shown.items() if name in self._roots}
        history.writes = [(history.exists_since_us, asked)]
        # The same goes for devices and relationships dated a little ahead.
        now_us = self._moment.now_us
        history.devices = [(write[0], min(write[1], now_us), write[2]) for write in history.devices]
        history.relations = [(*write[:2], min(write[2], now_us), write[3]) for write in history.relations]
        history.objects = [(*write[:2], min(write[2], now_us), write[3]) for write in history.objects]
        return history


def _coming(workspace: Workspace, witness: Witness) -> bool:
    """Has an import that is under way made this person, and not committed what it knows of them?"""
    if witness.import_id == 0 or witness.facts:
        return False
    rows = workspace.folder.state.read(read_imports)
    return any(row.import_id == witness.import_id and row.state == "importing" for row in rows)


def _look_again(workspace: Workspace, people: list[int], findings: Findings) -> None:
    """People about whom facts came: as they are now, memberships and history in one piece."""
    folder = workspace.folder

    def look(some: list[int]) -> tuple[Moment, list[Stored]]:
        moment = read_moment(workspace)
        names = moment.names()
        db = folder.state.db
        return moment, [read_stored(db, names, one, one + 1, until_seq=moment.seq) for one in some]

    for low in range(0, len(people), LOOK_AT_ONCE):
        some = people[low : low + LOOK_AT_ONCE]
        with folder.history.reading():
            moment, found = when_quiet(workspace, lambda: look(some))  # noqa: B023
            again = [witness for stored in found for witness in assemble(folder, stored)]
        judge = _Judge(moment)
        for witness in again:
            if not judge.agrees(witness) and not _coming(workspace, witness):
                judge.tell(witness, findings)


def _verify_members(moment: Moment, findings: Findings) -> None:
    """Manual segments as they are stored; in none is anybody who does not exist; each stored one is there."""
    for number in sorted(moment.manual.keys() | moment.conditions.keys()):
        members = moment.members.get(number)
        if members is None:
            findings.difference("segment", "it is stored and not in memory", segment=number)
            continue
        for person in members - moment.alive:
            problem = "is a member and does not exist"
            findings.difference("membership", problem, segment=number, person=cio_id_of(person))
        if number in moment.manual:
            for person in members ^ BitMap(moment.manual[number]):
                problem = "is a member and must not be one" if person in members else "is no member and must be one"
                findings.difference("membership", problem, segment=number, person=cio_id_of(person))


def _verify_existence(workspace: Workspace, moment: Moment, seen: BitMap, findings: Findings) -> None:
    """Memory knows just the people who are stored."""
    deleted = BitMap([row[0] for row in workspace.folder.state.rows("SELECT person FROM deleted")])
    for person in moment.alive - seen - deleted:
        findings.difference("person", "is in memory and not stored", person=cio_id_of(person))
    for person in seen - moment.alive:
        findings.difference("person", "is stored and not in memory", person=cio_id_of(person))
