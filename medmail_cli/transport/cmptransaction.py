"""A CMP transaction, and how it is kept from one run to the next (RFC 9483 §3.1, §4.4)."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import UNREADABLE, load

_VERSION = 1


@dataclass
class Transaction:
    """What binds messages together: the transaction's id, the nonces, and how far it has come.

    ``request`` is the certReqId, ``first`` the nonce of our first message, ``last`` the server's latest;
    ``chain`` the certificate received with those above it, ``confirmed`` whether the authority knows so.
    """

    request: int
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    first: bytes = b""
    last: bytes | None = None
    waits: bool = False
    polled_as: int | None = None
    chain: tuple[x509.Certificate, ...] = ()
    confirmed: bool = False

    def written(self, csr: x509.CertificateSigningRequest, url: str) -> bytes:
        """The transaction for the next run, bound to its request and authority. Nothing in it is secret."""
        return json.dumps(
            {
                "medmail-cmp": _VERSION,
                "for": _binding(csr, url),
                "request": self.request,
                "id": self.id.hex(),
                "first": self.first.hex(),
                "last": (self.last or b"").hex(),
                "waits": self.waits,
                "polled-as": self.polled_as,
                "chain": [certificate.public_bytes(Encoding.DER).hex() for certificate in self.chain],
                "confirmed": self.confirmed,
            }
        ).encode()


def recall(kept: bytes, csr: x509.CertificateSigningRequest, url: str) -> Transaction | None:
    """The transaction that a run before this one kept; None where it is of another request or authority.

    What cannot be read, or bears another key, is no transaction either: then the authority is asked anew.
    """
    try:
        values = json.loads(kept)
        if (values["medmail-cmp"], values["for"]) != (_VERSION, _binding(csr, url)):
            return None
        chain = tuple(load(bytes.fromhex(text)) for text in values["chain"])
        if chain and chain[0].public_key() != csr.public_key():
            return None
        return Transaction(
            request=int(values["request"]),
            id=bytes.fromhex(values["id"]),
            first=bytes.fromhex(values["first"]),
            last=bytes.fromhex(values["last"]) or None,
            waits=bool(values["waits"]),
            polled_as=values["polled-as"],
            chain=chain,
            confirmed=bool(values["confirmed"]),
        )
    except (*UNREADABLE, KeyError):
        return None


def _binding(csr: x509.CertificateSigningRequest, url: str) -> str:
    return hashlib.sha256(csr.public_bytes(Encoding.DER) + url.encode()).hexdigest()
