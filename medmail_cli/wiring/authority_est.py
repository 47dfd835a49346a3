"""Reaching an authority that speaks EST, with what its table in config.toml says."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.wiring import accounts

if TYPE_CHECKING:
    from medmail_cli.config import Authority as Settings
    from medmail_cli.session import Session
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.transport.est import EstAuthority


def est(
    session: "Session",
    settings: "Settings",
    address: str,
    tls_anchors: Path | None,
    fingerprint: str | None,
    presented: "Identity | None",
    patience: float,
) -> "EstAuthority":
    """Who asks for a certificate in TLS is shown that of ``presented``, else of ``client-identity``."""
    from medmail_cli.transport import tls
    from medmail_cli.transport.est import EstAuthority

    show = None
    if presented is not None and presented.certificate is not None and presented.purpose != "encrypt":
        chain = accounts.presented(session, presented)
        show = partial(tls.present, key=session.unlocked.unseal(presented), chain=chain)
    elif settings.client_identity is not None:
        show = partial(accounts.show_identity, session, address=settings.client_identity)

    login = settings.login or address
    return EstAuthority(
        settings.url,
        now=session.now,
        tls_anchors=tls_anchors or settings.tls_anchors,
        fingerprint=fingerprint,
        login=login,
        password=lambda: session.secret("password", settings.password, owner=login),
        show=show,
        patience=patience,
    )
