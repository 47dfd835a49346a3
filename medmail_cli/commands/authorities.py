"""What every way of enrolling shares: which authority is asked, how it is reached, and their options."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medmail_cli.commands.authority_cmp import cmp
from medmail_cli.errors import MedmailError
from medmail_cli.ui.words import _

if TYPE_CHECKING:
    from medmail_cli.config import Authority as Settings
    from medmail_cli.session import Session
    from medmail_cli.store.identity import Identity
    from medmail_cli.transport.cmp import CmpAuthority
    from medmail_cli.transport.est import EstAuthority

_SPOKEN: "dict[str | None, Literal['est', 'cmp', 'acme']]" = {"cmp": "cmp", "acme": "acme"}
"""What an authority speaks where it is named; EST where nothing is."""

Fingerprint = Annotated[
    str | None,
    typer.Option(
        "--ca-fingerprint", metavar="SHA256", help=_("Trust the root with this fingerprint, unasked.")
    ),
]
TlsAnchors = Annotated[
    Path | None,
    typer.Option("--tls-anchors", metavar="FILE", help=_("Trust the authority's server by these.")),
]

PATIENCE = 60.0
"""Seconds to wait for what an authority decides upon later."""

AgreeTerms = Annotated[
    bool, typer.Option("--agree-terms", help=_("Agree to the authority's terms of service (ACME)."))
]


class Method(StrEnum):
    """How a certificate is asked for."""

    est = "est"
    cmp = "cmp"
    acme = "acme"
    csr = "csr"


class Key(StrEnum):
    """Kinds of keys."""

    rsa3072 = "rsa3072"
    rsa4096 = "rsa4096"
    p256 = "p256"
    p384 = "p384"
    ed25519 = "ed25519"
    x25519 = "x25519"
    ml_kem_768 = "ml-kem-768"
    ml_kem_1024 = "ml-kem-1024"


def fingerprint_of(text: str | None) -> str | None:
    """The fingerprint as lower-case hex. Raises ``usage``."""
    if text is None:
        return None
    from medmail_cli.transport.est import read_fingerprint

    return read_fingerprint(text)


def settings_of(session: "Session", address: str, ca: str | None, method: Method | None) -> "Settings | None":
    """The authority to ask, None for a request by hand.

    By ``--ca``, else the first of config.toml, else the one a waiting request went to.
    """
    from dataclasses import replace

    from medmail_cli.config import Authority

    known = session.config.authorities
    if method is Method.csr:
        return None
    if ca is not None and "://" in ca:
        return Authority(ca, ca, method=_SPOKEN.get(method, "est"))
    if ca is not None and ca not in known:
        raise MedmailError("not-found", what="authority", name=ca)
    settings = known[ca] if ca is not None else next(iter(known.values()), None)
    if settings is None:
        from medmail_cli.workflows.identity import speaks_for

        waiting = [one for one in session.keystore.identities() if one.state == "waiting"]
        for one in waiting:
            if speaks_for(one, address):
                return _asked(one)
        raise MedmailError("no-authority")
    if settings.method == "csr" and method is None:
        return None
    if method is None:
        return settings
    return replace(settings, method=_SPOKEN.get(method, "est"))


def _asked(one: "Identity") -> "Settings | None":
    """The authority that an identity, or its request, came to."""
    from medmail_cli.config import Authority

    if one.authority is None:
        return None
    return Authority(one.authority, one.authority, method=_SPOKEN.get(one.method, "est"))


def settings_of_identity(session: "Session", one: "Identity", ca: str | None) -> "Settings | None":
    """The authority that renews an identity: ``--ca``, else its own, else the first of config.toml.

    None for a request by hand, where no authority is known.
    """
    from medmail_cli.transport import acmeserver, cmp, est

    endpoints = {"est": est.endpoint, "cmp": cmp.endpoint, "acme": acmeserver.endpoint}
    if ca is None and one.authority is not None:
        for settings in session.config.authorities.values():
            endpoint = endpoints.get(settings.method)
            if endpoint is not None and endpoint(settings.url) == one.authority:
                return settings
        return _asked(one)
    if ca is None and not session.config.authorities:
        return None
    return settings_of(session, one.address, ca, None)


def reach(
    session: "Session",
    settings: "Settings",
    address: str,
    tls_anchors: Path | None,
    fingerprint: str | None,
    presented: "Identity | None",
    patience: float = PATIENCE,
) -> "EstAuthority | CmpAuthority":
    """The authority of ``settings``, by whatever it speaks; ``presented`` is the identity to be renewed.

    ``patience`` is how many seconds to wait for a certificate that is decided upon later.
    """
    if settings.method == "cmp":
        return cmp(session, settings, address, tls_anchors, fingerprint, presented, patience)
    return _est(session, settings, address, tls_anchors, fingerprint, presented, patience)


def _est(
    session: "Session",
    settings: "Settings",
    address: str,
    tls_anchors: Path | None,
    fingerprint: str | None,
    presented: "Identity | None",
    patience: float,
) -> "EstAuthority":
    """Who asks for a certificate in TLS is shown that of ``presented``, else of ``client-identity``."""
    from functools import partial

    from medmail_cli.commands import logins
    from medmail_cli.transport import tls
    from medmail_cli.transport.est import EstAuthority

    show = None
    if presented is not None and presented.certificate is not None and presented.purpose != "encrypt":
        chain = logins.presented(session, presented)
        show = partial(tls.present, key=session.unlocked.unseal(presented), chain=chain)
    elif settings.client_identity is not None:
        show = partial(logins.show_identity, session, address=settings.client_identity)

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
