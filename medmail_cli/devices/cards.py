"""The cards and other PKCS#11 tokens of a run: finding the one that is meant, and leaving them all."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmail_cli.devices import modules
from medmail_cli.devices.card import Card, Pin, Refused, alone
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    import pkcs11

    from medmail_cli.model import CardPlace


class Cards:
    """The cards of one run. ``module`` is where a card's module is if the one it was enrolled by is gone.

    ``report`` hears, by its code, of a PIN that a card refused.
    """

    def __init__(
        self,
        pin: Pin,
        refused: Callable[[], Refused],
        module: Path | None = None,
        report: Callable[[str], None] = lambda _code: None,
    ) -> None:
        self._pin, self._refused, self._module, self._report = pin, refused, module, report
        self._libraries: dict[str, Any] = {}
        self._cards: dict[tuple[str, str], Card] = {}

    @alone
    def choose(self, module: Path | None, which: str | None) -> Card:
        """The card of that label or serial number, or the only one, by ``module`` or any on this machine.

        Raises ``no-card-module``, ``card-absent``, ``several-cards``, ``extra-missing``.
        """
        given = module or self._module
        named = [given] if given is not None else modules.modules()
        cards: dict[tuple[str, str], Card] = {}
        loaded = 0
        for path in named:
            try:
                tokens = self._tokens(str(path))
            except MedmailError as error:
                if given is not None or error.code != "no-card-module":
                    raise
                continue  # a module that does not run here is none; another may have the card
            loaded += 1
            for token in tokens:
                card = Card(str(path), token, self._pin, self._refused, self._report)
                # two modules may show the same card: the first knows it best
                cards.setdefault((card.serial, card.label), card)
        if not loaded:
            raise MedmailError("no-card-module", path="", reason="none-found")
        fitting = [card for card in cards.values() if which is None or which in (card.label, card.serial)]
        if not fitting:
            raise MedmailError("card-absent", label=which or "")
        if len(fitting) > 1:
            raise MedmailError("several-cards", labels=[f"{card.label} ({card.serial})" for card in fitting])
        return self._kept(fitting[0])

    @alone
    def at(self, card_place: "CardPlace") -> Card:
        """The card of ``card_place``. Raises ``no-card-module``, ``card-absent``, ``extra-missing``."""
        if (card_place.serial, card_place.label) in self._cards:
            return self._cards[card_place.serial, card_place.label]
        if not card_place.module:  # of a backup: which code is loaded is for this machine to say
            return self._anywhere(card_place)
        path = card_place.module
        if self._module is not None and not Path(path).exists():
            path = str(self._module)
        for token in self._tokens(path):
            card = Card(path, token, self._pin, self._refused, self._report)
            if (card.serial, card.label) == (card_place.serial, card_place.label):
                return self._kept(card)
        raise MedmailError("card-absent", label=card_place.label)

    def _anywhere(self, card_place: "CardPlace") -> Card:
        for path in [self._module] if self._module is not None else modules.modules():
            try:
                tokens = self._tokens(str(path))
            except MedmailError as error:
                if self._module is not None or error.code != "no-card-module":
                    raise
                continue
            for token in tokens:
                card = Card(str(path), token, self._pin, self._refused, self._report)
                if (card.serial, card.label) == (card_place.serial, card_place.label):
                    return self._kept(card)
        raise MedmailError("card-absent", label=card_place.label)

    def _kept(self, card: Card) -> Card:
        return self._cards.setdefault((card.serial, card.label), card)

    def _tokens(self, path: str) -> "Sequence[pkcs11.Token]":
        """The tokens that are there and set up. Raises ``no-card-module``, ``extra-missing``."""
        try:
            import pkcs11
        except ImportError:
            raise MedmailError("extra-missing", packages=["python-pkcs11"], extra="card") from None
        from pkcs11 import TokenFlag

        if path not in self._libraries:
            try:
                self._libraries[path] = pkcs11.lib(path)
            except (RuntimeError, OSError) as error:
                reason = str(error) or type(error).__name__
                raise MedmailError("no-card-module", path=path, reason=reason) from None
        tokens = []
        with contextlib.suppress(pkcs11.PKCS11Error):  # a module whose readers have gone shows no card
            for slot in self._libraries[path].get_slots(token_present=True):
                with contextlib.suppress(pkcs11.PKCS11Error):
                    token = slot.get_token()
                    if token.flags & (TokenFlag.TOKEN_INITIALIZED | TokenFlag.USER_PIN_INITIALIZED):
                        tokens.append(token)
        return tokens

    @alone
    def close(self) -> None:
        """Log out of every card and let go of the modules."""
        cards, self._cards = self._cards, {}
        for card in cards.values():
            card.close()
        libraries, self._libraries = self._libraries, {}
        if libraries:
            import pkcs11

            for path in libraries:
                with contextlib.suppress(pkcs11.PKCS11Error):
                    pkcs11.unload(path)
