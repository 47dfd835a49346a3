"""What comes along with a SignedData to help judging it: certificates, CRLs, OCSP responses.

Nobody vouches for these, and each has a signature of its own: what cannot be read helps nobody and is left
out, whatever kind it is of and whatever stands inside.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cryptography import x509

from medmail_cli.cms import ber, der, identifiers
from medmail_cli.cms.certificates import UNREADABLE, load, load_crl
from medmail_cli.errors import MedmailError

Attributes = Mapping[str, Sequence[ber.Node]]

_OCSP_RESPONSE = "1.3.6.1.5.5.7.16.2"
_REVOCATION_VALUES = "1.2.840.113549.1.9.16.2.24"
_REVOCATION_ARCHIVAL = "1.2.840.113583.1.1.8"
_BASIC_RESPONSE = der.oid("1.3.6.1.5.5.7.48.1.1")
_MOST_READ_TWICE = 64
"""Certificates in a letter of which a copy is made where they cannot be read: that takes time."""
_SUCCESSFUL = b"\x0a\x01\x00"


def readable(node: ber.Node | None) -> Iterator[ber.Node]:
    """The elements inside, up to the first that is none."""
    with contextlib.suppress(MedmailError):
        yield from node.elements() if node else ()


def certificates(
    node: ber.Node | None,
) -> tuple[tuple[x509.Certificate, ...], tuple[identifiers.CertificateId, ...]]:
    """The X.509 certificates among CertificateChoices (RFC 5652 10.2.2) that can be read.

    Beside them issuer and serial number of those that cannot, where at least these can be made out.
    """
    loaded: list[x509.Certificate] = []
    unread: list[identifiers.CertificateId] = []
    for choice in readable(node):
        if choice.tag == ber.SEQUENCE:
            try:
                certificate = load(bytes(choice.raw), slips=len(loaded) + len(unread) < _MOST_READ_TWICE)
            except UNREADABLE:
                with contextlib.suppress(MedmailError, ValueError):
                    unread.append(identifiers.of_octets(choice))
            else:
                if identifiers.nameable(certificate):
                    loaded.append(certificate)
    return tuple(loaded), tuple(unread)


def crls(node: ber.Node | None, signers: Iterable[Attributes]) -> Iterator[x509.CertificateRevocationList]:
    """The CRLs among RevocationInfoChoices (RFC 5652 10.2.1) and in attributes of ``signers``."""
    for choice in (*readable(node), *_archived(signers, crl=True)):
        if choice.tag == ber.SEQUENCE:
            with contextlib.suppress(*UNREADABLE):
                yield load_crl(bytes(choice.raw))


def ocsp(node: ber.Node | None, signers: Iterable[Attributes]) -> Iterator[bytes]:
    """OCSPResponses in DER: OtherRevocationInfoFormat (RFC 5940 2.1), and in attributes of ``signers``."""
    for choice in readable(node):
        if choice.tag == 0x81:
            with contextlib.suppress(MedmailError):
                fields = choice.fields(0x81)
                if fields.take(ber.OID).oid() == _OCSP_RESPONSE:
                    yield bytes(fields.take(ber.SEQUENCE).raw)
    for response in _archived(signers, crl=False):
        first = next(readable(response), None)
        if first is not None and first.tag == ber.SEQUENCE:  # a BasicOCSPResponse, which begins with its data
            answer = der.sequence(_BASIC_RESPONSE, der.octet_string(response.raw))
            yield der.sequence(_SUCCESSFUL, der.tlv(0xA0, answer))
        elif first is not None:
            yield bytes(response.raw)


def _archived(signers: Iterable[Attributes], *, crl: bool) -> Iterator[ber.Node]:
    """CRLs or OCSP responses of revocation-values (RFC 5126 6.3.4) and of Adobe's revocationInfoArchival."""
    tag = 0x80 if crl else 0x81
    for attributes in signers:
        for oid in (_REVOCATION_VALUES, _REVOCATION_ARCHIVAL):
            for value in attributes.get(oid, ()):
                for group in readable(value):
                    if group.tag == tag:
                        with contextlib.suppress(MedmailError):
                            yield from group.explicit(tag).elements(ber.SEQUENCE)
