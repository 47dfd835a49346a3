"""Reaching an authority that speaks ACME (RFC 8555, RFC 8823), with what its table in config.toml says."""

from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.store.keys.acme_accounts import account_key
from medmail_cli.transport import dns
from medmail_cli.transport.acme import AcmeAuthority
from medmail_cli.transport.acmeserver import ExternalAccount, endpoint
from medmail_cli.wiring.accounts import source_of
from medmail_cli.wiring.authorities import Asking
from medmail_cli.wiring.opening import validator
from medmail_cli.wiring.sending import delivery_context
from medmail_cli.workflows.enrol.acme_challenge import Correspondence, by_dkim, by_smime
from medmail_cli.workflows.mail.opening import MessageOpener

if TYPE_CHECKING:
    from medmail_cli.config import Account
    from medmail_cli.session import Session

__all__ = ["endpoint", "reach"]

_PATIENCE = 120.0
"""Seconds to wait in all, for the challenge mail and for what follows its answer."""


def reach(asking: Asking) -> AcmeAuthority:
    """The login is the id of an external account, and the password's place is where its MAC key is.

    The challenge mail comes to the account of the address, or to the one that gets everybody's.
    """
    session, settings = asking.session, asking.settings
    shared = settings.challenge_account is not None
    account = session.account(settings.challenge_account) if shared else _account(session, asking.address)
    opener = MessageOpener(
        keys=(),
        own_addresses=() if shared else (asking.address,),
        validator=validator(session, offline=True),
        contacts=session.contacts,
        profile=session.profile,
        now=session.now(),
    )
    post = Correspondence(
        source_of(session, account),
        delivery_context(session),
        [by_smime(opener), by_dkim(dns.texts, session.now)],
        settings.unsigned_challenges,
        shared,
    )
    kid = settings.login

    def agree(terms: str) -> bool:
        return asking.agreed or session.ask("acme-terms", "--agree-terms", url=terms)

    def mac_key() -> bytes:
        return session.secrets.get("mac-key", settings.password, owner=kid)

    return AcmeAuthority(
        settings.url,
        account_key=account_key(session.unlock_or_create(), endpoint(settings.url)),
        post=post,
        now=session.now,
        agree=agree,
        external=ExternalAccount(kid, mac_key) if kid else None,
        tls_anchors=asking.tls_anchors or settings.tls_anchors,
        roots=session.trust.anchors(),
        fingerprint=asking.fingerprint,
        patience=_PATIENCE if asking.patience is None else asking.patience,
    )


def _account(session: "Session", address: str) -> "Account":
    """The account whose mail is that of the address. Raises ``no-config`` and ``no-account``."""
    from medmail_cli.pki.x509.address import same_address

    account = session.account(address=address)
    if not same_address(account.address, address):
        raise MedmailError("no-account", name=address, path=str(session.paths.config))
    return account
