"""Which of a card's keys logs in to servers: cards have one for that (CPS), beside the one that signs."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from medmail_cli.devices.cardkey import CardKey, key_at
from medmail_cli.pki.path.chain import chain_of
from medmail_cli.pki.x509.usage import purpose

if TYPE_CHECKING:
    from medmail_cli.devices.cards import Cards
    from medmail_cli.model import CardPlace


def login_key(
    cards: "Cards",
    card_place: "CardPlace",
    certificate: x509.Certificate,
    now: dt.datetime,
    known: Sequence[x509.Certificate] = (),
) -> "tuple[CardKey, tuple[x509.Certificate, ...]]":
    """The newest key on the card whose certificate is for logins (clientAuth, RFC 5280 §4.2.1.12).

    Where none is, the key at ``card_place``, whose certificate is ``certificate``. With it come its
    certificate and those above it that the card holds, or that are ``known``. Raises what opening the card
    raises.
    """
    card = cards.at(card_place)
    card.session()
    held = card.certificates()
    pool = [*(held_certificate for _, held_certificate in held), *known]
    for key_id, candidate in sorted(held, key=lambda pair: pair[1].not_valid_before_utc, reverse=True):
        if _for_logins(candidate) and candidate.not_valid_before_utc <= now <= candidate.not_valid_after_utc:
            key = key_at(cards, card_place, candidate.public_key(), key_id)
            if key.is_there():
                return key, (candidate, *chain_of(candidate, pool))
    return key_at(cards, card_place, certificate.public_key()), (certificate, *chain_of(certificate, pool))


def _for_logins(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return ExtendedKeyUsageOID.CLIENT_AUTH in usages and purpose(certificate) in ("sign", "both")
    except (x509.ExtensionNotFound, ValueError, UnsupportedAlgorithm):
        return False
