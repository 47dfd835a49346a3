"""Certificates by CMP, RFC 9810 (RFC 4210, 9480), in its lightweight profile RFC 9483.

Messages protect themselves, so that plain HTTP will do; https hides the request too.

**Being killed.** A certificate must be on disk before it is confirmed: one that is never confirmed is void at
the authority, one that is confirmed and lost is valid and nobody's. So a transaction is kept in a
:class:`~medmail_cli.model.Memory` that lasts as long as the request waits: that it waits (the next run polls
on in the same transaction), the certificate received (before certConf goes out; the next run confirms again),
and that it was confirmed. A run that is killed before any of these asks anew, and the unconfirmed certificate
of the forgotten transaction comes to nothing. Implicit confirmation would make it valid unseen, so it is
never asked for; where a server grants it all the same, nothing is confirmed. What remains is an authority
that forgets a transaction as soon as it is confirmed: if we are killed before its answer is on disk, it does
not know the repeated confirmation, and another certificate is asked for.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.codes import TRY_LATER
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.pki.issuance import cmp, cmp_request
from medmail_cli.pki.issuance.cmp_protection import Protection, SharedSecret
from medmail_cli.pki.issuance.issued import checked
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.transport import tls
from medmail_cli.transport.cmpexchange import CmpServer
from medmail_cli.transport.cmptransaction import Transaction, recall
from medmail_cli.transport.est import read_fingerprint

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from medmail_cli.model import Memory, PrivateKey

_REPLIES: dict[str, cmp.Kind] = {"ir": "ip", "cr": "cp", "p10cr": "cp", "kur": "kup"}


class CmpAuthority:
    """One authority that speaks CMP, as ``enrol`` uses it; holds one connection, to be closed.

    ``credentials`` gives, when it is first needed, what protects the messages: the secret that the authority
    gave out, or a key with its certificates (the one to be renewed, or a registrar's). ``tls_anchors`` is a
    file that vouches for the server, its signatures and what it issues; so do ``roots``, those that are
    trusted already, and the root that has ``fingerprint``; and under a shared secret what the server calls
    its own (caPubs). ``patience`` is how many seconds to poll in all.
    """

    method: Literal["cmp"] = "cmp"

    def __init__(
        self,
        url: str,
        *,
        now: "Callable[[], dt.datetime]",
        credentials: Callable[[], Protection],
        tls_anchors: "Path | None" = None,
        roots: Sequence[x509.Certificate] = (),
        fingerprint: str | None = None,
        timeout: float = 30.0,
        patience: float = 60.0,
    ) -> None:
        """Raises ``insecure-url`` unless ``url`` is http or https; ``bad-fingerprint``, ``not-readable``."""
        self.url = endpoint(url)
        self.fingerprint = None if fingerprint is None else read_fingerprint(fingerprint)
        self._now = now
        self._server = CmpServer(
            self.url,
            now=now,
            credentials=credentials,
            tls_anchors=tls_anchors,
            anchors=(*roots, *tls.anchors_in(tls_anchors)),
            fingerprint=self.fingerprint,
            timeout=timeout,
            patience=patience,
        )
        self._roots: tuple[x509.Certificate, ...] = ()

    def close(self) -> None:
        """End the connection."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # -- what enrol asks

    def anchors(self) -> tuple[x509.Certificate, ...]:
        """The root of what was issued to us; nothing before that."""
        return self._roots

    def key_kinds(self) -> tuple[str, ...]:
        """None: this protocol has no way to say it."""
        return ()

    def enrol(
        self, csr: x509.CertificateSigningRequest, key: "PrivateKey | None", memory: "Memory"
    ) -> tuple[x509.Certificate, ...]:
        """The certificate for ``csr`` and those above it, the root last; on disk in ``memory``, confirmed.

        ``key`` proves possession (ir by a shared secret, cr by a certificate); without it, or where it only
        vouches for a key that cannot sign (RFC 9883), the PKCS#10 itself does (p10cr). Raises ``ca-pending``
        and ``ca-busy`` (ask again later, with the same request and memory), ``ca-refused`` (secret or
        certificate), ``ca-rejected`` (the request), ``ca-redirected``,
        ``ca-fingerprint-mismatch``, ``certificate-not-as-requested``, ``server-answer-malformed``,
        ``server-untrusted`` and ``server-unreachable``.
        """
        if key is None or not _own(csr, key):
            transaction = Transaction(cmp_request.PKCS10_REQUEST)
            return self._obtain(transaction, "p10cr", csr.public_bytes(Encoding.DER), csr, memory)
        kind: cmp.Kind = "ir" if isinstance(self._server.protection, SharedSecret) else "cr"
        body = cmp_request.certificate_request(csr, key)
        return self._obtain(Transaction(cmp_request.REQUEST), kind, body, csr, memory)

    def renew(
        self, csr: x509.CertificateSigningRequest, key: "PrivateKey | None", memory: "Memory"
    ) -> tuple[x509.Certificate, ...]:
        """Like :meth:`enrol`, instead of the certificate that protects the request (kur, RFC 9483 §4.1.3).

        With a shared secret, or without the new key, there is nothing to be replaced by it: as :meth:`enrol`.
        """
        protection = self._server.protection
        if key is None or not _own(csr, key) or isinstance(protection, SharedSecret):
            return self.enrol(csr, key, memory)
        body = cmp_request.certificate_request(csr, key, protection.chain[0])
        return self._obtain(Transaction(cmp_request.REQUEST), "kur", body, csr, memory)

    def revoke(self, certificate: x509.Certificate, reason: cmp_request.Reason = "unspecified") -> None:
        """Have a certificate revoked (rr, RFC 9483 §4.2); one that is revoked already is no error.

        Raises what :meth:`enrol` raises but for the certificate it does not get.
        """
        body = cmp_request.revocation(certificate, reason)
        self.close()
        try:
            self._server.ask(Transaction(cmp_request.REQUEST), "rr", body, "rp")
        except MedmailError as error:
            if not _says(error, "certRevoked"):
                raise

    # -- how

    def _obtain(
        self,
        fresh: Transaction,
        kind: cmp.Kind,
        body: bytes,
        csr: x509.CertificateSigningRequest,
        memory: "Memory",
    ) -> tuple[x509.Certificate, ...]:
        self.close()  # what the transaction before this one left open
        transaction = recall(memory.load(), csr, self.url) or fresh
        if transaction.chain and not self._still_ours(transaction):
            self.close()
            transaction = fresh

        def remember() -> None:
            memory.save(transaction.written(csr, self.url))

        if not transaction.chain:
            try:
                self._receive(transaction, kind, body, csr, remember)
            except MedmailError as error:
                if _final(error):
                    memory.save(b"")
                raise
        remember()
        if not transaction.confirmed:
            self._confirm(transaction, transaction.chain[0])
            transaction.confirmed = True
            remember()
        self._roots = tuple(
            certificate for certificate in transaction.chain[-1:] if facts(certificate).self_issued
        )
        return transaction.chain

    def _still_ours(self, transaction: Transaction) -> bool:
        """Whether the certificate that a run before this one received is valid at the authority."""
        self._match_fingerprint(transaction.chain)
        if not transaction.confirmed:
            try:
                self._confirm(transaction, transaction.chain[0])
            except MedmailError as error:
                if not _says(error, "certConfirmed"):
                    if _final(error):
                        return False  # a transaction that it does not know any more
                    raise
        transaction.confirmed = True
        return True

    def _confirm(self, transaction: Transaction, certificate: x509.Certificate, refused: str = "") -> None:
        body, version = cmp_request.confirmation(certificate, transaction.request, refused)
        self._server.ask(transaction, "certConf", body, "pkiconf", version=version)

    def _receive(
        self,
        transaction: Transaction,
        kind: cmp.Kind,
        body: bytes,
        csr: x509.CertificateSigningRequest,
        remember: Callable[[], None],
    ) -> None:
        """Have a certificate issued; one that is not what was asked for is refused at the authority too."""
        server = self._server
        message = server.ask(transaction, kind, body, _REPLIES[kind], remember=remember)
        issued = server.read(cmp.issued, message)
        if issued.certificate is None or issued.request not in (transaction.request, cmp_request.REQUEST):
            # before RFC 9480 a PKCS#10 was answered as any other request
            raise server.malformed("request")
        transaction.request = issued.request
        try:
            chain = checked(
                csr,
                [issued.certificate],
                anchors=self._anchors(issued),
                known=(*issued.authorities, *server.helpers),
                at=self._now(),
                url=self.url,
            )
        except MedmailError as error:
            if not message.header.implicit_confirm:
                transaction.chain = (issued.certificate,)
                with contextlib.suppress(MedmailError):  # unconfirmed it comes to nothing as well
                    self._confirm(transaction, issued.certificate, str(error.facts.get("reason", error.code)))
            raise
        transaction.chain, transaction.confirmed = chain, message.header.implicit_confirm

    def _anchors(self, issued: cmp.Issued) -> list[x509.Certificate]:
        """The roots that a certificate may come from: with a fingerprint only the one that bears it."""
        server = self._server
        known = [*server.anchors]
        if isinstance(server.protection, SharedSecret):
            known += [certificate for certificate in issued.authorities if facts(certificate).self_issued]
        if self.fingerprint is None:
            return known
        candidates = (*known, *issued.authorities, *server.helpers)
        self._match_fingerprint(candidates)
        return [
            certificate
            for certificate in dict.fromkeys(candidates)
            if fingerprint(certificate) == self.fingerprint
        ]

    def _match_fingerprint(self, certificates: Sequence[x509.Certificate]) -> None:
        roots = [
            fingerprint(certificate)
            for certificate in dict.fromkeys(certificates)
            if facts(certificate).self_issued
        ]
        if self.fingerprint is not None and self.fingerprint not in roots:
            raise MedmailError(
                "ca-fingerprint-mismatch", url=self.url, expected=self.fingerprint, found=roots
            )


def endpoint(url: str) -> str:
    """Where messages go: a host alone gets the well-known path (RFC 9811 §3.6). Raises ``insecure-url``."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username:
        raise MedmailError("insecure-url", url=url)
    return f"{parts.scheme}://{parts.netloc}{parts.path or '/.well-known/cmp'}"


def _final(error: MedmailError) -> bool:
    """Whether a transaction is over: the authority itself says so, or we do. Nobody else can end it."""
    if error.code in ("certificate-not-as-requested", "ca-fingerprint-mismatch"):
        return True
    return bool(error.facts.get("believed")) and exit_of(error.code) != TRY_LATER


def _says(error: MedmailError, failure: str) -> bool:
    """Whether an authority that is vouched for says so."""
    failures = error.facts.get("failures", ())
    return bool(error.facts.get("believed")) and isinstance(failures, tuple) and failure in failures


def _own(csr: x509.CertificateSigningRequest, key: "PrivateKey") -> bool:
    """Whether the key is the request's."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key.public_bytes(*form) == csr.public_key().public_bytes(*form)
