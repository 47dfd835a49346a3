"""What ``cryptography`` raises for certificates and CRLs that break the rules."""

from cryptography import x509

UNREADABLE = (
    ValueError,
    TypeError,  # a name with a BIT STRING where none belongs
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All it was seen to raise, on loading or only when a name, date or extension is first looked at."""
