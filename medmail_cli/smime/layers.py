"""Taking a message's layers off, outermost first: encryption, signature, compression, wrapping.

A layer is opened only where it is the whole of what the layer around it holds (against direct
exfiltration: an encrypted part among others is never decrypted), and a signature outside an encryption is
forgotten, since whoever made it need not have known the content (RFC 9787 §5). Nothing is judged here.
"""

import binascii
import re
from collections.abc import Sequence
from dataclasses import replace

from cryptography import x509

from medmail_cli.cms import algorithms, ber, content, der, enveloped, signed
from medmail_cli.cms.enveloped import Decrypted
from medmail_cli.cms.signerinfo import SignedData
from medmail_cli.cms.verify import Content
from medmail_cli.errors import MedmailError
from medmail_cli.model import PrivateKey
from medmail_cli.smime import compose, labels, mime
from medmail_cli.smime.mime import Entity
from medmail_cli.smime.unwrapped import SignatureLayer, Unwrapped

MAX_LAYERS = 8
"""Triple wrapping (RFC 2634 1.1) needs three; more than these are nobody's letter."""
_ENCRYPTED = ("enveloped-data", "auth-enveloped-data")
_ARMOUR = re.compile(rb"(?:\xef\xbb\xbf)?\s*-----BEGIN (?:CMS|PKCS ?#?7(?: SIGNED DATA)?)-----\r?\n")
_BASE64 = re.compile(rb"(?:\xef\xbb\xbf)?\s*MI[A-T][A-Za-z0-9+/]")
"""A SEQUENCE of more than 127 octets, or of indefinite length."""
_BASE64_LINE = re.compile(rb"(?:\xef\xbb\xbf)?\s*MI[A-T][A-Za-z0-9+/]{9,}={0,2}[ \t]*(?:[\r\n]|\Z)")
"""The same as a whole first line, which no header field is (``MIME-Version``)."""
_CONTAINERS = {"application/x-ole-storage": "outlook-msg", "application/ms-tnef": "winmail-dat"}
"""Files of Outlook's that are no message of MIME."""
_NESTED = {
    algorithms.SIGNED_DATA,
    algorithms.ENVELOPED_DATA,
    algorithms.AUTH_ENVELOPED_DATA,
    algorithms.COMPRESSED_DATA,
}
_MOST_INFLATED = 256 << 20
"""A letter larger than this cannot have come by mail; see also the ratio in :func:`_inflate`."""

_OF_THE_MESSAGE = {"bad-tag", "malformed", "no-key", "too-large", "unsupported-algorithm", "weak-algorithm"}
"""What a message can be guilty of; anything else (a wrong passphrase, a damaged keystore) is ours."""

Keys = Sequence[tuple[x509.Certificate, PrivateKey]]


def unwrap(raw: bytes, keys: Keys, *, allow_weak: bool = False) -> Unwrapped:
    """Open every layer of a message that is there to be opened; raises only what ``keys`` raise.

    The caller should hold no other reference to ``raw``: a large message's bytes are then freed as soon
    as they are decoded.
    """
    try:
        entity, repaired = _read(raw)
    except MedmailError as error:
        return Unwrapped((), (), None, failure=error)
    del raw
    begun = Unwrapped(entity.fields, (), None, repaired=repaired)
    handed = [entity]
    del entity
    return _peel(handed, begun, keys, allow_weak=allow_weak)


def with_line_ends_repaired(
    got: Unwrapped, repaired: Content, keys: Keys, *, allow_weak: bool = False
) -> Unwrapped:
    """The message read anew below a detached signature that holds only over content with other line ends.

    What is shown must be what was signed: with other line ends a header field, a part or a boundary may
    begin elsewhere.
    """
    assert got.signature is not None  # noqa: S101 - the caller has checked it
    octets = bytes(repaired.octets)
    signature = replace(got.signature, over=octets, repairable=False)
    layers = got.layers[: signature.depth]
    begun = Unwrapped(got.outer, layers, None, signature, got.decrypted, repaired=True)
    return _peel([mime.parse_inner(octets)], begun, keys, allow_weak=allow_weak)


def _peel(handed: list[Entity], begun: Unwrapped, keys: Keys, *, allow_weak: bool) -> Unwrapped:
    """Take off the layers of the one entity that is handed over, below those of ``begun``."""
    layers, state, closed = list(begun.layers), begun, False
    try:
        entity = handed.pop()
        signature, decrypted = begun.signature, begun.decrypted
        for _ in range(len(layers), MAX_LAYERS + 1):  # the last time round nothing may be left
            if signature is None:  # what somebody signed as a part stays one (RFC 9787 §4)
                entity = _alone(entity)
            if labels.is_cms(entity):
                # what list software appends to the encoded structure is no part of it, and never shown
                node = ber.parse(_cms_octets(entity), trailing=True)
                kind = content.content_type(node)
                if kind in _ENCRYPTED:
                    layers.append("encrypted")
                    # decoded, it is needed no more: large letters are held once
                    del entity
                    closed = True
                    envelope = enveloped.parse_enveloped(node)
                    opened = enveloped.decrypt(envelope, keys, allow_weak=allow_weak)
                    if decrypted is None or _worse(opened, decrypted):
                        decrypted = replace(opened, content=b"")
                        state = replace(state, decrypted=decrypted)
                    closed = False
                    entity, signature = _inside(opened, envelope.content_type), None
                    del opened, envelope
                elif kind == "signed-data":
                    inner = signed.parse_signed(node)
                    if inner.content is None:  # a bundle of certificates, or a signature lost from its letter
                        break
                    layers.append("signed")
                    if inner.signers or signature is None:
                        signature = SignatureLayer(inner, inner.content, False, len(layers))
                    del entity
                    if _was_signed_as_data(inner):
                        signature = SignatureLayer(None, inner.content, False, len(layers))
                        entity = mime.parse_inner(bytes(inner.content))
                    else:
                        entity = _inner(inner.content_type, bytes(inner.content))
                elif kind == "compressed-data":
                    layers.append("compressed")
                    entity = _inner(*_inflate(node))
                elif kind == "data":
                    entity = mime.parse_inner(bytes(content.data(node)))
                else:
                    raise MedmailError("malformed", what="message", reason="content-type")
                del node
            elif labels.is_multipart_signed(entity, renamed=signature is None):
                layers.append("signed")
                signature = _detached(entity, len(layers))
                part = entity.children[0]
                entity = mime.reread(part.source, part.start, part.end)
            elif layers and labels.is_wrapped(entity):
                message = _wrapped(entity)
                if message is None:
                    break
                # what a wrapped message holds is shown, never opened: it may be somebody else's
                if not labels.is_passed_on(message, begun.outer):
                    layers.append("wrapped")
                    entity = message
                break
            else:
                break
        else:
            raise MedmailError("malformed", what="message", reason="too-many-layers")
        return replace(state, layers=tuple(layers), payload=entity, signature=signature, decrypted=decrypted)
    except MedmailError as error:
        if error.code not in _OF_THE_MESSAGE:
            raise
        changeable = state.decrypted is not None and not state.decrypted.authenticated
        if error.code == "too-large":
            error = MedmailError("malformed", what="message", reason="too-large")
        if changeable:
            # whatever goes wrong once our key was named looks the same, until a tag has held
            error = MedmailError("bad-tag")
        failed = closed or changeable
        if error.code == "bad-tag":
            layers = layers[: layers.index("encrypted") + 1]
        return Unwrapped(
            state.outer,
            tuple(layers),
            None,
            decrypted=None if failed else state.decrypted,
            failure=error,
            encryption_failed=failed,
        )


def outer_envelope(raw: bytes) -> tuple[Entity, ber.Node] | None:
    """Where a message's outermost layer is an encryption: the entity whose body it is, and its structure."""
    entity = _alone(_read(raw)[0])
    if not labels.is_cms(entity):
        return None
    node = ber.parse(_cms_octets(entity), trailing=True)
    return (entity, node) if content.content_type(node) in _ENCRYPTED else None


def with_cms(entity: Entity, octets: bytes) -> bytes:
    """The message around ``entity`` with another CMS structure for a body, encoded as it was."""
    body = mime.decode_body(entity)
    if _ARMOUR.match(body):
        octets = b"-----BEGIN CMS-----\r\n" + compose.base64_lines(octets) + b"-----END CMS-----\r\n"
    if entity.encoding == "base64":
        octets = compose.base64_lines(octets)
    elif entity.encoding == "quoted-printable":
        octets = binascii.b2a_qp(octets, istext=False)
    return b"".join((entity.source[: entity.body], octets, entity.source[entity.end :]))


def _worse(encryption: Decrypted, other: Decrypted) -> bool:
    """Whether an encryption is to be trusted less than another."""
    return (encryption.authenticated, not encryption.weak) < (other.authenticated, not other.weak)


def _read(raw: bytes) -> tuple[Entity, bool]:
    """The message, or a bare CMS structure as some mail programs save it (``smime.p7m``, PEM).

    Also whether its lines ended in CR alone, which is repaired.
    """
    if raw[:1] == b"\x30" or _ARMOUR.match(raw) or _BASE64_LINE.match(raw):
        return Entity(raw, 0, 0, len(raw), (), "application/pkcs7-mime", {}, "binary"), False
    kind = mime.kind_of(raw)
    if kind in _CONTAINERS:
        raise MedmailError("malformed", what="message", reason=_CONTAINERS[kind])
    whole, repaired = mime.begin(raw)
    return mime.parse(whole), repaired


def _wrapped(entity: Entity) -> Entity | None:
    """The message that an entity holds, None where it has no header to be read: that one stays a file."""
    octets = mime.begin(mime.decode_body(entity))[0]
    try:
        return mime.parse(octets)
    except MedmailError as error:
        if error.facts.get("reason") != "no-header":
            raise
        return None


def _alone(entity: Entity) -> Entity:
    """The layer that is all there is in a multipart/mixed, where software made an attachment of it."""
    only = entity
    while only.content_type == "multipart/mixed":
        parts = [part for part in only.children if not _is_blank(part)]
        if len(parts) != 1:
            return entity
        (only,) = parts
    return only if labels.is_cms(only) or labels.is_multipart_signed(only) else entity


def _is_blank(entity: Entity) -> bool:
    return (
        entity.content_type == "text/plain" and not entity.filename and not mime.decode_body(entity).strip()
    )


def _cms_octets(entity: Entity) -> bytes:
    """The structure in a body: in its transfer encoding, in PEM, or in base64 that lost its label."""
    octets = mime.decode_body(entity)
    if _BASE64.match(octets):
        return mime.decode_base64(octets)
    armour = _ARMOUR.match(octets)
    return (
        mime.decode_base64(octets[armour.end() : octets.find(b"-----", armour.end())]) if armour else octets
    )


def _inner(content_type: str, octets: bytes) -> Entity:
    """What is signed or compressed: a MIME entity (RFC 8551 §3.1), or a structure of CMS without one."""
    if content_type == algorithms.DATA:
        return mime.parse_inner(octets)
    if content_type not in _NESTED:
        # a time stamp, a receipt: something else than a letter
        raise MedmailError("malformed", what="message", reason="content-type")
    whole = der.sequence(der.oid(content_type), der.tlv(0xA0, octets))
    return Entity(whole, 0, 0, len(whole), (), "application/pkcs7-mime", {}, "binary")


def _was_signed_as_data(inner: SignedData) -> bool:
    """Whether a letter has been given another type since it was signed: a signature that does not hold."""
    named = [info.signed_attributes.get(algorithms.CONTENT_TYPE, ()) for info in inner.signers]
    return inner.content_type != algorithms.DATA and any(
        value.oid() == algorithms.DATA for values in named for value in values
    )


def _detached(entity: Entity, depth: int) -> SignatureLayer:
    try:
        inner = signed.parse_signed(ber.parse(_cms_octets(entity.children[1]), trailing=True))
    except MedmailError:
        return SignatureLayer(None, entity.children[0].raw, True, depth)
    if inner.content_type != algorithms.DATA:
        # a time stamp, a document: somebody signed it, but as something else than a letter
        return SignatureLayer(None, entity.children[0].raw, True, depth)
    return SignatureLayer(inner, entity.children[0].raw, True, depth)


def _inside(opened: Decrypted, content_type: str) -> Entity:
    if content_type in _NESTED:
        return _inner(content_type, opened.content)
    entity = mime.parse_inner(opened.content)
    head = opened.content[: entity.body] if entity.fields else opened.content
    if not opened.authenticated and not _is_text(head, bare=not entity.fields) and mime.kind_of(head) is None:
        # CBC under a wrong key, or changed on the way: what came out is noise
        raise MedmailError("bad-tag")
    return entity


_NOISE = bytes(set(range(32)) - set(b"\t\n\f\r")) + b"\x7f"
_NO_OLD_TEXT = re.compile(rb"[" + re.escape(_NOISE) + rb"]|[\x80-\xff]{4}|content-type", re.IGNORECASE)
"""A block of noise, of which four octets in a row are no ASCII, or what is left of a header it fell into."""


def _is_text(data: bytes, *, bare: bool) -> bool:
    """Whether it reads as text: UTF-8 or, where it is no header, an older character set of Western Europe."""
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return bare and _NO_OLD_TEXT.search(data) is None


def _inflate(node: ber.Node) -> tuple[str, bytes]:
    # text rarely shrinks to a thirtieth; a bomb shrinks to a thousandth
    return content.decompress(node, min(_MOST_INFLATED, max(16 << 20, 30 * len(node.raw))))


def holds_signature(entity: Entity) -> bool:
    """Whether a part somewhere below is signed, though nothing that covers the whole is."""
    return any(
        labels.is_signature(part) or (labels.is_cms(part) and _signed_in(part) is not None)
        for child in entity.children
        for part in child.walk()
    )


def signed_content(part: Entity) -> Entity | None:
    """What an opaque signature is over that stands among other parts, None where the part is none.

    To be read, as one can what stands beside a detached one; a signed document with a name of its own is not.
    """
    if part.content_type not in labels.CMS_TYPES or (part.filename or "smime.p7m").lower() != "smime.p7m":
        return None
    signed_data = _signed_in(part)
    if signed_data is None or signed_data.content is None or signed_data.content_type != algorithms.DATA:
        return None
    try:
        return mime.parse_inner(bytes(signed_data.content))
    except MedmailError:  # too deep, too long
        return None


def _signed_in(part: Entity) -> SignedData | None:
    """The SignedData with signers that a part holds."""
    try:
        signed_data = signed.parse_signed(ber.parse(_cms_octets(part), trailing=True))
    except MedmailError:  # encrypted, damaged, or no CMS at all
        return None
    return signed_data if signed_data.signers else None
