"""One process at a time owns a data folder."""

import fcntl
import os
from pathlib import Path

from backstory.core.error import BackstoryError
from backstory.store.database import make_folder


class FolderBusy(BackstoryError):
    """Another process works in the data folder."""


class FolderLock:
    """An exclusive lock on ``DIR/lock``, held until closed or until the process ends."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise FolderBusy(
                f"{folder} is in use by another process, a server or a command that works on it: wait for it or stop it"
            ) from None

    def close(self) -> None:
        os.close(self._fd)
