"""Critical extensions found in DER without taking all of it apart, as lists of a hundred thousand ask for."""

from collections.abc import Collection

from cryptography import x509

from medmail_cli.cms.der import oid as der_oid

_CRITICAL = b"\x01\x01\xff\x04"
"""TRUE, then an OCTET STRING begins: what stands between any critical extension's identifier and value."""


def unknown_critical(der: bytes, known: Collection[x509.ObjectIdentifier]) -> bool:
    """Whether DER may hold an extension marked critical that is none of ``known`` (RFC 5280 §4.2).

    Where this says no there is none. A yes may be chance, about once in four thousand million octets: whoever
    gets one looks closer.
    """
    ends = tuple(der_oid(oid.dotted_string) for oid in known)
    longest = max(map(len, ends), default=0)
    at = der.find(_CRITICAL)
    while at >= 0:
        if not der[max(at - longest, 0) : at].endswith(ends):
            return True
        at = der.find(_CRITICAL, at + 1)
    return False
