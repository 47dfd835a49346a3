"""What a waiting request has come to at its authority: one file beside the keystore's folders.

An identity's folder never changes, so this stands beside it, as ``<id>.transaction``, and goes when the
certificate has become an identity. Nothing in it is secret; losing it costs a second request.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.errors import not_readable
from medmail_cli.store import files

if TYPE_CHECKING:
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.store.keys.keystore import Keystore

_LARGEST = 1 << 20


@dataclass(frozen=True)
class FileMemory:
    """A :class:`medmail_cli.model.Memory` in a file; saving nothing removes it."""

    path: Path

    def load(self) -> bytes:
        """What was saved last. Raises ``not-readable``."""
        try:
            with self.path.open("rb") as file:
                return file.read(_LARGEST)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise not_readable(self.path, error) from None

    def save(self, state: bytes) -> None:
        """Keep ``state``, on disk when this returns. Raises ``disk-full`` or ``not-writable``."""
        if state:
            files.write_atomic(self.path, state)
            return
        with files.disk_errors(self.path):
            self.path.unlink(missing_ok=True)
            files.sync_folder(self.path.parent)


def memory_of(keystore: "Keystore", waiting: "Identity") -> FileMemory:
    """Where the transaction of a waiting request is kept."""
    return FileMemory(keystore.folder / f"{waiting.id}.transaction")
