"""How a run logs in: to an account's servers by password, token, certificate or an identity of ours."""

from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError, path_of
from medmail_cli.registers import MECHANISMS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from cryptography import x509

    from medmail_cli.config import Account
    from medmail_cli.session import Session
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.transport.mailserver import MailServer
    from medmail_cli.transport.sasl import Credentials
    from medmail_cli.workflows.mail.fetched import Source


PATIENCE = 60.0
"""Seconds that a mailbox server may take for an answer."""


def source_of(
    session: "Session",
    account: "Account",
    folders: tuple[str, ...] | None = None,
    *,
    patience: float = PATIENCE,
) -> "Source":
    """Where an account's mail is fetched from; nothing is asked for before it is used."""
    from medmail_cli.workflows.mail.fetched import Source

    return Source(account, lambda: mail_server(session, account, patience=patience), folders)


def mail_server(
    session: "Session", account: "Account", *, log_in: bool = True, patience: float = PATIENCE
) -> "MailServer":
    """A connection to the server that holds an account's letters. Raises ``no-imap-server`` without any."""
    if account.mailbox_server is None:
        raise MedmailError("no-imap-server", account=account.name)
    # a password is asked for before a server waits for it
    given = credentials(session, account) if log_in else None
    context = tls_context(session, account)
    server: MailServer
    if account.pop3 is not None:
        from medmail_cli.transport.pop3 import Pop3

        server = Pop3(account.pop3, context, via=account.proxy, timeout=patience)
    else:
        from medmail_cli.transport.imap import Imap

        server = Imap(account.mailbox_server, context, via=account.proxy, timeout=patience)
    try:
        if given is not None:
            server.login(given)
    except BaseException:
        server.close(politely=False)
        raise
    return server


def credentials(session: "Session", account: "Account") -> "Credentials":
    """How to log in to an account's servers; a password is asked for here and now.

    A token is fetched again at each login, as it lives for minutes. Raises ``no-secret``, and what a server
    of the account said to the password before, if it has refused it in this run.
    """
    from medmail_cli.transport.sasl import Credentials

    auth = account.auth
    needs = MECHANISMS[auth].needs if auth != "auto" else None
    if needs == "certificate" or (needs is None and account.client_identity is not None):
        return Credentials(account.login, auth, certificate=True)

    def token() -> bytes:
        given = session.secrets.given("token", account.token, owner=account.address)
        return session.secrets.get("token", account.token, owner=account.address) if given is None else given

    has_token = session.secrets.is_offered("token", account.token)
    if needs == "token" or (needs is None and has_token):
        return Credentials(account.login, auth, token=token)
    password = session.secrets.get("password", account.password, owner=account.address)
    key = ("password", account.address)
    if (error := session.secrets.refused.get(key)) is not None:
        raise error
    return Credentials(
        account.login,
        auth,
        password=lambda: password,
        refused=lambda error: session.secrets.refused.update({key: error}),
    )


def tls_context(session: "Session", account: "Account") -> "ssl.SSLContext":
    """TLS towards an account's servers. Raises ``bad-config`` for a file that cannot be used."""
    from medmail_cli.config import complaint
    from medmail_cli.transport import tls

    identity = account.client_identity
    path = None if identity is None else session.paths.config.parent / path_of(identity)
    ours = identity if path is not None and "@" in path.name and not path.is_file() else None
    try:
        context = tls.context(account.tls_anchors, path if ours is None else None)
        if ours is not None:
            show_identity(session, context, ours)
        return context
    except MedmailError as error:
        if error.code != "not-readable":
            raise
        file = error.facts["path"]
        key = "tls-anchors" if file == str(account.tls_anchors) else "client-identity"
        detail = f"{file}: {error.facts['reason']}"
        table = f"accounts.{account.name}"
        raise complaint(session.config, table, key, "unreadable", detail=detail) from None


def above(session: "Session", identity: "Identity") -> "Sequence[x509.Certificate]":
    """What stands above an identity's certificate, nearest first: what came with it, then helpers at hand."""
    from medmail_cli.pki.path.chain import chain_of

    return tuple(
        dict.fromkeys(
            (
                *identity.chain,
                *chain_of(identity.certified, (*identity.chain, *session.trust.intermediates())),
            )
        )
    )


def presented(session: "Session", identity: "Identity") -> "Sequence[x509.Certificate]":
    """An identity's certificate and what stands between it and the root, as a server is shown it."""
    from medmail_cli.pki.x509.certificate import facts

    return (identity.certified, *(each for each in above(session, identity) if not facts(each).self_issued))


def show_identity(session: "Session", context: "ssl.SSLContext", address: str) -> None:
    """Log in by the key that signs for an address, or its card's for logins. Raises ``no-identity``."""
    from medmail_cli.store.keys.identity import CARD
    from medmail_cli.transport import tls, tlskey

    identity = session.unlocked.signer(address, at=session.now())
    if identity.method == CARD:
        from medmail_cli.devices.cardlogin import login_key

        card_place = session.unlocked.card_place(identity)
        tlskey.present(
            context,
            *login_key(
                session.cards, card_place, identity.certified, session.now(), above(session, identity)
            ),
        )
    else:
        tls.present(context, session.unlocked.unseal(identity), presented(session, identity))
