"""Reading private keys and their certificates out of the files people have: PKCS#12, PEM, DER.

PKCS#12 (RFC 7292) in its modern form and in those of old tools (RC2, 3DES); PEM in any mixture and order,
keys encrypted or not, PKCS#8 or as OpenSSL once wrote them; DER of a key, a certificate or PKCS#7.
"""

import base64
import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.errors import MedmailError
from medmail_cli.pki.bundle import blocks, read_bundle
from medmail_cli.pki.certificate import facts, issued

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_PKCS8 = b"PRIVATE KEY"
_KEYS = frozenset(kind + _PKCS8 for kind in (b"", b"ENCRYPTED ", b"RSA ", b"EC ", b"DSA ", b"OPENSSH "))
_CERTIFICATES = re.compile(rb"-----BEGIN (?:[A-Z0-9#]+ )*(?:CERTIFICATE|PKCS7|CMS|SIGNED DATA)-----")
_KINDS = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    x25519.X25519PrivateKey,
    x448.X448PrivateKey,
)
_LONGEST_CHAIN = 10
_KEY_BAGS = {f"1.2.840.113549.1.12.10.1.{number}" for number in (1, 2)}
_NESTED_BAG = "1.2.840.113549.1.12.10.1.6"
_MOST_NESTED = 4
_ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
_EMPTY = b"\x30\x00"

Password = Callable[[], bytes]
"""Gives the file's password; called only where one is needed, and then once a file."""


@dataclass(frozen=True)
class KeyFile:
    """What a file holds: private keys (never shown) and certificates, each in its order."""

    keys: "tuple[PrivateKeyTypes, ...]" = field(default=(), repr=False)
    certificates: tuple[x509.Certificate, ...] = ()
    name: str = ""

    def __add__(self, other: "KeyFile") -> "KeyFile":
        """What two files hold together, under the name of the first."""
        both = dict.fromkeys((*self.certificates, *other.certificates))
        return KeyFile((*self.keys, *other.keys), tuple(both), self.name)


def read_keys(data: bytes, name: str, password: Password) -> KeyFile:
    """The keys and certificates in ``data``, which came from the file ``name``.

    Raises ``wrong-p12-password``, ``malformed`` where it is nothing of the kind or damaged, and
    ``unsupported-algorithm`` for a key no letter is signed or encrypted with (DSA).
    """
    if b"-----BEGIN " in data:
        found = _pem(data, name, password)
    elif _is_pkcs12(data):
        found = _pkcs12(data, name, password)
    else:
        found = _der(data, name, password)
    for key in found.keys:
        if not isinstance(key, _KINDS) and not algorithms.ml_name(key):
            raise MedmailError("unsupported-algorithm", algorithm=type(key).__name__.lstrip("_"))
    return found


def _pem(data: bytes, name: str, password: Password) -> KeyFile:
    whole = (
        b"-----BEGIN %b-----%b-----END %b-----\n" % (label, text, label)
        for label, text in blocks(data, _KEYS)
    )
    keys = tuple(_load(load_pem_private_key, block, name, password) for block in whole)
    certificates = read_bundle(data, name).certificates if _CERTIFICATES.search(data) else ()
    if not keys and not certificates:
        raise MedmailError("malformed", what=name)
    return KeyFile(keys, certificates, name)


def _der(data: bytes, name: str, password: Password) -> KeyFile:
    with contextlib.suppress(MedmailError):
        return KeyFile((), read_bundle(data, name).certificates, name)
    return KeyFile((_load(load_der_private_key, data, name, password),), (), name)


def _load(
    loader: "Callable[[bytes, bytes | None], PrivateKeyTypes]", data: bytes, name: str, password: Password
) -> "PrivateKeyTypes":
    try:
        return loader(data, None)
    except TypeError:  # it is encrypted
        given = password()
    except (ValueError, UnsupportedAlgorithm):
        return _asymmetric_key(data, name)
    try:
        return loader(data, given)
    except (ValueError, TypeError):
        raise MedmailError("wrong-p12-password") from None
    except UnsupportedAlgorithm:
        raise MedmailError("malformed", what=name) from None


def _asymmetric_key(data: bytes, name: str) -> "PrivateKeyTypes":
    """A OneAsymmetricKey that has its public key along (RFC 5958 2), as Java writes them, or that is BER.

    cryptography reads neither. Raises ``malformed`` where the public key is another one's.
    """
    try:
        _label, text = next(blocks(data, {_PKCS8}), (b"", b""))
        fields = ber.parse(base64.b64decode(text) if text else data).fields()
        fields.take(ber.INTEGER)
        algorithm, private = fields.take(ber.SEQUENCE), fields.take(ber.OCTET_STRING)
        fields.maybe(0x80)
        public = fields.maybe(0x81)
        fields.end()
        first = der.sequence(der.integer(0), der.canonical(algorithm), der.octet_string(private.octets()))
        key = load_der_private_key(first, None)
        if public is not None and (public.constructed or bytes(public.bits(0x81)) != _public_octets(key)):
            raise ber.malformed("public-key")
    except (MedmailError, ValueError, TypeError, UnsupportedAlgorithm):
        raise MedmailError("malformed", what=name) from None
    return key


def _public_octets(key: "PrivateKeyTypes") -> bytes:
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fields = ber.parse(info).fields()
    fields.take(ber.SEQUENCE)
    return bytes(fields.take().bits())


def _is_pkcs12(data: bytes) -> bool:
    """A PFX begins with its version, 3 (RFC 7292 §4); nothing else that is read here does."""
    return bool(re.match(rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03", data, re.DOTALL))


def _pkcs12(data: bytes, name: str, password: Password) -> KeyFile:
    given: bytes | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Java writes BER
        try:
            first, own, more = pkcs12.load_key_and_certificates(data, given)
        except (ValueError, UnsupportedAlgorithm):
            given = password()
            try:
                first, own, more = pkcs12.load_key_and_certificates(data, given)
            except (ValueError, UnsupportedAlgorithm):
                # damage and a wrong password look the same here: the file is one authenticated whole
                raise MedmailError("wrong-p12-password") from None
    keys: tuple[PrivateKeyTypes, ...] = () if first is None else (first,)
    try:
        bags = _key_bags(data, given)
        if len(bags) > 1:
            keys = _distinct(_bag_key(bag, given) for bag in bags)
    except (MedmailError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        # OpenSSL has opened safes of certificates that nobody here can
        if not isinstance(error, MedmailError) or error.code != "unsupported-algorithm":
            raise MedmailError("malformed", what=name) from None
    return KeyFile(keys, (*(() if own is None else (own,)), *more), name)


def _key_bags(pfx: bytes, password: bytes | None) -> list[bytes]:
    """The PKCS#8 structures of a PFX (RFC 7292 4.1, 4.2), themselves encrypted or not, out of all its safes.

    OpenSSL, and so cryptography, gives the first alone; people have one to sign and one to decrypt with.
    """
    fields = ber.parse(pfx).fields()
    fields.take(ber.INTEGER)
    safes = ber.parse(_content(fields.take(ber.SEQUENCE), password)).elements(ber.SEQUENCE)
    return [
        key for safe in safes for key in _keys_in(ber.parse(_content(safe, password) or _EMPTY), _MOST_NESTED)
    ]


def _keys_in(contents: ber.Node, depth: int) -> Iterator[bytes]:
    for bag in contents.elements(ber.SEQUENCE):
        kind, value = _bag(bag)
        if kind in _KEY_BAGS:
            yield bytes(value.raw)
        elif kind == _NESTED_BAG and depth:
            yield from _keys_in(value, depth - 1)


def _content(content_info: ber.Node, password: bytes | None) -> bytes:
    """The octets of a ContentInfo: Data, or EncryptedData (RFC 5652 8) opened; none of any other type."""
    fields = content_info.fields()
    kind = fields.take(ber.OID).oid()
    if kind == algorithms.DATA:
        return bytes(fields.take(0x80).explicit(0x80).octets())
    if kind != _ENCRYPTED_DATA:
        return b""
    from medmail_cli.pki.pbe import open_sealed

    fields = fields.take(0x80).explicit(0x80).fields()
    fields.take(ber.INTEGER)
    fields = fields.take(ber.SEQUENCE).fields()
    fields.take(ber.OID)
    algorithm = algorithms.read(fields.take())
    return open_sealed(algorithm, bytes(fields.take(0x80).octets(0x80)), password or b"")


def _bag(node: ber.Node) -> tuple[str, ber.Node]:
    fields = node.fields()
    return fields.take(ber.OID).oid(), fields.take(0x80).explicit(0x80)


def _distinct(keys: "Iterable[PrivateKeyTypes]") -> "tuple[PrivateKeyTypes, ...]":
    found: list[PrivateKeyTypes] = []
    for key in keys:
        if all(key.public_key() != other.public_key() for other in found):
            found.append(key)
    return tuple(found)


def _bag_key(bag: bytes, password: bytes | None) -> "PrivateKeyTypes":
    try:
        return load_der_private_key(bag, None)
    except TypeError:  # it is encrypted
        return load_der_private_key(bag, password or b"")


def chain_of(certificate: x509.Certificate, pool: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """What stands above ``certificate`` among ``pool``, nearest issuer first, as far as it goes."""
    chain: list[x509.Certificate] = []
    below = certificate
    while len(chain) < _LONGEST_CHAIN and not is_root(below):
        name = facts(below).issuer
        above = next(
            (c for c in pool if facts(c).subject == name and c not in chain and issued(below, c)), None
        )
        if above is None:
            break
        chain.append(above)
        below = above
    return tuple(chain)


def is_root(certificate: x509.Certificate) -> bool:
    """Whether the certificate is issued and signed by itself."""
    return facts(certificate).self_issued and issued(certificate, certificate)
