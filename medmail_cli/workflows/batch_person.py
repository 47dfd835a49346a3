"""One person of a batch: a key and a request before anything is asked; what they are given afterwards.

While the authority is asked, key, request and password lie sealed under the registrar's keystore in
``.pending/``. What a person gets is a PKCS#12 file or a whole medmail home, either under a password of
100 random bits, which nobody chose and which so needs no costly derivation; and the password, in a letter or
a file of its own. Each appears whole, so that a kill leaves nothing half made.
"""

import base64
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.address import canonical
from medmail_cli.pki.keyfile import is_root
from medmail_cli.pki.request import build_request
from medmail_cli.store import files, seal
from medmail_cli.store.identity import fingerprint, key_digest
from medmail_cli.store.keystore import Keystore
from medmail_cli.store.transactions import FileMemory
from medmail_cli.workflows.identity import REGISTRAR_HELD, serves_for, whom
from medmail_cli.workflows.keypairs import KeyChoice, make_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12PrivateKeyTypes

    from medmail_cli.workflows.roster import Professional

_CHEAP = seal.Cost(memory=1024, passes=1, lanes=1)
_ROUNDS = 2048
"""Of PKCS#12's key derivation: enough, the password being random; old readers refuse none at all."""
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
PENDING = ".pending"
_LONGEST_NAME = 200
"""Octets of a file's name, so that there is room for what is added to it."""


@dataclass(frozen=True)
class Pending:
    """A key whose certificate is asked for, and the password it will be given out under."""

    key: "PKCS12PrivateKeyTypes"
    request: bytes
    password: str

    def __repr__(self) -> str:
        return f"Pending({self.key_sha256})"

    @property
    def key_sha256(self) -> str:
        """The name of the key pair."""
        return key_digest(self.key.public_key())


@dataclass(frozen=True)
class Handout:
    """Where and how people's keys are laid down.

    ``letter`` puts a person and their password into the words (octets) of a letter, for ``letters``, a
    folder; without that the password lies beside. ``home`` gives the other files of an address's home,
    ``trusted`` the SHA-256 of the roots that a home shall trust.
    """

    folder: Path
    sealing: bytes
    p12: bool = False
    letters: Path | None = None
    letter: "Callable[[Professional, str], tuple[str, bytes]] | None" = None
    home: Callable[[str], Mapping[str, bytes]] = lambda _address: {}
    trusted: frozenset[str] = frozenset()


def prepare(row: "Professional", key: KeyChoice, out: Handout) -> Pending:
    """The key and request that wait for a person, made and laid down if there are none yet.

    What waits for somebody whose name or number has changed meanwhile is made anew. Raises ``exists`` where
    something stands already where their key shall be laid down, ``disk-full``, ``malformed``.
    """
    path = _folder(row, out) / "key"
    about = [row.address, row.name, row.rpps, row.organisation]
    bound = canonical(row.address).encode()
    try:
        stored = seal.unseal(out.sealing, json.loads(path.read_bytes()), bound)
        values = json.loads(stored or b"{}")
        if values.get("about") == about:
            waiting = serialization.load_der_private_key(base64.b64decode(values["key"]), None)
            if isinstance(waiting, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
                return Pending(waiting, base64.b64decode(values["request"]), values["password"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        stored = None  # none waits, or none that this keystore can read
    if (place := _place(row, out)).exists():
        # better said before a certificate is asked for
        raise MedmailError("exists", path=str(place))
    private = make_key(key)
    assert isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)  # noqa: S101 - what a batch may ask for
    pending = Pending(
        private,
        build_request(
            SoftwareKey(private),
            address=row.address,
            name=row.name or None,
            rpps=row.rpps or None,
            organisation=row.organisation or None,
        ),
        "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4)),
    )
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    values = {
        "about": about,
        "key": base64.b64encode(der).decode(),
        "request": base64.b64encode(pending.request).decode(),
        "password": pending.password,
    }
    sealed = seal.seal(out.sealing, json.dumps(values).encode(), bound)
    files.write_atomic(path, json.dumps(sealed).encode())
    return pending


def memory(row: "Professional", out: Handout) -> FileMemory:
    """Where what a request has come to is kept, until it is forgotten with the rest."""
    return FileMemory(_folder(row, out) / "transaction")


def hand_out(
    row: "Professional", pending: Pending, chain: Sequence[x509.Certificate], out: Handout, now: datetime
) -> tuple[Path, Path]:
    """Lay down what a person gets and its password; where both are.

    Again for the same certificate, it is left as it is. Raises ``exists`` where something else of the
    person's is there, ``wrong-key-usage``, ``disk-full``.
    """
    secret = _password_file(row, pending, out)
    path = _place(row, out)
    if out.p12:
        if not path.exists():
            files.write_atomic(path, _p12(row, pending, chain))
        elif not _opens(path, pending, chain[0]):
            raise MedmailError("exists", path=str(path))
        return path, secret
    if path.exists():
        held = Keystore(path / "keystore").identities()
        if not any(one.certificate == chain[0] for one in held):
            raise MedmailError("exists", path=str(path))
        return path, secret
    building = _folder(row, out) / "home"
    shutil.rmtree(building, ignore_errors=True)
    _home(building, row, pending, chain, out, now)
    with files.disk_errors(path):
        building.rename(path)
        files.sync_folder(out.folder)
    return path, secret


def forget(row: "Professional", out: Handout) -> None:
    """Take away what waited for a person who has everything now, and what a kill left half made."""
    shutil.rmtree(_folder(row, out), ignore_errors=True)


def file_name(address: str) -> str:
    """An address as a file's name: no folder, nothing hidden, nothing a shell would read, not too long."""
    name = quote(address, safe="@+=").replace("~", "%7E")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 33]}~{hashlib.sha256(address.encode()).hexdigest()[:32]}"


def _place(row: "Professional", out: Handout) -> Path:
    """Where what the person gets is laid down."""
    return out.folder / f"{file_name(row.address)}{'.p12' if out.p12 else ''}"


def _folder(row: "Professional", out: Handout) -> Path:
    return out.folder / PENDING / file_name(canonical(row.address))


def _password_file(row: "Professional", pending: Pending, out: Handout) -> Path:
    if out.letters is not None and out.letter is not None:
        suffix, content = out.letter(row, pending.password)
        path = out.letters / f"{file_name(row.address)}{suffix}"
    else:
        content = pending.password.encode() + b"\n"
        path = out.folder / f"{file_name(row.address)}.password"
    files.write_atomic(path, content)
    return path


def _p12(row: "Professional", pending: Pending, chain: Sequence[x509.Certificate]) -> bytes:
    protection = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(pending.password.encode())
    )
    friendly = re.sub(r"[^\x20-\x7e]", "?", row.name or row.address).encode()
    return pkcs12.serialize_key_and_certificates(friendly, pending.key, chain[0], chain[1:], protection)


def _opens(path: Path, pending: Pending, certificate: x509.Certificate) -> bool:
    try:
        found = pkcs12.load_pkcs12(path.read_bytes(), pending.password.encode())
    except ValueError:
        return False
    return found.cert is not None and found.cert.certificate == certificate


def _home(
    folder: Path,
    row: "Professional",
    pending: Pending,
    chain: Sequence[x509.Certificate],
    out: Handout,
    now: datetime,
) -> None:
    certificate, *above = chain
    addresses, pinned = whom(certificate, row.address)
    Keystore(folder / "keystore", _CHEAP).create(pending.password.encode(), now).add(
        pending.key,
        certificate,
        above,
        addresses=addresses,
        pinned=pinned,
        name=row.name,
        purpose=serves_for(certificate),
        method=REGISTRAR_HELD,
        now=now,
    )
    if above and is_root(above[-1]) and fingerprint(above[-1]) in out.trusted:
        from medmail_cli.store.trust import Trust

        pem = above[-1].public_bytes(serialization.Encoding.PEM)
        Trust(folder / "trust", folder / "cache").add(pem, "order")
    for name, content in out.home(row.address).items():
        files.write_atomic(folder / name, content)
