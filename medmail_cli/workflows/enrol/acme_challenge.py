"""ACME's challenge mail and its answer, through the account of the address (RFC 8823 §3).

The mail is read where it lies, in INBOX: nothing is stored, marked or deleted. It counts only if a signature
proves its sender, as §3.1 demands: S/MIME with protected headers by a certificate that is trusted here, or
DKIM, checked by ourselves. What servers noted about a mail on its way (Authentication-Results, RFC 8601) is
not believed: anybody can write such a field, and which ones the last server would have removed cannot be
known from here. An authority that signs nothing can be let through in the configuration, on one's own risk,
which is small: a forged mail cannot make anybody a certificate, but it can spoil the order. Several genuine
ones that differ are all left alone, as the wrong answer would end an order.

The answer goes through the outbox under a key of its own, so that it is sent once, whatever kills us.

The account may be one that gets the challenge mails of many people, whose administrator enrols them all.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.address import ascii_domain, same_address
from medmail_cli.smime import acme_challenge, dkim, mime
from medmail_cli.smime.compose import new_message_id
from medmail_cli.smime.header import mailboxes
from medmail_cli.store.queue.outbox import QueuedMessage
from medmail_cli.transport.mailserver import INBOX
from medmail_cli.workflows.mail import delivery
from medmail_cli.workflows.mail.fetched import Source
from medmail_cli.workflows.mail.outcomes import RecipientOutcome, common_failure
from medmail_cli.workflows.mail.submission_session import DeliveryContext

if TYPE_CHECKING:
    from medmail_cli.smime.acme_challenge import ChallengeMail
    from medmail_cli.smime.fields import Field
    from medmail_cli.transport.mailserver import MailServer
    from medmail_cli.workflows.mail.opening import MessageOpener

MOST_MAILS = 500
"""The newest that are looked at."""
LONGEST_WAIT = 10.0
"""Seconds after which a server that announces nothing is asked again."""

_SENDING = threading.Lock()
"""A batch's workers answer one after the other: they share one outbox."""

Prove = Callable[[bytes, str], "Sequence[Field] | None"]
"""The header fields of a mail that a signature proves to be of this sender; None where there is none."""


def by_smime(opener: "MessageOpener") -> Prove:
    """Proof by an S/MIME signature that is trusted, of somebody who may sign for From, header included."""

    def prove(message: bytes, _sender: str) -> "Sequence[Field] | None":
        opened = opener.open(message, id="", source=INBOX)
        verdict = opened.verdict
        proven = verdict.trusted and verdict.headers.protected and "signed" in verdict.layers
        return opened.header if proven else None

    return prove


def by_dkim(lookup: dkim.Lookup, now: Callable[[], datetime]) -> Prove:
    """Proof by a DKIM signature of the sender's domain (RFC 8823 §3.1, item 6).

    §3.1 also lists what the signature must cover; here a field that it does not cover is not there, so that
    a signature over less than what is read proves nothing, and one over no more is no weaker for it.
    """

    def prove(message: bytes, sender: str) -> "Sequence[Field] | None":
        signatures = dkim.verify(message, ascii_domain(sender.rpartition("@")[2]), lookup, now())
        return signatures[0].fields if signatures else None

    return prove


@dataclass
class Correspondence:
    """The mail of one account, as :class:`~medmail_cli.transport.acme.AcmeAuthority` needs it.

    ``unsigned`` lets challenge mails count that nothing proves; ``shared`` says that other people's come too.
    """

    source: Source
    context: DeliveryContext
    proofs: Sequence[Prove]
    unsigned: bool = False
    shared: bool = False

    def end(self) -> str:
        """Where INBOX ends now."""
        with self.source.connect() as server:
            return server.open(INBOX).end or server.news("").position

    def challenge(self, sender: str, address: str, since: str, give_up: float) -> "ChallengeMail | None":
        """The genuine challenge mail from ``sender`` behind ``since``, waited for until ``give_up``.

        Raises ``challenge-not-genuine`` where there are none but others, or where several differ.
        """
        search = _Search(sender, address, self.proofs, unsigned=self.unsigned, shared=self.shared)
        with self.source.connect() as server:
            while True:
                search.look(server, since)
                if (mail := search.chosen()) is not None:
                    return mail
                if (left := give_up - time.monotonic()) <= 0:
                    break
                with server.idling(every=0.0) as changed:
                    changed(min(left, LONGEST_WAIT))
        if search.fault is not None:
            raise search.fault
        return None

    def answer(self, mail: "ChallengeMail", address: str, key_authorization: str, key: str) -> None:
        """Send the answer, once for each ``key``; the server has it when this returns.

        Raises what kept it from being sent; it then waits in the outbox.
        """
        context = replace(self.context, ask_dsn=False)
        outbox = context.outbox
        digest = outbox.digest(key.encode())
        with _SENDING:
            if outbox.known(key, digest):
                waiting = tuple(submission for submission in outbox.open() if submission.key == key)
            else:
                queued = self._message(mail, address, key_authorization, key, digest)
                waiting = outbox.enqueue([queued], context.now(), claim=False)
            sent = [
                event for event in delivery.flush(context, waiting) if isinstance(event, RecipientOutcome)
            ]
        if (error := common_failure(sent)) is not None:
            raise error

    def _message(
        self, mail: "ChallengeMail", address: str, key_authorization: str, key: str, digest: bytes
    ) -> QueuedMessage:
        message_id = new_message_id(address.rpartition("@")[2])
        message = acme_challenge.answer(
            mail,
            key_authorization,
            address=address,
            message_id=message_id,
            date=self.context.now().astimezone(),
        )
        return QueuedMessage(
            id=hashlib.sha256(message).hexdigest(),
            message=message,
            account=self.source.account.name,
            sender=address,
            recipients=(mail.answer_to,),
            message_id=message_id,
            protection="transport-only",
            utf8=not message.isascii(),
            key=key,
            digest=digest,
            keep=False,
        )


class _Search:
    """What has been found so far; each mail is looked at once."""

    def __init__(
        self, sender: str, address: str, proofs: Sequence[Prove], *, unsigned: bool, shared: bool
    ) -> None:
        self._sender, self._address = sender, address
        self._proofs, self._unsigned, self._shared = proofs, unsigned, shared
        self._looked: set[str] = set()
        self._mails: dict[str, tuple[ChallengeMail, bool]] = {}
        self.fault: MedmailError | None = None

    def look(self, server: "MailServer", since: str) -> None:
        """Look at what has come since."""
        server.open(INBOX)
        news = server.news(since)
        if news.restored:
            news = server.news("")
        new = [server_id for server_id in news.server_ids[-MOST_MAILS:] if server_id not in self._looked]
        self._looked.update(new)
        for _, message in server.fetch(new):
            if isinstance(message, bytes):
                self._judge(message)

    def _judge(self, message: bytes) -> None:
        try:
            fields: Sequence[Field] = mime.parse(message).fields
        except MedmailError:
            return  # no mail at all
        if not acme_challenge.announces(fields):
            return
        if self._shared and not any(
            same_address(box.address, self._address) for box in mailboxes(fields, "to")
        ):
            return
        try:
            proven = next(
                (proof for prove in self._proofs if (proof := prove(message, self._sender)) is not None), None
            )
            if proven is None and not self._unsigned:
                raise MedmailError("challenge-not-genuine", reason="unproven")
            mail = acme_challenge.read(
                fields if proven is None else proven,
                sender=self._sender,
                recipient=self._address,
                proven=proven is not None,
            )
        except MedmailError as error:
            self.fault = error
            return
        if proven is not None or mail.token not in self._mails:
            self._mails[mail.token] = mail, proven is not None

    def chosen(self) -> "ChallengeMail | None":
        """The one mail that is meant: what is proven goes before what is not. Raises where they differ."""
        proven = [mail for mail, is_proven in self._mails.values() if is_proven]
        mails = proven or [mail for mail, _ in self._mails.values()]
        if len(mails) > 1:
            raise MedmailError("challenge-not-genuine", reason="several-challenges")
        return mails[0] if mails else None
