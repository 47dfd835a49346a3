"""Giving an encrypted layer another recipient (RFC 5652 6.1, RFC 5083 2.1) without encrypting it again."""

from typing import TYPE_CHECKING

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.cms.content import content_of, content_type
from medmail_cli.cms.encrypt import entry_for, version_for
from medmail_cli.cms.enveloped import decrypt_with_key, parse_enveloped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from medmail_cli.model import PrivateKey


def rewrap(
    node: ber.Node, keys: "Sequence[tuple[x509.Certificate, PrivateKey]]", recipient: "x509.Certificate"
) -> bytes:
    """An EnvelopedData or AuthEnvelopedData that only ``recipient`` can open, its ciphertext as it was.

    The content-encryption key is taken out with one of ``keys`` and wrapped for the recipient alone; the
    entries of all others go, and originatorInfo, which serves only them. Ciphertext, tag and attributes stay
    to the octet: what was authenticated still is, and what could have been tampered with looks no better.
    Raises as :func:`medmail_cli.cms.enveloped.decrypt`.
    """
    _, key = decrypt_with_key(parse_enveloped(node), keys, allow_weak=True)
    kind = content_type(node)
    oid = algorithms.AUTH_ENVELOPED_DATA if kind == "auth-enveloped-data" else algorithms.ENVELOPED_DATA
    fields = content_of(node, oid).fields()
    fields.take(ber.INTEGER)
    fields.maybe(0x80)  # originatorInfo
    fields.take(ber.SET)
    kept = [fields.take(ber.SEQUENCE)]
    while (field := fields.maybe()) is not None:
        kept.append(field)
    version = 0
    if oid == algorithms.ENVELOPED_DATA:
        # 2 where there are unprotected attributes, whoever the recipients are
        version = max(version_for([recipient]), 2 if len(kept) > 1 else 0)
    entries = der.set_of([entry_for(recipient, key)])
    enveloped = der.pieces(der.SEQUENCE, [der.integer(version), entries, *(field.raw for field in kept)])
    return b"".join(der.pieces(der.SEQUENCE, [der.oid(oid), *der.pieces(0xA0, enveloped)]))
