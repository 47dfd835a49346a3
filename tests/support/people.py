"""People with keys of every kind, each made once a test process."""

import datetime as dt
from dataclasses import dataclass
from functools import cache

from cryptography import x509

from medmail_cli.cms.keys import SoftwareKey
from tests.support import pki

AT = dt.datetime(2026, 6, 1, 12, 0, tzinfo=dt.UTC)
LETTER = b"Content-Type: text/plain\r\n\r\nBonjour\r\n"


@dataclass(frozen=True)
class Person:
    """A certificate with its key, as our code and as cryptography want it."""

    certificate: x509.Certificate
    key: SoftwareKey
    private: pki.Key


@cache
def authority() -> pki.Authority:
    """The root that certifies everybody here."""
    return pki.make_ca("People's Root")


@cache
def person(kind: pki.KeyType, who: str = "a") -> Person:
    """Somebody with a key of that kind; another ``who`` is somebody else."""
    certificate, private = pki.issue(authority(), f"{who}.{kind}@a.test", "both", kind)
    return Person(certificate, SoftwareKey(private), private)
