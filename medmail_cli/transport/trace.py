"""What is said on the wire, written to a file for whoever looks for a fault; nothing unless it is begun.

Only what is known to hold no secret is written as it is: commands, statuses, sizes. Passwords, tokens,
challenges, keys and the content of letters stand as their length, and while somebody logs in what a server
says is cut to its status, as some repeat what they were told.
"""

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    import logging

_SHOWN = 300
"""Characters of a line."""
_SMTP = re.compile(
    rb"(?:STARTTLS|RSET|NOOP|QUIT|DATA|(?:EHLO|MAIL|RCPT) [^\r\n]*|BDAT [0-9]+(?: LAST)?)\Z", re.IGNORECASE
)
_IMAP = re.compile(rb"\S+ (?:AUTHENTICATE \S+|LOGIN)", re.IGNORECASE)
_STATUS = re.compile(rb"(?:OK|NO|BAD|BYE|CAPABILITY)\b(?: \[[A-Z-]+\])?", re.IGNORECASE)
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\Z)')
_logger: "logging.Logger | None" = None


def begin(path: Path) -> None:
    """Write from here on to the end of ``path`` (0600). Raises ``not-writable``."""
    import logging
    import time

    global _logger
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise MedmailError("not-writable", path=str(path), reason=error.strerror or "") from None
    logging.raiseExceptions = False  # a full disk costs the trace, not the run
    handler = logging.StreamHandler(os.fdopen(descriptor, "a", encoding="utf-8"))
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    _logger = logging.getLogger("medmail.wire")
    _logger.propagate = False
    _logger.setLevel(logging.DEBUG)
    _logger.addHandler(handler)


def sent(host: str, said: str) -> None:
    """What a server is told."""
    if _logger is not None:
        _logger.debug("%s > %s", host, _printable(said))


def received(host: str, said: str) -> None:
    """What a server says."""
    if _logger is not None:
        _logger.debug("%s < %s", host, _printable(said))


def is_on() -> bool:
    """Whether anything is written: what is costly to show need not be."""
    return _logger is not None


def octets(data: bytes | memoryview) -> str:
    """What is not shown."""
    return f"[{len(data)} octets]"


def text(data: bytes) -> str:
    """The beginning of a line."""
    return data[:_SHOWN].decode("utf-8", "backslashreplace")


def _printable(said: str) -> str:
    """Without what a terminal would act upon: servers are strangers."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in said)


def smtp_commands(data: bytes, *, secret: bool) -> list[str]:
    """SMTP commands, pipelined perhaps, as they may be shown; after the first that is not known, a length."""
    shown: list[str] = []
    while data and not secret:
        line, _, rest = data.partition(b"\r\n")
        if not _SMTP.match(line):
            break
        shown.append(text(line))
        data = rest
        if line[:4].upper() == b"BDAT":
            break
    mechanism = re.match(rb"AUTH [A-Z0-9_-]+", data, re.IGNORECASE) if secret else None
    if mechanism:
        shown.append(text(mechanism[0]))
        data = data[mechanism.end() :]
    return [*shown, octets(data)] if data else shown


def imap_command(line: bytes) -> str:
    """An IMAP command as it may be shown."""
    if login := _IMAP.match(line):
        return f"{text(login[0])} {octets(line[login.end() :])}"
    return text(line)


def imap_response(line: bytes, *, secret: bool) -> str:
    """A line of an IMAP response as it may be shown: of messages, no strings; of challenges, the length."""
    line = line.rstrip(b"\r\n")[: 2 * _SHOWN]
    tag, _, rest = line.partition(b" ")
    if secret or tag == b"+":
        status = _STATUS.match(rest) if tag != b"+" else None
        said = b" ".join((tag, status[0])) if status else tag
        return f"{text(said)} {octets(line[len(said) :])}"
    if re.match(rb"\d+ FETCH\b", rest, re.IGNORECASE):
        return text(_QUOTED.sub(b'"..."', line))
    return text(line)
