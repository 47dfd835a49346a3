"""``medmail enrol import``: an identity from the files one has."""

from collections.abc import Callable, Generator, Iterator, Sequence
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
from medmail_cli.registers import BY_HAND
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
    from medmail_cli.store.log.run import RunContext
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
    run: "RunContext",
    trust: "Trust",
    key_file: KeyFile,
    *,
    address: str | None = None,
    replace: bool = False,
    ca_fingerprint: str | None = None,
    ask_trust: AskTrust | None = None,
    escrow: "Escrow | None" = None,
) -> Generator[Enrolment | Anchor | Note, None, bool]:
    """Keep every key pair that ``key_file`` holds; a certificate alone finds its key in the keystore.

    What stands above it is taken from the file, from the identities that are here and from the helpers.
    Identities in use for the same address and purpose retire with ``replace``. Returns whether a certificate
    came for a key made here, whose request went out by hand: any other key is in its file too. Before
    anything is kept it raises ``key-mismatch``, ``key-not-here``, ``needs-address``, ``wrong-key-usage``,
    ``certificate-not-as-requested`` (another's address for a waiting key, and no ``address`` given) and
    ``ca-fingerprint-mismatch``.
    """
    held = keystore.identities()
    # the one that signs comes first: it vouches for the others' copies
    pairs = sorted(_pairs(key_file, held, address), key=lambda pair: pair.purpose == "encrypt")
    own = [pair.certificate for pair in pairs]
    roots = [
        certificate
        for certificate in key_file.certificates
        if is_root(certificate) and certificate not in own
    ]
    roots += [root for root in roots_of(held) if root not in roots and ca_fingerprint == fingerprint(root)]
    check_fingerprint(trust, roots, ca_fingerprint, key_file.name)
    known = {each.sha256: each for each in held}
    helpers = (*(above for each in held for above in each.chain), *trust.intermediates())
    fresh = False
    for pair in pairs:
        if same := known.get(fingerprint(pair.certificate)):
            yield enrolment("unchanged", same)
            continue
        chain = chain_of(pair.certificate, (*key_file.certificates, *helpers))
        retires = _retired(held, pair) if replace else ()
        identity = _import(unlock(), run, pair, chain, retires=retires, escrow=escrow)
        fresh = fresh or identity.method == BY_HAND
        yield enrolment("imported", identity)
        waited = pair.twin is not None and pair.twin.state == "waiting"
        yield from warnings(identity, run.now, pair.twin.purpose if pair.twin and waited else None)
    for left in _left_over(key_file, own):
        yield Note("certificate-without-key", {"subject": common_name(left)})
    yield from offer_roots(trust, run.acting(pairs[0].addresses[0]), roots, ca_fingerprint, ask_trust)
    return fresh


def _import(
    store: "Unlocked",
    run: "RunContext",
    pair: _Pair,
    chain: Sequence[x509.Certificate],
    *,
    retires: Sequence[str],
    escrow: "Escrow | None",
) -> Identity:
    certificate, twin = pair.certificate, pair.twin
    objects = (fingerprint(certificate),)
    with logged(run.acting(pair.addresses[0]), "enrol", objects, method="import", purpose=pair.purpose):
        if twin is not None and twin.state == "waiting":
            address = pair.addresses[0]
            return certify(
                store,
                twin,
                certificate,
                chain,
                method=twin.method,
                now=run.now,
                address=address,
                escrow=escrow,
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
            now=run.now,
            replaces=retires,
        )


def _pairs(key_file: KeyFile, held: Sequence[Identity], address: str | None) -> list[_Pair]:
    """Each certificate that has its key here, in the file or in the keystore."""
    keys = {key_digest(key.public_key()): key for key in key_file.keys}
    here = {identity.key_sha256: identity for identity in held}
    pairs, matched = [], set()
    for certificate in key_file.certificates:
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
        identity.id
        for identity in held
        if identity.state == "active" and pair.purpose in (identity.purpose, "both")
        if any(speaks_for(identity, mine) for mine in pair.addresses)
    ]


def _left_over(key_file: KeyFile, own: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """Certificates of the file that are neither an identity nor above one."""
    above = {higher for certificate in own for higher in chain_of(certificate, key_file.certificates)}
    for certificate in key_file.certificates:
        if certificate not in own and certificate not in above and not is_root(certificate):
            yield certificate
