"""One workspace's folder: its stores opened together."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backstory.core.error import StorageError
from backstory.store.baseline import Baselines
from backstory.store.build_note import BuildNotes
from backstory.store.database import make_folder
from backstory.store.definition import Definitions
from backstory.store.device import Devices
from backstory.store.duck import Duck
from backstory.store.history import History, numpy_of
from backstory.store.journal import Journal, SqliteJournal
from backstory.store.keyrun import KeyIndex
from backstory.store.ledger import Ledger
from backstory.store.manifest import Manifest, read_files, read_key_runs, read_parts
from backstory.store.object import Objects
from backstory.store.people import People
from backstory.store.provenance import Namings
from backstory.store.record import RecordWrites
from backstory.store.relation import Relations
from backstory.store.state import State
from backstory.store.tail import Tail
from backstory.store.tombstone import Tombstones

# Where copies of the stores lie while something is tried on them.
REPLICAS = "replicas"


@dataclass(slots=True, kw_only=True)
class Folder:
    """Every store of one workspace. The stores over ``state.db`` share the loop's connection."""

    path: Path
    journal: Journal
    state: State
    namings: Namings
    baselines: Baselines
    builds: BuildNotes
    people: People
    devices: Devices
    objects: Objects
    relations: Relations
    record_writes: RecordWrites
    tombstones: Tombstones
    tail: Tail
    definitions: Definitions
    ledger: Ledger
    manifest: Manifest
    history: History
    keys: KeyIndex
    duck: Duck
    # What was found missing or damaged since the folder was opened, in words for the operator.
    faults: list[str] = field(default_factory=list[str])

    def fault(self, text: str) -> None:
        """Remember that something stored cannot be read; work that does not need it goes on."""
        if text not in self.faults:
            self.faults.append(text)

    @property
    def parts_path(self) -> Path:
        return self.path / "parts"

    def reload_manifest(self) -> None:
        """Take up the parts and key runs the manifest names now."""
        self.history.parts = tuple(read_parts(self.state.db))
        for run, error in self.keys.open(read_key_runs(self.state.db)):
            self.fault(str(error))
            if not run.duplicate:
                self._keys_from_parts(run.import_id)

    def _keys_from_parts(self, import_id: int) -> None:
        """A run of keys is lost: read them from the parts, so that no event counts twice."""
        found = "SELECT key, person FROM read_parquet($1) WHERE import_id = $2 AND key IS NOT NULL AND NOT duplicate"
        try:
            table = self.history.table(found, self.history.files(self.history.parts, "event"), (import_id,))
        except StorageError as error:
            self.fault(f"which events import {import_id} brought cannot be told: {error}")
            return
        self.keys.put(
            import_id, numpy_of(table.column("key"), np.int64), numpy_of(table.column("person"), np.uint32)
        )

    def inspect(self) -> None:
        """Note the parts that are not there, or not as long as they were."""
        for part in self.history.parts:
            try:
                length = (self.parts_path / part.path).stat().st_size
            except OSError as error:
                self.fault(f"the part {part.path} cannot be read: {error.strerror}; restore it from a backup")
                continue
            if length != part.bytes:
                self.fault(f"the part {part.path} has {length} bytes, not {part.bytes}; restore it from a backup")

    def sweep(self) -> list[str]:
        """Delete files in the parts folder that the manifest does not name, and old replicas; returns the names."""
        shutil.rmtree(self.path / REPLICAS, ignore_errors=True)
        named = set(read_files(self.state.db))
        gone: list[str] = []
        for path in self.parts_path.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)
                gone.append(path.name)
        return gone

    def close(self) -> None:
        self.duck.close()
        self.state.close()
        self.journal.close()


def open_folder_stores(
    path: Path, *, memory_mb: int, threads: int, temporary: Path | None = None, journal: Journal | None = None
) -> Folder:
    """Open, or make, the stores of the workspace in ``path``."""
    parts = path / "parts"
    temporary = temporary or path / "temporary"
    try:
        make_folder(parts)
    except OSError as error:
        raise StorageError(f"cannot make {path}: {error}") from error
    try:
        temporary.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"cannot make the temporary folder {temporary} (setting temp_folder): {error.strerror or error}"
        raise StorageError(said) from error
    state = State(path / "state.db")
    duck = Duck(memory_mb=memory_mb, threads=threads, temporary=temporary)
    namings = Namings(state.db)
    folder = Folder(
        path=path,
        journal=journal or SqliteJournal(path / "journal.db"),
        state=state,
        namings=namings,
        baselines=Baselines(state.db),
        builds=BuildNotes(state.db),
        people=People(state.db, namings),
        devices=Devices(state.db),
        objects=Objects(state.db),
        relations=Relations(state.db),
        record_writes=RecordWrites(state.db),
        tombstones=Tombstones(state.db, lambda: state.now_us),
        tail=Tail(state.db),
        definitions=Definitions(state.db),
        ledger=Ledger(state.db),
        manifest=Manifest(state.db),
        history=History(parts, state, duck),
        keys=KeyIndex(parts),
        duck=duck,
    )
    folder.reload_manifest()
    folder.inspect()
    return folder
