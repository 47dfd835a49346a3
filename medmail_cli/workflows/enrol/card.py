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
    from medmail_cli.store.log.run import RunContext
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
    run: "RunContext",
    trust: "Trust",
    cards: "Cards",
    *,
    module: Path | None,
    label: str | None,
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
        [_tried(cards, card, *on_card) for on_card in held if not _is_authority(on_card[1])], address, run.now
    )
    taken = [each for each in candidates if each.purpose is not None]
    if not taken and address is not None and any(each.code == "other-address" for each in candidates):
        raise MedmailError("address-not-on-card", label=card.label, address=address)
    if not taken:
        lacking = [each for each in candidates if each.code == "needs-address"]
        if lacking:
            raise MedmailError("needs-address", subject=common_name(lacking[0].certificate))
        raise MedmailError("card-empty", label=card.label)
    roots = [certificate for certificate in pool if is_root(certificate) and _is_authority(certificate)]
    check_fingerprint(trust, roots, ca_fingerprint, card.label)
    for candidate in candidates:
        yield _shown(card, candidate)
    helpers = (
        *pool,
        *(above for identity in keystore.identities() for above in identity.chain),
        *trust.intermediates(),
    )
    for candidate in taken:
        yield from _keep(keystore, store, run, card, candidate, chain_of(candidate.certificate, helpers))
    yield from offer_roots(trust, run.acting(taken[0].addresses[0]), roots, ca_fingerprint, ask_trust)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return is_root(certificate)
    except ValueError:
        return False


def _tried(cards: "Cards", card: "Card", key_id: bytes, certificate: x509.Certificate) -> _Candidate:
    """What the certificate is for and the card does with its key, tried."""
    candidate = _Candidate(certificate, key_id)
    try:
        meant, key = purpose(certificate), public_key(certificate)
    except (ValueError, UnsupportedAlgorithm):
        return replace(candidate, code="malformed")
    if meant is None or key is None:
        return replace(candidate, code="wrong-key-usage")
    on_card = key_at(cards, _place(card, key_id), key)
    signs = meant in ("sign", "both") and on_card.can_sign()
    reads = meant in ("encrypt", "both") and on_card.can_decrypt()
    if signs or reads:
        return replace(candidate, purpose="both" if signs and reads else "sign" if signs else "encrypt")
    return replace(candidate, code="certificate-without-key")


def _judged(candidates: Sequence[_Candidate], address: str | None, now: dt.datetime) -> list[_Candidate]:
    """The candidates with whom they speak for; of several that sign for one address the best one does.

    With ``address``, a certificate that bears others alone is another's, and one that bears none is pinned.
    """
    judged = []
    for candidate in candidates:
        if candidate.purpose is not None:
            try:
                addresses, pinned = whom(candidate.certificate, address)
            except MedmailError as error:
                judged.append(replace(candidate, purpose=None, code=error.code))
                continue
            if pinned and len(addresses) > 1:
                judged.append(replace(candidate, purpose=None, code="other-address"))
                continue
            candidate = replace(candidate, addresses=addresses, pinned=pinned)
        judged.append(candidate)
    best: dict[str, _Candidate] = {}
    for candidate in sorted((each for each in judged if each.signs), key=lambda each: _rank(each, now)):
        best[candidate.addresses[0].lower()] = candidate
    return [_demoted(each) if each.signs and each not in best.values() else each for each in judged]


def _rank(candidate: _Candidate, now: dt.datetime) -> tuple[bool, bool, bool, bool, dt.datetime]:
    """How well one serves for signing mail: valid, bearing the address, meant for it, not for logins, new."""
    certificate = candidate.certificate
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        meant = ExtendedKeyUsageOID.EMAIL_PROTECTION in usages
    except x509.ExtensionNotFound:
        meant = False
    valid = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    return valid, not candidate.pinned, meant, for_mail(certificate), certificate.not_valid_before_utc


def _demoted(candidate: _Candidate) -> _Candidate:
    """Another signs: this one still decrypts, if it does."""
    if candidate.purpose == "both":
        return replace(candidate, purpose="encrypt")
    return replace(candidate, purpose=None, code="other-preferred")


def _place(card: "Card", key_id: bytes) -> CardPlace:
    return CardPlace(card.module, card.label, card.serial, key_id.hex())


def _shown(card: "Card", candidate: _Candidate) -> CardCertificate:
    return CardCertificate(
        "left-out" if candidate.purpose is None else "taken",
        card.label,
        subject_text(candidate.certificate),
        fingerprint(candidate.certificate),
        candidate.certificate.not_valid_after_utc,
        candidate.purpose,
        candidate.code,
    )


def _keep(
    keystore: "Keystore",
    store: "Unlocked",
    run: "RunContext",
    card: "Card",
    candidate: _Candidate,
    chain: Sequence[x509.Certificate],
) -> Iterator[Enrolment | Note]:
    digest, card_place = fingerprint(candidate.certificate), _place(card, candidate.key_id)
    same = next((each for each in keystore.identities() if each.sha256 == digest), None)
    if same is not None and not _moved(store, same, card_place):
        yield enrolment("unchanged", same)
        return
    assert candidate.purpose is not None  # noqa: S101 - those without are left out
    with logged(
        run.acting(candidate.addresses[0]), "enrol", (digest,), method=CARD, purpose=candidate.purpose
    ):
        if same is not None:
            keystore.delete(same)
        kept = store.add_card(
            card_place,
            candidate.certificate,
            chain,
            addresses=candidate.addresses,
            purpose=candidate.purpose,
            now=run.now,
            name=common_name(candidate.certificate),
            pinned=candidate.pinned,
            replaces=same.replaces if same else (),
        )
    yield enrolment("enrolled", kept)
    yield from warnings(kept, run.now)


def _moved(store: "Unlocked", same: Identity, card_place: CardPlace) -> bool:
    """Whether the card is reached by another way than when it was enrolled, or has another name by now."""
    return same.method == CARD and store.card_place(same) != card_place
