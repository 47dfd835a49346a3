"""Taking a message's layers off, outermost first: encryption, signature, compression, wrapping.

A layer is opened only where it is the whole of what the layer around it holds (against direct
exfiltration: an encrypted part among others is never decrypted), and a signature outside an encryption is
forgotten, since whoever made it need not have known the content (RFC 9787 §5). Nothing is judged here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography import x509

from medmail_cli.cms import ber, content, enveloped, signed
from medmail_cli.cms.enveloped import Decrypted
from medmail_cli.cms.signed import SignedData
from medmail_cli.errors import MedmailError
from medmail_cli.model import PrivateKey
from medmail_cli.smime import mime
from medmail_cli.smime.fields import Field
from medmail_cli.smime.mime import Entity
from medmail_cli.smime.verdict import Layer

MAX_LAYERS = 8
_CMS_TYPES = {"application/pkcs7-mime", "application/x-pkcs7-mime"}
_SIGNATURE_TYPES = {"application/pkcs7-signature", "application/x-pkcs7-signature"}
_MOST_INFLATED = 256 << 20
"""A letter larger than this cannot have come by mail; see also the ratio in :func:`_inflate`."""

_OF_THE_MESSAGE = {"bad-tag", "malformed", "no-key", "too-large", "unsupported-algorithm", "weak-algorithm"}
"""What a message can be guilty of; anything else (a wrong passphrase, a damaged keystore) is ours."""

Keys = Sequence[tuple[x509.Certificate, PrivateKey]]


@dataclass(frozen=True)
class SignatureLayer:
    """A signature and the octets it is over, as received; ``signed`` is None where it cannot be read."""

    signed: SignedData | None
    over: bytes | memoryview
    detached: bool


@dataclass(frozen=True)
class Unwrapped:
    """A message without its layers.

    ``payload`` is the content's root (the wrapped message's where there is one), None after a
    ``failure``. ``signature`` is the innermost that covers all the content.
    """

    outer: tuple[Field, ...]
    layers: tuple[Layer, ...]
    payload: Entity | None
    signature: SignatureLayer | None = None
    decrypted: Decrypted | None = None
    """The encryption, without its content; of several the one to be trusted least."""
    failure: MedmailError | None = None
    encryption_failed: bool = False


def unwrap(raw: bytes, keys: Keys, *, allow_weak: bool = False) -> Unwrapped:
    """Open every layer of a message that is there to be opened; raises only what ``keys`` raise.

    The caller should hold no other reference to ``raw``: a large message's bytes are then freed as soon
    as they are decoded.
    """
    layers: list[Layer] = []
    state = Unwrapped((), (), None)
    try:
        entity = _read(raw)
        del raw
        state = Unwrapped(entity.fields, (), None)
        signature: SignatureLayer | None = None
        decrypted: Decrypted | None = None
        for _ in range(MAX_LAYERS):
            if _is_cms(entity):
                node = ber.parse(mime.decode_body(entity))
                kind = content.content_type(node)
                if kind in ("enveloped-data", "auth-enveloped-data"):
                    layers.append("encrypted")
                    # decoded, it is needed no more: large letters are held once
                    del entity
                    opened = enveloped.decrypt(enveloped.parse_enveloped(node), keys, allow_weak=allow_weak)
                    entity, signature = _inside(opened), None
                    if decrypted is None or _worse(opened, decrypted):
                        decrypted = replace(opened, content=b"")
                        state = Unwrapped(state.outer, (), None, decrypted=decrypted)
                    del opened
                elif kind == "signed-data":
                    inner = signed.parse_signed(node)
                    if inner.content is None:  # a bundle of certificates, or a signature lost from its letter
                        break
                    layers.append("signed")
                    signature = SignatureLayer(inner, inner.content, detached=False)
                    del entity
                    entity = mime.parse_inner(bytes(inner.content))
                elif kind == "compressed-data":
                    layers.append("compressed")
                    entity = mime.parse_inner(_inflate(node))
                else:
                    raise MedmailError("malformed", what="message", reason="content-type")
                del node
            elif _is_multipart_signed(entity):
                layers.append("signed")
                signature = _detached(entity)
                entity = entity.children[0]
            elif layers and entity.content_type == "message/rfc822":
                layers.append("wrapped")
                # what a wrapped message holds is shown, never opened: it may be somebody else's
                entity = mime.parse(mime.decode_body(entity))
                break
            else:
                break
        else:
            raise MedmailError("malformed", what="message", reason="too-many-layers")
        return Unwrapped(state.outer, tuple(layers), entity, signature, decrypted)
    except MedmailError as error:
        if error.code not in _OF_THE_MESSAGE:
            raise
        failed = "encrypted" in layers
        if state.decrypted is not None and error.code in ("malformed", "too-large"):
            # whatever goes wrong once our key was named looks the same (contract, decrypt)
            error = MedmailError("bad-tag")
        if error.code == "bad-tag":
            layers = layers[: layers.index("encrypted") + 1]
        return Unwrapped(state.outer, tuple(layers), None, failure=error, encryption_failed=failed)


def _worse(one: Decrypted, other: Decrypted) -> bool:
    """Whether an encryption is to be trusted less than another."""
    return (one.authenticated, not one.weak) < (other.authenticated, not other.weak)


def _read(raw: bytes) -> Entity:
    """The message, or a bare CMS structure as some mail programs save it (``smime.p7m``)."""
    if raw[:1] == b"\x30":
        return Entity(raw, 0, 0, len(raw), (), "application/pkcs7-mime", {}, "binary")
    return mime.parse(raw)


def _is_cms(entity: Entity) -> bool:
    if entity.content_type in _CMS_TYPES:
        return True
    name = (entity.filename or "").lower()
    return entity.content_type == "application/octet-stream" and name.endswith((".p7m", ".p7z"))


def _is_multipart_signed(entity: Entity) -> bool:
    if entity.content_type != "multipart/signed":
        return False
    protocol = entity.parameters.get("protocol", "").lower()
    if protocol and protocol not in _SIGNATURE_TYPES:
        return False
    if len(entity.children) < 2:
        raise MedmailError("malformed", what="message", reason="multipart-signed")
    # with a third part beside them the signature no longer covers everything (RFC 1847 §2.1)
    return len(entity.children) == 2 and entity.children[1].content_type in _SIGNATURE_TYPES


def _detached(entity: Entity) -> SignatureLayer:
    try:
        inner = signed.parse_signed(ber.parse(mime.decode_body(entity.children[1])))
    except MedmailError:
        return SignatureLayer(None, entity.children[0].raw, detached=True)
    return SignatureLayer(inner, entity.children[0].raw, detached=True)


def _inside(opened: Decrypted) -> Entity:
    entity = mime.parse_inner(opened.content)
    if not opened.authenticated and not entity.fields and not _is_text(opened.content):
        # CBC under a wrong key, or changed on the way: what came out is noise
        raise MedmailError("bad-tag")
    return entity


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _inflate(node: ber.Node) -> bytes:
    # text rarely shrinks to a thirtieth; a bomb shrinks to a thousandth
    return content.decompress(node, min(_MOST_INFLATED, max(16 << 20, 30 * len(node.raw))))


def holds_signature(entity: Entity) -> bool:
    """Whether a part somewhere below is signed, though nothing that covers the whole is."""
    return any(
        part.content_type == "multipart/signed"
        or part.content_type in _SIGNATURE_TYPES
        or (
            part.content_type in _CMS_TYPES and part.parameters.get("smime-type", "").lower() == "signed-data"
        )
        for part in entity.walk()
    )
