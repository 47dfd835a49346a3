"""The outermost layer of CMS (RFC 5652 3) and the two content types without keys: Data and CompressedData."""

import zlib
from typing import Literal

from medmail_cli.cms import algorithms, ber
from medmail_cli.errors import MedmailError

ContentType = Literal["data", "signed-data", "enveloped-data", "auth-enveloped-data", "compressed-data"]
_TYPES: dict[str, ContentType] = {
    algorithms.DATA: "data",
    algorithms.SIGNED_DATA: "signed-data",
    algorithms.ENVELOPED_DATA: "enveloped-data",
    algorithms.AUTH_ENVELOPED_DATA: "auth-enveloped-data",
    algorithms.COMPRESSED_DATA: "compressed-data",
}


def content_type(node: ber.Node) -> ContentType | str:
    """What a ContentInfo holds: one of our names, or the dotted identifier of something else."""
    oid = node.fields().take(ber.OID).oid()
    return _TYPES.get(oid, oid)


def content_of(node: ber.Node, *oids: str) -> ber.Node:
    """The content of a ContentInfo that must be of one of the types given; "malformed" if it is not."""
    fields = node.fields()
    oid = fields.take(ber.OID).oid()
    content = fields.take(0x80).explicit(0x80)
    fields.end()
    if oid not in oids:
        raise ber.malformed("content-type")
    return content


def data(node: ber.Node) -> memoryview:
    """The octets of a ContentInfo of type Data (RFC 5652 4)."""
    return content_of(node, algorithms.DATA).octets()


def decompress(node: ber.Node, limit: int) -> tuple[str, bytes]:
    """What a ContentInfo of type CompressedData holds (RFC 3274): its type, and at most ``limit`` octets.

    Raises MedmailError: "too-large" beyond the limit, "unsupported-algorithm" if it is not zlib, "malformed".
    """
    fields = content_of(node, algorithms.COMPRESSED_DATA).fields()
    fields.take(ber.INTEGER)
    algorithm = algorithms.read(fields.take())
    inner_type, content = encapsulated(fields.take())
    fields.end()
    if algorithm.oid != algorithms.ZLIB:
        raise MedmailError("unsupported-algorithm", algorithm=algorithm.oid)
    if content is None:
        raise ber.malformed("no-content")
    inflate = zlib.decompressobj()
    try:
        inflated = inflate.decompress(content, limit + 1)
    except zlib.error:
        raise ber.malformed("zlib") from None
    if len(inflated) > limit:
        raise MedmailError("too-large", what="message", size=len(inflated), limit=limit)
    if not inflate.eof or inflate.unused_data:
        raise ber.malformed("zlib")
    return inner_type, inflated


def encapsulated(node: ber.Node) -> tuple[str, memoryview | None]:
    """EncapsulatedContentInfo (RFC 5652 5.2): the content's type and its octets, None if it is elsewhere."""
    fields = node.fields()
    oid = fields.take(ber.OID).oid()
    explicit = fields.maybe(0x80)
    fields.end()
    return oid, None if explicit is None else explicit.explicit(0x80).octets()
