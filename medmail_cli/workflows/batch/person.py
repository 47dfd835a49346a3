"""One person of a batch: keys and requests before anything is asked; what they are given afterwards.

While the authority is asked, keys, requests and password lie sealed under the registrar's keystore in
``.pending/``. One key is made after the other, because the certificate of the one that signs vouches for one
that cannot (RFC 9883). What a person gets is a PKCS#12 file for each key or a whole medmail home, under a
password of 100 random bits, which nobody chose and which so needs no costly derivation; and the password, in
a letter or a file of its own. Each appears whole, so that a kill leaves nothing half made.
"""

import base64
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from medmail_cli.cms.certificates import fingerprint, load, unrepaired
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.chain import is_root
from medmail_cli.pki.x509.address import canonical
from medmail_cli.store import files
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.identity import key_digest
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.pending_requests import FileMemory
from medmail_cli.store.keys.unlocked import create_keystore
from medmail_cli.workflows.enrol.certified import REGISTRAR_HELD, serves_for, whom
from medmail_cli.workflows.enrol.key_kinds import ENCRYPTION_ONLY
from medmail_cli.workflows.enrol.key_pairs import Pair, make_key, request

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12PrivateKeyTypes

    from medmail_cli.model import PrivateKey
    from medmail_cli.workflows.batch.roster import Professional

_CHEAP = seal.Cost(memory=1024, passes=1, lanes=1)
_ROUNDS = 2048
"""Of PKCS#12's key derivation: enough, the password being random; old readers refuse none at all."""
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
PENDING = ".pending"
_LONGEST_NAME = 200
"""Octets of a file's name, so that there is room for what is added to it."""


Chain = tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class Pending:
    """A key and the request for its certificate (PKCS#10, DER)."""

    pair: Pair
    key: "PrivateKeyTypes" = field(repr=False)
    request: bytes = field(repr=False)

    @property
    def key_sha256(self) -> str:
        """The name of the key pair."""
        return key_digest(self.key.public_key())


@dataclass(frozen=True)
class Prepared:
    """A person's keys, as far as they are made, and the chains that came for the first of them."""

    pairs: tuple[Pair, ...]
    password: str = field(repr=False)
    keys: tuple[Pending, ...] = ()
    chains: tuple[Chain, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every certificate has come."""
        return len(self.chains) == len(self.pairs)

    @property
    def next(self) -> Pending:
        """The key whose certificate is asked for next."""
        return self.keys[len(self.chains)]

    @property
    def prover(self) -> "PrivateKey":
        """Who signs that request: the key itself, or the one that vouches for it."""
        vouched = self.next.pair.kind in ENCRYPTION_ONLY
        return SoftwareKey((self.keys[0] if vouched else self.next).key)


@dataclass(frozen=True)
class Handout:
    """Where and how people's keys are laid down.

    ``letter`` puts a person and their password into the words (octets) of a letter, for ``letters``, a
    folder; without that the password lies beside. ``home`` gives the other files of an address's home,
    ``trusted`` the SHA-256 of the roots that a home shall trust.
    """

    folder: Path
    sealing: bytes = field(repr=False)
    p12: bool = False
    letters: Path | None = None
    letter: "Callable[[Professional, str], tuple[str, bytes]] | None" = None
    home: Callable[[str], Mapping[str, bytes]] = lambda _address: {}
    trusted: frozenset[str] = frozenset()


def prepare(
    row: "Professional", pairs: tuple[Pair, ...], received: Sequence[Sequence[bytes]], out: Handout
) -> Prepared:
    """A person's keys up to the first that has no certificate among those ``received`` (chains, DER).

    Those that wait already are kept, of whatever kind they are; where the person's name or number has
    changed meanwhile, they are made anew. Raises ``exists`` where something stands already where the keys
    shall be laid down, ``disk-full``, ``malformed``.
    """
    prepared = _stored(row, out)
    if prepared is None:
        prepared = Prepared(pairs, "-".join(_quarter() for _ in range(4)))
        for pair in pairs:
            if (path := _place(row, pair, out)).exists():
                # better said before a certificate is asked for
                raise MedmailError("exists", path=str(path))
    loaded = [tuple(map(load, chain)) for chain in received]
    of_key = {key_digest(chain[0].public_key()): chain for chain in loaded}
    chains: list[Chain] = []
    for pair in prepared.pairs:
        if len(prepared.keys) == len(chains):
            prepared = replace(prepared, keys=(*prepared.keys, _made(row, pair, prepared.keys, chains)))
            _store(row, prepared, out)
        chain = of_key.get(prepared.keys[len(chains)].key_sha256)
        if chain is None:
            break
        chains.append(chain)
    return replace(prepared, chains=tuple(chains))


def _quarter() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(5))


def _made(row: "Professional", pair: Pair, before: Sequence[Pending], chains: Sequence[Chain]) -> Pending:
    private = make_key(pair.kind)
    signer = (SoftwareKey(before[0].key), chains[0][0]) if pair.kind in ENCRYPTION_ONLY else None
    wanted = request(
        private,
        pair,
        address=row.address,
        name=row.name,
        rpps=row.rpps,
        organisation=row.organisation,
        signer=signer,
    )
    return Pending(pair, private, wanted)


def _about(row: "Professional") -> list[str]:
    return [row.address, row.name, row.rpps, row.organisation]


def _stored(row: "Professional", out: Handout) -> Prepared | None:
    """What waits for the person; None where nothing does, or nothing that this keystore can read."""
    try:
        sealed = json.loads((_folder(row, out) / "keys").read_bytes())
        values = json.loads(seal.unseal(out.sealing, sealed, _bound(row)) or b"{}")
        if values.get("about") != _about(row):
            return None
        pairs = tuple(Pair(**pair) for pair in values["pairs"])
        keys = [
            Pending(pair, serialization.load_der_private_key(der, None), wanted)
            for pair, (der, wanted) in zip(pairs, _decoded(values["keys"]), strict=False)
        ]
        return Prepared(pairs, values["password"], tuple(keys))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _store(row: "Professional", prepared: Prepared, out: Handout) -> None:
    keys = [(_pkcs8(pending.key), pending.request) for pending in prepared.keys]
    values: dict[str, Any] = {
        "about": _about(row),
        "password": prepared.password,
        "pairs": [asdict(pair) for pair in prepared.pairs],
        "keys": [[base64.b64encode(part).decode() for part in each] for each in keys],
    }
    sealed = seal.seal(out.sealing, json.dumps(values).encode(), _bound(row))
    files.write_atomic(_folder(row, out) / "keys", json.dumps(sealed).encode())


def _decoded(keys: Sequence[Sequence[str]]) -> Iterator[list[bytes]]:
    for each in keys:
        yield [base64.b64decode(part) for part in each]


def _bound(row: "Professional") -> bytes:
    return canonical(row.address).encode()


def _pkcs8(key: "PrivateKeyTypes") -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def memory(row: "Professional", pending: Pending, out: Handout) -> FileMemory:
    """Where what a request has come to is kept, until it is forgotten with the rest."""
    return FileMemory(_folder(row, out) / f"{pending.key_sha256[:16]}.transaction")


def hand_out(
    row: "Professional", prepared: Prepared, out: Handout, now: datetime
) -> tuple[tuple[Path, ...], Path]:
    """Lay down what a person gets and its password; where each key and the password are.

    Again for the same certificates, it is left as it is. Raises ``exists`` where something else of the
    person's is there, ``wrong-key-usage``, ``disk-full``.
    """
    for pair, (certificate, *_above) in zip(prepared.pairs, prepared.chains, strict=True):
        serves = serves_for(certificate)
        if pair.purpose != "both" and serves not in ("both", pair.purpose):
            raise MedmailError("wrong-key-usage", sha256=fingerprint(certificate))
    secret = _password_file(row, prepared.password, out)
    paths = tuple(_place(row, pair, out) for pair in prepared.pairs)
    if out.p12:
        for path, pending, chain in zip(paths, prepared.keys, prepared.chains, strict=True):
            if not path.exists():
                files.write_atomic(path, _p12(row, pending.key, chain, prepared.password))
            elif not _opens(path, prepared.password, chain[0]):
                raise MedmailError("exists", path=str(path))
        return paths, secret
    path = paths[0]
    if path.exists():
        held = {identity.certificate for identity in Keystore(path / "keystore").identities()}
        if not held.issuperset(chain[0] for chain in prepared.chains):
            raise MedmailError("exists", path=str(path))
        return paths, secret
    building = _folder(row, out) / "home"
    shutil.rmtree(building, ignore_errors=True)
    _home(building, row, prepared, out, now)
    with files.disk_errors(path):
        building.rename(path)
        files.sync_folder(out.folder)
    return paths, secret


def forget(row: "Professional", out: Handout) -> None:
    """Take away what waited for a person who has everything now, and what a kill left half made."""
    shutil.rmtree(_folder(row, out), ignore_errors=True)


def file_name(address: str) -> str:
    """An address as a file's name: no folder, nothing hidden, nothing a shell would read, not too long."""
    name = quote(address, safe="@+=").replace("~", "%7E")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 33]}~{hashlib.sha256(address.encode()).hexdigest()[:32]}"


def _place(row: "Professional", pair: Pair, out: Handout) -> Path:
    """Where what the person gets is laid down: a home, or a file for each key."""
    suffix = "" if not out.p12 else ".encryption.p12" if pair.purpose == "encrypt" else ".p12"
    return out.folder / f"{file_name(row.address)}{suffix}"


def _folder(row: "Professional", out: Handout) -> Path:
    return out.folder / PENDING / file_name(canonical(row.address))


def _password_file(row: "Professional", password: str, out: Handout) -> Path:
    if out.letters is not None and out.letter is not None:
        suffix, content = out.letter(row, password)
        path = out.letters / f"{file_name(row.address)}{suffix}"
    else:
        content = password.encode() + b"\n"
        path = out.folder / f"{file_name(row.address)}.password"
    files.write_atomic(path, content)
    return path


def _p12(row: "Professional", key: "PrivateKeyTypes", chain: Chain, password: str) -> bytes:
    protection = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )
    friendly = re.sub(r"[^\x20-\x7e]", "?", row.name or row.address).encode()
    held = cast("PKCS12PrivateKeyTypes", key)  # the command lets no others be asked for
    return pkcs12.serialize_key_and_certificates(friendly, held, chain[0], unrepaired(chain[1:]), protection)


def _opens(path: Path, password: str, certificate: x509.Certificate) -> bool:
    try:
        bundle = pkcs12.load_pkcs12(path.read_bytes(), password.encode())
    except ValueError:
        return False
    return bundle.cert is not None and bundle.cert.certificate == certificate


def _home(folder: Path, row: "Professional", prepared: Prepared, out: Handout, now: datetime) -> None:
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.trust.anchors import Trust
    from medmail_cli.store.trust.believed import SEAL_LABEL, Believed
    from medmail_cli.workflows.audited import logged

    store = create_keystore(Keystore(folder / "keystore", _CHEAP), prepared.password.encode(), now)
    for pending, (certificate, *above) in zip(prepared.keys, prepared.chains, strict=True):
        addresses, pinned = whom(certificate, row.address)
        store.add(
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
    root = prepared.chains[0][-1]
    with AuditLog(folder / "audit", lambda: now) as log:
        log.start()
        if is_root(root) and fingerprint(root) in out.trusted:
            run = RunContext(log, REGISTRAR_HELD, now)
            with logged(run, "trust-add", (fingerprint(root),), kind="anchor"):
                trust = Trust(folder / "trust", folder / "cache")
                trust.add(root.public_bytes(serialization.Encoding.PEM), "order")
        believed = Believed(log, folder / "cache")
        believed.seal(store.keystore.folder, store.subkey(SEAL_LABEL))
    for name, content in out.home(row.address).items():
        files.write_atomic(folder / name, content)
