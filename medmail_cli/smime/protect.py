"""From a letter to the messages that are submitted: signed, header-protected, encrypted.

Opaque SignedData inside AuthEnvelopedData (RFC 8551 §3.7 in the order sign, then encrypt), headers
protected by RFC 9788 with the policy hcp_baseline: the subject is hidden outside, Keywords and Comments
stay inside, and so does what a letter that is answered hid besides. From and Sender are alike inside and
outside. Each Bcc recipient gets a message of its own, so that nobody else's holds a trace of it; the sender
can open every one.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import enveloped, signed
from medmail_cli.cms.algorithms import DEFAULT_CAPABILITIES
from medmail_cli.cms.identifiers import issuer_octets
from medmail_cli.errors import MedmailError
from medmail_cli.model import ContentCipher, PrivateKey, SignatureScheme
from medmail_cli.smime import compose, recipient_emails
from medmail_cli.smime.compose import CRLF, FieldLine, Letter
from medmail_cli.smime.fields import Mailbox

_ONLY_INSIDE = {"keywords", "comments", "bcc"}


@dataclass(frozen=True)
class Signer:
    """Who signs. ``chain`` holds what goes along: intermediates, further certificates to encrypt to.

    ``separate_encryption_certificate`` is where answers go, if not to ``certificate``; ``capabilities`` what
    may stand in them.
    """

    key: PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()
    separate_encryption_certificate: x509.Certificate | None = None
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES

    @property
    def encryption_certificate(self) -> x509.Certificate:
        """The certificate under which the sender opens what was sent."""
        return self.separate_encryption_certificate or self.certificate


@dataclass(frozen=True)
class Style:
    """How a profile, and what is known of the recipients, want the letter made."""

    cipher: ContentCipher = "aes-256-gcm"
    derive_key: bool = False
    """Every recipient said that it reads keys derived for the cipher (RFC 9709)."""
    signature: Literal["opaque", "detached"] = "opaque"
    scheme: SignatureScheme | None = None
    """None: what the signer's key does by default."""
    oaep_for: frozenset[str] = frozenset()
    """SHA-256 (hex) of the recipients' certificates that are known to read RSA-OAEP."""
    wrapping: Literal["none", "message-rfc822"] = "none"
    header_protection: bool = True
    outer_subject: str = "[...]"
    smime_type_auth_enveloped: str = "authEnveloped-data"
    recipient_emails: bool = False
    """Under the signature, and beside the envelope, stands whom it was sealed for (KIM)."""
    binary: bool = False
    """Every recipient said that it reads binary inside (RFC 8551 §2.7.1)."""
    legacy_display: bool = False


@dataclass(frozen=True)
class ProtectedMessage:
    """A message ready for the wire (CRLF line ends) and the addresses it goes to.

    ``commitment`` is SHA-256(``salt`` ‖ signed entity) in hex. The entity is what decrypting the message
    gives, signature included, or stands in it from its Content-Type on where nothing is encrypted. Whoever
    is shown salt and commitment can tell by it what was sent, without a key; AES-GCM alone, which does not
    commit to its key, could not show that.
    """

    recipients: tuple[str, ...]
    message: bytes
    salt: bytes = field(repr=False)
    commitment: str


def committed(salt: bytes, entity: bytes) -> str:
    """SHA-256(salt ‖ entity) in hex."""
    digest = hashlib.sha256(salt)
    digest.update(entity)
    return digest.hexdigest()


def _submission(recipients: tuple[str, ...], message: bytes, entity: bytes) -> ProtectedMessage:
    salt = secrets.token_bytes(32)
    return ProtectedMessage(recipients, message, salt, committed(salt, entity))


def protect(
    letter: Letter,
    *,
    signer: Signer,
    recipients: Mapping[str, x509.Certificate],
    signed_at: datetime,
    style: Style = Style(),
) -> tuple[ProtectedMessage, ...]:
    """Sign and encrypt ``letter`` for those of its recipients that ``recipients`` has a certificate for.

    ``recipients`` is keyed by the addresses as they stand in the letter. The first submission is for To
    and Cc, then comes one for each Bcc recipient. Raises ``usage`` for what cannot stand in a header.
    """
    submissions = []
    for addresses, blind in _circles(letter, recipients):
        fields = compose.header_fields(letter, bcc=blind)
        outside = compose.header_fields(letter.in_clear) if letter.outside else fields
        outer = _outer_fields(outside, style.outer_subject if _hides(style) else None)
        sealed_for = [
            *((a, recipients[a]) for a in addresses),
            (letter.from_.address, signer.encryption_certificate),
        ]
        named = recipient_emails.values(dict.fromkeys(sealed_for)) if style.recipient_emails else ()
        inner = _signed_entity(letter, fields, outer, signer, signed_at, style, named, encrypted=True)
        sealed = enveloped.encrypt(
            inner,
            list(dict.fromkeys(certificate for _, certificate in sealed_for)),
            cipher=style.cipher,
            oaep_for=style.oaep_for,
            derive_key=style.derive_key,
            beside=[signed.attribute(recipient_emails.OID, *named)] if named else (),
        )
        authenticated = not style.cipher.endswith("cbc")
        smime_type = style.smime_type_auth_enveloped if authenticated else "enveloped-data"
        message = _message(outer, _cms_entity(sealed, smime_type))
        submissions.append(_submission(addresses, message, inner))
    return tuple(submissions)


def sign_only(
    letter: Letter, *, signer: Signer, signed_at: datetime, style: Style = Style()
) -> tuple[ProtectedMessage, ...]:
    """Sign ``letter`` without encrypting it; headers are protected in the clear (``hp="clear"``)."""
    submissions = []
    everybody = {box.address: None for box in (*letter.to, *letter.cc, *letter.bcc)}
    for addresses, blind in _circles(letter, everybody):
        fields = compose.header_fields(letter, bcc=blind)
        outer = _outer_fields(fields, None)
        entity = _signed_entity(letter, fields, outer, signer, signed_at, style, encrypted=False)
        submissions.append(_submission(addresses, _message(outer, entity), entity))
    return tuple(submissions)


def estimate(
    letter: Letter, *, signer: Signer, recipients: Sequence[x509.Certificate] | None, style: Style = Style()
) -> int:
    """About how many octets the message will have on the wire, a little more rather than less.

    ``recipients`` is None for a letter that is not encrypted.
    """
    inside = [len(attachment.data) for attachment in letter.attachments] + [len(letter.entity or b"")]
    size = sum(inside) if style.binary else sum(map(compose.base64_size, inside))
    size += compose.base64_size(len(letter.body.encode("utf-8", "replace"))) + 500 * (2 + len(inside))
    headers = sum(len(line) for _, line in compose.header_fields(letter))
    # a signature is at most twice as long as its key (ML-DSA); then the attributes
    size += 2 * headers + 2 * _key_size(signer.certificate) + 2500
    size += sum(
        len(certificate.public_bytes(Encoding.DER)) for certificate in (signer.certificate, *signer.chain)
    )
    if style.signature == "opaque" and not (recipients is not None and style.binary):
        size = compose.base64_size(size)
    if recipients is not None:
        # what a key is sent in is no longer than the key it is sent to: RSA, a point, ML-KEM's ciphertext
        names = 3 if style.recipient_emails else 1  # signed, and beside the envelope
        entries = [
            _key_size(certificate) + names * len(issuer_octets(certificate)) + names * 250
            for certificate in (*recipients, signer.encryption_certificate)
        ]
        size = compose.base64_size(size + sum(entries))
    return size + headers + 1000


def _key_size(certificate: x509.Certificate) -> int:
    return len(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _circles(
    letter: Letter, recipients: Mapping[str, object]
) -> list[tuple[tuple[str, ...], tuple[Mailbox, ...]]]:
    """Who shares a message: To and Cc one, each Bcc recipient another, none twice."""
    open_ones = dict.fromkeys(box.address for box in (*letter.to, *letter.cc) if box.address in recipients)
    circles: list[tuple[tuple[str, ...], tuple[Mailbox, ...]]] = []
    if open_ones:
        circles.append((tuple(open_ones), ()))
    blind = {
        box.address: box for box in letter.bcc if box.address in recipients and box.address not in open_ones
    }
    circles += [((address,), (box,)) for address, box in blind.items()]
    if not circles:
        raise MedmailError("usage", reason="no-recipient")
    return circles


def _hides(style: Style) -> bool:
    return style.header_protection or style.wrapping == "message-rfc822"


def _outer_fields(fields: tuple[FieldLine, ...], outer_subject: str | None) -> tuple[FieldLine, ...]:
    """What stands outside by hcp_baseline (RFC 9788 §3.2.1); Bcc never does."""
    outer: list[FieldLine] = []
    for name, line in fields:
        if name.lower() == "bcc" or (outer_subject is not None and name.lower() in _ONLY_INSIDE):
            continue
        if name == "Subject" and outer_subject is not None:
            outer.append((name, compose.unstructured(name, outer_subject)))
        else:
            outer.append((name, line))
    return tuple(outer)


def _signed_entity(
    letter: Letter,
    fields: tuple[FieldLine, ...],
    outer: tuple[FieldLine, ...],
    signer: Signer,
    signed_at: datetime,
    style: Style,
    named: tuple[bytes, ...] = (),
    *,
    encrypted: bool,
) -> bytes:
    # what a server could refuse or change is not signed as it stands (RFC 8551 §3.1.3)
    fragile = not encrypted and not _is_7bit(letter.entity or b"")
    detached = style.signature == "detached" and not fragile
    binary = style.binary and encrypted and not detached
    if style.wrapping == "message-rfc822":
        whole = compose.payload(letter, fields=(*fields, _MIME_VERSION), binary=binary)
        encoding = compose.BINARY if binary else b""
        content = b"Content-Type: message/rfc822" + CRLF + encoding + CRLF + whole
    elif style.header_protection:
        inside = list(fields)
        if encrypted:
            inside += [("HP-Outer", b"HP-Outer: " + line) for _, line in outer]
        content = compose.payload(
            letter,
            fields=inside,
            # the older form beside it, for readers who know no other
            parameters=[
                ("hp", "cipher" if encrypted else "clear"),
                *(_OLDER if style.legacy_display else ()),
            ],
            binary=binary,
            legacy_display=style.legacy_display and encrypted,
        )
    else:
        content = compose.payload(letter, binary=binary)
    data = signed.sign(
        content,
        key=signer.key,
        certificate=signer.certificate,
        chain=signer.chain,
        signed_at=signed_at,
        scheme=style.scheme,
        encryption_certificate=signer.separate_encryption_certificate,
        capabilities=signer.capabilities,
        detached=detached,
        further={recipient_emails.OID: named} if named else {},
    )
    if detached:
        scheme = signed.scheme_for(signer.key, signer.certificate, style.scheme)
        return compose.multipart_signed(content, data, micalg=_micalg(scheme))
    if encrypted and style.binary:
        head = compose.parameterized(
            "Content-Type", "application/pkcs7-mime", [("smime-type", "signed-data"), ("name", "smime.p7m")]
        )
        return head + compose.BINARY + CRLF + data
    return b"".join(_cms_entity(data, "signed-data"))


def _is_7bit(data: bytes) -> bool:
    """Whether every server carries it as it stands (RFC 2045 §2.7)."""
    return data.isascii() and b"\0" not in data and max(map(len, data.split(b"\n"))) <= 999  # with its CR


_OLDER = (("protected-headers", "v1"),)
_MIME_VERSION: FieldLine = ("MIME-Version", b"MIME-Version: 1.0" + CRLF)


def _micalg(scheme: SignatureScheme) -> str:
    """The hash named for streaming readers (RFC 8551 §3.5.3.2, RFC 8419 §3.1, RFC 9882 §3.3)."""
    if scheme == "ed448":
        return "shake256"
    return "sha-512" if scheme == "ed25519" or scheme.startswith("ml-dsa") else f"sha-{scheme[-3:]}"


def _cms_entity(data: bytes, smime_type: str) -> tuple[bytes, ...]:
    head = compose.cms_headers("application/pkcs7-mime", smime_type, "smime.p7m")
    return (*head, CRLF, compose.base64_lines(data))


def _message(outer: tuple[FieldLine, ...], entity: bytes | tuple[bytes, ...]) -> bytes:
    pieces = (entity,) if isinstance(entity, bytes) else entity
    return b"".join([*(line for _, line in outer), _MIME_VERSION[1], *pieces])
