"""RecipientInfos (RFC 5652 6.2): reading entries, and unwrapping the content-encryption key from one."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448, x25519
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from medmail_cli.cms import algorithms, ber, der, identifiers
from medmail_cli.cms.agreement import curve_name, derive, derive_kem
from medmail_cli.cms.keywrap import kek_size, unwrap_key
from medmail_cli.errors import MedmailError
from medmail_cli.model import Oaep

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from medmail_cli.model import KeyTransport, PrivateKey


@dataclass(frozen=True)
class RecipientInfo:
    """One entry: whom it is for and how the key is wrapped.

    ``originator`` (an OriginatorIdentifierOrKey) is there for key agreement, ``kem`` for key encapsulation,
    ``ukm`` for both.
    """

    id: identifiers.CertificateId
    algorithm: algorithms.Algorithm
    encrypted_key: bytes
    originator: ber.Node | None = None
    ukm: bytes | None = None
    kem: "Encapsulated | None" = None

    @property
    def weak(self) -> bool:
        """Whether the key is wrapped by what is read only where that is asked for (Triple-DES)."""
        parameters = self.algorithm.parameters
        if self.originator is None or parameters is None:
            return False
        try:
            return algorithms.read(parameters).oid == algorithms.TRIPLE_DES_WRAP
        except MedmailError:
            return False

    def key_management(self, public_key: "PublicKeyTypes") -> str:
        """How the key is wrapped for ``public_key``, as verdicts name it."""
        oid = self.algorithm.oid
        if oid == algorithms.RSA:
            return "rsa-pkcs1v15"
        if oid == algorithms.RSA_OAEP:
            return f"rsa-oaep-{_oaep(self.algorithm.parameters).digest}"
        if self.kem is not None:
            return algorithms.ml_name(public_key)
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            return f"ecdh-es-{curve_name(public_key.curve)}"
        return "ecdh-es-x25519" if isinstance(public_key, x25519.X25519PublicKey) else "ecdh-es-x448"


@dataclass(frozen=True)
class Encapsulated:
    """A KEMRecipientInfo's own fields (RFC 9629 3); ``derivation`` and ``wrap`` are its other algorithms."""

    ciphertext: bytes
    derivation: algorithms.Algorithm
    kek_size: int
    wrap: algorithms.Algorithm


def read_recipients(node: ber.Node) -> tuple[RecipientInfo, ...]:
    """All key transport, key agreement and KEM entries; entries of other kinds are left out.

    So is an entry in which no name can be read: it keeps nobody from an entry of their own. Raises
    MedmailError("malformed") where that leaves none, or where there are more than is agreed to look at.
    """
    entries: list[RecipientInfo] = []
    unread: MedmailError | None = None
    try:
        for entry in node.elements():
            try:
                entries += _entry(entry)
            except MedmailError as error:
                unread = error
    except MedmailError as error:  # where the next one begins is lost
        unread = error
    if unread and (not entries or unread.facts.get("detail") == "too-many-elements"):
        raise unread
    return tuple(entries)


def _entry(node: ber.Node) -> Iterator[RecipientInfo]:
    if node.tag == ber.SEQUENCE:
        yield _read_transport(node)
    elif node.tag == 0x81:
        yield from _read_agreement(node)
    elif node.tag == 0x84:
        yield from _read_other(node)


def _unreadable(identifier: identifiers.CertificateId, node: ber.Node) -> RecipientInfo:
    """An entry of which only the name can be read: to whom it names, it is one that does not unwrap."""
    return RecipientInfo(identifier, algorithms.Algorithm("", None, node), b"")


def _read_transport(node: ber.Node) -> RecipientInfo:
    fields = node.fields()
    fields.take(ber.INTEGER)
    identifier = identifiers.read(fields.take())
    try:
        algorithm = algorithms.read(fields.take())
        encrypted_key = bytes(fields.take().octets())
        fields.end()
    except MedmailError:
        return _unreadable(identifier, node)
    return RecipientInfo(identifier, algorithm, encrypted_key)


def _read_agreement(node: ber.Node) -> Iterator[RecipientInfo]:
    fields = node.fields(0x81)
    fields.take(ber.INTEGER)
    originator, ukm, algorithm = fields.take(0x80), fields.maybe(0x81), fields.take()
    entries = fields.take(ber.SEQUENCE)
    fields.end()
    unread: MedmailError | None = None
    for entry in entries.elements():
        try:
            inner = entry.fields()
            identifier = _agreement_identifier(inner.take())
        except MedmailError as error:
            unread = error
            continue
        try:
            encrypted_key = bytes(inner.take().octets())
            inner.end()
            yield RecipientInfo(
                identifier,
                algorithms.read(algorithm),
                encrypted_key,
                originator.explicit(0x80),
                bytes(ukm.explicit(0x81).octets()) if ukm else None,
            )
        except MedmailError:
            yield _unreadable(identifier, node)
    if unread:
        raise unread


def _agreement_identifier(node: ber.Node) -> identifiers.CertificateId:
    if node.tag != 0x80:
        return identifiers.issuer_and_serial(node)
    # a RecipientKeyIdentifier, whose date and other attributes are of no use to us
    octets = node.fields(0x80).take(ber.OCTET_STRING).octets()
    return identifiers.CertificateId(key_identifier=bytes(octets))


def _read_other(node: ber.Node) -> Iterator[RecipientInfo]:
    """OtherRecipientInfo: a KEMRecipientInfo (RFC 9629 3), or something unknown, which is for others."""
    fields = node.fields(0x84)
    if fields.take(ber.OID).oid() != algorithms.ORI_KEM:
        return
    inner = fields.take(ber.SEQUENCE).fields()
    fields.end()
    inner.take(ber.INTEGER)
    identifier = identifiers.read(inner.take())
    try:
        yield _read_kem(identifier, inner)
    except MedmailError:
        yield _unreadable(identifier, node)


def _read_kem(identifier: identifiers.CertificateId, fields: ber.Fields) -> RecipientInfo:
    algorithm = algorithms.read(fields.take())
    ciphertext = bytes(fields.take().octets())
    derivation = algorithms.read(fields.take())
    size = fields.take(ber.INTEGER).integer()
    ukm = fields.maybe(0x80)
    material = bytes(ukm.explicit(0x80).octets()) if ukm else None
    wrap = algorithms.read(fields.take())
    encrypted_key = bytes(fields.take().octets())
    fields.end()
    kem = Encapsulated(ciphertext, derivation, size, wrap)
    return RecipientInfo(identifier, algorithm, encrypted_key, ukm=material, kem=kem)


def unwrap(recipient: RecipientInfo, key: "PrivateKey", size: int) -> bytes:
    """The content-encryption key of ``size`` octets, or as many random ones if the entry is wrong in any way.

    The caller then fails where it would with a wrong key: nobody learns whether it was the padding, the
    length or the entry itself (RFC 3218 2.3, RFC 8017 7.2). Only a MedmailError of the key itself, which
    cannot be used at all (a damaged keystore, a card without its PIN), comes through.
    """
    random = secrets.token_bytes(size)
    try:
        ask = _how(recipient)
    except MedmailError:
        return random
    try:
        content_key = ask(key)
    except (ValueError, InvalidUnwrap, UnsupportedAlgorithm):
        return random
    return content_key if len(content_key) == size else random


def _how(recipient: RecipientInfo) -> "Callable[[PrivateKey], bytes]":
    if recipient.kem is not None:
        return _encapsulation(recipient, recipient.kem)
    return _transport(recipient) if recipient.originator is None else _agreement(recipient)


def _encapsulation(recipient: RecipientInfo, kem: Encapsulated) -> "Callable[[PrivateKey], bytes]":
    """How to ask a key for a KEM entry's secret, and to unwrap with what it gives (RFC 9629 5, RFC 9936)."""
    wrap = kem.wrap.oid
    if recipient.algorithm.oid not in algorithms.ML_KEM:
        raise algorithms.unsupported(recipient.algorithm.oid)
    if kem.kek_size != kek_size(wrap) or wrap == algorithms.TRIPLE_DES_WRAP:
        raise algorithms.unsupported(wrap)
    derivation = algorithms.key_derivation(kem.derivation)
    identifier = der.canonical(kem.wrap.node)

    def ask(key: "PrivateKey") -> bytes:
        if algorithms.ml_name(key.public_key) != algorithms.ML_KEM[recipient.algorithm.oid]:
            raise ValueError("a key of another kind")
        secret = key.decapsulate(kem.ciphertext)
        kek = derive_kem(derivation, secret, identifier, kem.kek_size, recipient.ukm)
        return unwrap_key(wrap, kek, recipient.encrypted_key)

    return ask


def _transport(recipient: RecipientInfo) -> "Callable[[PrivateKey], bytes]":
    """How to ask a key to unwrap a key transport entry; all of the entry is read here."""
    scheme = _transport_scheme(recipient.algorithm)
    return lambda key: key.decrypt(recipient.encrypted_key, scheme)


def _transport_scheme(algorithm: algorithms.Algorithm) -> "KeyTransport":
    if algorithm.oid == algorithms.RSA:
        return "rsa-pkcs1v15"
    if algorithm.oid == algorithms.RSA_OAEP:
        return _oaep(algorithm.parameters)
    raise algorithms.unsupported(algorithm.oid)


def _oaep(parameters: ber.Node | None) -> Oaep:
    """RSAES-OAEP-params (RFC 4055 4.1); SHA-1, MGF1 over SHA-1 and no label by default."""
    if parameters is None:
        raise ber.malformed("oaep-parameters")
    fields = parameters.fields()
    digest, mgf, source = (fields.maybe(tag) for tag in (0x80, 0x81, 0x82))
    fields.end()
    mgf_digest, label = "sha1", b""
    if mgf:
        generator = algorithms.read(mgf.explicit(0x81))
        if generator.oid != algorithms.MGF1 or generator.parameters is None:
            raise algorithms.unsupported(generator.oid)
        mgf_digest = algorithms.digest_name(algorithms.read(generator.parameters))
    if source:
        origin = algorithms.read(source.explicit(0x82))
        if origin.oid != algorithms.P_SPECIFIED or origin.parameters is None:
            raise algorithms.unsupported(origin.oid)
        label = bytes(origin.parameters.octets())
    return Oaep(
        algorithms.digest_name(algorithms.read(digest.explicit(0x80))) if digest else "sha1",
        mgf_digest,
        label,
    )


def _agreement(recipient: RecipientInfo) -> "Callable[[PrivateKey], bytes]":
    """The same for a key agreement entry: ephemeral-static, AES key wrap (RFC 5753 3.1, RFC 8418 2)."""
    scheme, wrap, originator = recipient.algorithm, recipient.algorithm.parameters, recipient.originator
    if scheme.oid not in algorithms.KEY_AGREEMENTS or wrap is None or originator is None:
        raise algorithms.unsupported(scheme.oid)
    wrap_oid = algorithms.read(wrap).oid
    size = kek_size(wrap_oid)
    if size is None:
        raise algorithms.unsupported(wrap_oid)
    fields = originator.fields(0x81)
    fields.take(ber.SEQUENCE)  # the curve is our key's: parameters may be absent, NULL or the curve
    point = bytes(fields.take().bits())
    fields.end()
    # RFC 5753 7.2 wants keyInfo as it was sent; some peers derive with parameters absent or NULL whatever
    # they sent, and some leave out the salt of HKDF. The wrap's integrity check tells which one it was.
    sent = der.canonical(wrap)
    absent, null = algorithms.identifier(wrap_oid), algorithms.identifier(wrap_oid, der.NULL)
    salted = (True,) if recipient.ukm is None else (True, False)
    ways = tuple(product(dict.fromkeys((sent, absent, null)), salted))

    def ask(key: "PrivateKey") -> bytes:
        secret = key.agree(peer_key(key.public_key, point))
        content_key: bytes | None = None
        for key_info, salt in ways:  # all of them, whichever fits: what takes longer would tell
            kek = derive(scheme.oid, secret, key_info, size, recipient.ukm, salted=salt)
            with contextlib.suppress(InvalidUnwrap):
                content_key = unwrap_key(wrap_oid, kek, recipient.encrypted_key)
        if content_key is None:
            raise InvalidUnwrap
        return content_key

    return ask


def peer_key(public_key: "PublicKeyTypes", octets: bytes) -> "PublicKeyTypes":
    """A public key of the same kind and curve as ``public_key``; ValueError if the octets are none."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return ec.EllipticCurvePublicKey.from_encoded_point(public_key.curve, octets)
    if isinstance(public_key, x25519.X25519PublicKey):
        return x25519.X25519PublicKey.from_public_bytes(octets)
    if isinstance(public_key, x448.X448PublicKey):
        return x448.X448PublicKey.from_public_bytes(octets)
    kind = "RSA" if isinstance(public_key, rsa.RSAPublicKey) else type(public_key).__name__
    raise ValueError(f"no key agreement with {kind}")
