"""``medmail enrol card``: identities whose keys stay on a card.

The best certificate for signing is taken for each address, and everyone that the card decrypts for, so that
old mail can be opened. What a key can do is tried once on the card, since certificates and cards say
different things of it; a card that does not decrypt gets no letters: they are encrypted for a software key
of the same address.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.devices.cardkey import key_at
from medmail_cli.errors import MedmailError
from medmail_cli.model import CardPlace, Note
from medmail_cli.pki.path.chain import chain_of, is_root
from medmail_cli.pki.x509.certificate import public_key, subject_text
from medmail_cli.pki.x509.usage import Purpose, for_mail, purpose
from medmail_cli.store.keys.identity import CARD, Identity
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.enrol.certified import Enrolment, common_name, enrolment, warnings, whom
from medmail_cli.workflows.enrol.offered_roots import Anchor, AskTrust, check_fingerprint, offer_roots

if TYPE_CHECKING:
    from medmail_cli.devices.card import Card
    from medmail_cli.devices.cards import Cards
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.trust.anchors import Trust


@dataclass(frozen=True)
class CardCertificate:
    """A certificate on the card, what it is used for from now on, or by ``code`` why it is not."""

    type: ClassVar[str] = "card-certificate"
    status: Literal["taken", "left-out"]
    card: str
    subject: str
    sha256: str
    not_after: dt.datetime
    purpose: Purpose | None = None
    code: str | None = None


@dataclass(frozen=True)
class _Candidate:
    """A certificate of the card; ``purpose`` is what it is for and its key does, None with a ``code``."""

    certificate: x509.Certificate
    key_id: bytes
    purpose: Purpose | None = None
    code: str | None = None
    addresses: tuple[str, ...] = ()
    pinned: bool = False

    @property
    def signs(self) -> bool:
        return self.purpose in ("sign", "both")


def enrol_card(
    keystore: "Keystore",
    unlock: "Callable[[], Unlocked]",
    log: "AuditLog",
    trust: "Trust",
    cards: "Cards",
    *,
    module: Path | None,
    label: str | None,
    now: dt.datetime,
    address: str | None = None,
    ca_fingerprint: str | None = None,
    ask_trust: AskTrust | None = None,
) -> Iterator[CardCertificate | Enrolment | Anchor | Note]:
    """Keep the certificates of a card, and where their keys are.

    Before anything is kept it raises what choosing and opening the card raises, ``card-empty``,
    ``needs-address``, ``address-not-on-card`` and ``ca-fingerprint-mismatch``.
    """
    card = cards.choose(module, label)
    store = unlock()
    card.session()
    held = card.certificates()
    pool = [certificate for _, certificate in held]
    candidates = _judged(
        [_tried(cards, card, *one) for one in held if not _is_authority(one[1])], address, now
    )
    taken = [one for one in candidates if one.purpose is not None]
    if not taken and address is not None and any(one.code == "other-address" for one in candidates):
        raise MedmailError("address-not-on-card", label=card.label, address=address)
    if not taken:
        lacking = [one for one in candidates if one.code == "needs-address"]
        if lacking:
            raise MedmailError("needs-address", subject=common_name(lacking[0].certificate))
        raise MedmailError("card-empty", label=card.label)
    roots = [one for one in pool if is_root(one) and _is_authority(one)]
    check_fingerprint(trust, roots, ca_fingerprint, card.label)
    for one in candidates:
        yield _shown(card, one)
    helpers = (
        *pool,
        *(above for one in keystore.identities() for above in one.chain),
        *trust.intermediates(),
    )
    for one in taken:
        yield from _keep(keystore, store, log, card, one, chain_of(one.certificate, helpers), now)
    yield from offer_roots(trust, log, taken[0].addresses[0], roots, ca_fingerprint, ask_trust)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return is_root(certificate)
    except ValueError:
        return False


def _tried(cards: "Cards", card: "Card", key_id: bytes, certificate: x509.Certificate) -> _Candidate:
    """What the certificate is for and the card does with its key, tried."""
    found = _Candidate(certificate, key_id)
    try:
        meant, key = purpose(certificate), public_key(certificate)
    except (ValueError, UnsupportedAlgorithm):
        return replace(found, code="malformed")
    if meant is None or key is None:
        return replace(found, code="wrong-key-usage")
    on_card = key_at(cards, _place(card, key_id), key)
    signs = meant in ("sign", "both") and on_card.can_sign()
    reads = meant in ("encrypt", "both") and on_card.can_decrypt()
    if signs or reads:
        return replace(found, purpose="both" if signs and reads else "sign" if signs else "encrypt")
    return replace(found, code="certificate-without-key")


def _judged(candidates: Sequence[_Candidate], address: str | None, now: dt.datetime) -> list[_Candidate]:
    """The candidates with whom they speak for; of several that sign for one address the best one does.

    With ``address``, a certificate that bears others alone is another's, and one that bears none is pinned.
    """
    judged = []
    for one in candidates:
        if one.purpose is not None:
            try:
                addresses, pinned = whom(one.certificate, address)
            except MedmailError as error:
                judged.append(replace(one, purpose=None, code=error.code))
                continue
            if pinned and len(addresses) > 1:
                judged.append(replace(one, purpose=None, code="other-address"))
                continue
            one = replace(one, addresses=addresses, pinned=pinned)
        judged.append(one)
    best: dict[str, _Candidate] = {}
    for one in sorted((each for each in judged if each.signs), key=lambda each: _rank(each, now)):
        best[one.addresses[0].lower()] = one
    return [_demoted(one) if one.signs and one not in best.values() else one for one in judged]


def _rank(one: _Candidate, now: dt.datetime) -> tuple[bool, bool, bool, bool, dt.datetime]:
    """How well one serves for signing mail: valid, bearing the address, meant for it, not for logins, new."""
    certificate = one.certificate
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        meant = ExtendedKeyUsageOID.EMAIL_PROTECTION in usages
    except x509.ExtensionNotFound:
        meant = False
    valid = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    return valid, not one.pinned, meant, for_mail(certificate), certificate.not_valid_before_utc


def _demoted(one: _Candidate) -> _Candidate:
    """Another signs: this one still decrypts, if it does."""
    if one.purpose == "both":
        return replace(one, purpose="encrypt")
    return replace(one, purpose=None, code="other-preferred")


def _place(card: "Card", key_id: bytes) -> CardPlace:
    return CardPlace(card.module, card.label, card.serial, key_id.hex())


def _shown(card: "Card", one: _Candidate) -> CardCertificate:
    return CardCertificate(
        "left-out" if one.purpose is None else "taken",
        card.label,
        subject_text(one.certificate),
        fingerprint(one.certificate),
        one.certificate.not_valid_after_utc,
        one.purpose,
        one.code,
    )


def _keep(
    keystore: "Keystore",
    store: "Unlocked",
    log: "AuditLog",
    card: "Card",
    one: _Candidate,
    chain: Sequence[x509.Certificate],
    now: dt.datetime,
) -> Iterator[Enrolment | Note]:
    digest, place = fingerprint(one.certificate), _place(card, one.key_id)
    same = next((each for each in keystore.identities() if each.sha256 == digest), None)
    if same is not None and not _moved(store, same, place):
        yield enrolment("unchanged", same)
        return
    assert one.purpose is not None  # noqa: S101 - those without are left out
    with logged(log, "enrol", one.addresses[0], (digest,), method=CARD, purpose=one.purpose):
        if same is not None:
            keystore.delete(same)
        kept = store.add_card(
            place,
            one.certificate,
            chain,
            addresses=one.addresses,
            purpose=one.purpose,
            now=now,
            name=common_name(one.certificate),
            pinned=one.pinned,
            replaces=same.replaces if same else (),
        )
    yield enrolment("enrolled", kept)
    yield from warnings(kept, now)


def _moved(store: "Unlocked", same: Identity, place: CardPlace) -> bool:
    """Whether the card is reached by another way than when it was enrolled, or has another name by now."""
    return same.method == CARD and store.card_place(same) != place
