"""Room kept beside the audit log, for the record of what frees space: on a full disk that comes first."""

import os
from pathlib import Path

from medmail_cli.store import files

NAME = "reserve"
OCTETS = 64 * 1024
"""Some blocks each for the entries, their hashes, the checkpoint and the mark of the run."""
FREEING = frozenset({"key-delete", "contact-remove", "trust-remove", "outbox-drop"})
"""The actions that free space."""


def keep(folder: Path) -> None:
    """Take the room, if it is not held; where the disk is full, or cannot promise any, there is none.

    Raises ``store-damaged`` where a link or device stands in its place.
    """
    path = folder / NAME
    try:
        descriptor = files.open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size < OCTETS:
                os.posix_fallocate(descriptor, 0, OCTETS)
        finally:
            os.close(descriptor)
    except OSError:
        path.unlink(missing_ok=True)


def give_up(folder: Path) -> None:
    """Let the room be used. Raises ``not-writable``."""
    with files.disk_errors(folder / NAME):
        (folder / NAME).unlink(missing_ok=True)
