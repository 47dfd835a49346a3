"""An open keystore: its private keys, unsealed one by one as they are needed, and what is added to it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.usage import Purpose, key_type
from medmail_cli.store import seal
from medmail_cli.store.identity import ID_DIGITS, METADATA, Identity, fingerprint, key_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

    from medmail_cli.model import KeyTransport, SignatureScheme
    from medmail_cli.store.keystore import Keystore

_IDENTITY_LABEL = "medmail identity"


class Unlocked:
    """An open keystore. Private keys stay sealed until they are first used."""

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

    def reader(self, address: str, *, at: dt.datetime | None = None, post_quantum: bool = False) -> Identity:
        """As :meth:`Keystore.reader`."""
        return self.keystore.reader(address, at=at, post_quantum=post_quantum)

    def private_key(self, identity: Identity) -> "SealedKey":
        """The identity's private key, unsealed when it is first used (``store-damaged`` may come then)."""
        return SealedKey(self, identity)

    def decryption_keys(self) -> list[tuple[x509.Certificate, "SealedKey"]]:
        """Every certificate ever held with its key, those meant for encryption first; all still sealed.

        Certificates meant for signing alone come last: somebody may have encrypted to one all the same.
        """
        held = sorted(self.identities(), key=lambda one: one.purpose == "sign")
        return [(one.certificate, self.private_key(one)) for one in held if one.certificate is not None]

    def subkey(self, label: str) -> bytes:
        """32 bytes for one use, which only this keystore's master key gives."""
        return seal.subkey(self._master, f"medmail store {label}")

    def master_key(self) -> bytes:
        """The master key, for the kernel's keyring and the encrypted backup alone."""
        return self._master

    def unseal(self, identity: Identity) -> "PrivateKeyTypes":
        """The private key itself. Raises ``store-damaged`` where seal and metadata do not belong together."""
        path = str(self.keystore.folder / identity.id / METADATA)
        try:
            der = seal.unseal(self._identity_key, identity.sealed_key, identity.bound())
        except ValueError:
            der = None
        if der is None:
            raise MedmailError("store-damaged", path=path)
        # the seal vouches for the key, so RSA's primes need no testing each time
        return serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)

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
        digest = key_digest(certificate.public_key())
        if key_digest(private_key.public_key()) != digest:
            raise ValueError("the key is not the certificate's")
        return self._keep(
            private_key,
            Identity(
                id=fingerprint(certificate)[:ID_DIGITS],
                addresses=tuple(addresses),
                name=name,
                purpose=purpose,
                method=method,
                created=now,
                key_type=key_type(private_key.public_key()),
                key_sha256=digest,
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
            private_key,
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

    def _keep(self, private_key: "PrivateKeyTypes", identity: Identity) -> Identity:
        der = private_key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        sealed = replace(identity, sealed_key=seal.seal(self._identity_key, der, identity.bound()))
        store = self.keystore
        with store.writing():
            for one in store.identities():
                if one.id == identity.id:
                    return one
            store.put(sealed.id, sealed.files())
            if identity.certificate is not None and (store.folder / sealed.key_sha256[:ID_DIGITS]).exists():
                # the request has been answered; a kill before this leaves it hidden by its own certificate
                store.remove(sealed.key_sha256[:ID_DIGITS])
        return sealed

    def change_passphrase(self, passphrase: bytes) -> None:
        """Wrap the master key under a new passphrase; everything else stays as it is."""
        with self.keystore.writing():
            self.keystore.wrap(self.keystore.read_header(), self._master, passphrase)


class SealedKey:
    """A private key of the keystore behind the protocol of :class:`medmail_cli.model.PrivateKey`."""

    def __init__(self, unlocked: Unlocked, identity: Identity) -> None:
        self._unlocked, self._identity = unlocked, identity

    def __repr__(self) -> str:
        return f"SealedKey({self._identity.id})"

    @cached_property
    def _software(self) -> SoftwareKey:
        return SoftwareKey(self._unlocked.unseal(self._identity))

    @property
    def public_key(self) -> "PublicKeyTypes":
        """The public half, from the certificate where there is one."""
        certificate = self._identity.certificate
        return certificate.public_key() if certificate else self._software.public_key

    def sign(self, message: bytes, scheme: "SignatureScheme") -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._software.sign(message, scheme)

    def decrypt(self, ciphertext: bytes, scheme: "KeyTransport") -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._software.decrypt(ciphertext, scheme)

    def agree(self, peer_public_key: "PublicKeyTypes") -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._software.agree(peer_public_key)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """See :class:`medmail_cli.model.PrivateKey`."""
        return self._software.decapsulate(ciphertext)
