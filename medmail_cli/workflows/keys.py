"""``medmail keys``: the identities one has, taking them elsewhere, and the passphrase over them."""

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import unrepaired
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509 import pkcs12
from medmail_cli.pki.x509.bundle import pem
from medmail_cli.pki.x509.certificate import issuer_text, subject_text
from medmail_cli.pki.x509.pbe import spellings
from medmail_cli.pki.x509.pkcs8 import seal_key
from medmail_cli.pki.x509.usage import Purpose
from medmail_cli.store.files import write_output
from medmail_cli.store.keys import backup_record
from medmail_cli.store.keys.backup import Backup, restore_backup, write_backup
from medmail_cli.store.keys.identity import Identity, chain_pem
from medmail_cli.store.trust.believed import SEAL, SEAL_LABEL
from medmail_cli.workflows.audited import logged

if TYPE_CHECKING:
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.trust.believed import Believed

State = Literal["active", "expired", "waiting", "retired"]
Format = Literal["pem", "der", "p12"]


@dataclass(frozen=True)
class Key:
    """An identity; ``retired``: a newer one replaced it, ``waiting``: it has no certificate yet."""

    type: ClassVar[str] = "identity"
    status: State
    id: str
    address: str
    addresses: tuple[str, ...]
    name: str
    purpose: Purpose
    key: str
    method: str
    created: dt.datetime
    not_before: dt.datetime | None
    not_after: dt.datetime | None
    sha256: str | None
    exit: int = OK


@dataclass(frozen=True)
class KeyDetails(Key):
    """All there is to say about one identity; ``key_sha256`` is of the SubjectPublicKeyInfo."""

    type: ClassVar[str] = "identity-details"
    subject: str | None = None
    issuer: str | None = None
    serial: str | None = None
    chain: tuple[str, ...] = ()
    key_sha256: str = ""
    pinned: bool = False
    authority: str | None = None
    replaces: tuple[str, ...] = ()
    path: Path = Path()


@dataclass(frozen=True)
class KeyExport:
    """An identity taken out of the keystore; ``pem`` is what was not saved in a file."""

    type: ClassVar[str] = "key-export"
    status: Literal["written", "unchanged", "shown"]
    id: str
    address: str
    format: Format
    private: bool
    saved_as: Path | None
    pem: str | None = None
    data: bytes = field(default=b"", repr=False, metadata={"json": False})
    exit: int = OK


@dataclass(frozen=True)
class KeystoreChange:
    """Something done to the keystore as a whole, or to one identity of it."""

    type: ClassVar[str] = "keystore"
    status: Literal[
        "backed-up", "restored", "passphrase-changed", "deleted", "unlocked", "locked", "unchanged"
    ]
    path: Path
    identities: int | None = None
    id: str | None = None
    until: dt.datetime | None = None
    data: bytes = field(default=b"", repr=False, metadata={"json": False})
    exit: int = OK


def keys(keystore: "Keystore", now: dt.datetime) -> Iterator[Key]:
    """Every identity, the newest last."""
    for identity in keystore.identities():
        yield Key(**_common(identity, now))  # type: ignore[arg-type]  # a dict of mixed values


def show_key(
    keystore: "Keystore", name: str, now: dt.datetime, purpose: Purpose | None = None
) -> Iterator[KeyDetails]:
    """One identity, by id or fingerprint, or those in use for an address.

    Raises ``not-found``, ``ambiguous-identity``.
    """
    for identity in keystore.in_use(name, at=now, purpose=purpose):
        yield _details(keystore, identity, now)


def the_one_in_use(
    keystore: "Keystore", name: str, now: dt.datetime, purpose: Purpose | None = None
) -> Identity:
    """Likewise, where it must be one. Raises ``not-found``, ``ambiguous-identity``."""
    identity, *others = keystore.in_use(name, at=now, purpose=purpose)
    if others:
        raise MedmailError(
            "ambiguous-identity", name=name, ids=[each.id[:12] for each in (identity, *others)]
        )
    return identity


def _details(keystore: "Keystore", identity: Identity, now: dt.datetime) -> KeyDetails:
    certificate = identity.certificate
    return KeyDetails(
        **_common(identity, now),  # type: ignore[arg-type]  # a dict of mixed values
        subject=subject_text(certificate) if certificate else None,
        issuer=issuer_text(certificate) if certificate else None,
        serial=f"{certificate.serial_number:x}" if certificate else None,
        chain=tuple(subject_text(above) for above in identity.chain),
        key_sha256=identity.key_sha256,
        pinned=identity.pinned,
        authority=identity.authority,
        replaces=identity.replaces,
        path=keystore.folder / identity.id,
    )


def _common(identity: Identity, now: dt.datetime) -> dict[str, object]:
    state: State = (
        "expired"
        if identity.state == "active" and identity.expires and identity.expires < now
        else identity.state
    )
    return {
        "status": state,
        "id": identity.id,
        "address": identity.address,
        "addresses": identity.addresses,
        "name": identity.name,
        "purpose": identity.purpose,
        "key": identity.key_type,
        "method": identity.method,
        "created": identity.created,
        "not_before": identity.certificate.not_valid_before_utc if identity.certificate else None,
        "not_after": identity.expires,
        "sha256": identity.sha256,
    }


# --- out of the keystore, and back --------------------------------------------------------------------------


def export_certificate(
    identity: Identity, form: Format, output: Path | None, *, force: bool
) -> Iterator[KeyExport]:
    """The certificate (PEM: with its chain). Raises ``no-certificate`` for a request that waits."""
    certificate = _certificate(identity)
    data = (
        certificate.public_bytes(Encoding.DER) if form == "der" else chain_pem((certificate, *identity.chain))
    )
    yield _exported(identity, form, data, output, private=False, force=force)


def export_private(
    store: "Unlocked",
    run: "RunContext",
    identity: Identity,
    form: Format,
    password: bytes,
    output: Path | None,
    *,
    force: bool,
    pbmac1: bool = False,
) -> Iterator[KeyExport]:
    """The private key, encrypted under ``password``: PKCS#12 or PEM with the certificates, or DER alone.

    ``pbmac1``: the MAC of PKCS#12 as RFC 9579 has it. Raises what :func:`pkcs12.write` raises.
    """
    with logged(
        run.acting(identity.address), "key-export", (identity.sha256 or identity.key_sha256,), format=form
    ):
        key, spelled = store.unseal(identity), spellings(password)[0]
        if form == "p12":
            chain = unrepaired(identity.chain)
            data = pkcs12.write(key, _certificate(identity), chain, identity.address, spelled, pbmac1=pbmac1)
        elif form == "der":
            data = seal_key(key, spelled)
        else:
            data = pem("ENCRYPTED PRIVATE KEY", seal_key(key, spelled))
            data += chain_pem((identity.certificate, *identity.chain)) if identity.certificate else b""
        exported = _exported(identity, form, data, output, private=True, force=force)
    yield exported


def _certificate(identity: Identity) -> x509.Certificate:
    if identity.certificate is None:
        raise MedmailError("no-certificate", address=identity.address)
    return identity.certificate


def _exported(
    identity: Identity, form: Format, data: bytes, output: Path | None, *, private: bool, force: bool
) -> KeyExport:
    if output is None:
        pem = data.decode() if form == "pem" else None
        return KeyExport(
            "shown", identity.id, identity.address, form, private, None, pem, b"" if pem else data
        )
    written = write_output(output, data, force=force, mode=0o600 if private else 0o644)
    return KeyExport(
        "written" if written else "unchanged", identity.id, identity.address, form, private, output
    )


def backup(
    store: "Unlocked",
    run: "RunContext",
    passphrase: bytes,
    output: Path | None,
    *,
    force: bool,
) -> Iterator[KeystoreChange]:
    """The whole keystore in one file under a passphrase of its own; None for ``output`` gives its bytes."""
    with logged(run, "keystore-backup"):
        data = write_backup(store, passphrase, run.log.checkpoint(), run.now)
        if output is not None:
            write_output(output, data, force=force)
    held = store.identities()
    backup_record.record(store.keystore.folder, (identity.key_sha256 for identity in held), "backed-up")
    count = len(held)
    shown = data if output is None else b""
    yield KeystoreChange("backed-up", output or Path("-"), count, data=shown)


def restore(
    keystore: "Keystore",
    run: "RunContext",
    saved: Backup,
    passphrase: bytes,
    digest: str,
    believed: "Believed",
) -> Iterator[KeystoreChange]:
    """Put a backup's keystore where none is; a log that has not begun yet begins with what it cites.

    Whom the keystore's seal says was trusted stands in the log then.
    """
    from medmail_cli.store.keys.unlocked import subkey

    if keystore.exists:
        raise MedmailError("keystore-exists", path=str(keystore.folder))
    if run.log.checkpoint() is None:
        run.log.start(cites=saved.checkpoint)
    with logged(run, "keystore-restore", (digest,)):
        sealed = believed.resealed(saved.beside.get(SEAL), subkey(saved.master, SEAL_LABEL))
        saved = replace(saved, beside={**saved.beside, SEAL: sealed})
        store = restore_backup(keystore, saved, passphrase)
    held = store.identities()
    backup_record.record(keystore.folder, (identity.key_sha256 for identity in held), "backed-up")
    yield KeystoreChange("restored", keystore.folder, len(held))


def change_passphrase(store: "Unlocked", run: "RunContext", passphrase: bytes) -> Iterator[KeystoreChange]:
    """A new passphrase over the same keys."""
    with logged(run, "keystore-passwd"):
        store.change_passphrase(passphrase)
    yield KeystoreChange("passphrase-changed", store.keystore.folder)


def delete(keystore: "Keystore", run: "RunContext", identity: Identity) -> Iterator[KeystoreChange]:
    """Remove an identity and its key for good."""
    with logged(run.acting(identity.address), "key-delete", (identity.sha256 or identity.key_sha256,)):
        keystore.delete(identity)
    yield KeystoreChange("deleted", keystore.folder, id=identity.id)


# --- for a while -------------------------------------------------------------------------------------------


def unlock(store: "Unlocked", run: "RunContext", seconds: int) -> Iterator[KeystoreChange]:
    """Let the kernel keep the keystore open for so long. Raises ``no-kernel-keyring``."""
    from medmail_cli.devices.keyring import keep_master_key

    folder = store.keystore.folder
    with logged(run, "keystore-unlock", seconds=seconds):
        keep_master_key(folder, store.master_key(), seconds)
    yield KeystoreChange("unlocked", folder, until=run.now + dt.timedelta(seconds=seconds))


def lock(keystore: "Keystore", run: "RunContext") -> Iterator[KeystoreChange]:
    """Make the kernel forget the keystore's key now."""
    from medmail_cli.devices.keyring import forget_master_key

    if not keystore.exists:
        yield KeystoreChange("unchanged", keystore.folder)
        return
    with logged(run, "keystore-lock"):
        forgotten = forget_master_key(keystore.folder)
    yield KeystoreChange("locked" if forgotten else "unchanged", keystore.folder)


def digest(data: bytes) -> str:
    """SHA-256 in hex, by which the audit log names a file."""
    return hashlib.sha256(data).hexdigest()
