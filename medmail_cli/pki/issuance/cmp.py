"""The PKIMessage of the Certificate Management Protocol: RFC 9810 §5 (RFC 4210, 9480), read strictly.

Only the shapes of the lightweight profile (RFC 9483) are known. What a server says of itself is hostile until
its protection is checked (``cmp_protection``), which is over the octets of header and body as they came; the
extraCerts lie outside of it and are never more than helpers. Every fault is MedmailError("malformed").

The module is EXPLICIT TAGS: each context tag wraps a whole element.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.cms.certificates import UNREADABLE, load

Kind = Literal[
    "ir", "ip", "cr", "cp", "p10cr", "kur", "kup", "rr", "rp", "pkiconf", "error", "certConf", "pollReq",
    "pollRep",
]  # fmt: skip
_TAGS: dict[Kind, int] = {
    "ir": 0, "ip": 1, "cr": 2, "cp": 3, "p10cr": 4, "kur": 7, "kup": 8, "rr": 11, "rp": 12, "pkiconf": 19,
    "error": 23, "certConf": 24, "pollReq": 25, "pollRep": 26,
}  # fmt: skip
_KINDS = {0x80 | number: kind for kind, number in _TAGS.items()}

IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13"
MOST_CERTIFICATES = 32
"""In extraCerts and in caPubs each."""
LIMITS = ber.Limits(size=1 << 20)
_MOST_WORDS = 200
_LONGEST_NONCE = 128

STATUSES = (
    "accepted", "grantedWithMods", "rejection", "waiting", "revocationWarning", "revocationNotification",
    "keyUpdateWarning",
)  # fmt: skip
"""PKIStatus (RFC 9810 §5.2.3), by number."""
FAILURES = (
    "badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId", "badDataFormat", "wrongAuthority",
    "incorrectData", "missingTimeStamp", "badPOP", "certRevoked", "certConfirmed", "wrongIntegrity",
    "badRecipientNonce", "timeNotAvailable", "unacceptedPolicy", "unacceptedExtension", "addInfoNotAvailable",
    "badSenderNonce", "badCertTemplate", "signerNotTrusted", "transactionIdInUse", "unsupportedVersion",
    "notAuthorized", "systemUnavail", "systemFailure", "duplicateCertReq",
)  # fmt: skip
"""PKIFailureInfo (RFC 9810 §5.2.3), by bit."""


@dataclass(frozen=True)
class Header:
    """PKIHeader (RFC 9810 §5.1.1): names as encoded GeneralNames, ``key_id`` the senderKID."""

    sender: bytes
    recipient: bytes
    transaction: bytes
    nonce: bytes
    answers: bytes | None = None
    """recipNonce: the nonce of the message that this one answers."""
    key_id: bytes | None = None
    time: dt.datetime | None = None
    implicit_confirm: bool = False
    version: int = 2


@dataclass(frozen=True)
class Message:
    """A PKIMessage as received; ``protected`` is what its protection is over."""

    header: Header
    kind: Kind
    body: ber.Node
    protected: bytes
    algorithm: algorithms.Algorithm | None
    protection: bytes | None
    certificates: tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class Status:
    """PKIStatusInfo: what became of a request, in words for people too."""

    status: str
    words: str = ""
    failures: tuple[str, ...] = ()

    @property
    def granted(self) -> bool:
        """Whether what was asked for was done."""
        return self.status in ("accepted", "grantedWithMods", "revocationWarning", "revocationNotification")


@dataclass(frozen=True)
class Issued:
    """CertRepMessage with its one response (RFC 9810 §5.3.4)."""

    request: int
    status: Status
    certificate: x509.Certificate | None
    authorities: tuple[x509.Certificate, ...]
    """caPubs: inside of the protection, so as trustworthy as the sender."""


def read(data: bytes) -> Message:
    """Read a PKIMessage. Raises ``malformed`` and ``too-large``."""
    fields = ber.parse(data, LIMITS).fields()
    header, body = fields.take(ber.SEQUENCE), fields.take()
    protection, extra = fields.maybe(0x80), fields.maybe(0x81)
    fields.end()
    if body.tag not in _KINDS:
        raise ber.malformed("body")
    read_header, algorithm = _header(header)
    value = None if protection is None else bytes(protection.explicit(0x80).bits())
    if (value is None) != (algorithm is None):
        raise ber.malformed("protection")
    return Message(
        header=read_header,
        kind=_KINDS[body.tag],
        body=body.explicit(body.tag),
        protected=der.sequence(header.raw, body.raw),
        algorithm=algorithm,
        protection=value,
        certificates=() if extra is None else tuple(_helpers(extra.explicit(0x81))),
    )


def _header(node: ber.Node) -> tuple[Header, algorithms.Algorithm | None]:
    fields = node.fields()
    version = fields.take(ber.INTEGER).integer()
    if version not in (2, 3):  # cmp2000 and cmp2021
        raise ber.malformed("version")
    sender, recipient = fields.take(), fields.take()
    time, algorithm, key_id = fields.maybe(0x80), fields.maybe(0x81), fields.maybe(0x82)
    fields.maybe(0x83)  # recipKID
    transaction, nonce, answers = (fields.maybe(tag) for tag in (0x84, 0x85, 0x86))
    fields.maybe(0x87)  # freeText
    information = fields.maybe(0x88)
    fields.end()
    if transaction is None or nonce is None:
        raise ber.malformed("transaction")
    header = Header(
        sender=bytes(sender.raw),
        recipient=bytes(recipient.raw),
        transaction=_octets(transaction, 0x84),
        nonce=_octets(nonce, 0x85),
        answers=None if answers is None else _octets(answers, 0x86),
        key_id=None if key_id is None else bytes(key_id.explicit(0x82).octets()),
        time=None if time is None else time.explicit(0x80).time(),
        implicit_confirm=information is not None and _grants(information.explicit(0x88)),
        version=version,
    )
    return header, None if algorithm is None else algorithms.read(algorithm.explicit(0x81))


def _octets(node: ber.Node, tag: int) -> bytes:
    octets = bytes(node.explicit(tag).octets())
    if not 0 < len(octets) <= _LONGEST_NONCE:
        raise ber.malformed("nonce")
    return octets


def _grants(information: ber.Node) -> bool:
    """Whether generalInfo holds implicitConfirm (RFC 9810 §5.1.1.1)."""
    granted = False
    for node in information.elements(ber.SEQUENCE):
        fields = node.fields()
        granted = fields.take(ber.OID).oid() == IMPLICIT_CONFIRM or granted
        fields.maybe()
        fields.end()
    return granted


def _helpers(node: ber.Node) -> Iterable[x509.Certificate]:
    """The certificates of extraCerts that can be read: nothing rests on the others."""
    for number, element in enumerate(node.elements(ber.SEQUENCE)):
        if number == MOST_CERTIFICATES:
            raise ber.malformed("too-many-certificates")
        try:
            yield load(bytes(element.raw))
        except UNREADABLE:
            continue


def _certificate(node: ber.Node) -> x509.Certificate:
    if node.tag != ber.SEQUENCE:
        raise ber.malformed("certificate")
    try:
        return load(bytes(node.raw))
    except UNREADABLE:
        raise ber.malformed("certificate") from None


# -- bodies of answers


def issued(message: Message) -> Issued:
    """The body of ip, cp and kup: the answer to one request. Raises ``malformed``."""
    fields = _body(message, "ip", "cp", "kup").fields()
    authorities, responses = fields.maybe(0x81), fields.take(ber.SEQUENCE)
    fields.end()
    known: list[x509.Certificate] = []
    for element in () if authorities is None else authorities.explicit(0x81).elements(ber.SEQUENCE):
        known.append(_certificate(element))
        if len(known) > MOST_CERTIFICATES:
            raise ber.malformed("too-many-certificates")
    request, state, pair = _response(_only(responses))
    certificate = None
    if pair is not None:
        choice = pair.fields()
        # RFC 9810 §5.3.4: a certificate in the clear; an encrypted one proves keys that cannot sign
        certificate = _certificate(choice.take(0x80).explicit(0x80))
        choice.maybe(0x80)  # a private key: we asked for none and take none
        choice.maybe(0x81)
        choice.end()
    if state.granted != (certificate is not None):
        raise ber.malformed("certificate")
    return Issued(request, state, certificate, tuple(known))


def _response(node: ber.Node) -> tuple[int, Status, ber.Node | None]:
    fields = node.fields()
    request, state = fields.take(ber.INTEGER).integer(), _status(fields.take(ber.SEQUENCE))
    pair = fields.maybe(ber.SEQUENCE)
    fields.maybe(ber.OCTET_STRING)
    fields.end()
    return request, state, pair


def error(message: Message) -> Status:
    """The body of an error message (RFC 9810 §5.3.21). Raises ``malformed``."""
    fields = _body(message, "error").fields()
    state = _status(fields.take(ber.SEQUENCE))
    fields.maybe(ber.INTEGER)
    details = fields.maybe(ber.SEQUENCE)
    fields.end()
    more = "" if details is None else _text(details)
    return Status(state.status, " ".join(filter(None, (state.words, more))), state.failures)


def check_after(message: Message) -> int:
    """The seconds that a pollRep asks to wait (RFC 9810 §5.3.22). Raises ``malformed``."""
    fields = _only(_body(message, "pollRep")).fields()
    fields.take(ber.INTEGER)
    seconds = fields.take(ber.INTEGER).integer()
    fields.maybe(ber.SEQUENCE)
    fields.end()
    if not 0 <= seconds < 1 << 31:
        raise ber.malformed("check-after")
    return seconds


def revoked(message: Message) -> Status:
    """The body of an rp about one certificate (RFC 9810 §5.3.10). Raises ``malformed``."""
    fields = _body(message, "rp").fields()
    state = _status(_only(fields.take(ber.SEQUENCE)))
    fields.maybe(0x80)
    fields.maybe(0x81)
    fields.end()
    return state


def _body(message: Message, *kinds: Kind) -> ber.Node:
    if message.kind not in kinds:
        raise ber.malformed("body")
    return message.body


def _only(node: ber.Node) -> ber.Node:
    """The one element of a SEQUENCE OF: nothing was asked for but one thing at a time."""
    fields = node.fields()
    element = fields.take(ber.SEQUENCE)
    fields.end()
    return element


def _status(node: ber.Node) -> Status:
    fields = node.fields()
    number = fields.take(ber.INTEGER).integer()
    words, failures = fields.maybe(ber.SEQUENCE), fields.maybe(ber.BIT_STRING)
    fields.end()
    if not 0 <= number < len(STATUSES):
        raise ber.malformed("status")
    return Status(
        STATUSES[number],
        "" if words is None else _text(words),
        () if failures is None else tuple(_failures(failures)),
    )


def _text(node: ber.Node) -> str:
    """PKIFreeText's first words, in one line."""
    words: list[str] = []
    for text in node.elements(ber.SEQUENCE):
        if text.tag != 0x0C or text.constructed:
            raise ber.malformed("text")
        words += bytes(text.content[: 4 * _MOST_WORDS]).decode("utf-8", "replace").split()
        if sum(map(len, words)) > _MOST_WORDS:
            break
    return " ".join(words)[:_MOST_WORDS]


def _failures(node: ber.Node) -> Iterable[str]:
    content = bytes(node.content)
    if node.constructed or not 0 < len(content) <= 9 or content[0] > 7:
        raise ber.malformed("bit-string")
    for bit in range(8 * (len(content) - 1) - content[0]):
        if content[1 + bit // 8] & 0x80 >> bit % 8:
            yield FAILURES[bit] if bit < len(FAILURES) else f"bit {bit}"


# -- writing


def build(
    header: Header,
    kind: Kind,
    body: bytes,
    algorithm: bytes | None = None,
    protect: Callable[[bytes], bytes] | None = None,
    certificates: Sequence[x509.Certificate] = (),
) -> bytes:
    """A PKIMessage in DER; ``protect`` makes the protection of header and body by ``algorithm``."""
    first = der.sequence(
        der.integer(header.version),
        header.sender,
        header.recipient,
        _tagged(0, None if header.time is None else _generalized(header.time)),
        _tagged(1, algorithm),
        _tagged(2, None if header.key_id is None else der.octet_string(header.key_id)),
        _tagged(4, der.octet_string(header.transaction)),
        _tagged(5, der.octet_string(header.nonce)),
        _tagged(6, None if header.answers is None else der.octet_string(header.answers)),
        _tagged(8, _IMPLICITLY if header.implicit_confirm else None),
    )
    second = der.tlv(0xA0 | _TAGS[kind], body)
    protection = None if protect is None else der.bit_string(protect(der.sequence(first, second)))
    extra = der.sequence(*(certificate.public_bytes(Encoding.DER) for certificate in certificates))
    return der.sequence(first, second, _tagged(0, protection), _tagged(1, extra if certificates else None))


_IMPLICITLY = der.sequence(der.sequence(der.oid(IMPLICIT_CONFIRM), der.NULL))


def directory_name(name: x509.Name) -> bytes:
    """A GeneralName that is a directoryName, as sender and recipient are; an empty one is the NULL-DN."""
    return der.tlv(0xA4, name.public_bytes())


def status_info(number: int, words: str = "", failures: Sequence[str] = ()) -> bytes:
    """A PKIStatusInfo in DER."""
    bits = 0
    for name in failures:
        bits |= 1 << FAILURES.index(name)
    content = [der.integer(number)]
    if words:
        content.append(free_text(words))
    if bits:
        highest = bits.bit_length()
        octets = bytearray((highest + 7) // 8)
        for bit in range(highest):
            if bits >> bit & 1:
                octets[bit // 8] |= 0x80 >> bit % 8
        content.append(der.tlv(0x03, bytes([-highest % 8]), bytes(octets)))
    return der.sequence(*content)


def free_text(words: str) -> bytes:
    """A PKIFreeText in DER."""
    return der.sequence(der.tlv(0x0C, words.encode()))


def _tagged(number: int, content: bytes | None) -> bytes:
    return b"" if content is None else der.tlv(0xA0 | number, content)


def _generalized(time: dt.datetime) -> bytes:
    return der.tlv(0x18, time.astimezone(dt.UTC).strftime("%Y%m%d%H%M%SZ").encode())
