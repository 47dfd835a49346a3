"""Reaching an authority that speaks CMP, with what its table in config.toml says."""

from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.wiring import accounts

if TYPE_CHECKING:
    from medmail_cli.config import Authority as Settings
    from medmail_cli.pki.issuance.cmp_protection import Protection
    from medmail_cli.session import Session
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.transport.cmp import CmpAuthority


def cmp(
    session: "Session",
    settings: "Settings",
    address: str,
    tls_anchors: Path | None,
    fingerprint: str | None,
    presented: "Identity | None",
    patience: float,
) -> "CmpAuthority":
    """``presented`` is the identity to be renewed, which signs for that, else ``client-identity`` does.

    Without either, the password is the secret.
    The login is the reference that the authority knows the secret by.
    """
    from medmail_cli.pki.issuance.cmp_protection import SharedSecret, Signer
    from medmail_cli.transport.cmp import CmpAuthority
    from medmail_cli.workflows.enrol.certified import roots_of

    login = settings.login or address
    signs = presented
    if signs is None and settings.client_identity is not None:
        signs = session.unlocked.signer(settings.client_identity, at=session.now())

    def credentials() -> "Protection":
        if signs is not None and signs.certificate is not None and signs.purpose != "encrypt":
            return Signer(session.unlocked.private_key(signs), accounts.presented(session, signs))
        return SharedSecret(login.encode(), session.secret("password", settings.password, owner=login))

    return CmpAuthority(
        settings.url,
        now=session.now,
        credentials=credentials,
        tls_anchors=tls_anchors or settings.tls_anchors,
        roots=roots_of([signs]) if signs is not None else (),
        fingerprint=fingerprint,
        patience=patience,
    )
