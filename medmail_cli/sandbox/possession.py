"""What ties a request to who sent it: statements of possession (RFC 9883), tls-unique (RFC 7030 §3.5)."""

import base64
import hmac
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID

from medmail_cli.cms import algorithms, ber
from medmail_cli.cms.verify import check_plain
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance.csr import STATEMENT_OF_POSSESSION


def linked(der: bytes, binding: bytes | None) -> bool:
    """Whether a request's challengePassword, if it has one, is the tls-unique of its connection."""
    try:
        request = x509.load_der_x509_csr(der)
        said = request.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value
    except (x509.AttributeNotFound, ValueError):
        return True  # what cannot be read is refused for that
    return binding is not None and hmac.compare_digest(said, base64.b64encode(binding))


def voucher(der: bytes, issued: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The certificate, one of those issued, whose holder signed a request and states to possess its key."""
    try:
        request = ber.parse(der).fields()
        body = request.take(ber.SEQUENCE)
        algorithm = algorithms.read(request.take(ber.SEQUENCE))
        signature = bytes(request.take(ber.BIT_STRING).bits())
        fields = body.fields()
        for tag in (ber.INTEGER, ber.SEQUENCE, ber.SEQUENCE):
            fields.take(tag)
        for attribute in fields.take(0x80).elements(0x80):
            parts = attribute.fields()
            if parts.take(ber.OID).oid() == STATEMENT_OF_POSSESSION:
                (statement,) = parts.take(ber.SET).elements()
                named = statement.fields()
                named.take(ber.SEQUENCE)
                shown = bytes(named.take(ber.SEQUENCE).raw)
                for certificate in issued:
                    if certificate.public_bytes(Encoding.DER) == shown:
                        holds = check_plain(algorithm, certificate, signature, bytes(body.raw))
                        return certificate if holds else None
    except (MedmailError, ValueError):  # no such request: nobody vouches
        return None
    return None
