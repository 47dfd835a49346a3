"""Reaching an authority that speaks CMP (RFC 9810), with what its table in config.toml says."""

from medmail_cli.pki.issuance.cmp_protection import Protection, SharedSecret, Signer
from medmail_cli.transport.cmp import CmpAuthority, endpoint
from medmail_cli.wiring import accounts
from medmail_cli.wiring.authorities import Asking
from medmail_cli.workflows.enrol.certified import roots_of

__all__ = ["endpoint", "reach"]

_PATIENCE = 60.0


def reach(asking: Asking) -> CmpAuthority:
    """The identity to be renewed signs for that, else ``client-identity``; without either there is a secret.

    The password is the secret, the login the reference that the authority knows it by.
    """
    session, settings = asking.session, asking.settings
    login = settings.login or asking.address
    signs = asking.presented
    if signs is None and settings.client_identity is not None:
        signs = session.unlocked.signer(settings.client_identity, at=session.now())

    def credentials() -> Protection:
        if signs is not None and signs.certificate is not None and signs.purpose != "encrypt":
            return Signer(session.unlocked.private_key(signs), accounts.presented(session, signs))
        return SharedSecret(login.encode(), session.secrets.get("password", settings.password, owner=login))

    return CmpAuthority(
        settings.url,
        now=session.now,
        credentials=credentials,
        tls_anchors=asking.tls_anchors or settings.tls_anchors,
        roots=roots_of([signs]) if signs is not None else (),
        fingerprint=asking.fingerprint,
        patience=_PATIENCE if asking.patience is None else asking.patience,
    )
