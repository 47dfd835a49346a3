"""``medmail enrol revoke``: a certificate is taken back by the authority that gave it."""

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medmail_cli.registers import PROTOCOLS
from medmail_cli.ui.i18n import _
from medmail_cli.wiring.authorities import AgreeTerms, Asking, TlsAnchors, reach, settings_of_identity
from medmail_cli.wiring.options import examples

if TYPE_CHECKING:
    from medmail_cli.session import Session
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.workflows.enrol.revoke import Revoking

app = typer.Typer()


class Why(StrEnum):
    """Why, as revocation lists say it (RFC 5280 §5.3.1)."""

    unspecified = "unspecified"
    key_compromise = "keyCompromise"
    affiliation_changed = "affiliationChanged"
    superseded = "superseded"
    cessation_of_operation = "cessationOfOperation"


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.workflows.enrol.certified import Enrolment

    return {"enrol revoke": (Enrolment,)}


@app.command(
    "revoke",
    help=_("Have the authority revoke certificates; their keys go on opening old mail."),
    epilog=examples("medmail enrol revoke dr.martin@medecin.test --reason keyCompromise"),
)
def revoke(
    ctx: typer.Context,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS|ID", help=_("Whose certificates, or the one with this id."))
    ],
    reason: Annotated[Why, typer.Option("--reason", help=_("Why."))] = Why.unspecified,
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="NAME|URL", help=_("Ask this authority instead."))
    ] = None,
    tls_anchors: TlsAnchors = None,
    agree_terms: AgreeTerms = False,
    force: Annotated[bool, typer.Option("--force", help=_("Do not ask for confirmation."))] = False,
) -> int:
    from medmail_cli.errors import MedmailError
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.enrol.revoke import chosen, enrol_revoke

    session: Session = ctx.obj
    session.keystore.recall()  # the way back where the file was lost
    identities = chosen(session.keystore, address)
    serials = ", ".join(f"{each.certificate.serial_number:x}" for each in identities if each.certificate)
    if not force and not session.ask("revoke", address=identities[0].address, serials=serials):
        raise MedmailError("declined")
    with contextlib.ExitStack() as opened:

        def authority(identity: "Identity") -> "Revoking | None":
            settings = settings_of_identity(session, identity, ca)
            if settings is None or not PROTOCOLS[settings.method].revokes:
                return None
            asking = Asking(
                session, settings, identity.address, tls_anchors, presented=identity, agreed=agree_terms
            )
            # the register has said what it can
            return cast("Revoking", opened.enter_context(contextlib.closing(reach(asking))))

        asked = enrol_revoke(
            session.keystore, session.believed, session.run, authority, identities, reason.value
        )
        return show(ctx, "enrol revoke", asked)
