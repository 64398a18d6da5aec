"""Applying the start and the end of imports; what lies between commits chunk by chunk in ``state.db`` alone."""

from dataclasses import replace

from backstory.core.fact import FinishImport, Receipt, StartImport
from backstory.engine.context import Context
from backstory.store.manifest import ImportRow, read_imports


class Imports:
    """Import rows are made and ended by facts, so that their accept time is in the journal."""

    def __init__(self, context: Context) -> None:
        self._folder = context.folder

    def start(self, fact: StartImport, now_us: int) -> Receipt:
        row = self._folder.state.db.execute("SELECT coalesce(max(import_id), 0) + 1 FROM import").fetchone()
        import_id: int = row[0]
        self._folder.manifest.put_import(
            ImportRow(
                import_id=import_id,
                fingerprint=fact.fingerprint,
                options=fact.options.decode(),
                state="importing",
                accept_us=now_us,
                updated_us=now_us,
                progress="{}",
                error="",
            )
        )
        return Receipt("applied", subject=import_id)

    def finish(self, fact: FinishImport, now_us: int) -> Receipt:
        found = [row for row in read_imports(self._folder.state.db) if row.import_id == fact.import_id]
        if not found:
            return Receipt("dropped", reason=f"there is no import {fact.import_id}")
        if found[0].state != "importing":
            return Receipt("conflict", reason=f"import {fact.import_id} is already {found[0].state}")
        self._folder.manifest.put_import(replace(found[0], state=fact.state, updated_us=now_us, error=fact.error))
        return Receipt("applied", subject=fact.import_id)
