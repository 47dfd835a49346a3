"""Room on a disk, taken before it is needed, so that what must be written later can be."""

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.store import files

if TYPE_CHECKING:
    from io import FileIO

STEP = 1 << 18
"""Room is taken this many octets at a time."""


class Room:
    """Octets of the disk that ``folder`` is on, held by a file without a name: a kill gives them back.

    Usable from several threads. What holds the room is not kept from other processes once it is spent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._held = 0
        self._spent = False

    def hold(self, octets: int) -> None:
        """See to it that so many are held. Raises ``disk-full`` (also once spent) and ``not-writable``."""
        with self._lock:
            if self._spent:
                raise MedmailError("disk-full", path=str(self.folder))
            if octets <= self._held:
                return
            files.make_private(self.folder)
            with files.disk_errors(self.folder):
                if self._file is None:
                    # where a file must have a name at first, it is one that sweeps take away
                    self._file = tempfile.TemporaryFile(  # noqa: SIM115 - held till it is spent
                        buffering=0, prefix=".", suffix=".tmp", dir=self.folder
                    )
                wanted = -(-octets // STEP) * STEP
                _take(self._file.fileno(), self._held, wanted)
                self._held = wanted

    def spend(self) -> bool:
        """Free what is held, for what it was held for; False where nothing was. No more is held after it."""
        with self._lock:
            held, self._spent = self._held > 0, True
            self._let_go()
            return held

    def close(self) -> None:
        """Free what is held."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._held = None, 0


def _take(descriptor: int, begin: int, end: int) -> None:
    if hasattr(os, "posix_fallocate"):  # macOS has none
        os.posix_fallocate(descriptor, begin, end - begin)
        return
    while begin < end:
        begin += os.pwrite(descriptor, bytes(min(STEP, end - begin)), begin)
