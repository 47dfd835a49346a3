"""Certificates by ACME for mail addresses: RFC 8555 with the challenge email-reply-00 of RFC 8823.

**Being killed.** What must outlive a run is the account's key, which the caller holds, and where the order
stands, which is at the authority: so its URL is kept in a :class:`~medmail_cli.model.Memory` as soon as it
is known, beside the place in the mailbox where its challenge mail may begin. The next run looks at the order
and does what is left to be done:

- killed before the order's URL is on disk: another order is made; the first was never finalized and comes to
  nothing, though its challenge mail may yet arrive (see below);
- before the answer is sent, or before the authority is told of it: the challenge mail is found again; the
  caller's :class:`Post` sends one answer for each challenge, however often it is asked to;
- before, during or after finalizing: an order is finalized only while it is *ready*, which it is once. One
  that is *processing* is waited for, the certificate of one that is *valid* is downloaded, again if need be.

So a key gets one certificate, unless an authority forgets an order whose certificate nobody fetched.

An order that failed is forgotten, and the next run makes another. So is one for which several challenge mails
came that differ: which is ours cannot be told, and a wrong answer would spoil an order, perhaps another's.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from http.client import NOT_FOUND
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import acme, jose
from medmail_cli.pki.issuance.cmp_request import Reason
from medmail_cli.pki.issuance.issued import checked
from medmail_cli.pki.x509.address import same_address
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.transport import tls
from medmail_cli.transport.acmeserver import AcmeServer, ExternalAccount
from medmail_cli.transport.est import read_fingerprint

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from medmail_cli.model import Memory, PrivateKey
    from medmail_cli.smime.acme_challenge import ChallengeMail
    from medmail_cli.transport.exchange import Answer

_VERSION = 1


class Post(Protocol):
    """The mail of the address that is to be certified."""

    def end(self) -> str:
        """Where the mailbox ends now: what comes later is behind it."""

    def challenge(self, sender: str, address: str, since: str, give_up: float) -> "ChallengeMail | None":
        """The genuine challenge mail from ``sender`` behind ``since``, waited for until ``give_up``.

        Raises ``challenge-not-genuine`` where there are none but others, or where several differ.
        """

    def answer(self, mail: "ChallengeMail", address: str, key_authorization: str, key: str) -> None:
        """Send the answer, once for each ``key``; it is with a server when this returns."""


@dataclass(frozen=True)
class State:
    """How far a request has come: the order's URL, and where in the mailbox its challenge may begin."""

    order: str = ""
    since: str = ""

    def written(self, binding: str) -> bytes:
        """For the next run, bound to the request and the authority; nothing in it is secret."""
        return json.dumps({"medmail-acme": _VERSION, "for": binding, **asdict(self)}).encode()


def recall(kept: bytes, binding: str) -> State:
    """What a run before this one kept; a fresh state where it is of another request or cannot be read."""
    try:
        values = json.loads(kept)
        if (values["medmail-acme"], values["for"]) == (_VERSION, binding):
            return State(str(values["order"]), str(values["since"]))
    except (ValueError, KeyError, TypeError):
        pass  # as if nothing had been kept: the order that is lost was never finalized by us, or is valid
    return State()


class AcmeAuthority:
    """One authority that speaks ACME, as ``enrol`` uses it; holds one connection, to be closed.

    ``account_key`` is a P-256 key that is used for this alone. ``post`` reads and answers the challenge mail.
    ``agree`` is asked about the terms of service. Roots that certificates may come from are those in
    ``tls_anchors``, those trusted already (``roots``), and the one that the authority sends along; with a
    ``fingerprint`` only the one that bears it. ``patience`` is how many seconds to wait in all.
    """

    method: Literal["acme"] = "acme"

    def __init__(
        self,
        url: str,
        *,
        account_key: "PrivateKey",
        post: Post,
        now: "Callable[[], dt.datetime]",
        agree: Callable[[str], bool] = lambda _terms: False,
        external: ExternalAccount | None = None,
        tls_anchors: "Path | None" = None,
        roots: Sequence[x509.Certificate] = (),
        fingerprint: str | None = None,
        timeout: float = 30.0,
        patience: float = 120.0,
    ) -> None:
        """Raises ``insecure-url`` unless ``url`` is https; ``bad-fingerprint``, ``not-readable``."""
        self._server = AcmeServer(url, account_key, tls_anchors=tls_anchors, timeout=timeout)
        self.url = self._server.url
        self.fingerprint = None if fingerprint is None else read_fingerprint(fingerprint)
        self._account_key, self._post, self._now = account_key, post, now
        self._agree, self._external = agree, external
        self._known = (*roots, *tls.anchors_in(tls_anchors))
        self._patience = patience
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

    def enrol(
        self, csr: x509.CertificateSigningRequest, key: "PrivateKey", memory: "Memory"
    ) -> tuple[x509.Certificate, ...]:
        """The certificate for ``csr`` and those above it, the root last.

        ACME has no use for ``key``: the PKCS#10 proves it. Raises ``ca-pending`` and ``ca-busy`` (ask again
        later, with the same request and memory), ``ca-refused`` (the account), ``ca-rejected`` (the request,
        or the proof of the address), ``ca-redirected``, ``challenge-not-genuine``, ``server-…`` codes,
        ``certificate-not-as-requested``, and whatever fetching and sending mail raise.
        """
        del key
        self._server.close()  # what was left open may have been closed at the other end
        give_up = time.monotonic() + self._patience
        address = _address(csr)
        binding = hashlib.sha256(csr.public_bytes(Encoding.DER) + self.url.encode()).hexdigest()
        self.sign_up(address)
        state = recall(memory.load(), binding)
        try:
            state, answer = self._order(state, address, lambda it: memory.save(it.written(binding)))
            order = self._server.read(acme.order, answer)
            while (status := order.status) != "valid":
                if status == "pending":
                    self._prove(order, state, address, give_up)
                elif status == "ready":
                    self._finalize(order, csr)
                elif status != "processing":
                    raise _Failed(order.problem)
                answer = self._server.post(state.order)
                order = self._server.read(acme.order, answer)
                if order.status == status:
                    self._server.pause(answer, give_up)
        except _Failed as failed:
            memory.save(b"")
            raise self._server.error("ca-rejected", status=200, detail=str(failed.problem)) from None
        except MedmailError as error:
            if error.facts.get("reason") == "several-challenges":
                memory.save(b"")
            raise
        return self._fetched(csr, order)

    def sign_up(self, contact: str) -> None:
        """Find our account, or make it, whatever the authority demands for that; ``contact`` is an address.

        Raises ``ca-refused``, and what keeps the server from being reached.
        """
        self._server.sign_up(self._agree, self._external, (f"mailto:{contact}",))

    def key_kinds(self) -> tuple[str, ...]:
        """None: this protocol has no way to say it."""
        return ()

    def renew(
        self, csr: x509.CertificateSigningRequest, key: "PrivateKey", memory: "Memory"
    ) -> tuple[x509.Certificate, ...]:
        """As :meth:`enrol`: ACME has no other way."""
        return self.enrol(csr, key, memory)

    def revoke(self, certificate: x509.Certificate, reason: Reason = "unspecified") -> None:
        """Have a certificate of this account revoked (RFC 8555 §7.6); one revoked already is no error.

        Raises what :meth:`enrol` raises of accounts and servers.
        """
        self._server.close()
        self._server.sign_up(self._agree, self._external)
        if not (url := self._server.directory.revoke):
            raise self._server.malformed("revokeCert")
        number = get_args(Reason).index(reason)
        wish = {"certificate": jose.encode(certificate.public_bytes(Encoding.DER)), "reason": number}
        try:
            self._server.post(url, wish)
        except MedmailError as error:
            if error.facts.get("problem") != "alreadyRevoked":
                raise

    # -- how

    def _order(self, state: State, address: str, keep: Callable[[State], None]) -> "tuple[State, Answer]":
        """The order that a run before this one made, else a new one (RFC 8555 §7.4)."""
        if state.order:
            try:
                return state, self._server.post(state.order)
            except MedmailError as error:
                # an authority that has forgotten it; whoever else answers so speaks for it, by TLS
                if error.facts.get("status") != NOT_FOUND:
                    raise
        # what is in the mailbox before the order is made cannot be its challenge
        state = State(since=self._post.end())
        wish = {"identifiers": [{"type": "email", "value": address}]}
        answer = self._server.post(self._server.directory.new_order, wish)
        state = replace(state, order=self._server.location(answer))
        keep(state)
        return state, answer

    def _prove(self, order: acme.Order, state: State, address: str, give_up: float) -> None:
        """Have every authorization of an order become valid (RFC 8555 §7.5)."""
        for url in order.authorizations:
            answer = self._server.post(url)
            authorization = self._server.read(acme.authorization, answer)
            if authorization.identifier.type != "email" or not same_address(
                authorization.identifier.value, address
            ):
                raise self._server.malformed("identifier")
            if authorization.status == "pending":
                self._answer_challenge(authorization, url, state, address, give_up)
            while authorization.status == "pending":
                answer = self._server.post(url)
                authorization = self._server.read(acme.authorization, answer)
                if authorization.status == "pending":
                    self._server.pause(answer, give_up)
            if authorization.status != "valid":
                problems = [
                    challenge.problem for challenge in authorization.challenges if str(challenge.problem)
                ]
                raise _Failed(problems[0] if problems else acme.Problem(detail=authorization.status))

    def _answer_challenge(
        self, authorization: acme.Authorization, url: str, state: State, address: str, give_up: float
    ) -> None:
        """Answer the challenge mail and tell the authority so (RFC 8823 §3, items 3 to 6)."""
        challenge = next(
            (candidate for candidate in authorization.challenges if candidate.type == acme.EMAIL_REPLY), None
        )
        if challenge is None:
            raise _Failed(acme.Problem(detail=f"{acme.EMAIL_REPLY}?"))
        if challenge.status != "pending":
            return
        try:
            mail = self._post.challenge(challenge.sender, address, state.since, give_up)
        except MedmailError as error:
            if error.facts.get("reason") == "several-challenges":
                self._server.post(url, {"status": "deactivated"})
            raise
        if mail is None:
            raise self._server.error("ca-pending", seconds=0)
        key_authorization = jose.key_authorization(mail.token + challenge.token, self._account_key)
        key = f"acme:{hashlib.sha256((challenge.url + mail.token).encode()).hexdigest()}"
        self._post.answer(mail, address, key_authorization, key)
        self._server.post(challenge.url, {})

    def _finalize(self, order: acme.Order, csr: x509.CertificateSigningRequest) -> None:
        """Hand the request over (RFC 8555 §7.4)."""
        try:
            self._server.post(order.finalize, {"csr": jose.encode(csr.public_bytes(Encoding.DER))})
        except MedmailError as error:
            if error.facts.get("problem") != "orderNotReady":
                raise

    def _fetched(
        self, csr: x509.CertificateSigningRequest, order: acme.Order
    ) -> tuple[x509.Certificate, ...]:
        """The certificate of an order, judged (RFC 8555 §7.4.2)."""
        if not order.certificate:
            raise self._server.malformed("certificate")
        received = self._server.read(acme.chain, self._server.post(order.certificate))
        roots = dict.fromkeys(
            (*self._known, *(certificate for certificate in received if facts(certificate).self_issued))
        )
        if self.fingerprint is not None:
            bearing = [root for root in roots if fingerprint(root) == self.fingerprint]
            if not bearing:
                offered = [fingerprint(root) for root in roots]
                raise self._server.error("ca-fingerprint-mismatch", expected=self.fingerprint, found=offered)
            roots = dict.fromkeys(bearing)
        chain = checked(csr, received, anchors=tuple(roots), at=self._now(), url=self.url)
        self._roots = tuple(certificate for certificate in chain[-1:] if facts(certificate).self_issued)
        return chain


class _Failed(Exception):  # noqa: N818 - the order failed, not we
    """An order or its proof is over, and will not become a certificate."""

    def __init__(self, problem: acme.Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _address(csr: x509.CertificateSigningRequest) -> str:
    """The address that a request is for; a challenge proves one. Raises ``needs-address``."""
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (address,) = names.get_values_for_type(x509.RFC822Name)
    except (x509.ExtensionNotFound, ValueError):
        raise MedmailError("needs-address", subject=csr.subject.rfc4514_string()) from None
    return address
