"""Objects on a card: which private key belongs to a certificate, whatever their CKA_ID say.

A session has one search at a time (PKCS#11 5.9), so each is taken to its end before the next.
"""

from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    import pkcs11
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_SHORTEST_POINT = 32


def attribute(card_object: "pkcs11.Object", name: "pkcs11.Attribute") -> Any:
    """An attribute of an object on a card, empty octets where it has none or does not show it."""
    import pkcs11

    try:
        value = card_object[name]
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive):
        return b""
    return value


def private_key(
    session: "pkcs11.Session", kind: "pkcs11.KeyType", key_id: bytes, public: "PublicKeyTypes"
) -> Any:
    """The private key of ``kind`` that belongs to ``public``; None where the card has none.

    By its CKA_ID, unless the card shows that its public half is another's; else by the public half; else the
    only one that may be. Cards are met whose certificates have another CKA_ID than their keys, or none.
    """
    from pkcs11 import Attribute, ObjectClass

    wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: kind}
    named = list(session.get_objects(wanted | {Attribute.ID: key_id})) if key_id else []
    for key in named:
        if _belongs(session, key, public) is not False:
            return key
    shown = [(key, _belongs(session, key, public)) for key in list(session.get_objects(wanted))]
    perhaps = [key for key, belongs in shown if belongs is None]
    return next((key for key, belongs in shown if belongs), perhaps[0] if len(perhaps) == 1 else None)


def _belongs(session: "pkcs11.Session", key: Any, public: "PublicKeyTypes") -> bool | None:
    """Whether a private key is ``public``'s; None where the card does not show it.

    An RSA key shows its modulus (PKCS#11 2.1.3). Of others the public key object of the same CKA_ID shows the
    point (2.3.3); one of the same label only speaks for a key, since many have one label.
    """
    from pkcs11 import Attribute

    if isinstance(public, rsa.RSAPublicKey):
        modulus = attribute(key, Attribute.MODULUS)
        return None if not modulus else int.from_bytes(modulus) == public.public_numbers().n
    info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    by_id = _points(session, Attribute.ID, attribute(key, Attribute.ID))
    if by_id:
        return any(map(info.endswith, by_id))
    by_label = _points(session, Attribute.LABEL, attribute(key, Attribute.LABEL))
    return True if any(map(info.endswith, by_label)) else None


def _points(session: "pkcs11.Session", name: "pkcs11.Attribute", value: object) -> list[tuple[bytes, ...]]:
    """The points of the public keys that have an attribute, each as it may stand at a key's end."""
    from pkcs11 import Attribute, ObjectClass

    if not value:
        return []
    wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, name: value}
    points = [attribute(public, Attribute.EC_POINT) for public in list(session.get_objects(wanted))]
    # wrapped in an OCTET STRING, or, by tokens from before 2.30, bare
    return [(point, point[2:], point[3:]) for point in points if len(point) >= _SHORTEST_POINT]
