"""What sending needs of a run: keys, recipients, accounts, and the way to the servers."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medmail_cli.cms.algorithms import DEFAULT_CAPABILITIES
from medmail_cli.errors import MedmailError, NothingAttemptedError
from medmail_cli.smime.protect import Signer
from medmail_cli.store.keys.identity import CARD
from medmail_cli.workflows.enrol.certified import speaks_for
from medmail_cli.workflows.mail.submission_session import DeliveryContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from medmail_cli.config import Account
    from medmail_cli.profile import Profile
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.workflows.trust.lookup import RecipientResolver


@dataclass
class SendingContext:
    """What sending needs.

    ``account`` finds the account for a From address, or the default one; ``above`` gives what stands above an
    identity's certificate, nearest first, for those who have not met its authority.
    """

    keystore: "Keystore"
    unlock: "Callable[[], Unlocked]"
    resolver: "RecipientResolver"
    profile: "Profile"
    account: "Callable[[str | None], Account]"
    above: "Callable[[Identity], Sequence[x509.Certificate]]"
    delivery: DeliveryContext
    whitelist: frozenset[str] = frozenset()
    entered: bool = False
    """Whether a letter of this run stands in the outbox."""
    _signers: dict[str, Signer] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)

    def signer(self, address: str) -> Signer:
        """Who signs for an address. Raises ``no-identity``, ``wrong-passphrase`` …"""
        if address not in self._signers:
            now = self.delivery.now()
            unlocked = self.unlock()
            identity = unlocked.signer(address, at=now)
            kem = self._post_quantum_identity(address)
            opens = (
                kem[0]
                if kem and self.resolver.post_quantum
                else unlocked.decryption_identity(address, at=now)
            )
            ours = [opens, *kem]
            along = [
                certificate
                for each in ours
                for certificate in (each.certificate, *self.above(each))
                if certificate is not None
            ]
            self._signers[address] = Signer(
                unlocked.private_key(identity),
                identity.certified,
                tuple(dict.fromkeys([*self.above(identity), *along])),
                opens.certificate if opens.id != identity.id else None,
                (*_capabilities(opens), *(identity_with_kem.key_type for identity_with_kem in kem)),
            )
        return self._signers[address]

    def check_own(self, address: str) -> None:
        """Raises ``identity-unfit`` where ``address`` signs or reads by a certificate past use."""
        if address in self._checked:
            return
        now = self.delivery.now()
        try:
            own = [self.keystore.signer(address, at=now), self.keystore.decryption_identity(address, at=now)]
        except MedmailError as error:
            if error.code == "no-identity":
                # one that its revocation retired is not nobody, but somebody who may not sign
                retired = (
                    identity for identity in self.keystore.identities() if speaks_for(identity, address)
                )
                self._check_fit(
                    address, [identity for identity in retired if identity.certificate is not None]
                )
            raise
        self._check_fit(address, own)
        self._checked.add(address)

    def _check_fit(self, address: str, own: "Sequence[Identity]") -> None:
        withdrawn = self.keystore.revoked()
        for identity in own:
            problem = (
                "revoked" if identity.sha256 in withdrawn else self.resolver.own_problem(identity.certified)
            )
            if problem:
                raise NothingAttemptedError("identity-unfit", address=address, problem=problem)

    def _post_quantum_identity(self, address: str) -> "list[Identity]":
        """One's identity with an ML-KEM key, which correspondents shall hear of; () where there is none."""
        try:
            return [self.keystore.decryption_identity(address, at=self.delivery.now(), post_quantum=True)]
        except MedmailError as error:
            if error.code not in ("not-post-quantum", "no-identity"):
                raise
            return []

    def lacks_post_quantum(self, address: str) -> bool:
        """Whether ML-KEM is wanted, and nobody who sends as ``address`` could open the letter by it."""
        return self.resolver.post_quantum and not self._post_quantum_identity(address)


def _capabilities(opens: "Identity") -> tuple[str, ...]:
    """What correspondents may use for us: not every card does OAEP with the digest they would choose."""
    on_card = opens.method == CARD
    return tuple(name for name in DEFAULT_CAPABILITIES if not (on_card and name == "rsa-oaep-sha256"))
