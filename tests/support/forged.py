"""CMS structures that no honest program makes: put together, signed anew, named otherwise."""

import zlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import algorithms, ber, der, identifiers, signed
from tests.support.letters import (
    NOW,
    TEXT,
    Person,
    entity,
    person,
)


def compressed(content: bytes) -> bytes:
    inner = der.sequence(der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(zlib.compress(content))))
    fields = der.sequence(der.integer(0), der.sequence(der.oid(algorithms.ZLIB)), inner)
    return entity(der.sequence(der.oid(algorithms.COMPRESSED_DATA), der.tlv(0xA0, fields)), "compressed-data")


def together(*signers: Person, content: bytes | Sequence[bytes] = TEXT, **options: object) -> bytes:
    """A SignedData with a SignerInfo of each, as anybody can put it together from several."""
    contents = [content] * len(signers) if isinstance(content, bytes) else content
    made = [
        signed.sign(over, key=one.key, certificate=one.certificate, signed_at=NOW, **options)  # type: ignore[arg-type]
        for one, over in zip(signers, contents, strict=True)
    ]
    certificates = [one.certificate.public_bytes(Encoding.DER) for one in signers]
    oid, explicit = ber.parse(made[0]).elements()
    (body,) = explicit.elements()
    *kept, _ = body.elements()
    fields = [der.tlv(0xA0, *certificates) if node.tag == 0x80 else bytes(node.raw) for node in kept]
    whole = der.sequence(*fields, der.tlv(0x31, *(signer_info(each) for each in made)))
    return der.sequence(bytes(oid.raw), der.tlv(0xA0, whole))


def signer_info(data: bytes) -> bytes:
    _, explicit = ber.parse(data).elements()
    (body,) = explicit.elements()
    return bytes(next(list(body.elements())[-1].elements()).raw)


def resigned(data: bytes, signers: Sequence[bytes]) -> bytes:
    """The same SignedData with other SignerInfos."""
    outer = ber.parse(data).fields()
    oid, explicit = outer.take(), outer.take()
    (body,) = explicit.elements()
    *kept, _signers = body.elements()
    content = der.sequence(*(bytes(node.raw) for node in kept), der.tlv(0x31, *signers))
    return der.sequence(bytes(oid.raw), der.tlv(0xA0, content))


def infos(data: bytes) -> list[bytes]:
    _oid, explicit = ber.parse(data).elements()
    (body,) = explicit.elements()
    return [bytes(node.raw) for node in list(body.elements())[-1].elements()]


def made(who: str, content: bytes = TEXT) -> bytes:
    someone = person(who)
    return signed.sign(content, key=someone.key, certificate=someone.certificate, signed_at=NOW)


def by_key_identifier(who: str) -> bytes:
    """A SignerInfo without signed attributes that names its signer by key (RFC 5652 5.3)."""
    someone = person(who)
    key_id = identifiers.key_identifier(someone.certificate)
    return der.sequence(
        der.integer(3),
        der.octet_string(key_id, 0x80),
        algorithms.identifier(algorithms.DIGESTS["sha256"]),
        algorithms.identifier(algorithms.ECDSA_WITH["sha256"]),
        der.octet_string(someone.key.sign(TEXT, "ecdsa-sha256")),
    )
