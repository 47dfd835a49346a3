"""``medmail enrol``: getting an identity from an authority or by a request, and renewing it."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Note
from medmail_cli.registers import BY_HAND
from medmail_cli.store.files import write_output
from medmail_cli.store.keys.identity import CARD, Identity, key_digest, request_pem
from medmail_cli.store.keys.pending_requests import memory_of
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.enrol.authority import Authority, KeyMaker, Subject
from medmail_cli.workflows.enrol.certified import (
    Enrolment,
    certify,
    covers,
    enrolment,
    roots_of,
    speaks_for,
    warnings,
)
from medmail_cli.workflows.enrol.key_kinds import GENERAL, SIGNING
from medmail_cli.workflows.enrol.key_pairs import (
    Pair,
    check_kind,
    kind_after,
    make_key,
    pairs,
    preferred,
    prover,
    request,
    voucher,
)
from medmail_cli.workflows.enrol.offered_roots import Anchor, AskTrust, offer_roots
from medmail_cli.workflows.enrol.same_key import renew_same_key
from medmail_cli.workflows.enrol.server_key import generated

if TYPE_CHECKING:
    from medmail_cli.model import Memory, PrivateKey
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.trust.anchors import Trust
    from medmail_cli.workflows.enrol.escrow import Escrow


def enrol_new(
    keystore: "Keystore",
    unlock: "Callable[[], Unlocked]",
    run: "RunContext",
    trust: "Trust",
    authority: "Callable[[], Authority | None]",
    subject: Subject,
    *,
    clock: Callable[[], dt.datetime],
    key: str | None = None,
    two: bool = False,
    replace: bool = False,
    output: Path | None = None,
    force: bool = False,
    ca_fingerprint: str | None = None,
    ask_trust: AskTrust | None = None,
    escrow: "Escrow | None" = None,
    server_key: bool = False,
) -> Generator[Enrolment | Anchor | Note, None, bool]:
    """Make a key, or ``two``, and get a certificate for each; by hand the request is given out.

    A request that waits is sent, or given out, again; an identity that is valid now is left unchanged
    unless ``replace``. A key is sealed on disk before its request leaves, so a kill loses nothing.
    ``unlock`` opens the keystore, or makes it, when it is needed. With ``server_key`` the authority makes
    the key that encrypts; a run killed before the answer is kept has lost that key, and the next one says
    ``possible-duplicate``. Returns whether a certificate has come for a new key, and no doubt with it.
    Raises what the authority raises.
    """
    unchanged, roots = dict[str, Identity](), dict[x509.Certificate, None]()
    by_hand: list[Identity] = []
    later: list[Note] = []
    fresh = False

    def made_there(pair: Pair) -> bool:
        return server_key and pair.purpose != "sign"

    def held(pair: Pair) -> _Held:
        already = _held(keystore, subject.address, pair, clock())
        return dataclasses.replace(already, waiting=()) if made_there(pair) else already

    ca: Authority | None = None
    wanted = pairs(key, two=two)
    begun = [held(pair) for pair in wanted]
    if replace or not all(already.enough for already in begun):
        ca = authority()
        if ca is not None and not any(already.waiting for already in begun):
            kinds = ca.key_kinds()
            check_kind(key, kinds, ca.url)
            wanted = pairs(key or preferred(kinds, GENERAL if server_key else SIGNING), two=two)
    for pair in wanted:
        before = held(pair)
        if before.enough and not replace:
            unchanged |= {each.id: each for each in before.does}
            roots |= dict.fromkeys(roots_of(before.does))
            continue
        store = unlock()
        if before.waiting:
            identity = before.waiting[-1]
            if key is not None and pair.kind != identity.key_type:
                yield Note("request-waits", {"address": subject.address, "key": identity.key_type})
        else:
            old = [
                active
                for active in before.active
                if pair.replaces(active) and (replace or active not in before.valid)
            ]
            replaced = [each.id for each in old]
            if made_there(pair):
                assert isinstance(ca, KeyMaker)  # noqa: S101 - the command lets no other be asked
                fresh |= yield from generated(store, run, ca, subject, pair, replaced, clock, escrow)
                roots |= dict.fromkeys(ca.anchors())
                continue
            try:
                identity = _request(store, run, ca, subject, pair, replaced, clock())
            except MedmailError as error:
                if error.code != "no-signer" or not by_hand:
                    raise
                # the request of the one that signs must get out first
                later.append(Note("signer-first", {"address": subject.address, "key": pair.kind}))
                continue
        if ca is None:
            by_hand.append(identity)
            continue
        enrolled = _certified(store, run, "enrol", identity, ca.enrol, ca, clock, escrow)
        fresh = True
        yield enrolment("enrolled", enrolled)
        yield from warnings(enrolled, clock(), pair.purpose)
        roots |= dict.fromkeys(ca.anchors())
    for identity in unchanged.values():
        yield enrolment("unchanged", identity)
    yield from _given_out(by_hand, output, force=force)
    yield from later
    yield from offer_roots(trust, run.acting(subject.address), tuple(roots), ca_fingerprint, ask_trust)
    return fresh


@dataclass(frozen=True)
class _Held:
    """What an address has already of what a key pair is for; ``does`` does some of its work today."""

    waiting: tuple[Identity, ...]
    active: tuple[Identity, ...]
    valid: tuple[Identity, ...]
    does: tuple[Identity, ...]
    uses: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether nothing is left to be asked for."""
        return not self.waiting and {use for each in self.does for use in _uses(each)} >= set(self.uses)


def _held(keystore: "Keystore", address: str, pair: Pair, now: dt.datetime) -> _Held:
    held = [identity for identity in keystore.identities() if speaks_for(identity, address)]
    active = tuple(identity for identity in held if identity.state == "active")
    valid = tuple(
        identity
        for identity in active
        if identity.certificate and identity.certificate.not_valid_after_utc > now
    )
    does = tuple(
        identity for identity in valid if identity.purpose in (pair.purpose, "both") or pair.purpose == "both"
    )
    return _Held(
        tuple(identity for identity in held if identity.state == "waiting" and pair.fits(identity)),
        active,
        valid,
        tuple(identity for identity in does if pair.post_quantum == identity.key_type.startswith("ml-kem")),
        _uses(pair),
    )


def enrol_renew(
    keystore: "Keystore",
    unlock: "Callable[[], Unlocked]",
    run: "RunContext",
    authority: "Callable[[Identity], Authority | None]",
    addresses: Sequence[str],
    *,
    clock: Callable[[], dt.datetime],
    within: dt.timedelta | None = None,
    key: str | None = None,
    escrow: "Escrow | None" = None,
    same_key: bool = False,
) -> Generator[Enrolment | Note, None, bool]:
    """A new key and certificate for every identity in use of ``addresses`` (none: of all).

    With ``same_key`` the key stays, and only the certificate is new.
    ``within`` leaves alone those that do not end so soon. The old key is kept for reading; the request that
    a run before this one left is sent again. ``authority`` says whom to ask, None for a request by hand.
    Returns whether anything was renewed. Raises ``no-identity``, and what happened where there is only one to
    renew; ``key-on-card`` for a card's.
    """
    used = [held for held in keystore.identities() if held.state == "active"]
    for address in addresses:
        if not any(speaks_for(held, address) for held in used):
            raise MedmailError("no-identity", address=address)
    wanted = [held for held in used if not addresses or any(speaks_for(held, each) for each in addresses)]
    wanted = [
        held for held in wanted if not any(other is not held and _replaced(held, other) for other in used)
    ]
    if not wanted:
        raise MedmailError("no-identity", address="")
    fresh = False
    for identity in wanted:
        if within is not None and identity.expires is not None and identity.expires > clock() + within:
            yield enrolment("unchanged", identity)
            continue
        try:
            if identity.method == CARD:  # a key of ours would take its place
                raise MedmailError("key-on-card", address=identity.address)
            if same_key:
                fresh |= yield from renew_same_key(
                    unlock(), run, authority(identity), identity, clock, escrow
                )
            else:
                fresh |= yield from _renew(unlock(), run, authority(identity), identity, key, clock, escrow)
        except MedmailError as error:
            if len(wanted) == 1:
                raise
            yield replace(enrolment("failed", identity), code=error.code, exit=exit_of(error.code))
    return fresh


def _replaced(identity: Identity, other: Identity) -> bool:
    """Whether ``other`` came later and does the same work."""
    return bool(
        identity.expires and other.expires and other.expires > identity.expires and covers(other, identity)
    )


def _renew(
    store: "Unlocked",
    run: "RunContext",
    ca: Authority | None,
    old: Identity,
    key: str | None,
    clock: Callable[[], dt.datetime],
    escrow: "Escrow | None",
) -> Generator[Enrolment | Note, None, bool]:
    """Whether there is a certificate; by hand there is none yet."""
    held = store.identities()
    waiting = next((each for each in held if each.state == "waiting" and old.id in each.replaces), None)
    if waiting is None:
        kinds = ca.key_kinds() if ca else ()
        check_kind(key, kinds, ca.url if ca else "")
        subject, pair = Subject(old.address, old.name), Pair(key or kind_after(old, kinds), old.purpose)
        waiting = _request(store, run, ca, subject, pair, [old.id], clock(), renewed=old)
    if ca is None:
        yield from _given_out([waiting], None, force=False)
        return False
    renewed = _certified(store, run, "enrol-renew", waiting, ca.renew, ca, clock, escrow)
    yield enrolment("renewed", renewed)
    yield from warnings(renewed, clock())
    return True


def _given_out(waiting: Sequence[Identity], output: Path | None, *, force: bool) -> Iterator[Enrolment]:
    """Requests to be sent by hand: told, and put into one file."""
    texts = [request_pem(each.request or b"") for each in waiting]
    if output is not None and texts:
        write_output(output, b"".join(texts), force=force, mode=0o644)
    for identity, text in zip(waiting, texts, strict=True):
        yield enrolment("waiting", identity, request=text.decode(), saved_as=output)


def _certified(
    store: "Unlocked",
    run: "RunContext",
    action: str,
    waiting: Identity,
    ask: "Callable[[x509.CertificateSigningRequest, PrivateKey, Memory], tuple[x509.Certificate, ...]]",
    ca: Authority,
    clock: Callable[[], dt.datetime],
    escrow: "Escrow | None",
) -> Identity:
    """Send a waiting request and keep the certificate that comes."""
    facts = {"method": ca.method, "authority": ca.url, "key": waiting.key_type}
    with logged(run.acting(waiting.address), action, (waiting.key_sha256,), **facts):
        memory = memory_of(store.keystore, waiting)
        csr = x509.load_der_x509_csr(waiting.request or b"")
        certificate, *chain = ask(csr, prover(store, waiting), memory)
        certified = certify(store, waiting, certificate, chain, method=ca.method, now=clock(), escrow=escrow)
        memory.save(b"")
        return certified


def _request(
    store: "Unlocked",
    run: "RunContext",
    ca: Authority | None,
    subject: Subject,
    pair: Pair,
    replaces: Sequence[str],
    now: dt.datetime,
    renewed: Identity | None = None,
) -> Identity:
    """A new key and a request for it, both on disk; ``renewed`` gives the names. Raises ``no-signer``."""
    signer = voucher(store, subject.address, pair.kind)
    private_key = make_key(pair.kind)
    digest = key_digest(private_key.public_key())
    method = ca.method if ca else BY_HAND
    with logged(run.acting(subject.address), "enrol-request", (digest,), method=method, key=pair.kind):
        wanted = request(
            private_key,
            pair,
            address=subject.address,
            name=subject.name,
            rpps=subject.rpps,
            like=renewed.certificate if renewed else None,
            signer=signer,
        )
        return store.add_waiting(
            private_key,
            wanted,
            address=subject.address,
            method=method,
            authority=ca.url if ca else None,
            name=subject.name,
            purpose=pair.purpose,
            now=now,
            replaces=replaces,
        )


def _uses(identity_or_pair: Identity | Pair) -> tuple[str, ...]:
    return ("sign", "encrypt") if identity_or_pair.purpose == "both" else (identity_or_pair.purpose,)
