"""Distinguished names as they stand in certificates and CRLs, those of old software among them.

``cryptography`` reads a TeletexString as UTF-8. What wrote them for thirty years meant Latin-1, and so it is
taken here where reading fails; likewise in any other string that is not what its type says.
"""

from cryptography import x509

from medmail_cli.cms import ber, identifiers
from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.errors import MedmailError


def subject(certificate: x509.Certificate) -> x509.Name:
    """A certificate's subject. Raises what is in ``UNREADABLE``."""
    try:
        return certificate.subject
    except UNREADABLE:
        return _as_written(identifiers.subject_octets(certificate))


def issuer(certificate: x509.Certificate) -> x509.Name:
    """A certificate's issuer. Raises what is in ``UNREADABLE``."""
    try:
        return certificate.issuer
    except UNREADABLE:
        return _as_written(identifiers.issuer_octets(certificate))


def crl_issuer(crl: x509.CertificateRevocationList) -> x509.Name:
    """A CRL's issuer. Raises what is in ``UNREADABLE``."""
    try:
        return crl.issuer
    except UNREADABLE:
        return _as_written(identifiers.crl_issuer_octets(crl))


def _as_written(octets: bytes) -> x509.Name:
    try:
        return x509.Name(
            [
                x509.RelativeDistinguishedName(
                    x509.NameAttribute(x509.ObjectIdentifier(oid), text)
                    for oid, text in identifiers.attributes(rdn)
                )
                for rdn in ber.parse(octets).elements(ber.SEQUENCE)
            ]
        )
    except MedmailError as error:
        raise ValueError(str(error)) from error
