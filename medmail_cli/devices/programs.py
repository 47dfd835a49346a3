"""Programs that the person has named for us to start."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from medmail_cli.errors import MedmailError


def secret_command(command: str) -> bytes:
    """The first line that ``command`` (a password manager, say) writes to its stdout.

    It is split as a shell would and run without one; it may talk to the person on stderr and the terminal.
    Raises ``secret-command-failed`` where it cannot be started, ends with another code than 0 or says
    nothing.
    """
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    except (OSError, ValueError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MedmailError("secret-command-failed", command=command, reason=reason or "") from None
    if done.returncode != 0:
        raise MedmailError("secret-command-failed", command=command, reason=f"exit {done.returncode}")
    first = done.stdout.partition(b"\n")[0].removesuffix(b"\r")
    if not first:
        raise MedmailError("secret-command-failed", command=command, reason="empty")
    return first


def edit(content: bytes) -> bytes:
    """What the person makes of ``content`` in their editor (VISUAL, EDITOR, else vi).

    The file stands in a folder for the owner alone, in memory where the platform has such a place; it is
    deleted whole afterwards, with whatever the editor left in it, also after an interrupt. Raises
    ``editor-failed``; KeyboardInterrupt where the editor was interrupted.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    place = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(tempfile.mkdtemp(prefix="medmail-", dir=place if place and Path(place).is_dir() else None))
    # Ctrl-C is the editor's business as long as it runs
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        path = folder / "letter.txt"
        path.touch(0o600)
        path.write_bytes(content)
        try:
            words = [*shlex.split(editor), str(path)]
            done = subprocess.run(words, check=False, preexec_fn=_interruptible)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MedmailError("editor-failed", editor=editor, reason=reason) from None
        if done.returncode in (-signal.SIGINT, 128 + signal.SIGINT):
            raise KeyboardInterrupt
        if done.returncode != 0:
            raise MedmailError("editor-failed", editor=editor, reason=f"exit {done.returncode}")
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGINT, before)


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_for(command: str, ids: Sequence[str]) -> str | None:
    """Run ``command`` for messages that have come; None if it ends with 0, else why it did not.

    It is split as a shell would and run without one. The ids come on its stdin, one a line, and the first
    hundred in MEDMAIL_IDS; nothing a stranger wrote is handed to it.
    """
    environment = os.environ | {"MEDMAIL_IDS": " ".join(ids[:100]), "MEDMAIL_COUNT": str(len(ids))}
    try:
        done = subprocess.run(
            shlex.split(command),
            input="".join(f"{id_}\n" for id_ in ids).encode(),
            env=environment,
            check=False,
        )
    except (OSError, ValueError, IndexError) as error:
        return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
    return None if done.returncode == 0 else f"exit {done.returncode}"
