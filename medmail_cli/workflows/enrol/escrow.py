"""Escrow: a copy of a key that only encrypts, readable by an organisation that must open its people's mail.

Where the profile names the organisation's certificate, the copy is laid down before the key is used: a
letter, signed by the key's holder and encrypted to the organisation (and the holder), that carries the
PKCS#8 key (RFC 5958) and its certificates. So any S/MIME reader opens it, medmail's ``decrypt`` too, and
``enrol import`` takes what is in it. A key that signs is its holder's alone and is never copied.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.pki.x509.address import addresses
from medmail_cli.pki.x509.usage import key_type
from medmail_cli.smime.compose import Attachment, Letter
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.protect import Signer, protect
from medmail_cli.store import files
from medmail_cli.store.keys.identity import chain_pem, key_digest
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.enrol.key_pairs import signer_beside

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.run import RunContext


@dataclass(frozen=True)
class Escrow:
    """Whose copies are made, and where they are laid down."""

    organisation: x509.Certificate
    folder: Path
    run: "RunContext"


def read_organisation(path: Path, now: dt.datetime) -> x509.Certificate:
    """The organisation's certificate. Raises ``not-readable``, ``malformed``, ``expired``."""
    from medmail_cli.pki.path.fitness import fit
    from medmail_cli.pki.x509.bundle import read_bundle

    try:
        certificates = read_bundle(path.read_bytes(), str(path)).certificates
    except OSError as error:
        raise not_readable(path, error) from None
    usable = [certificate for certificate in certificates if fit(certificate, "encrypt")]
    if len(usable) != 1:
        raise MedmailError("malformed", what=str(path))
    if not usable[0].not_valid_before_utc <= now <= usable[0].not_valid_after_utc:
        raise MedmailError("expired")
    return usable[0]


def signer_of(store: "Unlocked", address: str, certificate: x509.Certificate, now: dt.datetime) -> Signer:
    """The key's holder, who signs the letter with the copy. Raises ``no-signer`` while no key signs."""
    signer = signer_beside(store, address, key_type(certificate.public_key()), now)
    return Signer(store.private_key(signer), signer.certified, signer.chain, certificate)


def lay_down(
    escrow: Escrow,
    signer: Signer,
    address: str,
    key: "PrivateKeyTypes",
    chain: Sequence[x509.Certificate],
    now: dt.datetime,
) -> Path:
    """Copy the key that a certificate, the first of ``chain``, came for; where the copy is.

    Raises ``disk-full``, ``not-writable``.
    """
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    name = fingerprint(chain[0])
    recipient = next(iter(addresses(escrow.organisation)), address)
    letter = Letter(
        from_=Mailbox(address, ""),
        to=(Mailbox(recipient, ""),),
        subject=f"Key escrow {name}",
        body=f"{address}\n{name}\n",
        attachments=(
            Attachment(f"{name}.p8", "application/pkcs8", der),
            Attachment(f"{name}.pem", "application/pem-certificate-chain", chain_pem(chain)),
        ),
        date=now,
        message_id=f"<{name[:32]}@{address.rpartition('@')[2]}>",
    )
    (protected,) = protect(letter, signer=signer, recipients={recipient: escrow.organisation}, signed_at=now)
    path = escrow.folder / f"{name}.eml"
    objects = (key_digest(key.public_key()), fingerprint(escrow.organisation))
    with logged(escrow.run.acting(address), "key-escrow", objects):
        files.write_atomic(path, protected.message)
    return path
