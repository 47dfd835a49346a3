"""Which authority is asked, how it is reached by what it speaks, and the options for it."""

import importlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medmail_cli.errors import MedmailError
from medmail_cli.registers import BY_HAND, PROTOCOLS
from medmail_cli.ui.i18n import _
from medmail_cli.workflows.enrol.key_kinds import KEY_KINDS

if TYPE_CHECKING:
    from medmail_cli.config import Authority as Settings
    from medmail_cli.session import Session
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.workflows.enrol.authority import Authority

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
AgreeTerms = Annotated[
    bool, typer.Option("--agree-terms", help=_("Agree to the authority's terms of service (ACME)."))
]

if TYPE_CHECKING:

    class Method(StrEnum):
        """How a certificate is asked for: a protocol, or by hand."""

    class Key(StrEnum):
        """A kind of key."""

else:
    Method = StrEnum("Method", [(name, name) for name in (*PROTOCOLS, BY_HAND)])
    Key = StrEnum("Key", [(name, name) for name in KEY_KINDS])


@dataclass(frozen=True)
class Asking:
    """An authority as somebody asks it: ``settings`` are its table in config.toml, or what stands for one.

    ``presented`` is the identity to be renewed or revoked; ``agreed`` says that the terms of service were
    agreed to on the command line; ``patience`` is how many seconds to wait for what is decided upon later,
    None as long as is usual.
    """

    session: "Session"
    settings: "Settings"
    address: str
    tls_anchors: Path | None = None
    fingerprint: str | None = None
    presented: "Identity | None" = None
    agreed: bool = False
    patience: float | None = None


def reach(asking: Asking) -> "Authority":
    """The authority, by the module that speaks its protocol; nothing is asked of it yet."""
    authority: Authority = _speaks(asking.settings.method).reach(asking)
    return authority


def _speaks(method: str) -> Any:
    return importlib.import_module(f"medmail_cli.wiring.authority_{method}")


def _spoken(method: str | None) -> str:
    """What an authority speaks where it is named; the first protocol where nothing is."""
    return method if method in PROTOCOLS else next(iter(PROTOCOLS))


def fingerprint_of(text: str | None) -> str | None:
    """The fingerprint as lower-case hex. Raises ``usage``."""
    if text is None:
        return None
    from medmail_cli.transport.est import read_fingerprint

    return read_fingerprint(text)


def settings_of(session: "Session", address: str, ca: str | None, method: str | None) -> "Settings | None":
    """The authority to ask, None for a request by hand.

    By ``--ca``, else the first of config.toml, else the one a waiting request went to.
    """
    from dataclasses import replace

    from medmail_cli.config import Authority

    known = session.config.authorities
    if method == BY_HAND:
        return None
    if ca is not None and "://" in ca:
        return Authority(ca, ca, _spoken(method))
    if ca is not None and ca not in known:
        raise MedmailError("not-found", what="authority", name=ca)
    settings = known[ca] if ca is not None else next(iter(known.values()), None)
    if settings is None:
        from medmail_cli.workflows.enrol.certified import speaks_for

        waiting = [each for each in session.keystore.identities() if each.state == "waiting"]
        for identity in waiting:
            if speaks_for(identity, address):
                return _asked(identity)
        raise MedmailError("no-authority")
    if settings.method == BY_HAND and method is None:
        return None
    if method is None:
        return settings
    return replace(settings, method=_spoken(method))


def _asked(identity: "Identity") -> "Settings | None":
    """The authority that an identity, or its request, came to."""
    from medmail_cli.config import Authority

    if identity.authority is None:
        return None
    return Authority(identity.authority, identity.authority, _spoken(identity.method))


def settings_of_identity(session: "Session", identity: "Identity", ca: str | None) -> "Settings | None":
    """The authority that renews an identity: ``--ca``, else its own, else the first of config.toml.

    None for a request by hand, where no authority is known.
    """
    if ca is None and identity.authority is not None:
        for settings in session.config.authorities.values():
            if (
                settings.method in PROTOCOLS
                and _speaks(settings.method).endpoint(settings.url) == identity.authority
            ):
                return settings
        return _asked(identity)
    if ca is None and not session.config.authorities:
        return None
    return settings_of(session, identity.address, ca, None)
