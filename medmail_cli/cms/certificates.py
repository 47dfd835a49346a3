"""Certificates and CRLs as they are met, those among them that ``cryptography`` refuses for a slip.

Old authorities wrote ``@``, ``_`` and Latin-1 into strings, defaults that DER leaves out, numbers with
needless zeros, times without seconds, kinds of names that nobody uses. Such a certificate is read through a
copy that says the same without the slip, and so is a CRL, but for its entries. The copy is never shown,
stored or checked: every octet, digest and signed part that anybody asks for is the original's.
"""

import base64
import re
import warnings
from typing import TYPE_CHECKING, Any, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import ber, der
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

UNREADABLE = (
    ValueError,
    TypeError,  # a name with a BIT STRING where none belongs
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All that cryptography was seen to raise, on loading or only when something is first looked at."""

_PRINTABLE, _TELETEX, _BOOLEAN = 0x13, 0x14, 0x01
_NOT_PRINTABLE = re.compile(rb"[^A-Za-z0-9 '()+,./:=?-]")
_TRUE = b"\x01\x01\xff"
_V1, _V2, _V3 = (der.tlv(0xA0, der.integer(number)) for number in (0, 1, 2))
_DSA = der.sequence(der.oid("1.2.840.10040.4.1"))
_NO_PARAMETERS = (0, 0, 0)
_TIMES = (0x17, 0x18)
_VERSIONS = {_V1: b"", _V2: _V3}
"""The first is not written; of the second, whose fields the third has too, cryptography knows nothing."""


def fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 of a certificate (its DER) in lower-case hex: its name wherever one is wanted."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def load(data: bytes, *, slips: bool = True) -> x509.Certificate:
    """A certificate (DER), with ``slips`` or without.

    Raises what is in ``UNREADABLE`` for one that cannot be read in any way.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about a certificate is for its judgement to say
        try:
            certificate = x509.load_der_x509_certificate(data)
            _ = certificate.extensions
        except UNREADABLE:
            if not slips:
                return x509.load_der_x509_certificate(data)
            try:
                copy = x509.load_der_x509_certificate(_without_slips(data))
                _ = copy.extensions
            except (*UNREADABLE, MedmailError):
                return x509.load_der_x509_certificate(data)
            return cast("x509.Certificate", _Certificate(data, copy, not _leaves_parameters(data)))
        return certificate


def load_crl(data: bytes) -> x509.CertificateRevocationList:
    """A CRL (DER). Raises what is in ``UNREADABLE`` for one that cannot be read in any way."""
    try:
        crl = x509.load_der_x509_crl(data)
        _ = crl.extensions
    except UNREADABLE:
        try:
            copy = x509.load_der_x509_crl(_list_without_slips(data))
            _ = copy.extensions
        except (*UNREADABLE, MedmailError):
            return x509.load_der_x509_crl(data)
        return cast("x509.CertificateRevocationList", _List(data, copy))
    return crl


def inherits(certificate: x509.Certificate) -> bool:
    """Whether the key lacks parameters and has those of the issuer's: on its own it verifies nothing."""
    return isinstance(certificate, _Certificate) and not certificate.parameters


def with_parameters(certificate: x509.Certificate, issuer: x509.Certificate) -> x509.Certificate:
    """One that ``inherits``, with the parameters of its issuer's key (RFC 5280 6.1.4 (f)).

    As it is where the issuer's is no DSA key, or inherits itself.
    """
    key = None if inherits(issuer) else issuer.public_key()
    if not isinstance(key, dsa.DSAPublicKey):
        return certificate
    octets = certificate.public_bytes(Encoding.DER)
    numbers = key.parameters().parameter_numbers()
    copy = x509.load_der_x509_certificate(_without_slips(octets, (numbers.p, numbers.q, numbers.g)))
    return cast("x509.Certificate", _Certificate(octets, copy, parameters=True))


def load_pem(data: bytes) -> x509.Certificate:
    """The one certificate in a PEM file of ours. Raises what is in ``UNREADABLE``."""
    return load(base64.b64decode(b"".join(data.splitlines()[1:-1]), validate=True))


def load_pems(data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file of ours. Raises what is in ``UNREADABLE``."""
    blocks = data.split(b"-----END CERTIFICATE-----")[:-1]
    return tuple(load_pem(block.strip() + b"\n-----END CERTIFICATE-----") for block in blocks)


def unrepaired(certificates: "Iterable[x509.Certificate]") -> tuple[x509.Certificate, ...]:
    """Those that cryptography reads without our help: it writes no others into a PKCS#12 file."""
    readable = []
    for certificate in certificates:
        try:
            readable.append(x509.load_der_x509_certificate(certificate.public_bytes(Encoding.DER)))
        except UNREADABLE:
            continue
    return tuple(readable)


class _Read:
    """``octets`` that are read through a ``copy``; what depends on octets is their own."""

    def __init__(self, octets: bytes, copy: Any) -> None:
        self._octets, self._copy = octets, copy

    def _signed(self) -> bytes:
        return bytes(next(ber.parse(self._octets).elements()).raw)

    def fingerprint(self, algorithm: hashes.HashAlgorithm) -> bytes:
        """The digest of the whole."""
        digest = hashes.Hash(algorithm)
        digest.update(self._octets)
        return digest.finalize()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._copy, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Read) and (self._octets, self._copy) == (other._octets, other._copy)

    def __hash__(self) -> int:
        return hash(self._octets)


class _Certificate(_Read):
    """``parameters`` says whether its key has all it needs."""

    def __init__(self, octets: bytes, copy: x509.Certificate, parameters: bool) -> None:
        super().__init__(octets, copy)
        self.parameters = parameters

    @property
    def tbs_certificate_bytes(self) -> bytes:
        """What is signed."""
        return self._signed()

    def public_bytes(self, encoding: Encoding) -> bytes:
        """The whole, as it was given."""
        if encoding is Encoding.DER:
            return self._octets
        text = base64.b64encode(self._octets)
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])

    def public_key(self) -> Any:
        """The key. Raises UnsupportedAlgorithm where its parameters are not known."""
        if not self.parameters:
            raise UnsupportedAlgorithm("DSA without parameters")
        return self._copy.public_key()


class _List(_Read):
    @property
    def tbs_certlist_bytes(self) -> bytes:
        """What is signed."""
        return self._signed()

    def public_bytes(self, _der: Encoding) -> bytes:
        """The whole, as it was given: in DER."""
        return self._octets

    def __iter__(self) -> "Iterator[x509.RevokedCertificate]":
        return iter(self._copy)


def _leaves_parameters(data: bytes) -> bool:
    fields = list(next(ber.parse(data).elements()).elements())
    return bytes(next(fields[5 + (fields[0].tag == 0x80)].elements()).raw) == _DSA


def _without_slips(data: bytes, parameters: tuple[int, int, int] = _NO_PARAMETERS) -> bytes:
    """The certificate written as DER has it, DSA's ``parameters`` (p, q, g) where the key leaves them out.

    Raises ``malformed``, ValueError where there is more amiss.
    """
    body, *outside = ber.parse(data).elements(ber.SEQUENCE)
    fields = list(body.elements())
    rest = [bytes(node.raw) for node in outside]
    if der.sequence(der.sequence(*(bytes(node.raw) for node in fields)), *rest) != data:
        raise ValueError("not DER")  # lengths; what is signed could not be told for sure
    version = bytes(fields.pop(0).raw) if fields and fields[0].tag == 0x80 else b""
    serial, algorithm, issuer, validity, subject, key, *more = fields
    return der.sequence(
        der.sequence(
            _VERSIONS.get(version, version),
            der.integer(serial.integer()),
            bytes(algorithm.raw),
            _name(issuer),
            der.sequence(*(der.time(date.time()) for date in validity.elements())),
            _name(subject),
            _key(key, parameters),
            *(_extensions(node, 0xA3) if node.tag == 0x83 else bytes(node.raw) for node in more),
        ),
        *rest,
    )


def _list_without_slips(data: bytes) -> bytes:
    body, *outside = ber.parse(data).elements(ber.SEQUENCE)
    fields = list(body.elements())
    issuer = 2 if fields and fields[0].tag == ber.INTEGER else 1  # after the version and the algorithm
    return der.sequence(
        der.sequence(*(_list_field(field, name=number == issuer) for number, field in enumerate(fields))),
        *(bytes(node.raw) for node in outside),
    )


def _list_field(node: ber.Node, *, name: bool) -> bytes:
    if name:
        return _name(node)
    if node.tag in _TIMES:
        return der.time(node.time())
    return _extensions(node, 0xA0) if node.tag == 0x80 else bytes(node.raw)


def _key(node: ber.Node, parameters: tuple[int, int, int]) -> bytes:
    algorithm, point = node.elements()
    if bytes(algorithm.raw) != _DSA:
        return bytes(node.raw)
    filled = der.sequence(algorithm.content, der.sequence(*map(der.integer, parameters)))
    return der.sequence(filled, bytes(point.raw))


def _name(node: ber.Node) -> bytes:
    return der.sequence(
        *(der.tlv(0x31, *map(_attribute, rdn.elements(ber.SET))) for rdn in node.elements(ber.SEQUENCE))
    )


def _attribute(pair: ber.Node) -> bytes:
    oid, value = pair.elements()
    printable = value.tag != _PRINTABLE or not _NOT_PRINTABLE.search(value.content)
    return der.sequence(bytes(oid.raw), bytes(value.raw) if printable else der.tlv(0x0C, value.content))


def _strings(node: ber.Node) -> bytes:
    """Any structure, its strings as their kinds say: what is not UTF-8 is taken for Latin-1."""
    if node.constructed:
        return der.tlv(node.raw[0], *map(_strings, node.elements()))
    octets = bytes(node.content)
    if node.tag not in (_PRINTABLE, _TELETEX) or not _NOT_PRINTABLE.search(octets):
        return bytes(node.raw)
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        octets = octets.decode("latin-1").encode()
    return der.tlv(0x0C, octets)


def _extensions(node: ber.Node, tag: int) -> bytes:
    written = [_extension(extension) for extension in node.explicit(node.tag).elements(ber.SEQUENCE)]
    return der.tlv(tag, der.sequence(*written)) if any(written) else b""


def _extension(node: ber.Node) -> bytes:
    oid, *critical, value = node.elements()
    octets = bytes(value.octets())
    marked, repair = _true(critical), _REPAIRS.get(bytes(oid.raw))
    if bytes(oid.raw) in _UNASKED and not marked:
        return b""
    if repair is not None and not (marked and repair is _policies):  # critical ones count as a whole
        octets = repair(ber.parse(octets))
    if repair is _issuing_point and octets == der.sequence():
        return b""  # it narrowed nothing
    return der.sequence(bytes(oid.raw), *([_TRUE] if marked else []), der.octet_string(octets))


def _basic_constraints(node: ber.Node) -> bytes:
    """A path length means nothing where there is no authority (RFC 5280 §4.2.1.9)."""
    fields = list(node.elements())
    if not _true(fields[:1]):
        return der.sequence()
    return der.sequence(_TRUE, *(bytes(field.raw) for field in fields[1:]))


def _policies(node: ber.Node) -> bytes:
    """Without their qualifiers, which are notices to be shown and nothing that counts (§4.2.1.4)."""
    return der.sequence(
        *(der.sequence(bytes(policy.fields().take(ber.OID).raw)) for policy in node.elements())
    )


def _key_usage(node: ber.Node) -> bytes:
    """What a key agrees on alone means nothing where it agrees on nothing (§4.2.1.3)."""
    _, *bits = node.content
    return bytes(node.raw) if not bits or bits[0] & 0x08 else der.bit_string(bytes([bits[0] & 0xFE]))


def _authority_key(node: ber.Node) -> bytes:
    """The key alone: issuers are found by their names, and proved by their signatures (§4.2.1.1)."""
    return der.sequence(*(bytes(field.raw) for field in node.elements() if field.tag == 0x80))


def _alternative_names(node: ber.Node) -> bytes:
    """Without x400Address and ediPartyName, which no mail is bound to and no constraint here speaks of."""
    return der.sequence(*(_strings(name) for name in node.elements() if name.tag not in (0x83, 0x85)))


def _name_constraints(node: ber.Node) -> bytes:
    """The least distance, where it is 0, is not written (§4.2.1.10)."""
    return der.sequence(
        *(
            der.tlv(
                trees.raw[0], *(der.sequence(*_constraint(*tree.elements())) for tree in trees.elements())
            )
            for trees in node.elements()
        )
    )


def _constraint(base: ber.Node, *distances: ber.Node) -> "Iterator[bytes]":
    yield _strings(base)
    yield from (
        bytes(distance.raw) for distance in distances if distance.tag != 0x80 or any(distance.content)
    )


def _issuing_point(node: ber.Node) -> bytes:
    """FALSE is not written, and TRUE in one way (§5.2.5)."""
    return der.sequence(
        *(
            _strings(field) if field.constructed or field.tag == 0x83 else der.tlv(field.raw[0], b"\xff")
            for field in node.elements()
            if any(field.content)
        )
    )


_REPAIRS = {
    der.oid("1.3.6.1.5.5.7.1.1"): _strings,  # authorityInfoAccess
    der.oid("2.5.29.15"): _key_usage,
    der.oid("2.5.29.17"): _alternative_names,
    der.oid("2.5.29.19"): _basic_constraints,
    der.oid("2.5.29.28"): _issuing_point,
    der.oid("2.5.29.30"): _name_constraints,
    der.oid("2.5.29.31"): _strings,  # cRLDistributionPoints
    der.oid("2.5.29.32"): _policies,
    der.oid("2.5.29.35"): _authority_key,
    der.oid("2.5.29.46"): _strings,  # freshestCRL
}
"""Extensions, by the octets of their identifiers, whose value is written anew."""
_UNASKED = {
    der.oid("1.3.6.1.4.1.11129.2.4.2"),  # certificate transparency
    der.oid("1.3.6.1.4.1.311.21.7"),  # Microsoft's templates
    der.oid("1.3.6.1.5.5.7.1.11"),  # subjectInfoAccess
    der.oid("1.3.6.1.5.5.7.1.24"),  # TLS features
    der.oid("1.3.36.8.3.3"),  # admission to a profession
    der.oid("2.5.29.16"),  # privateKeyUsagePeriod
    der.oid("2.5.29.18"),  # issuerAltName
}
"""What cryptography takes apart and nobody here asks for; left out unless it is critical (§4.2)."""


def _true(nodes: "Sequence[ber.Node]") -> bool:
    return any(node.tag == _BOOLEAN and any(node.content) for node in nodes)
