"""Keys that an authority makes (``enrol new --server-key``, EST's serverkeygen).

What it answers cannot be asked for again (RFC 7030 §4.4 knows no way): a run that is cut off between its
answer and our disk loses a key that has its certificate. So that a request is under way, and then what
certificate came, stands in a file beside the identities until all is kept: the next run goes on with a key
that is here, and tells of one that is not.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Sequence
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
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.workflows.enrol.authority import KeyMaker, Subject
    from medmail_cli.workflows.enrol.escrow import Escrow


_REFUSALS = {"ca-rejected", "ca-refused", "ca-redirected"}
"""How an authority says that it has made no key."""


def generated(
    store: "Unlocked",
    log: "AuditLog",
    ca: "KeyMaker",
    subject: "Subject",
    pair: Pair,
    replaces: Sequence[str],
    now: Callable[[], dt.datetime],
    escrow: "Escrow | None",
) -> Iterator[Enrolment | Note]:
    """A key that the authority made, kept with its certificate.

    What signs too is marked: its holder is not the only one who has had it. ``possible-duplicate`` where an
    earlier request's end is not known. Raises what the authority raises.
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
        told: dict[str, str | int] = {
            "address": subject.address,
            "authority": ca.url,
            "date": before.since[:10],
        }
        yield Note("server-key-lost", told)
    doubtful = before.doubtful or (bool(before.since) and arrived is None)
    with logged(log, "enrol", subject.address, (), **facts):
        if arrived is None:
            now_asked = _UnderWay(before.since or now().astimezone(dt.UTC).isoformat(), doubtful)
            under_way.save(now_asked.written())
            # a request must be signed; the key that does it is used for nothing else
            passing = make_key(pair.kind)
            opens = [
                (one.certificate, store.private_key(one))
                for one in store.identities()
                if one.certificate is not None and one.purpose != "sign" and one.authority == ca.url
                if speaks_for(one, subject.address)
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
                method=ca.method, authority=ca.url, name=subject.name, purpose=pair.purpose, now=now(),
                replaces=replaces,
            )  # fmt: skip
        else:
            chain = before.chain
        held = ca.method if serves_for(chain[0]) == "encrypt" else REGISTRAR_HELD
        one = certify(store, arrived, chain[0], chain[1:], method=held, now=now(), escrow=escrow)
        under_way.save(b"")
    yield enrolment("possible-duplicate" if doubtful else "enrolled", one)
    yield from warnings(one, now())


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
    if chain and any(one.certificate == chain[0] for one in store.identities()):
        return _UnderWay(), None  # all but taking this note away was done
    digest = key_digest(chain[0].public_key()) if chain else None
    waits = (one for one in store.identities() if one.state == "waiting" and one.key_sha256 == digest)
    return _UnderWay(since, how == "again", chain), next(waits, None)
