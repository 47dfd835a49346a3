"""Enrolment over Secure Transport (RFC 7030, with RFC 8951's corrections): a certificate for a request.

The authority's certificates are fetched first. What authenticates the server is, in this order: the anchors
given, the system's, or, where neither knows it and the root's fingerprint was given, the root that bears
that fingerprint (RFC 7030 §4.1.1): it is fetched over a connection nobody vouches for, checked against the
fingerprint, and everything after it goes over a new connection that the root vouches for.

What comes back is used only if it is for the key and the address asked for and chains to the authority's
root. Redirects are not followed: they would move the trust given to one server to another.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import ber
from medmail_cli.cms.certificates import fingerprint
from medmail_cli.cms.signed import parse_signed
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import csrattrs
from medmail_cli.pki.issuance.csrattrs import CsrAttribute, Wanted
from medmail_cli.pki.issuance.issued import checked
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.transport import serverkey
from medmail_cli.transport.exchange import Answer, Body, Https, Show, refusal

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from medmail_cli.model import Memory, PrivateKey

T = TypeVar("T")

_LIMITS = ber.Limits(size=1 << 20)
_NOTHING_WANTED = (204, 400, 403, 404, 405, 500, 501)
"""How servers say that they want nothing of a request, or do not know the question (RFC 7030 §4.5.2)."""


class EstAuthority:
    """One authority that speaks EST, as ``enrol`` uses it; holds one connection, to be closed.

    ``password`` is asked for only when the server wants a login; ``show`` gives TLS
    the certificate to be shown when it asks for one (RFC 7030 §3.3.2). ``patience`` is how many seconds to
    wait in all for a certificate the authority has not issued yet.
    """

    method: Literal["est"] = "est"

    def __init__(
        self,
        url: str,
        *,
        now: "Callable[[], dt.datetime]",
        tls_anchors: "Path | None" = None,
        fingerprint: str | None = None,
        login: str = "",
        password: Callable[[], bytes] | None = None,
        show: Show | None = None,
        timeout: float = 30.0,
        patience: float = 60.0,
    ) -> None:
        """Raises ``insecure-url`` unless ``url`` is https; ``bad-fingerprint``."""
        self.url = endpoint(url)
        self.fingerprint = None if fingerprint is None else read_fingerprint(fingerprint)
        self._now = now
        self._server = Https(self.url, anchors=tls_anchors, timeout=timeout)
        self._may_bootstrap = tls_anchors is None and self.fingerprint is not None
        self._login, self._password = login, password
        self._authorization: str | None = None
        self._patience = patience
        self._certificates: tuple[x509.Certificate, ...] | None = None
        self._wishes: Wanted | None = None
        if show is not None:
            self._server.present(show)

    def close(self) -> None:
        """End the connection."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # -- what enrol asks

    def anchors(self) -> tuple[x509.Certificate, ...]:
        """The authority's roots; with a fingerprint only the one that bears it.

        Raises ``ca-fingerprint-mismatch``, ``server-answer-malformed``, ``server-untrusted`` and
        ``server-unreachable``.
        """
        roots = tuple(c for c in self._known() if facts(c).self_issued)
        if self.fingerprint is None:
            return roots
        return tuple(c for c in roots if fingerprint(c) == self.fingerprint)

    def csr_attributes(self) -> tuple[CsrAttribute, ...]:
        """What the authority wants requests to hold (``/csrattrs``), nothing where it does not say."""
        self._known()
        answer = self._ask("GET", "csrattrs")
        if answer.status != 200:
            return ()
        return self._read(answer, csr_attributes)

    def key_kinds(self) -> tuple[str, ...]:
        """The kinds of keys that it says it certifies, as far as we make them; none where it does not say."""
        return self._wanted().keys

    def _wanted(self) -> Wanted:
        if self._wishes is None:
            try:
                self._wishes = csrattrs.understood(self.csr_attributes())
            except MedmailError as error:
                if error.code != "server-answer-malformed":
                    raise
                self._wishes = Wanted()  # to be ignored like all that is not recognised (RFC 7030 §4.5.2)
        return self._wishes

    def enrol(
        self,
        csr: x509.CertificateSigningRequest,
        key: "PrivateKey | None" = None,
        memory: "Memory | None" = None,
    ) -> tuple[x509.Certificate, ...]:
        """The certificate for ``csr`` and those above it, the root last.

        With ``key``, which signed it, the request is first made as the authority wants it, and tied to the
        connection where that speaks TLS 1.2 (RFC 7030 §3.5). EST has no use for ``memory``.
        Raises ``ca-pending`` and ``ca-busy`` (ask again later with the same request), ``ca-refused`` (login),
        ``ca-rejected`` (the request), ``ca-redirected``, ``certificate-not-as-requested`` and what
        :meth:`anchors` raises.
        """
        del memory
        return self._enrol("simpleenroll", csr, key)

    def renew(
        self,
        csr: x509.CertificateSigningRequest,
        key: "PrivateKey | None" = None,
        memory: "Memory | None" = None,
    ) -> tuple[x509.Certificate, ...]:
        """Like :meth:`enrol`, for the holder of a certificate with the same names (``/simplereenroll``)."""
        del memory
        return self._enrol("simplereenroll", csr, key)

    def generate(
        self, csr: x509.CertificateSigningRequest, key: "PrivateKey", opens: "serverkey.Keys" = ()
    ) -> "tuple[PrivateKeyTypes, tuple[x509.Certificate, ...]]":
        """A key that the authority makes, and its certificate with those above it (``/serverkeygen``).

        ``csr`` says for whom and of what kind; its own ``key`` is used for nothing else. The answer is asked
        to be encrypted for the first of ``opens`` that its certificate names by a key identifier. Raises as
        :meth:`enrol`.
        """
        known = self._known()
        ours = (serverkey.identifier(certificate) for certificate, _ in opens)
        also = [
            CsrAttribute(serverkey.DECRYPT_KEY_ID, (identifier,))
            for identifier in ours
            if identifier is not None
        ][:1]
        answer = self._decided("serverkeygen", self._body("simpleenroll", csr, key, also))
        form = answer.header("Content-Type")
        issued, received = self._read(answer, lambda body: serverkey.read(body, form, opens, _decoded))
        chain = checked(
            csr, received, anchors=self.anchors(), known=known, at=self._now(), url=self.url,
            key=issued.public_key(),
        )  # fmt: skip
        return issued, chain

    # -- how

    def _enrol(
        self, operation: str, csr: x509.CertificateSigningRequest, key: "PrivateKey | None"
    ) -> tuple[x509.Certificate, ...]:
        known = self._known()
        answer = self._decided(operation, self._body(operation, csr, key))
        received = self._read(answer, certificates)
        return checked(csr, received, anchors=self.anchors(), known=known, at=self._now(), url=self.url)

    def _decided(self, operation: str, body: Body) -> Answer:
        """The answer to a request, once it is there."""
        give_up = time.monotonic() + self._patience
        while (answer := self._ask("POST", operation, body)).status == 202:
            # never sooner than it says (RFC 7030 §4.2.3): rather the next run asks again
            pause = answer.retry_after or 1.0
            if time.monotonic() + pause > give_up:
                raise self._error("ca-pending", seconds=round(answer.retry_after or 0))
            time.sleep(pause)
        return answer

    def _body(
        self,
        operation: str,
        csr: x509.CertificateSigningRequest,
        key: "PrivateKey | None",
        also: Sequence[CsrAttribute] = (),
    ) -> Body:
        plain = csr.public_bytes(Encoding.DER)
        if key is None:
            return base64.encodebytes(plain)
        wanted = self._wanted()
        if wanted.linked:
            self._server.bind()

        def body(binding: bytes | None) -> bytes:
            named = operation == "simpleenroll"
            return base64.encodebytes(
                csrattrs.fitted(plain, key, wanted, binding=binding, subject=named, also=also)
            )

        return body

    def _known(self) -> tuple[x509.Certificate, ...]:
        """The certificates of ``/cacerts``, fetched once; by fingerprint if nothing else vouches."""
        if self._certificates is None:
            try:
                authorities = self._fetch_known()
            except MedmailError as error:
                if error.code != "server-untrusted" or not self._may_bootstrap:
                    raise
                authorities = self._bootstrap()
            if self.fingerprint is not None and self.fingerprint not in map(fingerprint, authorities):
                raise self._mismatch(authorities)
            self._certificates = authorities
        return self._certificates

    def _fetch_known(self) -> tuple[x509.Certificate, ...]:
        return self._read(self._ask("GET", "cacerts"), certificates)

    def _bootstrap(self) -> tuple[x509.Certificate, ...]:
        with Https(self.url, anchors=None, verified=False, timeout=self._server.timeout) as unverified:
            answer = unverified.ask("GET", f"{self._server.path}/cacerts")
        authorities = self._read(self._successful(answer), certificates)
        root = next(
            (c for c in authorities if fingerprint(c) == self.fingerprint and facts(c).self_issued), None
        )
        if root is None:
            raise self._mismatch(authorities)
        self._server.trust(root)
        return self._fetch_known()

    def _mismatch(self, authorities: Sequence[x509.Certificate]) -> MedmailError:
        roots = [fingerprint(c) for c in authorities if facts(c).self_issued]
        return self._error("ca-fingerprint-mismatch", expected=self.fingerprint, found=roots)

    def _ask(self, method: str, operation: str, body: Body | None = None) -> Answer:
        headers: dict[str, str] = {}
        if body is not None:
            # servers of RFC 7030 alone read Base64 only where it says so (RFC 8951 §3.1)
            headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        path = f"{self._server.path}/{operation}"
        answer = self._server.ask(method, path, body, headers | self._credentials())
        if answer.status == 401 and self._authorization is None and self._password is not None:
            if not re.match(r"(?i)(?:.*,)?\s*basic\b", answer.header("WWW-Authenticate")):
                raise self._error("ca-refused", status=401, detail=answer.text)
            pair = self._login.encode() + b":" + self._password()
            self._authorization = "Basic " + base64.b64encode(pair).decode()
            answer = self._server.ask(method, path, body, headers | self._credentials())
        if operation == "csrattrs" and answer.status in _NOTHING_WANTED:
            return answer
        return self._successful(answer)

    def _credentials(self) -> dict[str, str]:
        return {} if self._authorization is None else {"Authorization": self._authorization}

    def _successful(self, answer: Answer) -> Answer:
        if answer.status in (200, 202, 204):
            return answer
        raise refusal(answer, self.url)

    def _read(self, answer: Answer, reader: "Callable[[bytes], T]") -> "T":
        try:
            return reader(answer.body)
        except MedmailError as error:
            detail = error.facts.get("what", "")
            raise self._error("server-answer-malformed", host=self._server.name, detail=detail) from None

    def _error(self, code: str, **facts: object) -> MedmailError:
        return MedmailError(code, url=self.url, **facts)


def endpoint(url: str) -> str:
    """The base of the operations: ``https://host`` alone gets the well-known path (RFC 7030 §3.2.2).

    Raises ``insecure-url``.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        valid = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username:
        raise MedmailError("insecure-url", url=url)
    return f"https://{parts.netloc}{parts.path.rstrip('/') or '/.well-known/est'}"


def read_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint in lower-case hex, however people write it. Raises ``bad-fingerprint``."""
    plain = re.sub(r"(?i)^sha-?256(?: fingerprint)?[:=]|[:\s]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise MedmailError("bad-fingerprint", value=text)
    return plain


def certificates(body: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a certs-only answer (RFC 7030 §4.1.3): base64, or DER as some servers send.

    Raises ``malformed``.
    """
    bundle = parse_signed(ber.parse(_decoded(body), _LIMITS)).certificates
    if not bundle:
        raise ber.malformed("no-certificate")
    return bundle


def csr_attributes(body: bytes) -> tuple[CsrAttribute, ...]:
    """CsrAttrs (RFC 7030 §4.5.2): SEQUENCE OF CHOICE { OID, Attribute }. Raises ``malformed``."""
    if not body.strip():
        return ()
    return csrattrs.parse(_decoded(body), _LIMITS)


def _decoded(body: bytes) -> bytes:
    if body[:1] == b"\x30":
        # as the first character of base64 this octet, "0", would never begin a SEQUENCE: it is DER itself
        return body
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise ber.malformed("base64") from None
