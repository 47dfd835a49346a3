"""``medmail enrol``: get an identity, from an authority or from files, and watch when it ends."""

import contextlib
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.registers import PROTOCOLS
from medmail_cli.ui.i18n import _
from medmail_cli.wiring.authorities import (
    AgreeTerms,
    Asking,
    Fingerprint,
    Key,
    Method,
    TlsAnchors,
    fingerprint_of,
    reach,
    settings_of,
    settings_of_identity,
)
from medmail_cli.wiring.backups import check, escrow_of, kept
from medmail_cli.wiring.options import Backup, NoBackup, examples
from medmail_cli.workflows.enrol.key_kinds import KEY_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from medmail_cli.session import Session
    from medmail_cli.store.keys.identity import Identity
    from medmail_cli.workflows.enrol.authority import Authority

app = typer.Typer(help=_("Get a professional identity: a key and its certificate."))

Replace = Annotated[
    bool, typer.Option("--replace", help=_("Retire the identity in use; it goes on opening old mail."))
]


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.model import Note
    from medmail_cli.workflows.enrol.card import CardCertificate
    from medmail_cli.workflows.enrol.certified import Enrolment
    from medmail_cli.workflows.enrol.offered_roots import Anchor
    from medmail_cli.workflows.enrol.status import Expiry
    from medmail_cli.workflows.keys import KeystoreChange

    return {
        "enrol new": (Enrolment, Anchor, Note, KeystoreChange),
        "enrol import": (Enrolment, Anchor, Note, KeystoreChange),
        "enrol renew": (Enrolment, Note, KeystoreChange),
        "enrol status": (Expiry,),
        "enrol card": (CardCertificate, Enrolment, Anchor, Note),
    }


@app.command(
    "new",
    help=_("Make a key and get a certificate for ADDRESS; a request that waits is taken up again."),
    epilog=examples(
        "medmail enrol new dr.martin@medecin.test --ca order",
        "medmail enrol new dr.martin@medecin.test --method csr -o martin.csr",
    ),
)
def new(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help=_("The mail address it is for."))],
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="NAME|URL", help=_("The authority, by config.toml or URL."))
    ] = None,
    tls_anchors: TlsAnchors = None,
    ca_fingerprint: Fingerprint = None,
    method: Annotated[
        Method | None,
        typer.Option("--method", help=_("EST, CMP, ACME, or a request in a file to be sent by hand.")),
    ] = None,
    key: Annotated[
        Key | None,
        typer.Option(
            "--key", help=_("The kind of key; by default what the authority asks for, else rsa3072.")
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help=_("Your name, as it shall stand."))
    ] = "",
    rpps: Annotated[str, typer.Option("--rpps", metavar="NUMBER", help=_("Your RPPS number."))] = "",
    replace: Replace = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=_("Write the request to FILE."))
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=_("Replace a file that is there."))] = False,
    agree_terms: AgreeTerms = False,
    server_key: Annotated[
        bool, typer.Option("--server-key", help=_("Let the authority make the key that encrypts (EST)."))
    ] = False,
    backup: Backup = None,
    no_backup: NoBackup = False,
) -> int:
    from medmail_cli.pki.x509.address import is_address
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.enrol.authority import Subject
    from medmail_cli.workflows.enrol.issuing import enrol_new

    session: Session = ctx.obj
    if not is_address(address):
        raise typer.BadParameter(_("this is no mail address"), param_hint="ADDRESS")
    if server_key and key is not None and not (KEY_KINDS[key].signs and KEY_KINDS[key].encrypts):
        raise typer.BadParameter(_("an authority makes RSA and NIST curve keys"), param_hint="--key")
    check(session, backup, no_backup=no_backup)
    wanted = fingerprint_of(ca_fingerprint)
    with contextlib.ExitStack() as opened:

        def authority() -> "Authority | None":
            settings = settings_of(session, address, ca, method)
            if server_key and (settings is None or not PROTOCOLS[settings.method].makes_keys):
                said = _("only an authority that speaks EST makes keys")
                raise typer.BadParameter(said, param_hint="--server-key")
            if settings is None:
                return None
            if (name or rpps) and not PROTOCOLS[settings.method].certifies_names:
                said = _("an authority that speaks ACME certifies the address alone")
                raise typer.BadParameter(said, param_hint="--name" if name else "--rpps")
            asking = Asking(session, settings, address, tls_anchors, wanted, agreed=agree_terms)
            return opened.enter_context(contextlib.closing(reach(asking)))

        events = enrol_new(
            session.keystore,
            session.unlock_or_create,
            session.run,
            session.trust,
            authority,
            Subject(address, name, rpps),
            clock=session.now,
            key=key.value if key else None,
            two=session.profile.certificates == "two",
            replace=replace,
            output=None if output is None or str(output) == "-" else output,
            force=force,
            ca_fingerprint=wanted,
            ask_trust=_ask_trust(session),
            escrow=escrow_of(session),
            server_key=server_key,
        )
        return show(ctx, "enrol new", kept(session, events, backup, no_backup=no_backup))


@app.command(
    "import",
    help=_("Keep the keys and certificates of a PKCS#12, PEM or DER file."),
    epilog=examples("medmail enrol import martin.p12 --p12-password-file password.txt"),
)
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=_("The file; - is stdin."))],
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="FILE", help=_("The private key, where it stands apart.")),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="ADDR", help=_("Whose it is, where the certificate does not say.")),
    ] = None,
    ca_fingerprint: Fingerprint = None,
    replace: Replace = False,
    backup: Backup = None,
    no_backup: NoBackup = False,
) -> int:
    from medmail_cli.pki.x509.address import is_address
    from medmail_cli.pki.x509.keyfile import read_keys
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.enrol.import_files import enrol_import

    session: Session = ctx.obj
    if address is not None and not is_address(address):
        raise typer.BadParameter(_("this is no mail address"), param_hint="--address")
    check(session, backup, no_backup=no_backup)
    wanted = fingerprint_of(ca_fingerprint)

    def password() -> bytes:
        return session.secrets.get("p12-password")

    data = session.read(file, "FILE")
    key_data = None if key_file is None else session.read(key_file, "--key-file")
    with session.refusals_logged():
        contents = read_keys(data, str(file), password)
    if key_data is not None:
        with session.refusals_logged():
            contents += read_keys(key_data, str(key_file), password)
    events = enrol_import(
        session.keystore,
        session.unlock_or_create,
        session.run,
        session.trust,
        contents,
        address=address,
        replace=replace,
        ca_fingerprint=wanted,
        ask_trust=_ask_trust(session),
        escrow=escrow_of(session),
    )
    return show(ctx, "enrol import", kept(session, events, backup, no_backup=no_backup))


@app.command(
    "card",
    help=_("Use the keys of a card (CPS, or any other with PKCS#11); they never leave it."),
    epilog=examples(
        "medmail enrol card",
        "medmail enrol card --token CPS --address dr.martin@medecin.test",
        "medmail enrol card --module /usr/lib/libcps3_pkcs11_lux.so --pin-file pin.txt",
    ),
)
def card(
    ctx: typer.Context,
    module: Annotated[
        Path | None,
        typer.Option("--module", metavar="FILE", help=_("The PKCS#11 module; found by itself by default.")),
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="LABEL", help=_("Which card, by label or serial number."))
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="ADDR", help=_("Whose it is, where the certificate does not say.")),
    ] = None,
    ca_fingerprint: Fingerprint = None,
) -> int:
    from medmail_cli.pki.x509.address import is_address
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.enrol.card import enrol_card

    session: Session = ctx.obj
    if address is not None and not is_address(address):
        raise typer.BadParameter(_("this is no mail address"), param_hint="--address")
    wanted = fingerprint_of(ca_fingerprint)
    events = enrol_card(
        session.keystore,
        session.unlock_or_create,
        session.run,
        session.trust,
        session.cards,
        module=module,
        label=token,
        address=address,
        ca_fingerprint=wanted,
        ask_trust=_ask_trust(session),
    )
    return show(ctx, "enrol card", events)


@app.command(
    "renew",
    help=_("Get a new key and certificate for identities in use; the old ones go on opening old mail."),
    epilog=examples(
        "medmail enrol renew dr.martin@medecin.test",
        "medmail enrol renew --all --within 30d",
    ),
)
def renew(
    ctx: typer.Context,
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[ADDRESS]...", help=_("Whose identities to renew."))
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help=_("Renew every identity in use."))] = False,
    within: Annotated[
        str | None,
        typer.Option("--within", metavar="TIME", help=_("Only those that end within this time, as in 30d.")),
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="NAME|URL", help=_("Ask this authority instead."))
    ] = None,
    tls_anchors: TlsAnchors = None,
    key: Annotated[
        Key | None, typer.Option("--key", help=_("The kind of key; the old one's by default."))
    ] = None,
    same_key: Annotated[
        bool, typer.Option("--same-key", help=_("Keep the key, and get a new certificate only."))
    ] = False,
    backup: Backup = None,
    no_backup: NoBackup = False,
    agree_terms: AgreeTerms = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.enrol.issuing import enrol_renew

    session: Session = ctx.obj
    if bool(addresses) == everybody:
        raise typer.BadParameter(_("name addresses, or use --all"))
    if same_key and key is not None:
        raise typer.BadParameter(_("--same-key and --key exclude each other"))
    check(session, backup, no_backup=no_backup)
    with contextlib.ExitStack() as opened:

        def authority(identity: "Identity") -> "Authority | None":
            settings = settings_of_identity(session, identity, ca)
            if settings is None:
                return None
            asking = Asking(
                session, settings, identity.address, tls_anchors, presented=identity, agreed=agree_terms
            )
            return opened.enter_context(contextlib.closing(reach(asking)))

        events = enrol_renew(
            session.keystore,
            lambda: session.unlocked,
            session.run,
            authority,
            addresses or (),
            clock=session.now,
            within=_duration(within, "--within") if within is not None else None,
            key=key.value if key else None,
            escrow=escrow_of(session),
            same_key=same_key,
        )
        return show(ctx, "enrol renew", kept(session, events, backup, no_backup=no_backup))


@app.command(
    "status",
    help=_("Tell when each identity ends; exit 1 if one ends within the time given."),
    epilog=examples("medmail enrol status --fail-within 30d"),
)
def status_(
    ctx: typer.Context,
    fail_within: Annotated[
        str, typer.Option("--fail-within", metavar="TIME", help=_("How long before its end, such as 30d."))
    ] = "0d",
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.enrol.status import status

    session: Session = ctx.obj
    within = _duration(fail_within, "--fail-within")
    return show(ctx, "enrol status", status(session.keystore, now=session.now(), within=within))


def _duration(text: str, option: str) -> datetime.timedelta:
    from medmail_cli.config import seconds

    try:
        return datetime.timedelta(seconds=seconds(text))
    except ValueError:
        raise typer.BadParameter(_("not a duration such as 30d"), param_hint=option) from None


def _ask_trust(session: "Session") -> "Callable[[x509.Certificate], bool] | None":
    if not session.can_ask:
        return None

    def ask(root: "x509.Certificate") -> bool:
        from medmail_cli.cms.certificates import fingerprint
        from medmail_cli.pki.x509.certificate import subject_text

        subject = subject_text(root)
        return session.ask("trust-root", "--ca-fingerprint", subject=subject, sha256=fingerprint(root))

    return ask
