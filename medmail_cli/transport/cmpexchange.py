"""One exchange of CMP messages over HTTP (RFC 9811), and polling (RFC 9483 §4.4): whom to believe, and when.

Every answer is a stranger's until it is vouched for: protected as our message was (a MAC for a shared secret,
a signature for a signature, so that no weaker kind can be slipped in), by somebody whom the anchors or the
fingerprint vouch for *and* whose certificate says that it answers for an authority, else any holder of a
certificate could. It must belong to the transaction and answer our message. A refusal that nobody vouches for
is shown (servers cannot protect an answer to somebody they do not know), and changes nothing.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from cryptography import x509

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import cmp, cmp_request
from medmail_cli.pki.issuance.cmp_protection import (
    Protection,
    SharedSecret,
    Signer,
    authentic,
    signed_by,
    speaks_for_authority,
    write,
)
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import judge
from medmail_cli.transport.cmptransaction import Transaction
from medmail_cli.transport.exchange import Https, refusal

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

S = TypeVar("S")
T = TypeVar("T")

_MEDIA_TYPE = "application/pkixcmp"
_LOGIN = frozenset({"badMessageCheck", "signerNotTrusted", "notAuthorized", "wrongIntegrity"})
_BUSY = frozenset({"systemUnavail", "systemFailure", "timeNotAvailable"})


class CmpServer:
    """A server at ``url``, which ``anchors``, and the root with ``fingerprint``, vouch for.

    ``credentials`` is asked once, when the first message is made. ``helpers`` are the certificates that came
    along, which nobody vouches for.
    """

    def __init__(
        self,
        url: str,
        *,
        now: "Callable[[], dt.datetime]",
        credentials: Callable[[], Protection],
        tls_anchors: "Path | None",
        anchors: Sequence[x509.Certificate],
        fingerprint: str | None,
        timeout: float,
        patience: float,
    ) -> None:
        self.url, self.anchors, self.fingerprint = url, tuple(anchors), fingerprint
        self.helpers: tuple[x509.Certificate, ...] = ()
        self._now, self._patience, self._credentials = now, patience, credentials
        self._protection: Protection | None = None
        # over plain HTTP there is no server certificate to be vouched for
        secure = url.startswith("https:")
        self._http = Https(url, anchors=tls_anchors if secure else None, timeout=timeout)
        self._path = urlsplit(url).path

    def close(self) -> None:
        """End the connection, as servers do at the end of a transaction, some without a word."""
        self._http.close()

    @property
    def protection(self) -> Protection:
        """What protects our messages."""
        if self._protection is None:
            self._protection = self._credentials()
        return self._protection

    def ask(
        self,
        transaction: Transaction,
        kind: cmp.Kind,
        body: bytes,
        reply: cmp.Kind,
        *,
        version: int = 2,
        remember: Callable[[], None] = lambda: None,
    ) -> cmp.Message:
        """Send a message, and poll until its ``reply`` is there; ``remember`` is called as long as it is not.

        The server is never asked sooner than it wants to be. Raises ``ca-…``, ``server-…``; what an authority
        that is vouched for refuses has the fact ``believed``.
        """
        if transaction.waits and not transaction.chain:
            message = self._poll(transaction, reply)
        else:
            message = self._say(transaction, kind, body, reply, version=version)
        give_up = time.monotonic() + self._patience
        pause, polled = 0.0, False
        while message.kind == "pollRep" or self._waits(message):
            if message.kind == "pollRep":
                pause = max(1.0, self.read(cmp.check_after, message))
            elif polled:
                pause = 1.0
            if message.kind == "error":  # it is not one certificate that is waited for
                transaction.polled_as = cmp_request.PKCS10_REQUEST
            transaction.waits = True
            remember()
            if time.monotonic() + pause > give_up:
                raise MedmailError("ca-pending", url=self.url, seconds=round(pause))
            time.sleep(pause)
            message, polled = self._poll(transaction, reply), True
        return message

    def _waits(self, message: cmp.Message) -> bool:
        state = self._state(message)
        return state is not None and state.status == "waiting"

    def _state(self, message: cmp.Message) -> cmp.Status | None:
        """The status that an answer bears, if it is of a kind that does."""
        if message.kind in ("ip", "cp", "kup"):
            return self.read(cmp.issued, message).status
        if message.kind == "rp":
            return self.read(cmp.revoked, message)
        return self.read(cmp.error, message) if message.kind == "error" else None

    def _poll(self, transaction: Transaction, reply: cmp.Kind) -> cmp.Message:
        number = transaction.request if transaction.polled_as is None else transaction.polled_as
        return self._say(transaction, "pollReq", cmp_request.poll(number), reply, "pollRep")

    def _say(
        self, transaction: Transaction, kind: cmp.Kind, body: bytes, *replies: cmp.Kind, version: int = 2
    ) -> cmp.Message:
        """Send one message and read the answer, which is vouched for, answers it, and refuses nothing."""
        protection, nonce = self.protection, secrets.token_bytes(16)
        header = cmp.Header(
            sender=protection.sender,
            recipient=_recipient(protection),
            transaction=transaction.id,
            nonce=nonce,
            answers=transaction.last,
            key_id=protection.key_id,
            time=self._now(),
            version=version,
        )
        octets = write(kind, body, header, protection)
        transaction.first = transaction.first or nonce
        answer = self._http.ask("POST", self._path, octets, {"Content-Type": _MEDIA_TYPE})
        if answer.status != 200 and not answer.header("Content-Type").lower().startswith(_MEDIA_TYPE):
            raise refusal(answer, self.url)
        message = self.read(cmp.read, answer.body)
        vouched = self._vouched_for(message)
        # what was waited for may answer the first message as well (RFC 9483 §4.4)
        its_own = message.header.transaction == transaction.id
        its_own = its_own and message.header.answers in (nonce, transaction.first)
        state = self._state(message)
        refused = state is not None and not state.granted and state.status != "waiting"
        if state is not None and refused:
            raise self.refusal(state, answer.status, believed=vouched and its_own)
        if not vouched:
            detail = "nobody vouches for the protection of its answer"
            raise MedmailError("server-untrusted", host=self._http.name, detail=detail)
        if not its_own:
            raise self.malformed("transaction")
        if message.kind not in replies and not (message.kind == "error" and self._waits(message)):
            raise self.malformed("body")
        transaction.last = message.header.nonce
        self.helpers = tuple(dict.fromkeys((*message.certificates, *self.helpers)))[: cmp.MOST_CERTIFICATES]
        return message

    def _vouched_for(self, message: cmp.Message) -> bool:
        """Whether the authority protected the message, in the way that we protect ours."""
        if isinstance(self.protection, SharedSecret):
            return authentic(message, self.protection.secret)
        candidates = (*message.certificates, *self.helpers)
        anchors = [
            *self.anchors,
            *(certificate for certificate in candidates if fingerprint(certificate) == self.fingerprint),
        ]
        for certificate in dict.fromkeys((*candidates, *anchors)):
            if not signed_by(message, certificate):
                continue
            if certificate in anchors:
                return True
            judged = judge(
                certificate,
                anchors=anchors,
                enclosed=Enclosed(candidates),
                at=self._now(),
                purpose="any",
                revocation="soft",
            )
            if not judged.problems and speaks_for_authority(certificate):
                return True
        return False

    # -- errors

    def read(self, reader: Callable[[S], T], what: S) -> T:
        """``reader`` of what the server sent. Raises ``server-answer-malformed``."""
        try:
            return reader(what)
        except MedmailError as error:
            raise self.malformed(str(error.facts.get("detail", error.code))) from None

    def malformed(self, detail: str) -> MedmailError:
        """The error for an answer that is none."""
        return MedmailError("server-answer-malformed", host=self._http.name, detail=detail)

    def refusal(self, state: cmp.Status, status: int = 200, *, believed: bool = True) -> MedmailError:
        """The error for a refusal, with the server's words; ``believed`` if it is vouched for."""
        failures = set(state.failures)
        code = "ca-busy" if failures & _BUSY else "ca-refused" if failures & _LOGIN else "ca-rejected"
        return MedmailError(
            code,
            url=self.url,
            status=status,
            detail=" ".join(filter(None, (*state.failures, state.words))) or state.status,
            failures=state.failures,
            believed=believed,
            seconds=0,
        )


def _recipient(protection: Protection) -> bytes:
    """The issuer of the certificate that signs, else nobody by name (RFC 9483 §3.1)."""
    return cmp.directory_name(protection.chain[0].issuer if isinstance(protection, Signer) else x509.Name([]))
