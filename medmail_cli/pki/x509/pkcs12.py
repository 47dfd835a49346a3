"""PKCS#12 (RFC 7292): the keys and certificates of a file, whatever tool sealed them, however often.

cryptography gives the first key alone, wants one spelling of the password and does as many rounds of a key
derivation as the file asks for; people have a key to sign and one to decrypt with, passwords with accents
that each system writes otherwise, and files from strangers. The MAC tells which spelling is meant.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.cms.certificates import UNREADABLE, load
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.pbe import NO_PASSWORD, ROUNDS, Spelling, holds, mac, open_sealed
from medmail_cli.pki.x509.pkcs8 import malformed, open_key, read_key
from medmail_cli.pki.x509.usage import key_type

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12PrivateKeyTypes

Spellings = Callable[[], Sequence[Spelling]]
"""Gives the spellings of the file's password; called only where one is needed."""

_BAGS = "1.2.840.113549.1.12.10.1."
_KEY, _SEALED_KEY, _CERTIFICATE, _NESTED = (f"{_BAGS}{number}" for number in (1, 2, 3, 6))
_X509 = "1.2.840.113549.1.9.22.1"
_ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
_MOST_NESTED = 4
_MOST_BAGS = 1_000
_PFX = re.compile(rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03", re.DOTALL)


@dataclass(frozen=True)
class Contents:
    """What stands in a file, each in its order."""

    keys: "tuple[PrivateKeyTypes, ...]" = field(repr=False)
    certificates: "tuple[x509.Certificate, ...]"


def is_pfx(data: bytes) -> bool:
    """Whether it begins as a PFX does, with version 3 (RFC 7292 4); nothing else that people have does."""
    return bool(_PFX.match(data))


def read(data: bytes, password: Spellings) -> Contents:
    """The keys and certificates of the PFX ``data``.

    Raises ``malformed``, ``wrong-p12-password``, ``unsupported-algorithm``, ``too-many-rounds`` and
    ``expanded-key-only``.
    """
    try:
        fields = ber.parse(data).fields()
        fields.take(ber.INTEGER)
        whole = _plain(fields.take(ber.SEQUENCE))
        mac_data = fields.maybe(ber.SEQUENCE)
        tries = _fitting(mac_data, whole, password) if mac_data else (*NO_PASSWORD, *password())
        bags = [
            bag
            for safe in ber.parse(whole).elements(ber.SEQUENCE)
            for bag in _bags(ber.parse(_opened(safe, tries)), _MOST_NESTED)
        ]
        if len(bags) > _MOST_BAGS:
            raise malformed()
        keys = [key for bag in bags if (key := _key(*bag, tries)) is not None]
        certificates = [certificate for bag in bags if (certificate := _certificate(*bag)) is not None]
    except ValueError:
        raise malformed() from None
    return Contents(tuple(keys), tuple(certificates))


def write(
    key: "PrivateKeyTypes",
    certificate: "x509.Certificate",
    chain: "Sequence[x509.Certificate]",
    name: str,
    password: Spelling,
    *,
    pbmac1: bool = False,
) -> bytes:
    """A PFX of the pair and its chain, called ``name``: PBES2 and AES-256, and a MAC as costly to guess.

    ``pbmac1``: a MAC by PBKDF2 (RFC 9579), which readers older than 2024 do not know. Raises
    ``unsupported-algorithm`` for keys that cryptography writes into none (X25519, ML-KEM).
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

    protection = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.raw)
    )
    try:
        held = cast("PKCS12PrivateKeyTypes", key)  # it says for itself which keys it cannot write
        whole = pkcs12.serialize_key_and_certificates(name.encode(), held, certificate, chain, protection)
    except TypeError:
        raise MedmailError("unsupported-algorithm", algorithm=key_type(key.public_key())) from None
    # the MAC that cryptography writes takes 2,048 rounds whatever it is told, and would be guessed at instead
    fields = ber.parse(whole).fields()
    fields.take(ber.INTEGER)
    safe = fields.take(ber.SEQUENCE)
    return der.sequence(der.integer(3), safe.raw, mac(_plain(safe), password, pbmac1=pbmac1))


def _fitting(mac_data: ber.Node, content: bytes, password: Spellings) -> tuple[Spelling, ...]:
    """The spelling by which the MAC holds. Raises ``wrong-p12-password``."""
    for tries in (lambda: NO_PASSWORD, password):
        for spelled in tries():
            if holds(mac_data, content, spelled):
                # what the MAC does not tell: whether the safes are sealed with the same octets
                return (spelled, *(other for other in tries() if other != spelled))
    # damage and a wrong password look the same here: the file is one authenticated whole
    raise MedmailError("wrong-p12-password")


def _plain(content_info: ber.Node) -> bytes:
    """The octets of the Data that a password protects; what a key protects (SignedData) nobody has."""
    fields = content_info.fields()
    if (kind := fields.take(ber.OID).oid()) != algorithms.DATA:
        raise algorithms.unsupported(kind)
    return bytes(fields.take(0x80).explicit(0x80).octets())


def _opened(safe: ber.Node, tries: Sequence[Spelling]) -> bytes:
    """The SafeContents of a ContentInfo: Data, or EncryptedData (RFC 5652 8) opened."""
    fields = safe.fields()
    if fields.take(ber.OID).oid() != _ENCRYPTED_DATA:
        return _plain(safe)
    fields = fields.take(0x80).explicit(0x80).fields()
    fields.take(ber.INTEGER)
    fields = fields.take(ber.SEQUENCE).fields()
    fields.take(ber.OID)
    algorithm = algorithms.read(fields.take())
    sealed = bytes(fields.take(0x80).octets(0x80))
    for spelled in tries:
        try:
            opened = open_sealed(algorithm, sealed, spelled)
        except ValueError:
            continue
        if _is_sequence(opened):  # padding may look right by chance
            return opened
    raise MedmailError("wrong-p12-password")


def _is_sequence(opened: bytes) -> bool:
    try:
        return all(bag.tag == ber.SEQUENCE for bag in ber.parse(opened).elements())
    except MedmailError:
        return False


def _bags(contents: ber.Node, depth: int) -> Iterator[tuple[str, ber.Node]]:
    """Each bag's type and value, those in bags of bags too (RFC 7292 4.2)."""
    for bag in contents.elements(ber.SEQUENCE):
        fields = bag.fields()
        kind, value = fields.take(ber.OID).oid(), fields.take(0x80).explicit(0x80)
        if kind != _NESTED:
            yield kind, value
        elif depth:
            yield from _bags(value, depth - 1)


def _key(kind: str, value: ber.Node, tries: Sequence[Spelling]) -> "PrivateKeyTypes | None":
    if kind == _KEY:
        try:
            return read_key(bytes(value.raw))
        except TypeError:
            raise malformed() from None
    return open_key(bytes(value.raw), tries) if kind == _SEALED_KEY else None


def _certificate(kind: str, value: ber.Node) -> "x509.Certificate | None":
    """The X.509 certificate in a bag; one that nobody can read is none."""
    if kind != _CERTIFICATE:
        return None
    fields = value.fields()
    if fields.take(ber.OID).oid() != _X509:
        return None
    octets = bytes(fields.take(0x80).explicit(0x80).octets())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about a certificate is for its judgement to say
        try:
            return load(octets)
        except UNREADABLE:
            raise malformed() from None
