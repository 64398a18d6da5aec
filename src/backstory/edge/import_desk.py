"""The desk for imports that are asked for by API: files are uploaded or fetched into spools, then imports run.

An import exists from the moment it is asked for, so that it can be looked at; a worker fetches its file and runs it.
There are as many workers as imports may run at once; those take turns.
What a stop of the server interrupts is taken up at the next start.
"""

import logging
import queue
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from backstory.core.error import BackstoryError, Busy, ConflictError, NotFoundError, RequestError
from backstory.core.fact import FinishImport, StartImport
from backstory.core.limit import IMPORTS_AT_ONCE, IMPORTS_WAITING, UPLOADS_UNFINISHED
from backstory.edge import fetch_url
from backstory.edge.multipart import safe_name
from backstory.engine.answer.view import ImportView
from backstory.engine.file import spool
from backstory.engine.file.options import BackfillOptions, Progress, Stopped, Summary
from backstory.engine.file.spool import Spool, spool_folder
from backstory.engine.file.unpack import SourceError
from backstory.engine.settings import Settings

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

_log = logging.getLogger(__name__)
_MB = 1 << 20
BUSY_S = 60
Backfill = Callable[[BackfillOptions, Callable[[Progress], None]], Summary]
Preview = Callable[[BackfillOptions, Callable[[Progress], None]], dict[str, Any]]


class Desk:
    """Uploads and imports of one workspace. Safe to call from any thread."""

    def __init__(
        self,
        workspace: "Workspace",
        settings: Settings,
        *,
        backfill: Backfill,
        preview: Preview,
        now_us: Callable[[], int],
        stopping: threading.Event,
    ) -> None:
        self._workspace = workspace
        self._settings = settings
        self._backfill = backfill
        self._preview = preview
        self._now_us = now_us
        self._stopping = stopping
        self._folder = spool_folder(workspace.folder.path.resolve())
        self._waiting: queue.Queue[int | None] = queue.Queue()
        # Imports that wait for a worker, or have one.
        self._at_hand = workspace.imports.at_hand
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._workers = [
            threading.Thread(target=self._work, name=f"imports {number}", daemon=True)
            for number in range(IMPORTS_AT_ONCE.value)
        ]

    def start(self) -> None:
        """Take up what was interrupted, and wait for more."""
        for import_id in self._interrupted():
            self.take_up(import_id)
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """End at the next safe place."""
        self._stopping.set()
        for _ in self._workers:
            self._waiting.put(None)
        for worker in self._workers:
            if worker.is_alive():
                worker.join()

    # -- uploads --------------------------------------------------------------------------------------------------

    def new_upload(self, name: str = "") -> str:
        """Make an upload; returns its id."""
        upload_id = secrets.token_hex(12)
        spool.sweep(self._folder, self._now_us() / 1e6)
        if sum(1 for _ in self._folder.glob("upload-*.part")) >= UPLOADS_UNFINISHED.value:
            text = UPLOADS_UNFINISHED.message.format(value=UPLOADS_UNFINISHED.value)
            raise Busy(f"{text}: use them, or DELETE /v1/uploads/{{id}}", retry_after_s=BUSY_S)
        with self.upload(upload_id, name=safe_name(name) or "file"):
            return upload_id

    def upload(self, upload_id: str, *, name: str | None = None) -> Spool:
        """The spool of an upload, to be opened. Raises ``NotFoundError``; ``name`` makes it."""
        if not (upload_id.isalnum() and upload_id.isascii()):
            raise NotFoundError(f"there is no upload {upload_id!r}")
        if name is None:
            found = sorted(self._folder.glob(f"upload-{upload_id}-*.part"))
            if not found:
                raise NotFoundError(f"there is no upload {upload_id!r}, or an import has it already")
            path = found[0].with_name(found[0].name.removesuffix(".part"))
        else:
            path = self._folder / f"upload-{upload_id}-{name}"
        return Spool(path, bytes_max=self._settings.import_max_mb * _MB)

    def rename(self, upload_id: str, name: str) -> None:
        """Call an upload what its sender calls it, who said it too late. Raises ``NotFoundError``."""
        path = self.upload(upload_id).path
        renamed = path.with_name(f"upload-{upload_id}-{safe_name(name) or 'file'}")
        path.with_name(path.name + ".part").replace(renamed.with_name(renamed.name + ".part"))

    def hold(self, upload_id: str) -> None:
        """Have an upload for oneself until ``release``. Raises ``ConflictError``."""
        with self._lock:
            if upload_id in self._busy:
                raise ConflictError(f"somebody is sending to upload {upload_id}")
            self._busy.add(upload_id)

    def release(self, upload_id: str) -> None:
        with self._lock:
            self._busy.discard(upload_id)

    def size(self, upload_id: str) -> int:
        """How many bytes of it came."""
        with self.upload(upload_id) as one:
            return one.size

    def drop(self, upload_id: str) -> None:
        """Let go of an upload."""
        path = self.upload(upload_id).path
        spool.remove(self._workspace.folder.path, (str(path),))

    def drop_if_there(self, upload_id: str) -> None:
        """The same; fine when an import has it already."""
        try:
            self.drop(upload_id)
        except NotFoundError:
            pass

    # -- imports --------------------------------------------------------------------------------------------------

    def create(self, options: BackfillOptions, *, url: str | None = None, upload_id: str | None = None) -> int:
        """Begin an import of a URL or an upload; returns its number. The options name no paths yet."""
        if self._waiting.qsize() >= IMPORTS_WAITING.value:
            raise Busy(IMPORTS_WAITING.message.format(value=IMPORTS_WAITING.value), retry_after_s=BUSY_S)
        path = self._place(url, upload_id)
        source = f"upload of {path.name.split('-', 2)[-1]}" if url is None else fetch_url.shown(url)
        options = msgspec.structs.replace(options, paths=(str(path),), sources=(source,))
        if upload_id is not None:
            self._check(options)
        spool.begin(self._workspace.folder.path, options.paths)
        text = msgspec.json.encode(options)
        (receipt,) = self._workspace.apply([StartImport(options=text, fingerprint=text.decode())])
        if receipt.subject is None:
            raise BackstoryError("the import was not begun in time: look at the list of imports")
        self.take_up(receipt.subject)
        return receipt.subject

    def take_up(self, import_id: int) -> bool:
        """Have a worker run an import, unless one does or will; False for one that was not asked for here."""
        if not self._is_ours(self._workspace.imports.options(import_id)):
            return False
        with self._lock:
            if import_id not in self._at_hand:
                self._at_hand.add(import_id)
                self._waiting.put(import_id)
        return True

    def retry(self, import_id: int, upload_id: str) -> int:
        """Begin with an upload of mended rows of an import; the upload goes. Raises as ``backfill.mend.begin`` does."""
        from backstory.engine.backfill import mend

        path = self._place(None, upload_id)
        try:
            mend.begin(self._workspace, import_id, path)
        finally:
            spool.remove(self._workspace.folder.path, (str(path),))
        self.take_up(import_id)
        return import_id

    def view(self, import_id: int) -> ImportView:
        """An import as it is now."""
        return self._workspace.reader.import_(import_id)

    def preview(
        self, options: BackfillOptions, *, url: str | None = None, upload_id: str | None = None
    ) -> dict[str, Any]:
        """What such an import would do. An upload stays for the import that may follow."""
        path = self._place(url, upload_id)
        try:
            if url is not None:
                self._fetch(path)
            return self._preview(msgspec.structs.replace(options, paths=(str(path),)), lambda progress: None)
        finally:
            if url is not None:
                spool.remove(self._workspace.folder.path, (str(path),))
            elif path.exists():
                path.replace(path.with_name(path.name + ".part"))

    def _place(self, url: str | None, upload_id: str | None) -> Path:
        """Where the file is or will be."""
        if upload_id is not None:
            self.hold(upload_id)
            try:
                with self.upload(upload_id) as one:
                    if not one.size:
                        raise RequestError("nothing was uploaded yet", path="$.import.upload")
                    return one.finish()
            finally:
                self.release(upload_id)
        assert url is not None
        name = safe_name(unquote(urlsplit(url).path)) or "file"
        path = self._folder / f"api-{secrets.token_hex(8)}-{name}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        source = path.with_name(path.name + ".from")
        source.touch(mode=0o600)
        source.write_text(url)
        return path

    def _check(self, options: BackfillOptions) -> None:
        """A file that is there already is looked at before there is an import; it stays an upload when it is wrong."""
        from backstory.engine.backfill import import_check

        try:
            import_check.check(options)
        except BackstoryError as error:
            path = Path(options.paths[0])
            path.replace(path.with_name(path.name + ".part"))
            if isinstance(error, SourceError):
                raise RequestError(str(error), path="$.import") from error
            raise

    def _fetch(self, path: Path) -> None:
        url = path.with_name(path.name + ".from").read_text()

        def on_bytes(came: int, of: int) -> None:
            if self._stopping.is_set():
                raise Stopped("the server is stopping")

        with Spool(path, bytes_max=self._settings.import_max_mb * _MB) as one:
            fetch_url.fetch(url, one, private=self._settings.private_urls, on_bytes=on_bytes)
            one.finish()

    # -- the worker -----------------------------------------------------------------------------------------------

    def _interrupted(self) -> list[int]:
        from backstory.store.manifest import read_imports

        found: list[int] = []
        for row in self._workspace.folder.state.read(read_imports):
            if row.state == "importing" and self._is_ours(msgspec.json.decode(row.options, type=BackfillOptions)):
                found.append(row.import_id)
        return found

    def _is_ours(self, options: BackfillOptions) -> bool:
        path = Path(options.paths[0])
        return path.parent == self._folder and path.name.startswith(("api-", "upload-", "import-"))

    def _work(self) -> None:
        while (import_id := self._waiting.get()) is not None and not self._stopping.is_set():
            stopped = False
            try:
                self._run_or_fail(import_id)
            except Stopped:
                # Canceled, or paused: that needs no worker, and takes one up again when it is resumed.
                stopped = True
            except BackstoryError as error:
                # The next one has a chance; this one stays as it is, and is taken up again at the next start.
                _log.error("import %s has ended badly, which could not be noted: %s", import_id, error)
            with self._lock:
                self._at_hand.discard(import_id)
            if stopped and not self._stopping.is_set() and self._workspace.imports.left_standing(import_id):
                # It was resumed while it stopped.
                self.take_up(import_id)

    def _run_or_fail(self, import_id: int) -> None:
        try:
            self._run(import_id)
        except Stopped:
            raise
        except BackstoryError as error:
            self._fail(import_id, str(error))
        except Exception as error:
            _log.error("import %s failed", import_id, exc_info=error)
            self._fail(import_id, "something went wrong on our side; the server's log says what")

    def _run(self, import_id: int) -> None:
        from backstory.engine.backfill.import_job import row_of

        row = row_of(self._workspace, import_id)
        if row.state != "importing":
            return
        options = msgspec.json.decode(row.options, type=BackfillOptions)
        path = Path(options.paths[0])
        if not path.exists():
            self._fetch(path)

        def on_progress(progress: Progress) -> None:
            if self._stopping.is_set():
                raise Stopped("the server is stopping")
            if self._workspace.imports.waits(import_id):
                raise Stopped("the import is paused")

        self._backfill(options, on_progress)

    def _fail(self, import_id: int, reason: str) -> None:
        if self._stopping.is_set():
            return
        from backstory.engine.backfill.import_job import row_of

        self._workspace.apply([FinishImport(import_id=import_id, state="failed", error=reason)])
        options = msgspec.json.decode(row_of(self._workspace, import_id).options, type=BackfillOptions)
        spool.remove(self._workspace.folder.path, options.paths)
