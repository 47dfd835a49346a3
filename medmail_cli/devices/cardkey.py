"""A private key on a card, behind the protocol of :class:`medmail_cli.model.PrivateKey`.

A letter's sender must not learn what a card made of the key that was wrapped for it, and many cards tell
wrong padding by an error of their own (Bardou et al., Efficient Padding Oracle Attacks on Cryptographic
Hardware, 2012). So the card is opened before the letter is looked at, whatever error it then gives counts
as a wrong key and nothing else, and after each decryption, good or bad, it is asked whether it is still
there: only the card's own state, never a letter, decides whether ``card-absent`` is said.
"""

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import algorithms, der, oaep
from medmail_cli.devices.card import alone
from medmail_cli.devices.cardobjects import private_key
from medmail_cli.errors import MedmailError
from medmail_cli.model import Oaep

if TYPE_CHECKING:
    import pkcs11
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from medmail_cli.devices.card import Card
    from medmail_cli.devices.cards import Cards
    from medmail_cli.model import CardPlace, KeyTransport, Primitive, SignatureScheme

_SAMPLE = 32
_MOST_WAYS, _LONGEST_LABEL = 64, 255


class CardKey:
    """The private key on a card that belongs to ``public_key``, by its CKA_ID if ``key_id`` is that."""

    def __init__(self, card: "Card", key_id: bytes, public_key: "PublicKeyTypes") -> None:
        self._card, self._id, self._public = card, key_id, public_key
        self._object: Any = None
        self._primitives: frozenset[Primitive] | None = None
        self._oaep: dict[Oaep, Callable[[bytes], bytes] | None] = {}

    def __repr__(self) -> str:
        return f"CardKey({self._id.hex()})"

    @property
    def public_key(self) -> "PublicKeyTypes":
        """The public half."""
        return self._public

    # --- what it can do --------------------------------------------------------------------------------

    @alone
    def can_sign(self) -> bool:
        """Whether the card signs with it, so that the public half says so: tried once."""
        message = secrets.token_bytes(_SAMPLE)
        try:
            if isinstance(self._public, rsa.RSAPublicKey):
                signature = self.sign(message, "rsa-pkcs1v15-sha256")
                self._public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            elif isinstance(self._public, ec.EllipticCurvePublicKey):
                self._public.verify(self.sign(message, "ecdsa-sha256"), message, ec.ECDSA(hashes.SHA256()))
            elif isinstance(self._public, ed25519.Ed25519PublicKey):
                self._public.verify(self.sign(message, "ed25519"), message)
            else:
                return False
        except InvalidSignature:
            return False
        except MedmailError as error:
            if error.code not in ("card-failed", "unsupported-algorithm"):
                raise
            return False
        return True

    @alone
    def can_decrypt(self) -> bool:
        """Whether the card opens what was encrypted for the public half: tried once."""
        sample = secrets.token_bytes(_SAMPLE)
        try:
            if isinstance(self._public, rsa.RSAPublicKey):
                return (
                    self.decrypt(self._public.encrypt(sample, padding.PKCS1v15()), "rsa-pkcs1v15") == sample
                )
            if isinstance(self._public, ec.EllipticCurvePublicKey):
                other = ec.generate_private_key(self._public.curve)
                return self.agree(other.public_key()) == other.exchange(ec.ECDH(), self._public)
        except ValueError:
            return False
        except MedmailError as error:
            if error.code != "card-failed":
                raise
        return False

    # --- signing ---------------------------------------------------------------------------------------

    @alone
    def sign(self, message: bytes, scheme: "SignatureScheme") -> bytes:
        """Sign ``message``, hashed here where the card lets us, so that little goes to it.

        Raises ``unsupported-algorithm``, ``card-failed``, and what :meth:`Card.session` raises.
        """
        import pkcs11

        key = self._key()
        if not hasattr(key, "sign"):
            raise MedmailError("unsupported-algorithm", algorithm=scheme)
        data, how = self._signing(message, scheme)
        try:
            signature: bytes = key.sign(data, **how, **self._pin_again(key))
        except pkcs11.PKCS11Error as error:
            raise self._card.failed(error) from None
        return ecdsa_der(signature) if scheme.startswith("ecdsa-") else signature

    def _signing(self, message: bytes, scheme: "SignatureScheme") -> tuple[bytes, dict[str, Any]]:
        """What the card is given to sign, and by which mechanism (PKCS#11 mechanisms 2.1, 2.3)."""
        from pkcs11 import MGF, Mechanism

        if scheme == "ed25519" and isinstance(self._public, ed25519.Ed25519PublicKey):
            return message, {"mechanism": Mechanism.EDDSA}
        kind, _, digest = scheme.rpartition("-")
        kinds = {
            "rsa-pkcs1v15": rsa.RSAPublicKey,
            "rsa-pss": rsa.RSAPublicKey,
            "ecdsa": ec.EllipticCurvePublicKey,
        }
        if kind not in kinds or not isinstance(self._public, kinds[kind]):
            raise MedmailError("unsupported-algorithm", algorithm=scheme)
        hasher = hashes.Hash(algorithms.hash_of(digest))
        hasher.update(message)
        hashed, name, offered = hasher.finalize(), digest.upper(), self._card.mechanisms()
        if isinstance(self._public, ec.EllipticCurvePublicKey):
            if Mechanism.ECDSA in offered:
                # the leftmost bits, as many as the order has (FIPS 186-5 6.4.1); some cards leave it to us
                return hashed[: (self._public.key_size + 7) // 8], {"mechanism": Mechanism.ECDSA}
            return message, {"mechanism": Mechanism[f"ECDSA_{name}"]}
        if kind == "rsa-pss":
            parameters = (Mechanism[name], MGF[name], len(hashed))
            if Mechanism.RSA_PKCS_PSS in offered:
                return hashed, {"mechanism": Mechanism.RSA_PKCS_PSS, "mechanism_param": parameters}
            return message, {"mechanism": Mechanism[f"{name}_RSA_PKCS_PSS"], "mechanism_param": parameters}
        if Mechanism.RSA_PKCS in offered:
            info = der.sequence(
                algorithms.identifier(algorithms.DIGESTS[digest], der.NULL), der.octet_string(hashed)
            )
            return info, {"mechanism": Mechanism.RSA_PKCS}
        return message, {"mechanism": Mechanism[f"{name}_RSA_PKCS"]}

    # --- for TLS, which hashes and pads by itself (medmail_cli.transport.tlskey) --------------------------

    @alone
    def primitives(self) -> "frozenset[Primitive]":
        """What the card signs of that; bare RSA is tried once, as cards say they do it and do not."""
        if self._primitives is None:
            primitives: set[Primitive] = {"ecdsa"}
            if isinstance(self._public, rsa.RSAPublicKey):
                primitives = {"rsa-pkcs1v15", "rsa"} if self._signs_bare(self._public) else {"rsa-pkcs1v15"}
            self._primitives = frozenset(primitives)
        return self._primitives

    def _signs_bare(self, public: rsa.RSAPublicKey) -> bool:
        numbers, size = public.public_numbers(), (public.key_size + 7) // 8
        block = secrets.token_bytes(size - 1).rjust(size, b"\0")
        try:
            signature = self.sign_prepared(block, "rsa")
        except MedmailError as error:
            if error.code != "card-failed":
                raise
            return False
        return pow(int.from_bytes(signature, "big"), numbers.e, numbers.n) == int.from_bytes(block, "big")

    @alone
    def sign_prepared(self, data: bytes, primitive: "Primitive") -> bytes:
        """Sign what is hashed, and padded where that is needed, already. Raises as :meth:`sign` does."""
        import pkcs11
        from pkcs11 import Mechanism

        mechanisms = {
            "ecdsa": Mechanism.ECDSA, "rsa-pkcs1v15": Mechanism.RSA_PKCS, "rsa": Mechanism.RSA_X_509,
        }  # fmt: skip
        key = self._key()
        if isinstance(self._public, ec.EllipticCurvePublicKey):
            data = data[: (self._public.key_size + 7) // 8]
        if not hasattr(key, "sign"):
            raise self._card.no_such_key()
        try:
            signature: bytes = key.sign(data, mechanism=mechanisms[primitive], **self._pin_again(key))
        except pkcs11.PKCS11Error as error:
            raise self._card.failed(error) from None
        return ecdsa_der(signature) if primitive == "ecdsa" else signature

    @alone
    def is_there(self) -> bool:
        """Whether the card has the key."""
        try:
            self._key()
        except MedmailError as error:
            if error.code != "card-failed":
                raise
            return False
        return True

    # --- decrypting ------------------------------------------------------------------------------------

    @alone
    def decrypt(self, ciphertext: bytes, scheme: "KeyTransport") -> bytes:
        """Unwrap a content-encryption key; v1.5 that the card refuses gives random octets in its place."""
        from pkcs11 import Mechanism

        key = self._key()
        instead = secrets.token_bytes(_SAMPLE)
        if not hasattr(key, "decrypt") or not isinstance(self._public, rsa.RSAPublicKey):
            raise ValueError("not a key that decrypts")
        if scheme == "rsa-pkcs1v15":
            content_key = self._ask(partial(self._decrypted, Mechanism.RSA_PKCS, None, ciphertext))
            return instead if content_key is None else content_key
        if len(scheme.label) > _LONGEST_LABEL:
            raise ValueError("OAEP with a label that no card would take")
        way = self._way(self._public, scheme)
        if way is None or len(ciphertext) != (self._public.key_size + 7) // 8:
            raise ValueError("OAEP with parameters that the card does not know")
        content_key = self._ask(partial(way, ciphertext))
        if content_key is None:
            raise ValueError("OAEP")
        return content_key

    def _way(self, public: rsa.RSAPublicKey, scheme: Oaep) -> Callable[[bytes], bytes] | None:
        """How the card does OAEP with these parameters: all of it, else bare RSA, the padding taken off here.

        Cards differ in the digests they know, and what they say of one they do not know is what they say of
        wrong padding; so a sample of our own tells, not the letter.
        """
        if scheme not in self._oaep:
            if len(self._oaep) >= _MOST_WAYS:
                self._oaep.clear()
            sample = secrets.token_bytes(_SAMPLE)
            wrapped = oaep.encrypt(public, sample, scheme)
            ways = (self._oaep_on_card(scheme), self._oaep_here(scheme))
            working = (way for way in ways if way and self._ask(partial(way, wrapped)) == sample)
            self._oaep[scheme] = next(working, None)
        return self._oaep[scheme]

    def _oaep_on_card(self, scheme: Oaep) -> Callable[[bytes], bytes] | None:
        from pkcs11 import MGF, Mechanism

        names = {"sha1": "SHA_1"}
        digest, mgf = names.get(scheme.digest, scheme.digest.upper()), scheme.mgf_digest.upper()
        if digest not in Mechanism.__members__ or mgf not in MGF.__members__:
            return None
        parameters = (Mechanism[digest], MGF[mgf], scheme.label or None)
        return partial(self._decrypted, Mechanism.RSA_PKCS_OAEP, parameters)

    def _oaep_here(self, scheme: Oaep) -> Callable[[bytes], bytes] | None:
        from pkcs11 import Mechanism

        if Mechanism.RSA_X_509 not in self._card.mechanisms():
            return None

        def bare(ciphertext: bytes) -> bytes:
            raised = self._decrypted(Mechanism.RSA_X_509, None, ciphertext)
            return oaep.decode(raised.rjust(len(ciphertext), b"\0"), scheme)

        return bare

    def _decrypted(self, mechanism: "pkcs11.Mechanism", parameters: object, ciphertext: bytes) -> bytes:
        key = self._key()
        decrypted: bytes = key.decrypt(
            ciphertext, mechanism=mechanism, mechanism_param=parameters, **self._pin_again(key)
        )
        return decrypted

    @alone
    def agree(self, peer_public_key: "PublicKeyTypes") -> bytes:
        """The raw shared secret by the card's ECDH (CKM_ECDH1_DERIVE without a derivation function)."""
        key = self._key()
        ours, theirs = self._public, peer_public_key
        if (
            not isinstance(ours, ec.EllipticCurvePublicKey)
            or not isinstance(theirs, ec.EllipticCurvePublicKey)
            or ours.curve.name != theirs.curve.name
            or not hasattr(key, "derive_key")
        ):
            raise ValueError("keys that do not agree")
        point = theirs.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        # bare since PKCS#11 2.30; cards from before want it wrapped
        for octets in (point, der.octet_string(point)):
            secret = self._ask(partial(self._derived, key, octets, (ours.key_size + 7) // 8))
            if secret is not None:
                return secret
        raise ValueError("the card does not agree")

    def _derived(self, key: Any, point: bytes, size: int) -> bytes:
        from pkcs11 import KDF, Attribute, KeyType, Mechanism

        secret = key.derive_key(
            KeyType.GENERIC_SECRET,
            8 * size,
            capabilities=0,
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(KDF.NULL, None, point),
            template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
        )
        value = bytes(secret[Attribute.VALUE])
        secret.destroy()
        return value.rjust(size, b"\0")

    def decapsulate(self, _ciphertext: bytes, /) -> bytes:
        """No card is known that opens ML-KEM: always ValueError."""
        raise ValueError("not a KEM key")

    def _ask(self, operation: Callable[[], bytes]) -> bytes | None:
        """What the card answers about a letter; None for whatever it does not like about it.

        Raises only what the card's own state says: ``card-absent``, ``wrong-pin`` and its like.
        """
        import pkcs11

        answer = None
        try:
            answer = operation()
        except pkcs11.PKCS11Error as error:
            if refusal := self._card.refusal(error):
                raise refusal from None
        except ValueError:
            answer = None  # the padding of OAEP, taken off here
        if absence := self._card.absence():
            raise absence
        return answer

    # --- the object on the card ------------------------------------------------------------------------

    def _key(self) -> Any:
        """The key's object. Logs in where that was not done yet."""
        import pkcs11
        from pkcs11 import KeyType

        session = self._card.session()
        if self._object is None:
            kinds = {
                rsa.RSAPublicKey: KeyType.RSA,
                ec.EllipticCurvePublicKey: KeyType.EC,
                ed25519.Ed25519PublicKey: KeyType.EC_EDWARDS,
            }
            kind = next((kind for of, kind in kinds.items() if isinstance(self._public, of)), None)
            if kind is None:
                raise self._card.no_such_key()
            try:
                self._object = private_key(session, kind, self._id, self._public)
            except pkcs11.PKCS11Error as error:
                raise self._card.failed(error) from None
            if self._object is None:
                raise self._card.no_such_key()
        return self._object

    def _pin_again(self, key: Any) -> dict[str, str]:
        """The PIN, for a key that wants it at each use (CKA_ALWAYS_AUTHENTICATE, PKCS#11 4.9)."""
        import pkcs11
        from pkcs11 import Attribute

        try:
            always = bool(key[Attribute.ALWAYS_AUTHENTICATE])
        except pkcs11.PKCS11Error:
            always = False  # a card from before 2.20, which has no such keys
        return {"pin": self._card.pin_again()} if always else {}


def ecdsa_der(raw: bytes) -> bytes:
    """An ECDSA signature in DER (RFC 3279 2.2.3) of the two numbers that a card gives (PKCS#11 2.3.1)."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def key_at(
    cards: "Cards", card_place: "CardPlace", public_key: "PublicKeyTypes", key_id: bytes | None = None
) -> CardKey:
    """The key at ``card_place``, or that of ``key_id`` on the same card.

    Raises ``no-card-module``, ``card-absent``, ``extra-missing``.
    """
    return CardKey(
        cards.at(card_place), bytes.fromhex(card_place.key_id) if key_id is None else key_id, public_key
    )
