"""Programs that the person has named for us to start."""

import os
import shlex
import subprocess
from collections.abc import Sequence

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
