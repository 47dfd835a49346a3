"""An open keystore: its private keys, unsealed one by one as they are needed, and what is added to it."""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.model import CardPlace
from medmail_cli.pki.x509.usage import Purpose, key_type
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.identity import CARD, ID_DIGITS, METADATA, Identity, key_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

    from medmail_cli.model import KeyTransport, PrivateKey, SignatureScheme
    from medmail_cli.store.keys.keystore import Keystore

OpenCard = Callable[[CardPlace, "PublicKeyTypes"], "PrivateKey"]
"""Gives the key with that public half that stands on a card; the card is opened when it is first used."""

_IDENTITY_LABEL = "medmail identity"


def subkey(master: bytes, label: str) -> bytes:
    """32 bytes for one use, which only this master key gives."""
    return seal.subkey(master, f"medmail store {label}")


def unlock(keystore: "Keystore", passphrase: bytes) -> "Unlocked":
    """Open the keystore. Raises ``no-keystore``, ``wrong-passphrase`` and ``store-damaged``."""
    return Unlocked(keystore, keystore.master_key(passphrase))


def unlock_with(keystore: "Keystore", master: bytes) -> "Unlocked":
    """Open the keystore with its master key. Raises ``keystore-locked`` where that is another's."""
    keystore.check(master)
    return Unlocked(keystore, master)


def create_keystore(keystore: "Keystore", passphrase: bytes, now: dt.datetime) -> "Unlocked":
    """Make the keystore; where another process has just done so, open that one."""
    return Unlocked(keystore, keystore.create(passphrase, now))


class Unlocked:
    """An open keystore. Private keys stay sealed until they are first used.

    ``open_card`` is set by whoever can reach cards; without it a key on a card is ``card-absent``.
    """

    open_card: "OpenCard | None" = None

    def __init__(self, keystore: "Keystore", master: bytes) -> None:
        self.keystore = keystore
        self._master = master
        self._identity_key = seal.subkey(master, _IDENTITY_LABEL)

    def __repr__(self) -> str:
        return f"Unlocked({self.keystore.folder})"

    def identities(self) -> tuple[Identity, ...]:
        """As :meth:`Keystore.identities`."""
        return self.keystore.identities()

    def signer(self, address: str, *, at: dt.datetime | None = None) -> Identity:
        """As :meth:`Keystore.signer`."""
        return self.keystore.signer(address, at=at)

    def decryption_identity(
        self, address: str, *, at: dt.datetime | None = None, post_quantum: bool = False
    ) -> Identity:
        """As :meth:`Keystore.decryption_identity`."""
        return self.keystore.decryption_identity(address, at=at, post_quantum=post_quantum)

    def private_key(self, identity: Identity) -> "SealedKey":
        """The identity's private key, unsealed when it is first used (``store-damaged`` may come then)."""
        return SealedKey(self, identity)

    def decryption_keys(self) -> list[tuple[x509.Certificate, "SealedKey"]]:
        """Every certificate ever held with its key, those meant for encryption first; all still sealed.

        Certificates meant for signing alone come last: somebody may have encrypted to one all the same. A
        card's that sign alone are left out: no letter of a stranger's shall ask for a PIN in vain.
        """
        held = sorted(self.identities(), key=lambda identity: identity.purpose == "sign")
        held = [identity for identity in held if identity.method != CARD or identity.purpose != "sign"]
        return [
            (identity.certificate, self.private_key(identity))
            for identity in held
            if identity.certificate is not None
        ]

    def subkey(self, label: str) -> bytes:
        """32 bytes for one use, which only this keystore's master key gives."""
        return subkey(self._master, label)

    def master_key(self) -> bytes:
        """The master key, for the kernel's keyring and the encrypted backup alone."""
        return self._master

    def unseal(self, identity: Identity) -> "PrivateKeyTypes":
        """The private key itself. Raises ``store-damaged`` where seal and metadata do not belong together.

        Raises ``key-on-card`` for a key that cannot leave its card.
        """
        sealed = self.opened_seal(identity)
        if identity.method == CARD:
            raise MedmailError("key-on-card", address=identity.address)
        # the seal vouches for the key, so RSA's primes need no testing each time
        return serialization.load_der_private_key(sealed, None, unsafe_skip_rsa_key_validation=True)

    def card_place(self, identity: Identity) -> CardPlace:
        """Where the key of a card's identity stands. Raises ``store-damaged``."""
        return CardPlace(**json.loads(self.opened_seal(identity)))

    def without_module(self, identity: Identity) -> Identity:
        """A card's identity that does not say which module to load. Raises ``store-damaged``, ValueError."""
        card_place = replace(self.card_place(identity), module="")
        if not all(isinstance(value, str) for value in asdict(card_place).values()):
            raise ValueError("card")
        sealed = seal.seal(self._identity_key, seal.canonical(asdict(card_place)), identity.bound())
        return replace(identity, sealed_key=sealed)

    def opened_seal(self, identity: Identity) -> bytes:
        """What an identity's seal holds: the key (PKCS#8), or a card's place. Raises ``store-damaged``."""
        try:
            plain = seal.unseal(self._identity_key, identity.sealed_key, identity.bound())
        except ValueError:
            plain = None
        if plain is None:
            raise MedmailError("store-damaged", path=str(self.keystore.folder / identity.id / METADATA))
        return plain

    def add(
        self,
        private_key: "PrivateKeyTypes",
        certificate: x509.Certificate,
        chain: Sequence[x509.Certificate] = (),
        *,
        addresses: Sequence[str],
        purpose: Purpose,
        method: str,
        now: dt.datetime,
        name: str = "",
        pinned: bool = False,
        replaces: Sequence[str] = (),
        authority: str | None = None,
    ) -> Identity:
        """Keep a certified key pair; that of a waiting request takes its place. The same again is itself.

        ``replaces`` are the ids of identities that it retires. Raises ValueError where key and certificate
        do not belong together.
        """
        if key_digest(private_key.public_key()) != key_digest(certificate.public_key()):
            raise ValueError("the key is not the certificate's")
        return self._certified(
            _pkcs8(private_key),
            certificate,
            chain,
            addresses,
            purpose,
            method,
            now,
            name,
            pinned,
            replaces,
            authority,
        )

    def add_card(
        self,
        card_place: CardPlace,
        certificate: x509.Certificate,
        chain: Sequence[x509.Certificate] = (),
        *,
        addresses: Sequence[str],
        purpose: Purpose,
        now: dt.datetime,
        name: str = "",
        pinned: bool = False,
        replaces: Sequence[str] = (),
    ) -> Identity:
        """Keep the certificate of a key that stands on a card; ``purpose`` is what the card does with it."""
        encoded_place = seal.canonical(asdict(card_place))
        return self._certified(
            encoded_place, certificate, chain, addresses, purpose, CARD, now, name, pinned, replaces, None
        )

    def _certified(
        self,
        secret: bytes,
        certificate: x509.Certificate,
        chain: Sequence[x509.Certificate],
        addresses: Sequence[str],
        purpose: Purpose,
        method: str,
        now: dt.datetime,
        name: str,
        pinned: bool,
        replaces: Sequence[str],
        authority: str | None,
    ) -> Identity:
        public_key = certificate.public_key()
        return self._keep(
            secret,
            Identity(
                id=fingerprint(certificate)[:ID_DIGITS],
                addresses=tuple(addresses),
                name=name,
                purpose=purpose,
                method=method,
                created=now,
                key_type=key_type(public_key),
                key_sha256=key_digest(public_key),
                pinned=pinned,
                replaces=tuple(replaces),
                authority=authority,
                certificate=certificate,
                chain=tuple(chain),
            ),
        )

    def add_waiting(
        self,
        private_key: "PrivateKeyTypes",
        request: bytes,
        *,
        address: str,
        method: str,
        now: dt.datetime,
        name: str = "",
        purpose: Purpose = "both",
        replaces: Sequence[str] = (),
        authority: str | None = None,
    ) -> Identity:
        """Keep a key whose certificate is asked for with ``request`` (DER of a PKCS#10 request)."""
        digest = key_digest(private_key.public_key())
        return self._keep(
            _pkcs8(private_key),
            Identity(
                id=digest[:ID_DIGITS],
                addresses=(address,),
                name=name,
                purpose=purpose,
                method=method,
                created=now,
                key_type=key_type(private_key.public_key()),
                key_sha256=digest,
                state="waiting",
                replaces=tuple(replaces),
                authority=authority,
                request=request,
            ),
        )

    def _keep(self, secret: bytes, identity: Identity) -> Identity:
        sealed = replace(identity, sealed_key=seal.seal(self._identity_key, secret, identity.bound()))
        store = self.keystore
        with store.writing():
            for existing in store.identities():
                if existing.id == identity.id:
                    return existing
            store.put(sealed.id, sealed.files())
            if identity.certificate is not None and (store.folder / sealed.key_sha256[:ID_DIGITS]).exists():
                # the request has been answered; a kill before this leaves it hidden by its own certificate
                store.remove(sealed.key_sha256[:ID_DIGITS])
        return sealed

    def change_passphrase(self, passphrase: bytes) -> None:
        """Wrap the master key under a new passphrase; everything else stays as it is."""
        with self.keystore.writing():
            self.keystore.wrap(self.keystore.read_header(), self._master, passphrase)


def _pkcs8(private_key: "PrivateKeyTypes") -> bytes:
    return private_key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class SealedKey:
    """A private key of the keystore behind the protocol of :class:`medmail_cli.model.PrivateKey`.

    It is unsealed, or its card opened, when it is first used.
    """

    def __init__(self, unlocked: Unlocked, identity: Identity) -> None:
        self._unlocked, self._identity = unlocked, identity

    def __repr__(self) -> str:
        return f"SealedKey({self._identity.id})"

    @cached_property
    def _key(self) -> "PrivateKey":
        store, identity = self._unlocked, self._identity
        if identity.method != CARD or identity.certificate is None:
            return SoftwareKey(store.unseal(identity))
        card_place = store.card_place(identity)
        if store.open_card is None:
            raise MedmailError("card-absent", label=card_place.label)
        return store.open_card(card_place, identity.certificate.public_key())

    @property
    def public_key(self) -> "PublicKeyTypes":
        """The public half, from the certificate where there is one."""
        certificate = self._identity.certificate
        return certificate.public_key() if certificate else self._key.public_key

    def sign(self, message: bytes, scheme: "SignatureScheme") -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._key.sign(message, scheme)

    def decrypt(self, ciphertext: bytes, scheme: "KeyTransport") -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._key.decrypt(ciphertext, scheme)

    def agree(self, peer_public_key: "PublicKeyTypes") -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._key.agree(peer_public_key)

    def decapsulate(self, ciphertext: bytes, /) -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._key.decapsulate(ciphertext)
