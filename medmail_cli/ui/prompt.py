"""Questions to the person at the terminal: secrets without echo, and yes or no."""

import sys

from medmail_cli.errors import MedmailError
from medmail_cli.ui import sanitize
from medmail_cli.ui.i18n import _


def can_ask() -> bool:
    """Is there a person to ask?"""
    return sys.stdin.isatty() and sys.stderr.isatty()


def secret(label: str) -> bytes:
    """Ask for a secret without showing it. Raises ``interrupted`` at end of input."""
    import getpass

    try:
        said = getpass.getpass(_("{name}: ").format(name=sanitize.line(label)), sys.stderr)
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")
        raise MedmailError("interrupted") from None
    return said.encode("utf-8", "surrogateescape")


def new_secret(label: str) -> bytes:
    """Ask twice for a secret to be set, until both agree and it is not empty."""
    while True:
        first = secret(label)
        if not first:
            sys.stderr.write(_("It must not be empty.") + "\n")
            continue
        if first == secret(_("{label} (again)").format(label=label)):
            return first
        sys.stderr.write(_("The two differ; once more.") + "\n")


def confirm(question: str) -> bool:
    """Ask yes or no; anything but a clear yes is no."""
    sys.stderr.write(sanitize.line(question) + " " + _("[y/N]") + " ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
    return answer in {"y", "yes", "o", "oui"}
