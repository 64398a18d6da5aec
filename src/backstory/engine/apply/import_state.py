"""Applying the start and the end of imports; what lies between commits chunk by chunk in ``state.db`` alone."""

from dataclasses import replace

from backstory.core.fact import FinishImport, Receipt, ReinstateImport, RetractImport, StartImport
from backstory.engine.context import Context
from backstory.store.knowledge import begin_absence, end_absence
from backstory.store.manifest import ImportRow, find_import
from backstory.store.retraction import Retraction, put_retraction, read_retractions

RETRACTED, RETRACTING, REINSTATING = "retracted", "retracting", "reinstating"
_ENDED = ("imported", "canceled", "failed")


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
        found = self._found(fact.import_id)
        if isinstance(found, Receipt):
            return found
        if found.state not in ("importing", "paused"):
            return Receipt("conflict", reason=f"import {fact.import_id} is already {found.state}")
        self._folder.baselines.end(fact.import_id)
        self._folder.manifest.put_import(replace(found, state=fact.state, updated_us=now_us, error=fact.error))
        return Receipt("applied", subject=fact.import_id)

    def retract(self, fact: RetractImport, now_us: int) -> Receipt:
        """From now on the import is on its way out; the work is done beside the loop (``engine.undo.undo``)."""
        found = self._found(fact.import_id)
        if isinstance(found, Receipt):
            return found
        if found.state in (RETRACTED, RETRACTING):
            return Receipt("skipped", reason=f"import {fact.import_id} is {found.state} already")
        if found.state not in _ENDED:
            return Receipt(
                "conflict",
                reason=f"import {fact.import_id} is {found.state}: wait for it, or end it with "
                f"'backstory imports cancel {fact.import_id}', then take it back",
            )
        one = Retraction(import_id=fact.import_id, at_us=now_us, stage="begun", was=found.state, returning=False)
        put_retraction(self._folder.state.db, one)
        begin_absence(self._folder.state.db, fact.import_id, now_us)
        self._folder.manifest.put_import(replace(found, state=RETRACTING, updated_us=now_us))
        return Receipt("applied", subject=fact.import_id)

    def reinstate(self, fact: ReinstateImport, now_us: int) -> Receipt:
        """From now on the import is on its way back in."""
        found = self._found(fact.import_id)
        if isinstance(found, Receipt):
            return found
        if found.state == REINSTATING:
            return Receipt("skipped", reason=f"import {fact.import_id} is on its way back already")
        if found.state != RETRACTED:
            return Receipt("conflict", reason=f"import {fact.import_id} is {found.state}: it was not taken back")
        one = replace(read_retractions(self._folder.state.db)[fact.import_id], stage="begun", returning=True)
        if one.was == "purged":
            return Receipt("conflict", reason=f"import {fact.import_id} was purged: its rows are gone for good")
        put_retraction(self._folder.state.db, one)
        end_absence(self._folder.state.db, fact.import_id, now_us)
        self._folder.manifest.put_import(replace(found, state=REINSTATING, updated_us=now_us))
        return Receipt("applied", subject=fact.import_id)

    def _found(self, import_id: int) -> ImportRow | Receipt:
        row = find_import(self._folder.state.db, import_id)
        return Receipt("dropped", reason=f"there is no import {import_id}") if row is None else row
