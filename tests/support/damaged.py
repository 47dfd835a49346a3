"""Encrypted letters damaged in each place where that could be told from outside."""

import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import padding, rsa

from medmail_cli.cms import algorithms, ber, der, enveloped
from medmail_cli.model import ContentCipher
from tests.support import pki
from tests.support.letters import TEXT, Person, person, sign


def who(kind: pki.KeyType) -> Person:
    return person("bob", key_type=kind, purpose="both" if kind in ("rsa2048", "p256") else "encrypt")


def changed(data: bytes, chosen: Callable[[ber.Node, bytes], bytes | None]) -> bytes:
    """A structure with some primitive elements replaced, all lengths put right."""

    def rebuilt(node: ber.Node) -> bytes:
        if node.constructed:
            return der.tlv(node.raw[0], *map(rebuilt, node.elements()))
        other = chosen(node, bytes(node.content))
        return bytes(node.raw) if other is None else der.tlv(node.raw[0], other)

    return rebuilt(ber.parse(data))


def ways_to_fail(kind: pki.KeyType, cipher: ContentCipher) -> dict[str, bytes]:
    """The same letter damaged in each place, as CMS."""
    bob = who(kind)
    good = enveloped.encrypt(sign(TEXT), [bob.certificate], cipher=cipher)
    size = len(sign(TEXT))

    def last_octet_string(node: ber.Node, content: bytes) -> bool:
        return node.tag == ber.OCTET_STRING and len(content) in (40, 256)

    def flipped(content: bytes, at: int) -> bytes:
        return content[:at] + bytes([content[at] ^ 1]) + content[at:][1:]

    # under CBC this turns a bit of the padding's last octet, where no padding that holds becomes another; a
    # change in the last block itself would, one time in 256, and leave a letter whose signature fails
    end = -17 if cipher.endswith("cbc") else -1
    ways = {
        "wrapped key": changed(
            good, lambda n, c: bytes([c[0] ^ 1]) + c[1:] if last_octet_string(n, c) else None
        ),
        "wrapped key cut": changed(good, lambda n, c: c[:-8] if last_octet_string(n, c) else None),
        "content's end": changed(
            good, lambda n, c: flipped(c, end) if n.tag == 0x80 and len(c) > 200 else None
        ),
        "no content": changed(good, lambda n, c: b"" if n.tag == 0x80 and len(c) > 200 else None),
        "not a letter": enveloped.encrypt(secrets.token_bytes(size), [bob.certificate], cipher="aes-256-cbc"),
    }
    vector = 16 if cipher.endswith("cbc") else 12
    ways["vector cut"] = changed(
        good, lambda n, c: c[:3] if n.tag == ber.OCTET_STRING and len(c) == vector else None
    )
    # under CBC the first block turns to noise, which is where a letter's header would begin
    ways["content"] = changed(
        good, lambda n, c: bytes([c[0] ^ 1]) + c[1:] if n.tag == 0x80 and len(c) > 200 else None
    )
    if not cipher.endswith("cbc"):
        ways["tag"] = changed(
            good, lambda n, c: bytes(16) if n.tag == ber.OCTET_STRING and len(c) == 16 else None
        )
        gcm, cbc = (der.oid(algorithms.CIPHER_OIDS[name]) for name in (cipher, "aes-256-cbc"))
        ways["AEAD as CBC"] = changed(good, lambda n, _c: cbc[2:] if bytes(n.raw) == gcm else None)
    if kind == "rsa2048":
        public = bob.certificate.public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        for name, wrapped in {
            "random": secrets.token_bytes(255).rjust(256, b"\1"),
            "short key": public.encrypt(bytes(16), padding.PKCS1v15()),
            "no key": public.encrypt(b"", padding.PKCS1v15()),
            "other key": public.encrypt(secrets.token_bytes(32), padding.PKCS1v15()),
        }.items():
            ways[name] = changed(good, lambda _n, c, w=wrapped: w if len(c) == 256 else None)  # type: ignore[misc]
    return ways
