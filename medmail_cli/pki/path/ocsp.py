"""OCSP answers (RFC 6960): what they say of one certificate, and asking for one.

Whether an answer may be believed is worked out here too: it is signed by the certificate's own issuer, or by
a responder that this issuer certified for it (RFC 6960 §4.2.2.2). A responder the issuer has revoked is the
caller's to find out, who knows the lists.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import CRLEntryExtensionOID, ExtendedKeyUsageOID, OCSPExtensionOID

from medmail_cli.cms import algorithms, ber, identifiers
from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.cms.verify import check_plain
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.crl import SKEW, Revocation
from medmail_cli.pki.path.fitness import weaknesses
from medmail_cli.pki.path.revocation import ALL_REASONS, RevocationStatement
from medmail_cli.pki.x509.certificate import WEAK_HASHES, facts, issued, public_key
from medmail_cli.pki.x509.critical import unknown_critical

if TYPE_CHECKING:
    from cryptography.x509 import ocsp

LARGEST = 1 << 20
"""Octets of a response that is read."""
MOST_ANSWERS = 64
NO_NEXT_UPDATE = dt.timedelta(days=1)
"""How long an answer without nextUpdate stands, which says that newer ones are always to be had."""
_RESPONDER = ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string
_NO_CHECK = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.5")
_KNOWN = {
    OCSPExtensionOID.NONCE, x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.3"),  # CRL references
    x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.6"),  # archive cutoff
    x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.9"),  # extended revoke
    CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE,
}  # fmt: skip
"""What may stand in an answer and takes nothing from a good one (RFC 6960 §4.4)."""


@dataclass(frozen=True)
class Answer:
    """What one response says of one certificate, not believed yet; ``revoked`` is None for a good one."""

    response: "ocsp.OCSPResponse"
    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int
    this_update: dt.datetime
    next_update: dt.datetime | None
    revoked: Revocation | None
    defect: str | None
    """Why it can revoke but never clear: a weak digest, by its name, or ``critical`` for an extension that
    nobody here knows (RFC 6960 §4.4).
    """

    def about(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        """Whether it speaks of the certificate that this issuer gave."""
        if self.serial != identifiers.serial_number(certificate):
            return False
        return self.issuer_name_hash == _digest(
            self.hash_name, identifiers.issuer_octets(certificate)
        ) and self.issuer_key_hash == _digest(self.hash_name, identifiers.public_key_octets(issuer))

    def current(self, at: dt.datetime) -> bool:
        """Whether it speaks for the instant ``at``, or for a later one."""
        late = at - (self.next_update or self.this_update)
        return late <= (SKEW if self.next_update else NO_NEXT_UPDATE + SKEW)

    def statement(self, at: dt.datetime) -> RevocationStatement | None:
        """What it says to somebody who believes it; None where it is good and may not clear."""
        if self.defect is not None:
            return (
                RevocationStatement(self.this_update, self.revoked, frozenset(), current=False)
                if self.revoked
                else None
            )
        return RevocationStatement(self.this_update, self.revoked, ALL_REASONS, self.current(at))

    def responder(self, issuer: x509.Certificate) -> x509.Certificate | None:
        """Who signed it, if that is the issuer or somebody it certified for this (RFC 6960 §4.2.2.2)."""
        for signer in _signers(self.response, issuer):
            read = facts(signer)
            if (
                signer == issuer
                or max(read.not_before - self.this_update, self.this_update - read.not_after) <= SKEW
            ):
                return signer
        return None


@lru_cache(maxsize=256)
def _signers(response: "ocsp.OCSPResponse", issuer: x509.Certificate) -> tuple[x509.Certificate, ...]:
    """Whose signature a response bears, of those entitled to; worked out once for all its answers."""
    if _signed(response, issuer):
        return (issuer,)
    return tuple(
        helper
        for helper in response.certificates[:8]
        if _entitled(helper) and issued(helper, issuer) and _signed(response, helper)
    )


def _entitled(helper: x509.Certificate) -> bool:
    read = facts(helper)
    return (
        read.extended is not None
        and _RESPONDER in read.extended
        and (read.usage is None or read.usage.digital_signature)
        and not weaknesses(helper, anchor=False)
    )


def read_ocsp(der: bytes) -> tuple[Answer, ...]:
    """The good and revoked answers in a response (DER); none where it is unsuccessful or cannot be read."""
    from cryptography.x509 import ocsp

    if len(der) > LARGEST:
        return ()
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            return ()
        return tuple(_answers(response))
    except (*UNREADABLE, UnsupportedAlgorithm):
        return ()


def _answers(response: "ocsp.OCSPResponse") -> Iterator[Answer]:
    from cryptography.x509 import ocsp

    defect = _defect(response)
    for number, single in enumerate(response.responses):
        if number == MOST_ANSWERS:
            return
        if single.certificate_status == ocsp.OCSPCertStatus.UNKNOWN:
            continue
        revoked = None
        if (
            single.certificate_status == ocsp.OCSPCertStatus.REVOKED
            and single.revocation_time_utc is not None
        ):
            reason = single.revocation_reason or x509.ReasonFlags.unspecified
            revoked = Revocation(single.revocation_time_utc, reason)
        yield Answer(
            response, single.hash_algorithm.name, single.issuer_name_hash, single.issuer_key_hash,
            single.serial_number, single.this_update_utc, single.next_update_utc, revoked, defect,
        )  # fmt: skip


def _defect(response: "ocsp.OCSPResponse") -> str | None:
    if (
        response.signature_algorithm_oid.dotted_string != algorithms.RSA_PSS
    ):  # whose digests are checked later
        digest = response.signature_hash_algorithm
        if digest is not None and digest.name in WEAK_HASHES:
            return digest.name
    return "critical" if unknown_critical(response.tbs_response_bytes, _KNOWN) else None


def unchecked(responder: x509.Certificate) -> bool:
    """Whether the issuer vouches for its responder while the certificate lives (id-pkix-ocsp-nocheck)."""
    try:
        responder.extensions.get_extension_for_oid(_NO_CHECK)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    return True


def request(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """A request (DER) about one certificate, named by SHA-1 as every responder takes it (RFC 5019 §2.1.1)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import ocsp

    name, key = identifiers.issuer_octets(certificate), identifiers.public_key_octets(issuer)
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        _digest("sha1", name),
        _digest("sha1", key),
        identifiers.serial_number(certificate),
        hashes.SHA1(),  # noqa: S303 - names, nothing rests on them
    )
    return builder.build().public_bytes(Encoding.DER)


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.new(name, data, usedforsecurity=False).digest()


def _signed(response: "ocsp.OCSPResponse", signer: x509.Certificate) -> bool:
    key: Any = public_key(signer)
    try:
        if response.signature_algorithm_oid.dotted_string == algorithms.RSA_PSS:
            algorithm = _signature_algorithm(response)
            return check_plain(algorithm, signer, response.signature, response.tbs_response_bytes)
        hashed, signature, body = (
            response.signature_hash_algorithm,
            response.signature,
            response.tbs_response_bytes,
        )
        if isinstance(key, rsa.RSAPublicKey):
            if hashed is None:
                return False
            key.verify(signature, body, padding.PKCS1v15(), hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if hashed is None:
                return False
            key.verify(signature, body, ec.ECDSA(hashed))
        elif key is None:
            return False
        else:
            key.verify(signature, body)
    except (InvalidSignature, UnsupportedAlgorithm, MedmailError, ValueError, TypeError, AttributeError):
        # the last two: kinds of keys that sign nothing, or want more than this
        return False
    return True


def _signature_algorithm(response: "ocsp.OCSPResponse") -> algorithms.Algorithm:
    """The algorithm with its parameters, of which cryptography tells nothing (RFC 6960 §4.2.1)."""
    from cryptography.hazmat.primitives.serialization import Encoding

    fields = ber.parse(response.public_bytes(Encoding.DER)).fields()
    fields.take()
    octets = fields.take(0x80).explicit(0x80).fields()
    octets.take()
    basic = ber.parse(bytes(octets.take().octets())).fields()
    basic.take()
    return algorithms.read(basic.take())
