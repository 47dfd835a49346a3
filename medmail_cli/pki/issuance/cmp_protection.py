"""Who vouches for a PKIMessage: a shared secret (MAC) or a signature, made and checked (RFC 9810 §5.1.3).

A MAC is PBM (RFC 9810 §5.1.3.1) or PBMAC1 (RFC 9045, 9481 §6.1): what we make rests on SHA-256, and what
we accept on SHA-1 at the least, since an HMAC needs no more (RFC 9481 §7) and many servers send no better.
Work factors are bounded: they are the sender's choice, and the sender is not yet known.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.x509.oid import NameOID

from medmail_cli.cms import algorithms, ber, der, identifiers
from medmail_cli.cms.signed import default_scheme
from medmail_cli.cms.verify import check_plain
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import cmp
from medmail_cli.pki.issuance.csr import signature_algorithm
from medmail_cli.pki.x509.certificate import facts

if TYPE_CHECKING:
    from medmail_cli.model import PrivateKey

PBM, PBMAC1, PBKDF2 = "1.2.840.113533.7.66.13", "1.2.840.113549.1.5.14", "1.2.840.113549.1.5.12"
_HMACS = {
    "1.3.6.1.5.5.8.1.2": "sha1",
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
_HMAC_SHA256 = "1.2.840.113549.2.9"
_HASHES = frozenset(_HMACS.values())
ITERATIONS = {"pbm": 10_000, "pbmac1": 100_000}
"""What we ask of whoever guesses at a secret; servers refuse much more (OpenSSL beyond 100,000 for PBM)."""
MOST_ITERATIONS = 1_000_000
_LONGEST_SALT = 128
_AUTHORITY_ROLES = frozenset({"1.3.6.1.5.5.7.3.27", "1.3.6.1.5.5.7.3.28"})
"""id-kp-cmcCA and id-kp-cmcRA (RFC 6402 §2.10), which CMP shares (RFC 9810 §4.5)."""


@dataclass(frozen=True)
class SharedSecret:
    """A secret that the authority gave out, and the reference it knows it by."""

    reference: bytes
    secret: bytes = field(repr=False)
    mac: Literal["pbm", "pbmac1"] = "pbm"

    @property
    def sender(self) -> bytes:
        """The reference as a common name, which is the sender of such messages (RFC 9483 §3.1)."""
        shown = self.reference.decode("utf-8", "replace")[:64]
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, shown)] if shown else []
        return cmp.directory_name(x509.Name(attributes))

    @property
    def key_id(self) -> bytes | None:
        """The senderKID."""
        return self.reference or None

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """None: a MAC needs no certificate."""
        return ()

    def begin(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """The AlgorithmIdentifier of one message's protection, with a salt of its own, and who makes it."""
        salt, iterations = secrets.token_bytes(16), ITERATIONS[self.mac]
        digest, code = (
            algorithms.identifier(algorithms.DIGESTS["sha256"]),
            algorithms.identifier(_HMAC_SHA256),
        )
        if self.mac == "pbm":
            key = _pbm_key(self.secret, salt, "sha256", iterations)
            parameters = der.sequence(der.octet_string(salt), digest, der.integer(iterations), code)
            algorithm = der.sequence(der.oid(PBM), parameters)
        else:
            key = hashlib.pbkdf2_hmac("sha256", self.secret, salt, iterations, 32)
            derivation = der.sequence(
                der.octet_string(salt),
                der.integer(iterations),
                der.integer(32),
                algorithms.identifier(_HMAC_SHA256, der.NULL),
            )
            parameters = der.sequence(der.sequence(der.oid(PBKDF2), derivation), code)
            algorithm = der.sequence(der.oid(PBMAC1), parameters)
        return algorithm, lambda octets: hmac.digest(key, octets, "sha256")


@dataclass(frozen=True)
class Signer:
    """A key and its certificates, the key's own first."""

    key: "PrivateKey"
    chain: Sequence[x509.Certificate]

    @property
    def sender(self) -> bytes:
        """The certificate's subject (RFC 9483 §3.1)."""
        return der.tlv(0xA4, identifiers.subject_octets(self.chain[0]))

    @property
    def key_id(self) -> bytes | None:
        """The senderKID: the certificate's subjectKeyIdentifier."""
        return identifiers.key_identifier(self.chain[0])

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """What the reader needs in extraCerts, the signer's certificate first (RFC 9483 §3.3)."""
        return tuple(self.chain)

    def begin(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """The signature's AlgorithmIdentifier, and who makes it. Raises ``unsupported-algorithm``."""
        scheme = default_scheme(self.key)
        return signature_algorithm(scheme), lambda octets: self.key.sign(octets, scheme)


Protection = SharedSecret | Signer


def write(
    kind: cmp.Kind,
    body: bytes,
    header: cmp.Header,
    protection: Protection,
    also: Sequence[x509.Certificate] = (),
) -> bytes:
    """A protected PKIMessage; ``also`` are certificates that shall come along."""
    algorithm, protect = protection.begin()
    enclosed = list(dict.fromkeys((*protection.certificates, *also)))
    return cmp.build(header, kind, body, algorithm, protect, enclosed)


def authentic(message: cmp.Message, secret: bytes) -> bool:
    """Whether the holder of ``secret`` made the message; work factors beyond the bounds are a no."""
    if message.algorithm is None or message.protection is None:
        return False
    try:
        mac = _mac(message.algorithm, secret, message.protected)
    except MedmailError:
        return False
    return hmac.compare_digest(mac, message.protection)


def signed_by(message: cmp.Message, certificate: x509.Certificate) -> bool:
    """Whether the certificate's key signed the message in the certificate's name, and may sign."""
    if message.algorithm is None or message.protection is None:
        return False
    header, usage = message.header, facts(certificate).usage
    if usage is not None and not usage.digital_signature:
        return False
    if header.key_id is not None and header.key_id != identifiers.key_identifier(certificate):
        return False
    if header.sender != der.tlv(0xA4, identifiers.subject_octets(certificate)):
        return False
    return check_plain(message.algorithm, certificate, message.protection, message.protected)


def speaks_for_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate is a CA's, or its issuer says that it may answer for one (RFC 9810 §4.5).

    Without this whoever holds a certificate of the authority could speak in its place.
    """
    read = facts(certificate)
    return read.unreadable is None and bool(read.ca or (read.extended or frozenset()) & _AUTHORITY_ROLES)


def is_mac(message: cmp.Message) -> bool:
    """Whether a shared secret is said to protect the message."""
    return message.algorithm is not None and message.algorithm.oid in (PBM, PBMAC1)


def _mac(algorithm: algorithms.Algorithm, secret: bytes, octets: bytes) -> bytes:
    if algorithm.oid not in (PBM, PBMAC1) or algorithm.parameters is None:
        raise algorithms.unsupported(algorithm.oid)
    fields = algorithm.parameters.fields()
    if algorithm.oid == PBM:
        salt = _salt(fields.take())
        digest = algorithms.digest_name(algorithms.read(fields.take()))
        iterations = _iterations(fields.take())
        code = _hmac(algorithms.read(fields.take()))
        fields.end()
        if digest not in _HASHES:
            raise algorithms.unsupported(digest)
        return hmac.digest(_pbm_key(secret, salt, digest, iterations), octets, code)
    derivation, code = algorithms.read(fields.take()), _hmac(algorithms.read(fields.take()))
    fields.end()
    if derivation.oid != PBKDF2 or derivation.parameters is None:
        raise algorithms.unsupported(derivation.oid)
    fields = derivation.parameters.fields()
    salt, iterations = _salt(fields.take()), _iterations(fields.take())
    length, function = fields.maybe(ber.INTEGER), fields.maybe(ber.SEQUENCE)
    fields.end()
    size = hashlib.new(code).digest_size if length is None else length.integer()
    if not 16 <= size <= 128:
        raise ber.malformed("key-length")
    prf = "sha1" if function is None else _hmac(algorithms.read(function))
    return hmac.digest(hashlib.pbkdf2_hmac(prf, secret, salt, iterations, size), octets, code)


def _salt(node: ber.Node) -> bytes:
    salt = bytes(node.octets())
    if not 8 <= len(salt) <= _LONGEST_SALT:
        raise ber.malformed("salt")
    return salt


def _iterations(node: ber.Node) -> int:
    iterations = node.integer()
    if not 100 <= iterations <= MOST_ITERATIONS:  # RFC 9810 §5.1.3.1: at least 100
        raise ber.malformed("iterations")
    return iterations


def _hmac(algorithm: algorithms.Algorithm) -> str:
    if algorithm.oid not in _HMACS:
        raise algorithms.unsupported(algorithm.oid)
    return _HMACS[algorithm.oid]


def _pbm_key(secret: bytes, salt: bytes, digest: str, iterations: int) -> bytes:
    key = secret + salt
    for _ in range(iterations):
        key = hashlib.new(digest, key, usedforsecurity=True).digest()
    return key
