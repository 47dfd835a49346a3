"""``medmail sandbox``: the operator, up until told to stop."""

import contextlib
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from medmail_cli.sandbox.operator import Operator, Ports


@dataclass(frozen=True)
class Listening:
    """A server of the operator's; ``anchors`` is the file that vouches for it, None for plain HTTP."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    anchors: Path | None


@dataclass(frozen=True)
class Mailbox:
    """A mailbox with a home ready for MEDMAIL_HOME; any other address of the domain has a mailbox as well."""

    address: str
    home: Path


@dataclass(frozen=True)
class SandboxReady:
    """Everything a client needs. Printed once the servers answer."""

    type: ClassVar[str] = "sandbox"
    folder: Path
    domain: str
    smtp: Listening
    imap: Listening
    est: Listening
    est_url: str
    cmp_url: str
    crl: Listening
    crl_url: str
    ca_sha256: str
    password_file: Path
    mailboxes: tuple[Mailbox, ...]


def serve(
    folder: Path | None,
    addresses: Sequence[str],
    ports: "Ports",
    password: str | None,
) -> Iterator[SandboxReady]:
    """Start the operator in ``folder`` (None: one that is removed at the end), tell, run until interrupted.

    Raises ``folder-not-empty``, ``port-taken``, ``not-writable`` and ``usage``.
    """
    from medmail_cli.sandbox.operator import Operator

    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medmail-sandbox-")))
        elif folder.is_dir() and any(folder.iterdir()):
            raise MedmailError("folder-not-empty", path=str(folder))
        operator = stack.enter_context(Operator(folder.absolute(), password=password, ports=ports))
        announcement = ready(operator, addresses)
        # being interrupted is how it is meant to end, even by a script that has only just read this
        stop = threading.Event()
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, lambda _signal, _frame: stop.set())
        yield announcement
        stop.wait()


def ready(operator: "Operator", addresses: Sequence[str]) -> SandboxReady:
    """What a client needs of a running operator; makes the homes."""
    ports = operator.ports
    order, mail = operator.order_anchors, operator.operator_anchors
    return SandboxReady(
        folder=operator.folder,
        domain=operator.mailboxes.domain,
        smtp=Listening("localhost", ports.smtp, "starttls", mail),
        imap=Listening("localhost", ports.imap, "tls", mail),
        est=Listening("localhost", ports.est, "tls", order),
        est_url=operator.est_url,
        cmp_url=operator.cmp_url,
        crl=Listening("127.0.0.1", ports.http, "none", None),
        crl_url=operator.crl_url,
        ca_sha256=operator.authority.fingerprint,
        password_file=operator.password_file,
        mailboxes=tuple(Mailbox(address, operator.home(address)) for address in addresses),
    )
