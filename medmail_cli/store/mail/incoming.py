"""A message on its way to disk: written where it will lie while it comes, so that none is held in memory.

Until it is delivered it is a temporary file in the Maildir's ``tmp/``, locked, by which
:func:`medmail_cli.store.files.sweep` tells it from what a kill left.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from medmail_cli.store import files


class Incoming:
    """A message that comes bit by bit; ``head`` is its beginning, of so many octets as are asked for.

    It is to be delivered or discarded in the end. Writing raises ``disk-full`` and ``not-writable``.
    """

    def __init__(self, maildir: Path, head_size: int) -> None:
        self._folder = maildir / "tmp"
        self._head_size = head_size
        with files.disk_errors(self._folder):
            self._path, self._descriptor = files.locked_temporary(self._folder, "incoming", 0o600)
        self._digest = hashlib.sha256()
        self.size = 0
        self.head = b""

    def write(self, data: bytes) -> None:
        """Take the next octets."""
        self._digest.update(data)
        self.size += len(data)
        if len(self.head) < self._head_size:
            self.head += data[: self._head_size - len(self.head)]
        rest = memoryview(data)
        with files.disk_errors(self._folder):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    @property
    def sha256(self) -> str:
        """The SHA-256 (hex) of what has come."""
        return self._digest.hexdigest()

    def deliver(self, path: Path) -> None:
        """Give it its name, once it is durable. Raises OSError."""
        os.fsync(self._descriptor)
        self._path.rename(path)
        self._close()

    def discard(self) -> None:
        """Remove it, unless it has been delivered."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # the next run sweeps it
                self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
