"""``medmail trust``: whom to believe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509

    from medmail_cli.session import Session

app = typer.Typer(help=_("Say which authorities to believe, and fetch what they revoked."))


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.trust.anchors import TrustItem
    from medmail_cli.workflows.trust.revocation_fetch import Fetched

    return {
        "trust add": (TrustItem,),
        "trust list": (TrustItem,),
        "trust remove": (TrustItem,),
        "trust update": (Fetched,),
    }


@app.command(
    "add",
    help=_("Take certificates as trust anchors, and CRLs, from a PEM, DER or PKCS#7 file."),
    epilog=examples("medmail trust add order-root.pem"),
)
def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=_("The file; - is stdin."))],
    intermediate: Annotated[
        bool,
        typer.Option("--intermediate", help=_("Helpers to build chains with; nothing is trusted for them.")),
    ] = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import anchors

    session: Session = ctx.obj
    if file.suffix == ".json" and file.parent.resolve() == session.paths.contacts.resolve():
        return show(ctx, "trust add", anchors.take_in(session.contacts, session.run, file))
    data = session.read(file, "FILE")
    return show(
        ctx,
        "trust add",
        anchors.add(session.trust, session.run, data, str(file), intermediate=intermediate),
    )


@app.command(
    "list",
    help=_("List anchors, intermediates and CRLs."),
    epilog=examples("medmail trust list --json"),
)
def list_(ctx: typer.Context) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import anchors

    session: Session = ctx.obj
    return show(ctx, "trust list", anchors.items(session.trust))


@app.command(
    "remove",
    help=_("Stop trusting: take a certificate or CRL out."),
    epilog=examples("medmail trust remove 3f9ac1d2"),
)
def remove(
    ctx: typer.Context,
    sha256: Annotated[
        str, typer.Argument(metavar="SHA256", help=_("Its SHA-256, or six digits or more of it."))
    ],
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import anchors

    session: Session = ctx.obj
    return show(ctx, "trust remove", anchors.remove(session.trust, session.run, sha256))


@app.command(
    "update",
    help=_(
        "Fetch fresh CRLs, OCSP answers and missing intermediates for your certificates, your contacts "
        "and whoever signed letters you read."
    ),
    epilog=examples("medmail trust update"),
)
def update(
    ctx: typer.Context,
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help=_("Also ask servers on this machine and in private networks.")),
    ] = False,
) -> int:
    from medmail_cli.store.trust.incomplete_chains import Incomplete
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import anchors

    session: Session = ctx.obj
    fetched = anchors.update(
        session.trust,
        session.run,
        _certificates(session),
        Incomplete(session.paths.cache / "incomplete"),
        allow_private=allow_private or session.config.fetch_private,
    )
    return show(ctx, "trust update", fetched)


def _certificates(session: "Session") -> "Iterator[tuple[x509.Certificate, Sequence[x509.Certificate]]]":
    """Ours and our contacts', each with the authorities' that came along with it."""
    for identity in session.keystore.identities():
        if identity.certificate is not None:
            yield identity.certificate, identity.chain
    for contact in session.contacts.all():
        for known in (*contact.certificates, *contact.waiting):
            yield known.certificate, known.above
