"""A correspondent and their file: JSON, whose ``sha256`` is over the rest.

A changed byte is ``store-damaged``.
"""

import base64
import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import UNREADABLE, fingerprint, load
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.fitness import fit
from medmail_cli.pki.x509.address import binds
from medmail_cli.pki.x509.certificate import facts

Origin = Literal["added", "learned", "pinned"]
Reads = Literal["modern", "legacy"]

_VERSION = 1


@dataclass(frozen=True)
class Known:
    """A certificate of a contact, where it came from and when.

    ``above`` are the authorities' certificates that came along: helpers to build its chain with.
    """

    certificate: x509.Certificate
    origin: Origin
    since: dt.datetime
    above: tuple[x509.Certificate, ...] = ()
    preferred_at: dt.datetime | None = None
    """When its holder last signed that letters shall be encrypted to it (RFC 8551 §2.5.3)."""
    signed_by: str | None = None
    """SHA-256, hex, of its issuer's SubjectPublicKeyInfo; None until an issuer's certificate was at hand."""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the certificate, hex."""
        return fingerprint(self.certificate)


@dataclass(frozen=True)
class Contact:
    """A correspondent; ``waiting`` certificates are of another issuer and not used until accepted."""

    address: str
    certificates: tuple[Known, ...] = ()
    waiting: tuple[Known, ...] = ()
    reads: Reads = "modern"
    capabilities: tuple[str, ...] = ()
    """What their software said it reads (names or dotted numbers), best first; empty if never said."""
    capabilities_at: dt.datetime | None = None

    def encryption(self, at: dt.datetime) -> tuple[Known, ...]:
        """The certificates to encrypt to at ``at``, best first: fit by usage, valid then, newest.

        Pinned ones stand before others, and what its holder preferred since it was issued counts as new as
        that word. Whether a chain and its revocation hold is for the sender to judge.
        """
        usable = [
            known
            for known in self.certificates
            if facts(known.certificate).not_before <= at <= facts(known.certificate).not_after
            and fit(known.certificate, "encrypt")
        ]

        def rank(known: Known) -> tuple[bool, dt.datetime, dt.datetime]:
            issued = facts(known.certificate).not_before
            return known.origin == "pinned", max(issued, known.preferred_at or issued), known.since

        return tuple(sorted(usable, key=rank, reverse=True))

    @property
    def by_hand(self) -> tuple[Known, ...]:
        """What somebody took for the address, and no letter can have brought.

        Whatever the file calls it: what does not bear the address is pinned to it.
        """
        return tuple(
            known
            for known in self.certificates
            if known.origin != "learned" or not binds(known.certificate, self.address)
        )


def dump(contact: Contact) -> bytes:
    """A contact as its file holds it."""
    stored = {
        "version": _VERSION,
        "address": contact.address,
        "reads": contact.reads,
        "capabilities": list(contact.capabilities),
        "capabilities_at": contact.capabilities_at.isoformat() if contact.capabilities_at else None,
        "certificates": [_stored(known) for known in contact.certificates],
        "waiting": [_stored(known) for known in contact.waiting],
    }
    digest = hashlib.sha256(json.dumps(stored).encode()).hexdigest()
    return (json.dumps(stored | {"sha256": digest}, indent=1) + "\n").encode()


def _stored(known: Known) -> dict[str, Any]:
    return {
        "origin": known.origin,
        "since": known.since.isoformat(),
        "certificate": _text(known.certificate),
        "above": [_text(certificate) for certificate in known.above],
        **({"preferred_at": known.preferred_at.isoformat()} if known.preferred_at else {}),
        **({"signed_by": known.signed_by} if known.signed_by else {}),
    }


def _text(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def address_in(path: Path) -> str:
    """The address of a contact's file, for the index. Raises ``store-damaged``, FileNotFoundError."""
    try:
        address = json.loads(path.read_bytes())["address"]
        if not isinstance(address, str):
            raise TypeError(address)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MedmailError("store-damaged", path=str(path)) from error
    return address


def load_contact(path: Path) -> Contact:
    """The contact of a file. Raises ``store-damaged``."""
    try:
        data = path.read_bytes()
        stored: Any = json.loads(data)
        contact = Contact(
            stored["address"],
            tuple(_known(each) for each in stored["certificates"]),
            tuple(_known(each) for each in stored["waiting"]),
            stored["reads"],
            tuple(stored["capabilities"]),
            dt.datetime.fromisoformat(stored["capabilities_at"]) if stored["capabilities_at"] else None,
        )
        # writing it again must give the same bytes, digest included
        intact = stored["version"] == _VERSION and dump(contact) == data
    except (OSError, KeyError, AttributeError, *UNREADABLE) as error:
        raise MedmailError("store-damaged", path=str(path)) from error
    if not intact:
        raise MedmailError("store-damaged", path=str(path))
    return contact


def _known(stored: dict[str, Any]) -> Known:
    since = dt.datetime.fromisoformat(stored["since"])
    above = tuple(map(_certificate, stored["above"]))
    preferred_at = stored.get("preferred_at")
    return Known(
        _certificate(stored["certificate"]),
        stored["origin"],
        since,
        above,
        dt.datetime.fromisoformat(preferred_at) if preferred_at else None,
        stored.get("signed_by"),
    )


def _certificate(text: str) -> x509.Certificate:
    return load(base64.b64decode(text, validate=True))
