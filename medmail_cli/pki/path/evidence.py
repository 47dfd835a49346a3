"""What comes along with a message to prove its signers, within limits and indexed for path building."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509

from medmail_cli.pki.path.crl import Crl, read_crl
from medmail_cli.pki.path.ocsp import Answer, read_ocsp
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.pki.x509.names import NameKey

MOST_HELPERS = 256
"""Certificates that came with a letter and are looked at; the rest cannot slow anybody down."""
MOST_LISTS = 16
"""CRLs and OCSP responses that came with a letter and are looked at."""


@dataclass(frozen=True)
class Enclosed:
    """What came along with a message to prove its signers: nobody vouches for any of it.

    ``ocsp`` holds OCSPResponses (RFC 6960) in DER.
    """

    certificates: Sequence[x509.Certificate] = ()
    crls: Sequence[x509.CertificateRevocationList] = ()
    ocsp: Sequence[bytes] = ()


NOTHING = Enclosed()


@dataclass(frozen=True)
class Helpers:
    """What came along with the message, indexed."""

    certificates: dict[NameKey, list[x509.Certificate]]
    crls: dict[NameKey, list[Crl]]
    answers: tuple[Answer, ...]


def indexed(enclosed: Enclosed) -> Helpers:
    """What is looked at of all that came along."""
    return Helpers(
        by_subject(enclosed.certificates[:MOST_HELPERS]),
        by_issuer(map(read_crl, enclosed.crls[:MOST_LISTS])),
        tuple(answer for der in enclosed.ocsp[:MOST_LISTS] for answer in read_ocsp(der)),
    )


def by_issuer(crls: Iterable[Crl | None]) -> dict[NameKey, list[Crl]]:
    """CRLs by the name that issued them; those that could not be understood are left out."""
    index: dict[NameKey, list[Crl]] = {}
    for crl in filter(None, crls):
        index.setdefault(crl.issuer, []).append(crl)
    return index


def by_subject(certificates: Sequence[x509.Certificate]) -> dict[NameKey, list[x509.Certificate]]:
    """Certificates by their subject, each once."""
    index: dict[NameKey, list[x509.Certificate]] = {}
    for certificate in dict.fromkeys(certificates):
        index.setdefault(facts(certificate).subject, []).append(certificate)
    return index
