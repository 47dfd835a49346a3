"""``medmail enrol``: getting an identity from an authority or by a request, and renewing it."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
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
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.trust.anchors import Trust
    from medmail_cli.workflows.enrol.escrow import Escrow


def enrol_new(
    keystore: "Keystore",
    unlock: "Callable[[], Unlocked]",
    log: "AuditLog",
    trust: "Trust",
    authority: "Callable[[], Authority | None]",
    subject: Subject,
    *,
    now: Callable[[], dt.datetime],
    key: str | None = None,
    two: bool = False,
    replace: bool = False,
    output: Path | None = None,
    force: bool = False,
    ca_fingerprint: str | None = None,
    ask_trust: AskTrust | None = None,
    escrow: "Escrow | None" = None,
    server_key: bool = False,
) -> Iterator[Enrolment | Anchor | Note]:
    """Make a key, or ``two``, and get a certificate for each; by hand the request is given out.

    A request that waits is sent, or given out, again; an identity that is valid now is left unchanged
    unless ``replace``. A key is sealed on disk before its request leaves, so a kill loses nothing.
    ``unlock`` opens the keystore, or makes it, when it is needed. With ``server_key`` the authority makes
    the key that encrypts; a run killed before the answer is kept has lost that key, and the next one says
    ``possible-duplicate``. Raises what the authority raises.
    """
    unchanged, roots = dict[str, Identity](), dict[x509.Certificate, None]()
    by_hand: list[Identity] = []
    later: list[Note] = []

    def made_there(pair: Pair) -> bool:
        return server_key and pair.purpose != "sign"

    def held(pair: Pair) -> _Held:
        found = _held(keystore, subject.address, pair, now())
        return dataclasses.replace(found, waiting=()) if made_there(pair) else found

    ca: Authority | None = None
    wanted = pairs(key, two=two)
    begun = [held(pair) for pair in wanted]
    if replace or not all(one.enough for one in begun):
        ca = authority()
        if ca is not None and not any(one.waiting for one in begun):
            kinds = ca.key_kinds()
            check_kind(key, kinds, ca.url)
            wanted = pairs(key or preferred(kinds, GENERAL if server_key else SIGNING), two=two)
    for pair in wanted:
        before = held(pair)
        if before.enough and not replace:
            unchanged |= {one.id: one for one in before.does}
            roots |= dict.fromkeys(roots_of(before.does))
            continue
        store = unlock()
        if before.waiting:
            one = before.waiting[-1]
            if key is not None and pair.kind != one.key_type:
                yield Note("request-waits", {"address": subject.address, "key": one.key_type})
        else:
            old = [
                one for one in before.active if pair.replaces(one) and (replace or one not in before.valid)
            ]
            replaced = [each.id for each in old]
            if made_there(pair):
                assert isinstance(ca, KeyMaker)  # noqa: S101 - the command lets no other be asked
                yield from generated(store, log, ca, subject, pair, replaced, now, escrow)
                roots |= dict.fromkeys(ca.anchors())
                continue
            try:
                one = _request(store, log, ca, subject, pair, replaced, now())
            except MedmailError as error:
                if error.code != "no-signer" or not by_hand:
                    raise
                # the request of the one that signs must get out first
                later.append(Note("signer-first", {"address": subject.address, "key": pair.kind}))
                continue
        if ca is None:
            by_hand.append(one)
            continue
        enrolled = _certified(store, log, "enrol", one, ca.enrol, ca, now, escrow)
        yield enrolment("enrolled", enrolled)
        yield from warnings(enrolled, now(), pair.purpose)
        roots |= dict.fromkeys(ca.anchors())
    for one in unchanged.values():
        yield enrolment("unchanged", one)
    yield from _given_out(by_hand, output, force=force)
    yield from later
    yield from offer_roots(trust, log, subject.address, tuple(roots), ca_fingerprint, ask_trust)


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
        return not self.waiting and {use for one in self.does for use in _uses(one)} >= set(self.uses)


def _held(keystore: "Keystore", address: str, pair: Pair, now: dt.datetime) -> _Held:
    held = [one for one in keystore.identities() if speaks_for(one, address)]
    active = tuple(one for one in held if one.state == "active")
    valid = tuple(one for one in active if one.certificate and one.certificate.not_valid_after_utc > now)
    does = tuple(one for one in valid if one.purpose in (pair.purpose, "both") or pair.purpose == "both")
    return _Held(
        tuple(one for one in held if one.state == "waiting" and pair.fits(one)),
        active,
        valid,
        tuple(one for one in does if pair.post_quantum == one.key_type.startswith("ml-kem")),
        _uses(pair),
    )


def enrol_renew(
    keystore: "Keystore",
    unlock: "Callable[[], Unlocked]",
    log: "AuditLog",
    authority: "Callable[[Identity], Authority | None]",
    addresses: Sequence[str],
    *,
    now: Callable[[], dt.datetime],
    within: dt.timedelta | None = None,
    key: str | None = None,
    escrow: "Escrow | None" = None,
    same_key: bool = False,
) -> Iterator[Enrolment | Note]:
    """A new key and certificate for every identity in use of ``addresses`` (none: of all).

    With ``same_key`` the key stays, and only the certificate is new.
    ``within`` leaves alone those that do not end so soon. The old key is kept for reading; the request that
    a run before this one left is sent again. ``authority`` says whom to ask, None for a request by hand.
    Raises ``no-identity``, and what happened where there is only one to renew; ``key-on-card`` for a card's.
    """
    used = [one for one in keystore.identities() if one.state == "active"]
    for address in addresses:
        if not any(speaks_for(one, address) for one in used):
            raise MedmailError("no-identity", address=address)
    wanted = [one for one in used if not addresses or any(speaks_for(one, each) for each in addresses)]
    wanted = [one for one in wanted if not any(other is not one and _replaced(one, other) for other in used)]
    if not wanted:
        raise MedmailError("no-identity", address="")
    for one in wanted:
        if within is not None and one.expires is not None and one.expires > now() + within:
            yield enrolment("unchanged", one)
            continue
        try:
            if one.method == CARD:  # a key of ours would take its place
                raise MedmailError("key-on-card", address=one.address)
            if same_key:
                yield from renew_same_key(unlock(), log, authority(one), one, now, escrow)
            else:
                yield from _renew(unlock(), log, authority(one), one, key, now, escrow)
        except MedmailError as error:
            if len(wanted) == 1:
                raise
            yield replace(enrolment("failed", one), code=error.code, exit=exit_of(error.code))


def _replaced(one: Identity, other: Identity) -> bool:
    """Whether ``other`` came later and does the same work."""
    return bool(one.expires and other.expires and other.expires > one.expires and covers(other, one))


def _renew(
    store: "Unlocked",
    log: "AuditLog",
    ca: Authority | None,
    old: Identity,
    key: str | None,
    now: Callable[[], dt.datetime],
    escrow: "Escrow | None",
) -> Iterator[Enrolment | Note]:
    held = store.identities()
    one = next((each for each in held if each.state == "waiting" and old.id in each.replaces), None)
    if one is None:
        kinds = ca.key_kinds() if ca else ()
        check_kind(key, kinds, ca.url if ca else "")
        subject, pair = Subject(old.address, old.name), Pair(key or kind_after(old, kinds), old.purpose)
        one = _request(store, log, ca, subject, pair, [old.id], now(), renewed=old)
    if ca is None:
        yield from _given_out([one], None, force=False)
        return
    renewed = _certified(store, log, "enrol-renew", one, ca.renew, ca, now, escrow)
    yield enrolment("renewed", renewed)
    yield from warnings(renewed, now())


def _given_out(waiting: Sequence[Identity], output: Path | None, *, force: bool) -> Iterator[Enrolment]:
    """Requests to be sent by hand: told, and put into one file."""
    texts = [request_pem(one.request or b"") for one in waiting]
    if output is not None and texts:
        write_output(output, b"".join(texts), force=force, mode=0o644)
    for one, text in zip(waiting, texts, strict=True):
        yield enrolment("waiting", one, request=text.decode(), saved_as=output)


def _certified(
    store: "Unlocked",
    log: "AuditLog",
    action: str,
    one: Identity,
    ask: "Callable[[x509.CertificateSigningRequest, PrivateKey, Memory], tuple[x509.Certificate, ...]]",
    ca: Authority,
    now: Callable[[], dt.datetime],
    escrow: "Escrow | None",
) -> Identity:
    """Send a waiting request and keep the certificate that comes."""
    facts = {"method": ca.method, "authority": ca.url, "key": one.key_type}
    with logged(log, action, one.address, (one.key_sha256,), **facts):
        memory = memory_of(store.keystore, one)
        csr = x509.load_der_x509_csr(one.request or b"")
        certificate, *chain = ask(csr, prover(store, one), memory)
        certified = certify(store, one, certificate, chain, method=ca.method, now=now(), escrow=escrow)
        memory.save(b"")
        return certified


def _request(
    store: "Unlocked",
    log: "AuditLog",
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
    with logged(log, "enrol-request", subject.address, (digest,), method=method, key=pair.kind):
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


def _uses(one: Identity | Pair) -> tuple[str, ...]:
    return ("sign", "encrypt") if one.purpose == "both" else (one.purpose,)
