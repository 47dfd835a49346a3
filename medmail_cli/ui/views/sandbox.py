"""``medmail sandbox`` for people."""

import shlex
from typing import TYPE_CHECKING, Any

from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line


def sandbox(event: Any, console: "Console") -> "Iterable[Line]":
    yield [("bold", "SMTP"), f"  localhost:{event.smtp.port} STARTTLS  {event.smtp.anchors}"]
    yield [("bold", "IMAP"), f"  localhost:{event.imap.port} TLS  {event.imap.anchors}"]
    yield [("bold", "EST"), f"   {event.est_url}  {event.est.anchors}"]
    yield [("bold", "CMP"), f"   {event.cmp_url}  {event.est.anchors}"]
    yield [("bold", "CRL"), f"   {event.crl_url}"]
    yield [("bold", "CA"), f"    SHA-256 {event.ca_sha256}"]
    yield _("Any address in {domain} may log in; the password is in {file}").format(
        domain=event.domain, file=event.password_file
    )
    for mailbox in event.mailboxes:
        yield _("To be {address}:").format(address=mailbox.address)
        yield f"    export MEDMAIL_HOME={shlex.quote(str(mailbox.home))}"
        yield f"    medmail enrol new {mailbox.address} --ca order --ca-fingerprint {event.ca_sha256}"
    console.flush()
    console.say(_("Running until Ctrl-C"))
