"""The verdict on a message: the one value from which text, JSON, exit and audit entry are made.

Its shape is that of ``decrypt --json``, field for field.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal

from medmail_cli.codes import CODES, FAILED, INTEGRITY, OK, UNTRUSTED
from medmail_cli.errors import exit_of
from medmail_cli.model import Problem

Layer = Literal["encrypted", "signed", "compressed", "wrapped"]
SignatureStatus = Literal["valid", "invalid", "untrusted", "indeterminate", "none"]


@dataclass(frozen=True)
class Encryption:
    """What is known of the encryption; all but ``status`` is None where there is none or it failed."""

    status: Literal["ok", "none", "failed"] = "none"
    algorithm: str | None = None
    authenticated: bool | None = None
    key_management: str | None = None
    recipient: str | None = None
    """The address (else the subject) of the certificate whose key opened it."""


@dataclass(frozen=True)
class Signer:
    """One signer of the signature that counts, and every problem found with it."""

    addresses: tuple[str, ...]
    subject: str | None
    issuer: str | None
    anchor: str | None
    sha256: str | None
    signed_at: datetime | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """The innermost signature that covers all the content."""

    status: SignatureStatus = "none"
    signers: tuple[Signer, ...] = ()

    @property
    def vouching(self) -> tuple[Signer, ...]:
        """Those to name as who signed: the ones without a problem; where there is none, all.

        Anybody on the way can put a signature of a stranger beside the author's.
        """
        return tuple(signer for signer in self.signers if not signer.problems) or self.signers


@dataclass(frozen=True)
class Headers:
    """Header fields, decoded for showing; only protected ones where ``protected``."""

    from_: str | None = None
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    reply_to: str | None = None
    subject: str | None = None
    date: datetime | None = None
    message_id: str | None = None
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    protected: bool = False


@dataclass(frozen=True)
class OuterHeaders:
    """What anybody on the way could read and change."""

    from_: str | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Attachment:
    """A part of the letter; ``name`` as received, ``saved_as`` where it was written."""

    name: str
    type: str
    size: int
    sha256: str
    saved_as: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What ``decrypt --json`` prints for one message."""

    type: ClassVar[str] = "message"
    id: str
    source: str
    exit: int
    layers: tuple[Layer, ...]
    encryption: Encryption
    signature: Signature
    trusted: bool
    headers: Headers
    outer_headers: OuterHeaders
    text: str | None
    attachments: tuple[Attachment, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    withheld: bool = False
    """There is content that was not released."""
    output: str | None = None
    """Where the content was written, ``-`` for stdout; None where it was only shown, or not at all."""
    in_clear: Headers | None = field(default=None, metadata={"json": False})
    """Of an encrypted letter with header fields inside: what its author let stand outside (RFC 9788 §4.2)."""


def exit_for(problems: Iterable[str]) -> int:
    """The exit of a message with these problem codes.

    The gravest counts: integrity (6) before failure to read (1) before lack of trust (5).
    """
    exits = {exit_of(code) for code in problems}
    return next((code for code in (INTEGRITY, FAILED, UNTRUSTED) if code in exits), OK)


def status_of(signers: Iterable[Signer], *, holds: bool) -> SignatureStatus:
    """The status of a signature by its signers' problems; ``holds`` where one of them has none."""
    problems = {code for signer in signers for code in signer.problems}
    if "bad-signature" in problems:
        return "invalid"
    if holds:
        return "valid"
    undecided = all(CODES[code].undecided for code in problems)
    return "indeterminate" if undecided else "untrusted"


def unique(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each code once, in order, with the first detail that says something."""
    by_code: dict[str, Problem] = {}
    for problem in problems:
        known = by_code.get(problem.code)
        if known is None or (not known.detail and problem.detail):
            by_code[problem.code] = problem
    return tuple(by_code.values())
