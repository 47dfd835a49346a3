"""Programs that the person has named for us to start."""

import shlex
import subprocess

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
