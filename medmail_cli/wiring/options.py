"""Options and parts of a help page that several verbs share, and what their values come to."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence

At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help=_("Judge as of this time (ISO 8601; without offset, local).")),
]
Offline = Annotated[bool, typer.Option("--offline", help=_("Use only what is on this computer."))]
TransportOnly = Annotated[
    list[str] | None,
    typer.Option(
        "--transport-only",
        metavar="ADDR",
        help=_("Send although this recipient cannot be encrypted to; repeatable."),
    ),
]
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
Backup = Annotated[
    Path | None,
    typer.Option("--backup", metavar="FILE", help=_("Back up the keystore into FILE, as `keys backup`.")),
]
NoBackup = Annotated[
    bool, typer.Option("--no-backup", help=_("Do without a backup of the new key, and be asked no more."))
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


def examples(*lines: str) -> str:
    """The epilog of a command's help: a heading in the person's language, then command lines as they stand.

    The tests type every line of it.
    """
    return "\n".join((_("Examples:"), *lines))


def instant(text: str | None, option: str = "--at") -> "datetime.datetime | None":
    """A time in ISO 8601, in UTC; without an offset it is local. What is no time is wrong usage."""
    if text is None:
        return None
    import datetime

    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(_("not a time in ISO 8601"), param_hint=option) from None


def named(addresses: "Sequence[str] | None") -> frozenset[str]:
    """The addresses of ``--transport-only``. Raises ``bad-address``."""
    from medmail_cli.pki.x509.address import exact
    from medmail_cli.workflows.mail import drafts

    return frozenset(exact(drafts.mailbox(one).address) for one in addresses or ())


def fingerprint_of(text: str | None) -> str | None:
    """The fingerprint as lower-case hex. Raises ``usage``."""
    if text is None:
        return None
    from medmail_cli.transport.est import read_fingerprint

    return read_fingerprint(text)
