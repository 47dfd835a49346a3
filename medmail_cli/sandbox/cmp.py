"""The sandbox's CMP (RFC 9810, 9483): ir, cr, kur, p10cr, certConf and rr, for one certificate at a time.

Who asks is known by the mailbox's password (MAC, the address being the reference) or by a certificate of the
authority. A certificate is confirmed by its holder, or void: it is revoked when it is refused, or when the
same key is asked for again. A confirmation that comes again is answered again.
"""

import datetime as dt
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import CRLEntryExtensionOID

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import cmp, cmp_request
from medmail_cli.pki.issuance.cmp_protection import (
    PBMAC1,
    Protection,
    SharedSecret,
    Signer,
    authentic,
    is_mac,
    signed_by,
    write,
)
from medmail_cli.sandbox.ca import IdentityAuthority, RequestRefused

CMP = "/.well-known/cmp"
MEDIA_TYPE = "application/pkixcmp"
_REPLIES: dict[str, cmp.Kind] = {"ir": "ip", "cr": "cp", "p10cr": "cp", "kur": "kup"}
_MOST_TRANSACTIONS = 1000
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"


class _Refused(Exception):  # noqa: N818 - named for what happened
    """A message that is answered with an error; the failure and why."""

    def __init__(self, failure: str, why: str) -> None:
        super().__init__(why)
        self.failure, self.why = failure, why


@dataclass
class _Issued:
    certificate: x509.Certificate
    holder: str
    request: int
    confirmed: bool


@dataclass
class Responder:
    """Answers CMP messages for ``authority``; ``secret`` gives the password of an address it knows."""

    authority: IdentityAuthority
    secret: Callable[[str], bytes | None]
    signer: Signer
    """Signs the answers to what is signed; its certificate says that it may (id-kp-cmcCA)."""
    _transactions: dict[bytes, _Issued] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def create(
        cls, authority: IdentityAuthority, secret: Callable[[str], bytes | None], now: dt.datetime
    ) -> "Responder":
        """A responder with a certificate of its own."""
        issuer = authority.responder(now)
        chain = (issuer.certificate, authority.issuing.certificate)
        return cls(authority, secret, Signer(SoftwareKey(issuer.key), chain))

    def answer(self, octets: bytes, now: dt.datetime) -> bytes:
        """The answer to one message. Raises ``malformed`` and ``too-large`` for what is none."""
        message = cmp.read(octets)
        header = cmp.Header(
            sender=self.signer.sender,
            recipient=message.header.sender,
            transaction=message.header.transaction,
            nonce=secrets.token_bytes(16),
            answers=message.header.nonce,
            time=now,
        )
        protection: Protection | None = None
        try:
            protection, holder = self._known(message)
            header = replace(header, key_id=protection.key_id)
            with self._lock:
                kind, body, implicitly = self._answer(message, holder, now)
        except _Refused as refused:
            kind, implicitly = "error", False
            body = der.sequence(cmp.status_info(2, refused.why, [refused.failure]))
        except MedmailError:
            kind, implicitly = "error", False
            body = der.sequence(cmp.status_info(2, "unreadable request", ["badDataFormat"]))
        header = replace(header, implicit_confirm=implicitly)
        if protection is None:
            return cmp.build(header, kind, body)
        helper = self.authority.issuing if is_mac(message) else self.authority.root
        return write(kind, body, header, protection, [helper.certificate])

    def _known(self, message: cmp.Message) -> tuple[Protection, str]:
        """What protects the answer, and who asks."""
        if is_mac(message):
            reference = message.header.key_id or b""
            address = reference.decode("utf-8", "replace")
            secret = self.secret(address)
            if secret is None or not authentic(message, secret):
                raise _Refused("badMessageCheck", "the reference or the secret is wrong")
            newer = message.algorithm is not None and message.algorithm.oid == PBMAC1
            return SharedSecret(reference, secret, "pbmac1" if newer else "pbm"), address
        for certificate in message.certificates:
            holder = self.authority.holder(certificate.public_bytes(Encoding.DER))
            if holder is not None and signed_by(message, certificate):
                return self.signer, holder
        raise _Refused("signerNotTrusted", "nobody known here has signed this")

    def _answer(self, message: cmp.Message, holder: str, now: dt.datetime) -> tuple[cmp.Kind, bytes, bool]:
        if message.kind in _REPLIES:
            return self._certify(message, holder, now)
        if message.kind == "certConf":
            self._confirm(message, holder, now)
            return "pkiconf", der.NULL, False
        if message.kind == "rr":
            return "rp", self._revoke(message, holder, now), False
        raise _Refused("badRequest", f"{message.kind} is not answered here")

    def _certify(self, message: cmp.Message, holder: str, now: dt.datetime) -> tuple[cmp.Kind, bytes, bool]:
        if message.header.transaction in self._transactions:
            raise _Refused("transactionIdInUse", "this transaction has been answered")
        if message.kind == "p10cr":
            number, csr, proven = cmp_request.PKCS10_REQUEST, bytes(message.body.raw), False
        else:
            number, csr = _certificate_request(message.body)
            proven = True
        try:
            certificate = self.authority.issue(csr, holder, now, proven=proven)
        except RequestRefused as refused:
            failure = "badPOP" if "possession" in str(refused) else "badCertTemplate"
            response = der.sequence(der.integer(number), cmp.status_info(2, str(refused), [failure]))
            return _REPLIES[message.kind], der.sequence(der.sequence(response)), False
        for other in self._transactions.values():
            if not other.confirmed and _key(other.certificate) == _key(certificate):
                self._void(other, now)
        if len(self._transactions) == _MOST_TRANSACTIONS:
            self._transactions.pop(next(iter(self._transactions)))
        implicitly = message.header.implicit_confirm
        self._transactions[message.header.transaction] = _Issued(certificate, holder, number, implicitly)
        pair = der.sequence(der.tlv(0xA0, certificate.public_bytes(Encoding.DER)))
        response = der.sequence(der.integer(number), cmp.status_info(0), pair)
        roots = der.sequence(self.authority.root.certificate.public_bytes(Encoding.DER))
        authorities = der.tlv(0xA1, roots) if is_mac(message) else b""
        return _REPLIES[message.kind], der.sequence(authorities, der.sequence(response)), implicitly

    def _confirm(self, message: cmp.Message, holder: str, now: dt.datetime) -> None:
        issued = self._transactions.get(message.header.transaction)
        if issued is None or issued.holder != holder:
            raise _Refused("badRequest", "nothing waits to be confirmed in this transaction")
        fields = _only(message.body).fields()
        hashed, number = bytes(fields.take(ber.OCTET_STRING).octets()), fields.take(ber.INTEGER).integer()
        state = fields.maybe(ber.SEQUENCE)
        named = fields.maybe(0x80)
        fields.end()
        algorithm = issued.certificate.signature_hash_algorithm
        if named is not None:
            algorithm = algorithms.hash_of(algorithms.digest_name(algorithms.read(named.explicit(0x80))))
        if (
            algorithm is None
            or hashed != issued.certificate.fingerprint(algorithm)
            or number != issued.request
        ):
            raise _Refused("badCertId", "that is not the certificate of this transaction")
        if state is not None and state.fields().take(ber.INTEGER).integer() > 1:
            self._void(issued, now)
        issued.confirmed = True

    def _void(self, issued: _Issued, now: dt.datetime) -> None:
        issued.confirmed = True
        self.authority.revoke(issued.certificate.serial_number, now)

    def _revoke(self, message: cmp.Message, holder: str, now: dt.datetime) -> bytes:
        details = _only(message.body).fields()
        template, reason = details.take(ber.SEQUENCE).fields(), _reason(details.maybe(ber.SEQUENCE))
        serial, issuer = template.take(0x81), template.take(0x83)
        number = int.from_bytes(serial.content, "big")
        ours = bytes(issuer.explicit(0x83).raw) == self.authority.issuing.certificate.subject.public_bytes()
        state = cmp.status_info(2, "not a certificate of yours", ["badCertId"])
        if ours and number in self.authority.revoked:
            state = cmp.status_info(2, "it is revoked already", ["certRevoked"])
        elif ours and self.authority.belongs(number, holder):
            self.authority.revoke(number, now, reason)
            state = cmp.status_info(0)
        return der.sequence(der.sequence(state))


def _reason(entry: ber.Node | None) -> x509.ReasonFlags:
    """Why, by the CRL entry's extensions that the holder wants (RFC 9483 §4.2)."""
    for extension in entry.elements(ber.SEQUENCE) if entry is not None else ():
        oid, *_critical, value = extension.elements()
        if oid.oid() == CRLEntryExtensionOID.CRL_REASON.dotted_string:
            number = int.from_bytes(ber.parse(bytes(value.octets())).content)
            names = get_args(cmp_request.Reason)
            return x509.ReasonFlags(names[number]) if number < len(names) else x509.ReasonFlags.unspecified
    return x509.ReasonFlags.unspecified


def _only(node: ber.Node) -> ber.Node:
    fields = node.fields()
    element = fields.take(ber.SEQUENCE)
    fields.end()
    return element


def _certificate_request(body: ber.Node) -> tuple[int, bytes]:
    """The certReqId of CertReqMessages, and what it asks for, proven, in the form of a PKCS#10 request."""
    fields = _only(body).fields()
    request, proof = fields.take(ber.SEQUENCE), fields.take()
    inner = request.fields()
    number, template = inner.take(ber.INTEGER).integer(), inner.take(ber.SEQUENCE).fields()
    for tag in (0x80, 0x81, 0x82, 0x83, 0x84):
        template.maybe(tag)
    subject, key = template.take(0x85).explicit(0x85), template.take(0x86)
    template.maybe(0x87)
    template.maybe(0x88)
    extensions = template.maybe(0x89)
    public = der.tlv(der.SEQUENCE, key.content)
    signing = proof.fields(0x81)  # a signature is all that is taken for a proof
    algorithm, signature = algorithms.read(signing.take(ber.SEQUENCE)), bytes(signing.take().bits())
    signing.end()
    if not _signs(public, algorithm, signature, bytes(request.raw)):
        raise _Refused("badPOP", "the request does not prove possession of the key")
    wanted = b"" if extensions is None else der.sequence(extensions.content)
    attribute = der.sequence(der.oid(_EXTENSION_REQUEST), der.tlv(der.SET, wanted)) if wanted else b""
    asked = der.sequence(der.integer(0), subject.raw, public, der.tlv(0xA0, attribute))
    return number, der.sequence(asked, algorithm.node.raw, der.bit_string(signature))


def _signs(public: bytes, algorithm: algorithms.Algorithm, signature: bytes, octets: bytes) -> bool:
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    _kind, digest = algorithms.SIGNATURES.get(algorithm.oid, ("", ""))
    try:
        key = load_der_public_key(public)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, octets, padding.PKCS1v15(), algorithms.hash_of(digest))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, octets, ec.ECDSA(algorithms.hash_of(digest)))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, octets)
        else:
            return False
    except (InvalidSignature, ValueError, LookupError):
        return False
    return True


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
