"""The keystore: every private key its owner has, sealed under one passphrase.

``keystore.json`` is a checked document (see :mod:`medmail_cli.store.keys.seal`)::

    {"medmail-keystore": 1, "id": …, "created": …, "check": …,
     "kdf": {"name": "argon2id", "memory-kib": 65536, "passes": 3, "lanes": 4, "salt": …},
     "sealed": {"nonce": …, "data": …}}

The passphrase gives a key by Argon2id, that key opens the random *master key* (AES-256-GCM, bound to the
parameters and to the store's id). Subkeys of the master key (HKDF-SHA-256) seal the rest: ``medmail
identity`` each private key, or where its card has it (one folder each, see
:mod:`.identity`), others what letters said. ``check`` is the start of one more subkey and
tells whether a master key is this store's. Changing the passphrase wraps the same master key again: whoever
holds an old copy of the store and the old passphrase keeps what that copy gave.

A changed byte is ``store-damaged`` with the file's name, whether the store is locked or not. Files and
folders appear whole by rename; what a kill left half-made has a name that begins with a dot, counts for
nothing and is swept by the next run that writes. Writers hold ``lock``, readers need no lock. Whoever can
write to the disk can take a whole identity away or put an old copy of the store in place; what the audit
log says then no longer agrees.
"""

import contextlib
import datetime as dt
import hmac
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.pki.x509.address import same_address
from medmail_cli.store import files
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.identity import CARD, FILES, ID, ID_DIGITS, Identity, read
from medmail_cli.store.keys.own_revoked import REVOKED, add_revoked, revoked
from medmail_cli.store.keys.seal import Cost

if TYPE_CHECKING:
    from cryptography import x509

    from medmail_cli.pki.x509.usage import Purpose

HEADER, LOCK, UNFINISHED = "keystore.json", "lock", ".restoring"
VERSION = 1
_CHECK_LABEL = "medmail check"


class Keystore:
    """The keystore in ``folder``, locked; ``cost`` is what a new passphrase's derivation shall cost.

    ``logged`` gives the digests of the certificates that the audit log says were revoked.
    """

    def __init__(
        self,
        folder: Path,
        cost: Cost = Cost(),  # noqa: B008 - a frozen value
        logged: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self.folder = folder
        self._cost, self._logged = cost, logged

    @property
    def header(self) -> Path:
        """The file that holds the wrapped master key."""
        return self.folder / HEADER

    @property
    def exists(self) -> bool:
        """Whether there is a keystore; one whose restoring was cut off is none."""
        if self.header.exists():
            return True
        return bool(self._folders()) and not (self.folder / UNFINISHED).exists()

    # --- while locked ----------------------------------------------------------------------------------

    def identities(self) -> tuple[Identity, ...]:
        """Every identity, oldest first, its certificates and metadata checked; () where there is no keystore.

        Raises ``store-damaged`` with the file that has changed.
        """
        if not self.exists:
            return ()
        self.read_header()
        by_id: dict[str, Identity] = {}
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError):  # another process deleted it meanwhile
                by_id[folder.name] = read(folder)
        certified = {identity.key_sha256 for identity in by_id.values() if identity.certificate}
        replaced = {old for identity in by_id.values() if identity.certificate for old in identity.replaces}
        gone = self.revoked()
        present = [
            replace(identity, state="retired")
            if identity.certificate and (identity.id in replaced or (gone and identity.sha256 in gone))
            else identity
            for identity in by_id.values()
            if identity.certificate or identity.key_sha256 not in certified
        ]
        return tuple(sorted(present, key=lambda identity: (identity.created, identity.id)))

    def revoked(self) -> frozenset[str]:
        """The digests of the certificates that their authority has revoked.

        Raises ``store-damaged``, and ``own-revocations-missing`` where the log knows of more.
        """
        digests = revoked(self.folder)
        if not self._logged() <= digests:
            raise MedmailError("own-revocations-missing", path=str(self.folder / REVOKED))
        return digests

    def recall(self) -> None:
        """Write down anew what the log says was revoked."""
        for sha256 in sorted(self._logged() - revoked(self.folder)):
            add_revoked(self.folder, sha256)

    def find(self, prefix: str) -> Identity:
        """The one identity whose id begins with ``prefix``, or that alone has this address.

        Raises ``not-found`` and ``ambiguous-identity``.
        """
        everything = self.identities()
        if "@" in prefix:
            matching = [identity for identity in everything if _speaks_for(identity, prefix)]
        else:
            wanted = prefix.replace(":", "").lower()[:ID_DIGITS]
            matching = [identity for identity in everything if wanted and identity.id.startswith(wanted)]
        if not matching:
            raise MedmailError("not-found", what="identity", name=prefix)
        if len(matching) > 1:
            raise MedmailError(
                "ambiguous-identity", name=prefix, ids=[identity.id[:12] for identity in matching]
            )
        return matching[0]

    def in_use(self, name: str, *, at: dt.datetime, purpose: "Purpose | None" = None) -> tuple[Identity, ...]:
        """By address those that sign for it, and that letters to it are encrypted for, ``at`` that time.

        That is one which does both, or two, or the one for ``purpose``; where none is in use, or by id, what
        :meth:`find` finds. Raises ``not-found`` and ``ambiguous-identity``.
        """
        chosen: dict[str, Identity] = {}
        for use, choose in (("sign", self.signer), ("encrypt", self.decryption_identity)):
            if "@" not in name or purpose not in (None, use):
                continue
            try:
                identity = choose(name, at=at)
            except MedmailError as error:
                if error.code != "no-identity":
                    raise
            else:
                chosen[identity.id] = identity
        if chosen:
            return tuple(chosen.values())
        identity = self.find(name)
        if purpose is not None and identity.purpose not in (purpose, "both"):
            raise MedmailError("not-found", what="identity", name=name)
        return (identity,)

    def signer(self, address: str, *, at: dt.datetime | None = None) -> Identity:
        """The active identity that signs for ``address``: one valid ``at`` that time, a card's, the newest.

        Raises ``no-identity``.
        """
        return self._choose(address, "sign", at)

    def decryption_identity(
        self, address: str, *, at: dt.datetime | None = None, post_quantum: bool = False
    ) -> Identity:
        """Likewise the identity whose certificate letters to ``address`` are encrypted for.

        One with an ML-KEM key if ``post_quantum`` (else ``not-post-quantum``), and only then if another is
        valid.
        """
        return self._choose(address, "encrypt", at, post_quantum=post_quantum)

    def _choose(
        self, address: str, purpose: "Purpose", at: dt.datetime | None, *, post_quantum: bool = False
    ) -> Identity:
        fitting = [
            (
                _valid(identity.certificate, at),
                identity.key_type.startswith("ml-kem") is post_quantum,
                purpose == "sign" and identity.method == CARD,
                identity.certificate.not_valid_before_utc,
                identity.created,
                identity.id,
                identity,
            )
            for identity in self.identities()
            if identity.state == "active"
            and identity.certificate is not None
            and identity.purpose in (purpose, "both")
            if _speaks_for(identity, address)
        ]
        if not fitting:
            raise MedmailError("no-identity", address=address)
        if post_quantum:
            fitting = [ranked for ranked in fitting if ranked[-1].key_type.startswith("ml-kem")]
            if not fitting:
                raise MedmailError("not-post-quantum", addresses=[address], count=1)
        return max(fitting)[-1]

    def delete(self, identity: Identity) -> None:
        """Remove an identity and its key for good; one that has gone already is no error."""
        with self.writing():
            self.remove(identity.id)

    # --- opening ---------------------------------------------------------------------------------------

    def master_key(self, passphrase: bytes) -> bytes:
        """What the passphrase opens. Raises ``no-keystore``, ``wrong-passphrase`` and ``store-damaged``."""
        header = self.read_header()
        try:
            master = seal.unwrap(passphrase, header, _bound(header))
        except (ValueError, OverflowError):
            raise self._damaged() from None
        if master is None:
            raise MedmailError("wrong-passphrase", path=str(self.folder))
        if not _is_checked(master, header):
            raise self._damaged()
        return master

    def check(self, master: bytes) -> None:
        """Raises ``keystore-locked`` where that is another's master key."""
        if not _is_checked(master, self.read_header()):
            raise MedmailError("keystore-locked", path=str(self.header))

    def create(self, passphrase: bytes, now: dt.datetime) -> bytes:
        """Make the keystore; where another process has just done so, open that one. Its master key."""
        with self.writing():
            if not self.header.exists():
                if self._folders():
                    raise self._damaged()
                master = seal.new_key()
                self.install(master, passphrase, secrets.token_hex(8), now, {})
                return master
        return self.master_key(passphrase)

    def install(
        self,
        master: bytes,
        passphrase: bytes,
        store_id: str,
        created: dt.datetime,
        identities: Mapping[str, Mapping[str, bytes]],
        beside: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Write a whole keystore, its header last; inside :meth:`writing` and where none is.

        ``identities`` are the files of each identity's folder, ``beside`` those of :meth:`beside`. Killed
        half-way, it leaves no keystore.
        """
        if identities or beside:
            files.write_atomic(self.folder / UNFINISHED, b"")
        for name, data in beside.items():
            if not is_beside(name):
                raise ValueError(name)
            files.write_atomic(self.folder / name, data)
        for name, content in identities.items():
            self.put(name, content)
        header = {"medmail-keystore": VERSION, "id": store_id, "created": created.isoformat()}
        self.wrap(header | {"check": _check(master)}, master, passphrase)
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def beside(self) -> dict[str, bytes]:
        """The files that stand beside the identities and belong to them, by name. Raises ``not-readable``."""
        contents = {}
        for path in sorted(self.folder.iterdir()):
            if path.is_file() and is_beside(path.name):
                try:
                    contents[path.name] = path.read_bytes()
                except FileNotFoundError:  # a transaction that has just ended
                    continue
                except OSError as error:
                    raise not_readable(path, error) from None
        return contents

    # --- writing ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the keystore for writing; sweeps what a kill left. Raises ``store-busy``, ``not-writable``."""
        files.make_private(self.folder)
        with files.lock(self.folder / LOCK), files.disk_errors(self.folder):
            self._sweep()
            yield

    def put(self, name: str, content: Mapping[str, bytes]) -> None:
        """Make the folder ``name`` appear whole with these files; inside :meth:`writing`."""
        if not ID.fullmatch(name) or not set(content) <= FILES:
            raise ValueError(name)
        temporary = self.folder / f".new-{secrets.token_hex(6)}"
        try:
            for file_name, data in content.items():
                files.write_atomic(temporary / file_name, data)
            temporary.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        files.sync_folder(self.folder)

    def wrap(self, header: Mapping[str, Any], master: bytes, passphrase: bytes) -> None:
        """Write the header with the master key wrapped under ``passphrase``; inside :meth:`writing`."""
        kept = {name: header[name] for name in ("medmail-keystore", "id", "created", "check")}
        wrapped = seal.wrap(passphrase, master, _bound(kept), self._cost)
        files.write_atomic(self.header, seal.document(kept | wrapped))

    def remove(self, name: str) -> None:
        """Make the folder ``name`` go whole, if it is there; inside :meth:`writing`."""
        folder, away = self.folder / name, self.folder / f".old-{secrets.token_hex(6)}"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(away)
            files.sync_folder(self.folder)
            shutil.rmtree(away)

    def _sweep(self) -> None:
        files.sweep(self.folder)
        for path in self.folder.iterdir():
            if path.name.startswith((".new-", ".old-")):
                shutil.rmtree(path)
        if (self.folder / UNFINISHED).exists():
            if not self.header.exists():
                for folder in self._folders():
                    self.remove(folder.name)
                for name in self.beside():
                    (self.folder / name).unlink()
            (self.folder / UNFINISHED).unlink()

    # --- reading ---------------------------------------------------------------------------------------

    def _folders(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name[0] != ".")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise not_readable(self.folder, error) from None

    def read_header(self) -> dict[str, Any]:
        """What ``keystore.json`` says, its checksum verified. Raises ``no-keystore``, ``store-damaged``."""
        try:
            header = seal.read_document(self.header.read_bytes())
        except FileNotFoundError:
            if self.exists:
                raise self._damaged() from None
            raise MedmailError("no-keystore", path=str(self.folder)) from None
        except OSError as error:
            raise not_readable(self.header, error) from None
        except ValueError:
            raise self._damaged() from None
        if header.get("medmail-keystore") != VERSION:
            raise MedmailError("newer-store", path=str(self.header))
        return header

    def _damaged(self) -> MedmailError:
        return MedmailError("store-damaged", path=str(self.header))


_BESIDE = re.compile(
    r"(?:revoked|backups|account-[0-9a-f]{32})\.json|trust\.seal|[0-9a-f]{32}\.(?:transaction|request|asked)"
)


def is_beside(name: str) -> bool:
    """Whether that is the name of a file of :meth:`Keystore.beside`: those that there are, and no others."""
    return _BESIDE.fullmatch(name) is not None


def _check(master: bytes) -> str:
    return seal.subkey(master, _CHECK_LABEL)[:16].hex()


def _is_checked(master: bytes, header: Mapping[str, Any]) -> bool:
    return hmac.compare_digest(_check(master), str(header.get("check")))


def _bound(header: Mapping[str, Any]) -> bytes:
    return seal.canonical({name: header.get(name) for name in ("medmail-keystore", "id", "created", "check")})


def _speaks_for(identity: Identity, address: str) -> bool:
    return any(same_address(own_address, address) for own_address in identity.addresses)


def _valid(certificate: "x509.Certificate", at: dt.datetime | None) -> bool:
    return at is None or certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
