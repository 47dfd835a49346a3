"""Where a certificate or CRL says that more is to be had (RFC 5280 §4.2.1.13, §4.2.1.15, §4.2.2.1, §5.2.6).

Whoever wrote the certificate wrote these URLs: nothing here asks them.
"""

from collections.abc import Iterable, Iterator

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.pki.x509.certificate import facts

MOST = 8
"""URLs of one kind that are taken from one certificate or CRL."""

Point = tuple[str, ...]
"""The URLs of one distribution point: several places of one list."""


def crl_points(certificate: x509.Certificate) -> tuple[Point, ...]:
    """Where its issuer's CRLs are, one entry for each distribution point."""
    return _points(facts(certificate).points)


def delta_points(thing: x509.Certificate | x509.CertificateRevocationList) -> tuple[Point, ...]:
    """Where the delta CRLs to a certificate's or a CRL's complete one are (freshestCRL)."""
    try:
        points = thing.extensions.get_extension_for_class(x509.FreshestCRL).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()
    return _points(points)


def revocation_points(certificate: x509.Certificate) -> tuple[Point, ...]:
    """Where its issuer's CRLs and their deltas are."""
    return (*crl_points(certificate), *delta_points(certificate))


def issuer_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where its issuer's certificate is (caIssuers)."""
    return _access(certificate, AuthorityInformationAccessOID.CA_ISSUERS)


def ocsp_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    """Who answers whether it is revoked."""
    return _access(certificate, AuthorityInformationAccessOID.OCSP)


def _access(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> tuple[str, ...]:
    try:
        descriptions = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()
    return tuple(
        _urls(
            description.access_location for description in descriptions if description.access_method == method
        )
    )[:MOST]


def _points(points: Iterable[x509.DistributionPoint]) -> tuple[Point, ...]:
    places = (tuple(_urls(point.full_name or ()))[:MOST] for point in points)
    return tuple(filter(None, places))[:MOST]


def _urls(names: Iterable[x509.GeneralName]) -> Iterator[str]:
    for name in names:
        if isinstance(name, x509.UniformResourceIdentifier) and name.value.lower().startswith(
            ("http://", "https://")
        ):
            yield name.value
