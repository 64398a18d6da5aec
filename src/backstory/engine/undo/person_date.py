"""Since when people are there, when the import that made them does not count: by the first fact that does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backstory.core.limit import LOOP_ROWS
from backstory.engine.undo.countable import GONE_AT_ONCE, READ_AT_ONCE, standing_imports
from backstory.store.write_block import table_of_writes

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace


def date_people(workspace: Workspace) -> None:
    """Who was made by an import that does not count was made by the first fact that does; and back again."""
    folder = workspace.folder
    standing = workspace.call(lambda: standing_imports(workspace))
    marks = ", ".join(map(str, standing)) or "-1"
    out = folder.state.rows(
        f"SELECT person FROM person WHERE import_id > 0 AND import_id NOT IN ({marks})"
        # Whose first fact left may have gone by now, too.
        f" UNION SELECT person FROM withdrawn WHERE NOT gone AND creator > 0 AND creator NOT IN ({marks})"
        " ORDER BY person"
    )
    people = [row[0] for row in out]
    for low in range(0, len(people), READ_AT_ONCE):
        found = _first_facts(workspace, people[low : low + READ_AT_ONCE])
        some = list(found.items())
        for at in range(0, len(some), GONE_AT_ONCE):
            workspace.call(lambda: _date_some(workspace, some[at : at + GONE_AT_ONCE]))  # noqa: B023
    back = folder.state.rows(
        f"SELECT person FROM withdrawn WHERE NOT gone AND (creator = 0 OR creator IN ({marks})) ORDER BY person"
    )
    for low in range(0, len(back), LOOP_ROWS.value):
        returned = [row[0] for row in back[low : low + LOOP_ROWS.value]]
        workspace.call(lambda: _date_back(workspace, marks, returned))  # noqa: B023


def _first_facts(workspace: Workspace, people: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Of these people the first accepted fact that counts: (accept time, since when the person is known by it)."""
    history = workspace.folder.history
    marks = ", ".join(map(str, people))
    asked = "SELECT person, accept_us, min(min(time_us, accept_us)) FROM {} WHERE {} GROUP BY 1, 2"
    with history.reading():
        parts, rows = history.stored(asked.format("event", f"person IN ({marks}) AND NOT duplicate"))
        rows += workspace.folder.state.read(
            lambda db: db.execute(asked.format(table_of_writes(db, people), f"person IN ({marks})")).fetchall()
        )
        rows += workspace.folder.state.rows(asked.format("record_write", f"person IN ({marks})"))
        for kind, counting in (("event", " AND NOT duplicate"), ("write", "")):
            files = history.files(parts, kind)
            if files:
                rows += history.rows(
                    "SELECT person, accept_us, min(least(time_us, accept_us)) FROM read_parquet($1)"
                    f" WHERE person IN (SELECT unnest($2)){counting} GROUP BY 1, 2",
                    files,
                    (list(people),),
                )
    first: dict[int, tuple[int, int]] = {}
    for person, accept_us, since_us in rows:
        first[person] = min(first.get(person, (accept_us, since_us)), (accept_us, since_us))
    return first


def _date_some(workspace: Workspace, people: Sequence[tuple[int, tuple[int, int]]]) -> None:
    """On the loop."""
    db = workspace.folder.state.db
    for person, (accept_us, since_us) in people:
        db.execute(
            "INSERT OR IGNORE INTO withdrawn SELECT person, 0, NULL, NULL, NULL, created_us, accept_us, import_id, 0,"
            " NULL FROM person WHERE person = ?",
            (person,),
        )
        db.execute(
            "UPDATE person SET created_us = ?, accept_us = ?, import_id = 0 WHERE person = ?",
            (since_us, accept_us, person),
        )


def _date_back(workspace: Workspace, standing: str, people: Sequence[int]) -> None:
    """On the loop: those whose maker counts again."""
    db = workspace.folder.state.db
    some = ", ".join(map(str, people))
    db.execute(
        "UPDATE person SET created_us = w.created_us, accept_us = w.accept_us, import_id = w.creator"
        f" FROM withdrawn AS w WHERE w.person = person.person AND NOT w.gone AND w.creator IN ({standing})"
        f" AND w.person IN ({some}) AND person.person IN ({some})"
    )
    db.execute(
        f"DELETE FROM withdrawn WHERE person IN ({some}) AND NOT gone AND NOT unsure"
        f" AND (creator = 0 OR creator IN ({standing})) AND coalesce(id, email, phone) IS NULL"
    )
