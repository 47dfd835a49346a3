"""What an EST authority wants requests to hold (RFC 7030 §4.5.2, RFC 8951 §3.5, RFC 9908), and obeying it.

Its answer is a list of object identifiers and attributes, or a template (RFC 9908 §3.4) that takes the place
of the list. What is not recognised is ignored, as the RFC asks. Names stay the requester's own: an authority
may dictate other parts of the subject, never whose address stands in subjectAltName.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.cms.signed import default_scheme
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance.csr import ALGORITHMS, EXTENSION_REQUEST, signature_algorithm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from medmail_cli.model import PrivateKey, SignatureScheme

_LINK = "1.2.840.113549.1.9.7"  # challengePassword
_TEMPLATE, _EXTENSION_TEMPLATE = "1.2.840.113549.1.9.16.2.61", "1.2.840.113549.1.9.16.2.62"
_RSA, _EC = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1"
_CURVES = {"1.2.840.10045.3.1.7": "p256", "1.3.132.0.34": "p384"}
_KINDS = {"1.3.101.112": "ed25519", "1.3.101.110": "x25519", **algorithms.ML_KEM}
"""Kinds of keys that are named by one identifier; Ed25519's is that of its signatures too (RFC 8410 §3)."""
_SUBJECT_ALT_NAME = "2.5.29.17"
_NAMES_STAY = {_SUBJECT_ALT_NAME}
_SCHEMES = {oid: scheme for scheme, (oid, _) in ALGORITHMS.items()}


@dataclass(frozen=True)
class CsrAttribute:
    """What the authority wants in a request (RFC 7030 §4.5.2): a kind, or one with its DER values."""

    oid: str
    values: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What an authority wants, as far as we can give it.

    ``keys`` are kinds of keys that it says it certifies, ``schemes`` signatures, both in its order;
    ``linked`` that the request be tied to the TLS connection. ``extensions`` and ``subject`` are identifiers,
    each with what the authority dictates (an extension or an AttributeTypeAndValue, DER) or None where we
    fill it in.
    """

    keys: tuple[str, ...] = ()
    schemes: "tuple[SignatureScheme, ...]" = ()
    linked: bool = False
    extensions: tuple[tuple[str, bytes | None], ...] = ()
    subject: tuple[tuple[str, bytes | None], ...] = ()


@dataclass
class _Gathered:
    keys: list[str] = field(default_factory=list)
    schemes: "list[SignatureScheme]" = field(default_factory=list)
    linked: bool = False
    extensions: dict[str, bytes | None] = field(default_factory=dict)
    subject: list[tuple[str, bytes | None]] = field(default_factory=list)


def parse(octets: bytes | memoryview, limits: ber.Limits = ber.DEFAULT_LIMITS) -> tuple[CsrAttribute, ...]:
    """CsrAttrs: SEQUENCE OF CHOICE { OID, Attribute }. Raises ``malformed``."""
    return tuple(attribute(node) for node in ber.parse(octets, limits).elements(ber.SEQUENCE))


def attribute(node: ber.Node) -> CsrAttribute:
    """One element of the list, or an attribute of a request. Raises ``malformed``."""
    if node.tag == ber.OID:
        return CsrAttribute(node.oid())
    fields = node.fields()
    oid = fields.take(ber.OID).oid()
    values = tuple(bytes(value.raw) for value in fields.take(ber.SET).elements())
    fields.end()
    return CsrAttribute(oid, values)


def understood(attributes: Sequence[CsrAttribute]) -> Wanted:
    """What the attributes mean; those that are not recognised, or not as they should be, mean nothing."""
    gathered = _Gathered()
    for wish in attributes:
        if wish.oid == _LINK:
            gathered.linked = True
    template = next(
        (candidate for candidate in attributes if candidate.oid == _TEMPLATE and candidate.values), None
    )
    # who understands the template ignores the rest, the link to the connection apart (RFC 9908 §4)
    for wish in [template] if template else attributes:
        try:
            (_read_template if wish.oid == _TEMPLATE else _read_attribute)(wish, gathered)
        except MedmailError as error:
            if error.code != "malformed":
                raise
    if set(gathered.keys) == {"ed25519"} and set(gathered.schemes) - {"ed25519"}:
        gathered.keys.clear()  # one signature among others, which say nothing of keys
    return Wanted(
        tuple(dict.fromkeys(gathered.keys)),
        tuple(dict.fromkeys(gathered.schemes)),
        gathered.linked,
        tuple(gathered.extensions.items()),
        tuple(gathered.subject),
    )


def _read_attribute(wish: CsrAttribute, gathered: _Gathered) -> None:
    if wish.oid == _EC:
        curves = [ber.parse(value).oid() for value in wish.values]
        gathered.keys += (
            [_CURVES[curve] for curve in curves if curve in _CURVES] if curves else ["p256", "p384"]
        )
    elif wish.oid == _RSA:
        sizes = [node.integer() for value in wish.values if (node := ber.parse(value)).tag == ber.INTEGER]
        gathered.keys += [kind for size in sizes for kind in _rsa(size)] if sizes else _rsa(0)
    elif wish.oid in _KINDS or wish.oid in _SCHEMES:
        gathered.keys += [_KINDS[wish.oid]] if wish.oid in _KINDS else []
        gathered.schemes += [_SCHEMES[wish.oid]] if wish.oid in _SCHEMES else []
    elif wish.oid == EXTENSION_REQUEST:
        for value in wish.values:
            node = ber.parse(value)
            # RFC 7030's own example has bare identifiers here, RFC 9908 §3.3 has Extensions
            if node.tag == ber.OID:
                gathered.extensions.setdefault(node.oid(), None)
            else:
                for extension in node.elements(ber.SEQUENCE):
                    gathered.extensions[extension.fields().take(ber.OID).oid()] = _dictated(extension)
    elif wish.oid.startswith("2.5.29."):
        gathered.extensions.setdefault(wish.oid, None)


def _rsa(size: int) -> list[str]:
    """What we make instead of a key that short, or that long; 3072 bits are our shortest."""
    if size < 3072:
        return ["rsa3072", "rsa4096"]
    return ["rsa3072" if size == 3072 else "rsa4096"]


def _dictated(extension: ber.Node) -> bytes | None:
    """An Extension, or a template's, as it stands; None where its value is left to us (RFC 9908 §3.3)."""
    fields = extension.fields()
    fields.take(ber.OID)
    fields.maybe(ber.BOOLEAN)
    value = fields.maybe(ber.OCTET_STRING)
    return None if value is None or not value.octets() else der.canonical(extension)


def _read_template(wish: CsrAttribute, gathered: _Gathered) -> None:
    """CertificationRequestInfoTemplate (RFC 9908 §3.4)."""
    fields = ber.parse(wish.values[0]).fields()
    if fields.take(ber.INTEGER).integer() != 0:
        raise ber.malformed("template-version")
    if (subject := fields.maybe(ber.SEQUENCE)) is not None:
        for rdn in subject.elements():
            for part in rdn.elements(ber.SET):
                parts = part.fields()
                oid = parts.take(ber.OID).oid()
                gathered.subject.append((oid, der.canonical(part) if parts.maybe() is not None else None))
    if (key := fields.maybe(0x80)) is not None:
        _read_key(key, gathered)
    if (attributes := fields.maybe(0x81)) is not None:
        for node in attributes.elements():
            asked = attribute(node)
            if asked.oid == _LINK:
                gathered.linked = True
            elif asked.oid in (_EXTENSION_TEMPLATE, EXTENSION_REQUEST):
                _read_attribute(CsrAttribute(EXTENSION_REQUEST, asked.values), gathered)


def _read_key(node: ber.Node, gathered: _Gathered) -> None:
    """SubjectPublicKeyInfoTemplate; of an RSA key the modulus stands for its length alone."""
    parts = node.fields(0x80)
    algorithm = algorithms.read(parts.take(ber.SEQUENCE))
    placeholder = parts.maybe(ber.BIT_STRING)
    if algorithm.oid == _EC:
        values = (bytes(algorithm.parameters.raw),) if algorithm.parameters is not None else ()
        _read_attribute(CsrAttribute(_EC, values), gathered)
    elif algorithm.oid == _RSA and placeholder is None:
        gathered.keys += _rsa(0)
    elif algorithm.oid == _RSA and placeholder is not None:
        modulus = ber.parse(placeholder.bits()).fields().take(ber.INTEGER)
        gathered.keys += _rsa(8 * len(modulus.content.tobytes().lstrip(b"\0") or modulus.content[1:]))
    elif algorithm.oid in _KINDS:
        gathered.keys.append(_KINDS[algorithm.oid])


# --- obeying it --------------------------------------------------------------------------------------------


def fitted(
    csr: bytes,
    key: "PrivateKey",
    wanted: Wanted,
    *,
    binding: bytes | None = None,
    subject: bool = True,
    also: Sequence[CsrAttribute] = (),
) -> bytes:
    """The request (DER) as the authority wants it, signed again by ``key``; itself where nothing is to do.

    ``binding`` is what ties it to the TLS connection (tls-unique), in Base64 as challengePassword
    (RFC 7030 §3.5). With ``subject`` unset the names of the certificate to be renewed stay (§4.2.2). ``also``
    are attributes of our own.
    """
    whole = ber.parse(csr).fields()
    body = whole.take(ber.SEQUENCE).fields()
    was_signed_by = algorithms.read(whole.take(ber.SEQUENCE)).oid
    body.take(ber.INTEGER)
    name, public = bytes(body.take(ber.SEQUENCE).raw), bytes(body.take(ber.SEQUENCE).raw)
    attributes = {held.oid: held.values for held in map(attribute, body.take(0x80).elements())}
    before = dict(attributes)
    extensions = _extensions(attributes.pop(EXTENSION_REQUEST, ()))
    request = x509.load_der_x509_csr(csr)
    for oid, dictated in wanted.extensions:
        if dictated is not None and oid not in _NAMES_STAY:
            extensions[oid] = dictated
        elif oid not in extensions and (ours := _filled(oid, request.public_key())) is not None:
            extensions[oid] = ours
    if extensions:
        attributes[EXTENSION_REQUEST] = (der.sequence(*extensions.values()),)
    attributes |= {wish.oid: wish.values for wish in also}
    if binding is not None:
        attributes[_LINK] = (der.tlv(0x13, base64.b64encode(binding)),)
    shown = _named(name, wanted.subject) if subject and wanted.subject else name
    scheme = next((candidate for candidate in wanted.schemes if _signs(key, candidate)), default_scheme(key))
    if (shown, attributes) == (name, before) and ALGORITHMS[scheme][0] == was_signed_by:
        return csr
    written = der.set_of(
        (der.sequence(der.oid(oid), der.set_of(values)) for oid, values in attributes.items()), tag=0xA0
    )
    fresh = der.sequence(der.integer(0), shown, public, written)
    return der.sequence(fresh, signature_algorithm(scheme), der.bit_string(key.sign(fresh, scheme)))


def _extensions(values: Sequence[bytes]) -> dict[str, bytes]:
    return {
        extension.fields().take(ber.OID).oid(): bytes(extension.raw)
        for value in values
        for extension in ber.parse(value).elements(ber.SEQUENCE)
    }


def _filled(oid: str, key: "PublicKeyTypes") -> bytes | None:
    """An extension that the authority wants and leaves to us, None where we know nothing to say."""
    value: x509.ExtensionType
    match oid:
        case "2.5.29.14":
            value = x509.SubjectKeyIdentifier.from_public_key(key)  # type: ignore[arg-type]  # no DH key
        case "2.5.29.15":
            transports, agrees = isinstance(key, rsa.RSAPublicKey), isinstance(key, ec.EllipticCurvePublicKey)
            value = x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_encipherment=transports,
                data_encipherment=False, key_agreement=agrees, key_cert_sign=False, crl_sign=False,
                encipher_only=False, decipher_only=False,
            )  # fmt: skip
        case "2.5.29.19":
            value = x509.BasicConstraints(ca=False, path_length=None)
        case "2.5.29.37":
            value = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        case _:
            return None
    return der.sequence(der.oid(oid), der.octet_string(value.public_bytes()))


def _named(name: bytes, subject: Sequence[tuple[str, bytes | None]]) -> bytes:
    """The subject by a template: what it dictates, and our own where it leaves a place for that."""
    ours: dict[str, list[bytes]] = {}
    for rdn in ber.parse(name).elements():
        for part in rdn.elements(ber.SET):
            ours.setdefault(part.fields().take(ber.OID).oid(), []).append(bytes(part.raw))
    parts = [dictated or (ours[oid].pop(0) if ours.get(oid) else None) for oid, dictated in subject]
    chosen = [part for part in parts if part is not None]
    return der.sequence(*(der.set_of([part]) for part in chosen)) if chosen else name


def _signs(key: "PrivateKey", scheme: "SignatureScheme") -> bool:
    public = key.public_key
    if isinstance(public, rsa.RSAPublicKey):
        return scheme.startswith("rsa-pkcs1v15")
    if isinstance(public, ec.EllipticCurvePublicKey):
        return scheme.startswith("ecdsa")
    return scheme == default_scheme(key)
