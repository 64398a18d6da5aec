"""Files of history that are written and synced, and what the manifest says of them once it names them."""

from dataclasses import dataclass

from backstory.store.manifest import KeyRun, Part
from backstory.store.part import WrittenPart


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file written and synced, not named yet: of a part, or a run of keys (without times and ``bytes``)."""

    path: str
    rows: int
    checksum: str
    bytes: int = 0
    low_us: int = 0
    high_us: int = 0
    seq: int = 0
    import_id: int = 0
    duplicate: bool = False

    @classmethod
    def of_part(cls, written: WrittenPart, *, low_us: int, high_us: int, seq: int, import_id: int = 0) -> "File":
        """A part's file, with what is to be known of its rows."""
        return cls(
            path=written.path,
            rows=written.rows,
            checksum=written.checksum,
            bytes=written.bytes,
            low_us=low_us,
            high_us=high_us,
            seq=seq,
            import_id=import_id,
        )


def named_part(file: File, part_id: int, kind: str) -> Part:
    """What was written, as the manifest names it; its rows say themselves from which commit they count."""
    return Part(
        part_id=part_id,
        kind=kind,
        path=file.path,
        rows=file.rows,
        checksum=file.checksum,
        bytes=file.bytes,
        low_us=file.low_us,
        high_us=file.high_us,
        import_id=file.import_id,
        seq=file.seq,
        mixed=True,
    )


def named_run(file: File, run_id: int) -> KeyRun:
    """A run of keys that was written, as the manifest names it."""
    return KeyRun(
        run_id=run_id,
        path=file.path,
        rows=file.rows,
        checksum=file.checksum,
        import_id=file.import_id,
        duplicate=file.duplicate,
    )
