"""The log's key and its last signed checkpoint, as they stand beside the entries.

The private key is made with the log and never again: a log without its own is damaged.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from medmail_cli.audit import checkpoint, tree
from medmail_cli.audit.checkpoint import Checkpoint, LogSigner
from medmail_cli.audit.entry import new_run
from medmail_cli.errors import MedmailError
from medmail_cli.store import files
from medmail_cli.store.log import reader


def log_key(folder: Path, *, begun: bool, make: bool = True) -> LogSigner:
    """The key of the log in ``folder``; with ``make`` it is made for one that has not ``begun``.

    Raises ``log-key-damaged``, ``public-log-key-damaged``.
    """
    path, public = folder / reader.KEY, folder / reader.PUBLIC_KEY
    try:
        signer = checkpoint.parse_skey(files.read_own(path).decode())
    except FileNotFoundError:
        if begun or (folder / reader.CHECKPOINT).exists() or not make:
            raise MedmailError("log-key-damaged", path=str(path), folder=str(folder)) from None
        signer = checkpoint.new_signer(f"medmail/{new_run()}")
        files.write_atomic(path, f"{signer.skey()}\n".encode())
    except (MedmailError, UnicodeDecodeError):
        raise MedmailError("log-key-damaged", path=str(path), folder=str(folder)) from None
    if not make:
        return signer
    vkey = f"{signer.verifier.vkey()}\n".encode()
    try:
        if files.read_own(public) != vkey:
            raise MedmailError("public-log-key-damaged", path=str(public))
    except FileNotFoundError:
        files.write_atomic(public, vkey, 0o644)
    return signer


def read(folder: Path) -> bytes | None:
    """The last signed checkpoint as it stands on disk, or None."""
    with suppress(FileNotFoundError):
        return files.read_own(folder / reader.CHECKPOINT)
    return None


def verified(folder: Path, key: Callable[[], LogSigner]) -> Checkpoint:
    """The last checkpoint, its signature checked; that of an empty log where there is none.

    Raises ``store-damaged``, and what asking for the ``key`` raises.
    """
    note = read(folder)
    if note is None:
        return Checkpoint("", 0, tree.EMPTY_ROOT)
    try:
        return checkpoint.verify(note, key().verifier)
    except MedmailError as error:
        if error.code not in ("malformed", "other-log", "bad-signature"):
            raise
        raise MedmailError("store-damaged", path=str(folder / reader.CHECKPOINT)) from None


def write(folder: Path, signer: LogSigner, size: int, root: bytes) -> bytes:
    """Sign a checkpoint over ``size`` durable entries and put it in the place of the last one."""
    note = checkpoint.sign(Checkpoint(signer.name, size, root), signer)
    files.write_atomic(folder / reader.CHECKPOINT, note, 0o644)
    return note
