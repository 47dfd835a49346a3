"""What every way of enrolling shares: which authority is asked, how it is reached, and their options."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medmail_cli.errors import MedmailError
from medmail_cli.wiring.authority_cmp import cmp
from medmail_cli.wiring.authority_est import est
from medmail_cli.wiring.options import Method

if TYPE_CHECKING:
    from medmail_cli.config import Authority as Settings
    from medmail_cli.session import Session
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.transport.cmp import CmpAuthority
    from medmail_cli.transport.est import EstAuthority

_SPOKEN: "dict[str | None, Literal['est', 'cmp', 'acme']]" = {"cmp": "cmp", "acme": "acme"}
"""What an authority speaks where it is named; EST where nothing is."""

PATIENCE = 60.0
"""Seconds to wait for what an authority decides upon later."""


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
        from medmail_cli.workflows.enrol.certified import speaks_for

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
    return est(session, settings, address, tls_anchors, fingerprint, presented, patience)
