"""Reaching an authority that speaks EST (RFC 7030), with what its table in config.toml says."""

from functools import partial

from medmail_cli.transport import tls
from medmail_cli.transport.est import EstAuthority, endpoint
from medmail_cli.wiring import accounts
from medmail_cli.wiring.authorities import Asking

__all__ = ["endpoint", "reach"]

_PATIENCE = 60.0


def reach(asking: Asking) -> EstAuthority:
    """Who asks for a certificate in TLS is shown that of ``presented``, else of ``client-identity``."""
    session, settings, presented = asking.session, asking.settings, asking.presented
    show = None
    if presented is not None and presented.certificate is not None and presented.purpose != "encrypt":
        chain = accounts.presented(session, presented)
        show = partial(tls.present, key=session.unlocked.unseal(presented), chain=chain)
    elif settings.client_identity is not None:
        show = partial(accounts.show_identity, session, address=settings.client_identity)
    login = settings.login or asking.address
    return EstAuthority(
        settings.url,
        now=session.now,
        tls_anchors=asking.tls_anchors or settings.tls_anchors,
        fingerprint=asking.fingerprint,
        login=login,
        password=lambda: session.secrets.get("password", settings.password, owner=login),
        show=show,
        patience=_PATIENCE if asking.patience is None else asking.patience,
    )
