"""``medmail enrol import``: an identity from the files one has."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.pki.path.chain import chain_of, is_root
from medmail_cli.pki.x509.certificate import issuer_text, public_key
from medmail_cli.pki.x509.keyfile import KeyFile
from medmail_cli.pki.x509.usage import Purpose
from medmail_cli.store.keys.identity import Identity, key_digest
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.enrol.certified import (
    Enrolment,
    certify,
    common_name,
    enrolment,
    roots_of,
    serves_for,
    speaks_for,
    warnings,
    whom,
)
from medmail_cli.workflows.enrol.offered_roots import Anchor, AskTrust, check_fingerprint, offer_roots

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.trust.anchors import Trust
    from medmail_cli.workflows.enrol.escrow import Escrow


@dataclass(frozen=True)
class _Pair:
    """A certificate with its key from the file, or with ``twin``, the identity that has the key here."""

    certificate: x509.Certificate
    private_key: "PrivateKeyTypes | None" = field(repr=False)
    twin: Identity | None
    addresses: tuple[str, ...]
    pinned: bool
    purpose: Purpose


def enrol_import(
    keystore: "Keystore",
    unlock: "Callable[[], Unlocked]",
    log: "AuditLog",
    trust: "Trust",
    found: KeyFile,
    *,
    now: dt.datetime,
    address: str | None = None,
    replace: bool = False,
    ca_fingerprint: str | None = None,
    ask_trust: AskTrust | None = None,
    escrow: "Escrow | None" = None,
) -> Iterator[Enrolment | Anchor | Note]:
    """Keep every key pair that ``found`` holds; a certificate alone finds its key in the keystore.

    What stands above it is taken from the file, from the identities that are here and from the helpers.
    Identities in use for the same address and purpose retire with ``replace``. Before anything is kept it
    raises ``key-mismatch``, ``key-not-here``, ``needs-address``, ``wrong-key-usage``,
    ``certificate-not-as-requested`` (another's address for a waiting key, and no ``address`` given) and
    ``ca-fingerprint-mismatch``.
    """
    held = keystore.identities()
    # the one that signs comes first: it vouches for the others' copies
    pairs = sorted(_pairs(found, held, address), key=lambda pair: pair.purpose == "encrypt")
    own = [pair.certificate for pair in pairs]
    roots = [one for one in found.certificates if is_root(one) and one not in own]
    roots += [root for root in roots_of(held) if root not in roots and ca_fingerprint == fingerprint(root)]
    check_fingerprint(trust, roots, ca_fingerprint, found.name)
    known = {one.sha256: one for one in held}
    helpers = (*(above for one in held for above in one.chain), *trust.intermediates())
    for pair in pairs:
        if same := known.get(fingerprint(pair.certificate)):
            yield enrolment("unchanged", same)
            continue
        chain = chain_of(pair.certificate, (*found.certificates, *helpers))
        retires = _retired(held, pair) if replace else ()
        one = _import(unlock(), log, pair, chain, now=now, retires=retires, escrow=escrow)
        yield enrolment("imported", one)
        waited = pair.twin is not None and pair.twin.state == "waiting"
        yield from warnings(one, now, pair.twin.purpose if pair.twin and waited else None)
    for left in _left_over(found, own):
        yield Note("certificate-without-key", {"subject": common_name(left)})
    yield from offer_roots(trust, log, pairs[0].addresses[0], roots, ca_fingerprint, ask_trust)


def _import(
    store: "Unlocked",
    log: "AuditLog",
    pair: _Pair,
    chain: Sequence[x509.Certificate],
    *,
    now: dt.datetime,
    retires: Sequence[str],
    escrow: "Escrow | None",
) -> Identity:
    certificate, twin = pair.certificate, pair.twin
    objects = (fingerprint(certificate),)
    with logged(log, "enrol", pair.addresses[0], objects, method="import", purpose=pair.purpose):
        if twin is not None and twin.state == "waiting":
            address = pair.addresses[0]
            return certify(
                store, twin, certificate, chain, method=twin.method, now=now, address=address, escrow=escrow
            )
        if pair.private_key is not None:
            private_key = pair.private_key
        elif twin is not None:
            private_key = store.unseal(twin)
        else:
            raise MedmailError("key-not-here")
        return store.add(
            private_key,
            certificate,
            chain,
            addresses=pair.addresses,
            pinned=pair.pinned,
            name=common_name(certificate),
            purpose=pair.purpose,
            method="import",
            now=now,
            replaces=retires,
        )


def _pairs(found: KeyFile, held: Sequence[Identity], address: str | None) -> list[_Pair]:
    """Each certificate that has its key here, in the file or in the keystore."""
    keys = {key_digest(key.public_key()): key for key in found.keys}
    here = {one.key_sha256: one for one in held}
    pairs, matched = [], set()
    for certificate in found.certificates:
        key = public_key(certificate)
        digest = "" if key is None else key_digest(key)
        if digest not in keys and digest not in here:
            continue
        matched.add(digest)
        twin = here.get(digest)
        bears, pinned = whom(certificate, address or (twin.address if twin else None))
        if twin is not None and twin.state == "waiting" and address is None and pinned and len(bears) > 1:
            # one that bears no address is the authority's way; one that bears another's is a mistake
            raise MedmailError(
                "certificate-not-as-requested",
                url=issuer_text(certificate),
                reason="wrong-name",
                address=twin.address,
            )
        pairs.append(_Pair(certificate, keys.get(digest), twin, bears, pinned, serves_for(certificate)))
    if keys.keys() - matched:
        raise MedmailError("key-mismatch")
    if not pairs:
        raise MedmailError("key-not-here")
    return pairs


def _retired(held: Sequence[Identity], pair: _Pair) -> list[str]:
    """Whom a new identity replaces: those in use for one of its addresses whose work it does."""
    return [
        one.id
        for one in held
        if one.state == "active" and pair.purpose in (one.purpose, "both")
        if any(speaks_for(one, mine) for mine in pair.addresses)
    ]


def _left_over(found: KeyFile, own: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """Certificates of the file that are neither an identity nor above one."""
    above = {higher for certificate in own for higher in chain_of(certificate, found.certificates)}
    for certificate in found.certificates:
        if certificate not in own and certificate not in above and not is_root(certificate):
            yield certificate
