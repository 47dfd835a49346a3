"""Keys that an authority makes (``enrol new --server-key``, EST's serverkeygen).

What it answers cannot be asked for again (RFC 7030 §4.4 knows no way): a run that is cut off between its
answer and our disk loses a key that has its certificate. So that a request is under way, and then what
certificate came, stands in a file beside the identities until all is kept: the next run goes on with a key
that is here, and tells of one that is not.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import load_pems
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.store.keys.identity import ID_DIGITS, Identity, chain_pem, key_digest
from medmail_cli.store.keys.pending_requests import FileMemory
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.enrol.certified import (
    REGISTRAR_HELD,
    Enrolment,
    certify,
    enrolment,
    serves_for,
    speaks_for,
    warnings,
)
from medmail_cli.workflows.enrol.key_pairs import Pair, make_key, request

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.workflows.enrol.authority import KeyMaker, Subject
    from medmail_cli.workflows.enrol.escrow import Escrow


_REFUSALS = {"ca-rejected", "ca-refused", "ca-redirected"}
"""How an authority says that it has made no key."""


def generated(
    store: "Unlocked",
    run: "RunContext",
    ca: "KeyMaker",
    subject: "Subject",
    pair: Pair,
    replaces: Sequence[str],
    clock: Callable[[], dt.datetime],
    escrow: "Escrow | None",
) -> Generator[Enrolment | Note, None, bool]:
    """A key that the authority made, kept with its certificate.

    What signs too is marked: its holder is not the only one who has had it. ``possible-duplicate`` where an
    earlier request's end is not known; returns whether it is. Raises what the authority raises.
    """

    def asked(private_key: "PrivateKeyTypes") -> x509.CertificateSigningRequest:
        wanted = request(private_key, pair, address=subject.address, name=subject.name, rpps=subject.rpps)
        return x509.load_der_x509_csr(wanted)

    facts = {"method": ca.method, "authority": ca.url, "key": pair.kind, "made-by": "authority"}
    ca.anchors()  # who cannot be reached is not asked for anything
    named = hashlib.sha256(f"{ca.url}\0{subject.address}\0{pair.purpose}".encode()).hexdigest()
    under_way = FileMemory(store.keystore.folder / f"{named[:ID_DIGITS]}.asked")
    before, arrived = _under_way(store, under_way.load())
    if before.since and arrived is None:
        lost: dict[str, str | int] = {
            "address": subject.address,
            "authority": ca.url,
            "date": before.since[:10],
        }
        yield Note("server-key-lost", lost)
    doubtful = before.doubtful or (bool(before.since) and arrived is None)
    with logged(run.acting(subject.address), "enrol", **facts):
        if arrived is None:
            now_asked = _UnderWay(before.since or clock().astimezone(dt.UTC).isoformat(), doubtful)
            under_way.save(now_asked.written())
            # a request must be signed; the key that does it is used for nothing else
            passing = make_key(pair.kind)
            opens = [
                (each.certificate, store.private_key(each))
                for each in store.identities()
                if each.certificate is not None and each.purpose != "sign" and each.authority == ca.url
                if speaks_for(each, subject.address)
            ]
            try:
                private_key, chain = ca.generate(asked(passing), SoftwareKey(passing), opens)
            except MedmailError as error:
                if error.code in _REFUSALS and not doubtful:
                    under_way.save(b"")
                raise
            under_way.save(replace(now_asked, chain=chain).written())
            arrived = store.add_waiting(
                private_key, asked(private_key).public_bytes(Encoding.DER), address=subject.address,
                method=ca.method, authority=ca.url, name=subject.name, purpose=pair.purpose, now=clock(),
                replaces=replaces,
            )  # fmt: skip
        else:
            chain = before.chain
        held = ca.method if serves_for(chain[0]) == "encrypt" else REGISTRAR_HELD
        identity = certify(store, arrived, chain[0], chain[1:], method=held, now=clock(), escrow=escrow)
        under_way.save(b"")
    yield enrolment("possible-duplicate" if doubtful else "enrolled", identity)
    yield from warnings(identity, clock())
    return not doubtful


@dataclass(frozen=True)
class _UnderWay:
    """A request ``since`` when (ISO 8601) no end is known; ``doubtful`` if one before it was lost.

    ``chain`` is what came: the certificate and those above it.
    """

    since: str = ""
    doubtful: bool = False
    chain: tuple[x509.Certificate, ...] = ()

    def written(self) -> bytes:
        """For the next run; nothing in it is secret."""
        return f"{self.since} {'again' if self.doubtful else 'first'}\n".encode() + chain_pem(self.chain)


def _under_way(store: "Unlocked", kept: bytes) -> tuple[_UnderWay, Identity | None]:
    """What a run before this one left, and the key that came, where it is here and waits."""
    if not kept:
        return _UnderWay(), None
    line, _, pem = kept.partition(b"\n")
    since, _, how = line.decode("ascii", "replace").partition(" ")
    chain = load_pems(pem)
    if chain and any(identity.certificate == chain[0] for identity in store.identities()):
        return _UnderWay(), None  # all but taking this note away was done
    digest = key_digest(chain[0].public_key()) if chain else None
    waits = (
        identity
        for identity in store.identities()
        if identity.state == "waiting" and identity.key_sha256 == digest
    )
    return _UnderWay(since, how == "again", chain), next(waits, None)
