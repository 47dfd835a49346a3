r"""One identity on disk: a key pair, what certifies it, what it is for.

Its folder, named after the certificate's SHA-256 (the public key's while no certificate is there yet; the
first 32 hex digits), holds

- ``identity.json``: a checked document (see :mod:`.seal`) of the metadata below, and the
  private key (PKCS#8, DER; where it cannot leave its card, JSON that says where it stands: module, token,
  CKA_ID) sealed by AES-256-GCM. The seal is bound to ``medmail-identity\0`` and all of
  the metadata in canonical JSON, so that no key can be put under another name, address or certificate;
- ``chain.pem``: the certificate, then what its issuer sent along; or, while it waits for its certificate,
  ``request.pem``: the request (RFC 2986). Its SHA-256 stands in the metadata.

Nothing in a folder ever changes: it appears whole, and goes whole. That an identity was replaced is said by
the one that replaced it, so an old certificate and its key stay as they were and open old mail.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms.certificates import UNREADABLE, fingerprint, load_pems
from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.pki.x509.usage import Purpose
from medmail_cli.store.keys import seal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

METADATA, CHAIN, REQUEST = "identity.json", "chain.pem", "request.pem"
FILES = frozenset({METADATA, CHAIN, REQUEST})
VERSION = 1
CARD = "card"
"""The method of an identity whose key stands on a card."""
ID_DIGITS = 32
ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
"""What a folder's name is made of."""
"""Hex digits of a digest that name a folder."""
_BOUND = b"medmail-identity\0"


@dataclass(frozen=True)
class Identity:
    """A key pair of the keystore's owner, as much as can be read while the keystore is locked.

    ``addresses`` it speaks for (those of the certificate, or the one it is ``pinned`` to); ``chain`` what
    follows the certificate, nearest issuer first; ``request`` the DER of the request it waits with;
    ``authority`` whom that was sent to. ``retired`` is one that a newer identity replaced: it opens old mail.
    """

    id: str
    addresses: tuple[str, ...]
    name: str
    purpose: Purpose
    method: str
    created: dt.datetime
    key_type: str
    key_sha256: str
    state: Literal["active", "waiting", "retired"] = "active"
    pinned: bool = False
    replaces: tuple[str, ...] = ()
    authority: str | None = None
    certificate: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()
    request: bytes | None = None
    sealed_key: Mapping[str, str] = field(default_factory=dict, repr=False, metadata={"json": False})

    @property
    def address(self) -> str:
        """The first address, or the name where there is none: the actor of audit entries."""
        return self.addresses[0] if self.addresses else self.name

    @property
    def certified(self) -> x509.Certificate:
        """The certificate of one that is, or was, in use."""
        assert self.certificate is not None  # noqa: S101 - a waiting identity alone has none
        return self.certificate

    @property
    def expires(self) -> dt.datetime | None:
        """When the certificate ends; None while there is none."""
        return self.certificate.not_valid_after_utc if self.certificate else None

    @property
    def sha256(self) -> str | None:
        """The certificate's SHA-256 in hex; None while there is none."""
        return fingerprint(self.certificate) if self.certificate else None

    def bound(self) -> bytes:
        """What the private key's seal is bound to."""
        return _BOUND + seal.canonical(self._metadata())

    def files(self) -> dict[str, bytes]:
        """The folder's files and their content."""
        name, content = self._public_file()
        metadata = {**self._metadata(), "sealed-key": dict(self.sealed_key)}
        return {name: content, METADATA: seal.document(metadata)}

    def _metadata(self) -> dict[str, Any]:
        name, content = self._public_file()
        return {
            "medmail-identity": VERSION,
            "id": self.id,
            "addresses": list(self.addresses),
            "pinned": self.pinned,
            "name": self.name,
            "purpose": self.purpose,
            "method": self.method,
            "created": self.created.astimezone(dt.UTC).isoformat(),
            "key-type": self.key_type,
            "key-sha256": self.key_sha256,
            "replaces": list(self.replaces),
            "authority": self.authority,
            "files": {name: hashlib.sha256(content).hexdigest()},
        }

    def _public_file(self) -> tuple[str, bytes]:
        if self.certificate is None:
            return REQUEST, request_pem(self.request or b"")
        return CHAIN, chain_pem((self.certificate, *self.chain))


def key_digest(key: "PublicKeyTypes") -> str:
    """SHA-256 of the SubjectPublicKeyInfo, in hex: the name of a key pair."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def chain_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates as one PEM text."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def request_pem(der: bytes) -> bytes:
    """A certificate request as PEM."""
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


def read(folder: Path) -> Identity:
    """The identity in ``folder``, its state apart.

    Raises ``store-damaged`` with the file in which a byte has changed or that is missing, and
    FileNotFoundError where the whole folder has gone.
    """
    return of_files(folder, lambda name: _bytes(folder, name))


def of_files(folder: Path, content_of: Callable[[str], bytes]) -> Identity:
    """The identity whose files ``content_of`` gives by name, as if they stood in ``folder``.

    Raises ``store-damaged``, ``newer-store`` and what ``content_of`` raises.
    """
    path = folder / METADATA
    try:
        values = seal.read_document(content_of(METADATA))
        if values.pop("medmail-identity") != VERSION:
            raise MedmailError("newer-store", path=str(path))
        sealed = values.pop("sealed-key")
        ((name, digest),) = values.pop("files").items()
        if values["id"] != folder.name or name not in (CHAIN, REQUEST):
            raise ValueError(name)
        identity = Identity(
            id=values.pop("id"),
            addresses=tuple(values.pop("addresses")),
            created=dt.datetime.fromisoformat(values.pop("created")),
            key_type=values.pop("key-type"),
            key_sha256=values.pop("key-sha256"),
            replaces=tuple(values.pop("replaces")),
            sealed_key=sealed,
            **values,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MedmailError("store-damaged", path=str(path)) from None
    content = content_of(name)
    if hashlib.sha256(content).hexdigest() != digest:
        raise MedmailError("store-damaged", path=str(folder / name))
    try:
        if name == REQUEST:
            request = x509.load_pem_x509_csr(content).public_bytes(Encoding.DER)
            return replace(identity, request=request, state="waiting")
        certificate, *chain = load_pems(content)
    except UNREADABLE:  # what was sealed so by somebody else than this program
        raise MedmailError("store-damaged", path=str(folder / name)) from None
    return replace(identity, certificate=certificate, chain=tuple(chain))


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        if not folder.exists():
            raise
        raise MedmailError("store-damaged", path=str(folder / name)) from None
    except OSError as error:
        raise not_readable(folder / name, error) from None
