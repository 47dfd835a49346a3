"""``medmail enrol batch`` and ``merge``: a roster's worth of professionals, in one run or in shards."""

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medmail_cli.registers import PROTOCOLS
from medmail_cli.ui.i18n import _
from medmail_cli.wiring.authorities import (
    AgreeTerms,
    Asking,
    Fingerprint,
    Key,
    TlsAnchors,
    fingerprint_of,
    reach,
    settings_of,
)
from medmail_cli.wiring.backups import escrow_of
from medmail_cli.wiring.options import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography import x509

    from medmail_cli.config import Authority as Settings
    from medmail_cli.model import Note, Progress
    from medmail_cli.session import Session
    from medmail_cli.workflows.batch.person import Handout
    from medmail_cli.workflows.batch.report import BatchRow
    from medmail_cli.workflows.batch.roster import Columns, Fault, Professional
    from medmail_cli.workflows.batch.run import Ask, Registry
    from medmail_cli.workflows.enrol.key_pairs import Pair

app = typer.Typer()

_MOST_JOBS = 64
_PATIENCE = 5.0
"""Seconds for a certificate that is decided upon later: the others wait meanwhile, the next run asks."""
_MAIL_PATIENCE = 60.0
"""The same where a mail must come and be answered."""


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.batch.report import BatchRow
    from medmail_cli.workflows.batch.roster import Columns, Fault

    return {"enrol batch": (Columns, BatchRow, Fault), "enrol merge": (BatchRow, Fault)}


@app.command(
    "batch",
    help=_("Enrol everybody on a roster; run again after whatever cut it off, it goes on where it was."),
    epilog=examples(
        "medmail enrol batch roster.csv --dry-run",
        "medmail enrol batch roster.csv --only group=pilot --letters letters --report pilot.jsonl",
        "medmail enrol batch roster.csv --shard 0/2 --report 0.jsonl",
    ),
)
def batch(
    ctx: typer.Context,
    roster: Annotated[Path, typer.Argument(metavar="ROSTER.csv", help=_("The roster; - is stdin."))],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help=_("Only the rows with this value; repeatable.")),
    ] = None,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help=_("Enrol the rows that are right; exit 3."))
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_("Check everything, do nothing."))] = False,
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, max=_MOST_JOBS, help=_("How many requests at a time."))
    ] = 4,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help=_("Only the I-th of N parts, counted from 0; see enrol merge.")),
    ] = None,
    out_dir: Annotated[
        Path, typer.Option("--out-dir", metavar="DIR", help=_("Where keys are laid down, and the journal."))
    ] = Path("enrolled"),
    p12: Annotated[
        bool, typer.Option("--p12", help=_("A PKCS#12 file for each, instead of a medmail home."))
    ] = False,
    letters: Annotated[
        Path | None, typer.Option(metavar="DIR", help=_("A letter with the password for each, to be sealed."))
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help=_("Write what became of each row, as JSON Lines."))
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="NAME|URL", help=_("The authority, by config.toml or URL."))
    ] = None,
    tls_anchors: TlsAnchors = None,
    ca_fingerprint: Fingerprint = None,
    key: Annotated[
        Key | None,
        typer.Option(
            "--key", help=_("The kind of key; by default what the authority asks for, else rsa3072.")
        ),
    ] = None,
    agree_terms: AgreeTerms = False,
    force: Annotated[bool, typer.Option("--force", help=_("Replace a file that is there."))] = False,
) -> int:
    from medmail_cli.store.files import check_output, check_place
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.batch.choice import check_choice, choose, faulty, forecast
    from medmail_cli.workflows.batch.report import Part, check_report, digest, reported
    from medmail_cli.workflows.batch.roster import read_roster
    from medmail_cli.workflows.batch.run import enrol_batch
    from medmail_cli.workflows.enrol.key_pairs import check_kind

    session: Session = ctx.obj
    if key is not None:
        # better said before the authority is asked
        _pairs(session, key.value, (), p12=p12)
    wanted = tuple(_column(choice) for choice in only or ())
    share = _shard(shard)
    if report is not None:
        check_output(report, force=True)
    for folder in filter(None, (out_dir, letters)):
        check_place(folder)
    data = session.read(roster, "ROSTER.csv")
    rows, faults, columns = read_roster(data, str(roster))
    check_choice(rows, wanted)
    part = Part(digest(data), share, wanted, skip_faulty, dry_run)
    if report is not None:
        check_report(report, part, force=force)
    chosen = choose(rows, wanted, share)

    def outcomes() -> "Iterator[BatchRow | Columns | Fault | Note | Progress]":
        yield from faulty(faults, skip_faulty=skip_faulty)
        if dry_run:
            if ca is not None:
                settings_of(session, "", ca, None)
            if columns is not None:
                yield columns
            yield from forecast(chosen, out_dir, session.now())
            return
        with contextlib.ExitStack() as opened:
            wanted_root = fingerprint_of(ca_fingerprint)
            asked = _reach(session, tls_anchors, wanted_root, ca, opened, agreed=agree_terms)
            check_kind(key.value if key else None, asked.kinds, asked.url)
            out = _handout(session, out_dir, letters, asked, p12=p12)
            pairs = _pairs(session, key.value if key else None, asked.kinds, p12=p12)
            registry = replace(_registry(session, asked, out, opened, share), pairs=pairs, jobs=jobs)
            yield from () if p12 or not chosen else _untrusted(asked, out)
            yield from enrol_batch(chosen, registry)

    return show(ctx, "enrol batch", reported(outcomes(), report, part, force=force))


@app.command(
    "merge",
    help=_("Join the reports of all shards of one batch, and check that nobody is missing or there twice."),
    epilog=examples("medmail enrol merge 0.jsonl 1.jsonl -o all.jsonl"),
)
def merge_(
    ctx: typer.Context,
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT...", help=_("Every shard's report."))],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=_("Write the whole report."))
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=_("Replace a file that is there."))] = False,
) -> int:
    from medmail_cli.store.files import check_no_input
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.batch.report import merge

    session: Session = ctx.obj
    if output is not None:
        check_no_input(output, reports)
    return show(ctx, "enrol merge", merge(reports, output, force=force, stdin=session.stdin))


def _column(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not (column.strip() and equals):
        raise typer.BadParameter(_("give a column and a value, such as group=pilot"), param_hint="--only")
    return column.strip(), value.strip()


def _pairs(
    session: "Session", wanted: str | None, kinds: "Sequence[str]", *, p12: bool
) -> "tuple[Pair, ...]":
    """The key pairs that everybody gets; one that encrypts only is beside others, one of which signs.

    ``kinds`` are those that the authority certifies.
    """
    from medmail_cli.workflows.enrol.key_kinds import ENCRYPTION_ONLY, GENERAL, SIGNING
    from medmail_cli.workflows.enrol.key_pairs import Pair, pairs, preferred

    usual = preferred(kinds, GENERAL if p12 else SIGNING)
    two = session.profile.certificates == "two"
    if wanted == "x25519":
        raise typer.BadParameter(_("ed25519 brings x25519 along, and a key that signs"), param_hint="--key")
    if wanted in ENCRYPTION_ONLY:
        chosen = (*pairs(usual, two=two), Pair(wanted, "encrypt"))
    else:
        chosen = pairs(wanted or usual, two=two)
    if p12 and (held := sorted(ENCRYPTION_ONLY.intersection(each.kind for each in chosen))):
        said = _("a PKCS#12 file holds no key of this kind: {kinds}").format(kinds=", ".join(held))
        raise typer.BadParameter(said, param_hint="--p12")
    return chosen


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not match or not int(match.group(1)) < int(match.group(2)):
        raise typer.BadParameter(_("give a part and their number, such as 0/4"), param_hint="--shard")
    return int(match.group(1)), int(match.group(2))


@dataclass(frozen=True)
class _Asked:
    """An authority found and reached: its settings, and what makes a way to it."""

    settings: "Settings"
    vouched: str | None
    """The SHA-256 of the root that was given."""
    way: "Callable[[], Ask]"
    url: str
    kinds: tuple[str, ...]
    """The kinds of key that it says it certifies."""
    roots: "Sequence[x509.Certificate]"


def _reach(
    session: "Session",
    tls_anchors: Path | None,
    fingerprint: str | None,
    ca: str | None,
    opened: contextlib.ExitStack,
    *,
    agreed: bool,
) -> _Asked:
    """The authority, asked for its certificates, so that nothing is begun with one that is away."""
    from medmail_cli.workflows.enrol.authority import MailProving

    settings = settings_of(session, "", ca, None)
    if settings is None:
        raise typer.BadParameter(_("a batch needs an authority that answers"), param_hint="--ca")
    protocol = PROTOCOLS[settings.method]
    if protocol.by_mail and settings.challenge_account is None:
        said = _("for a batch by ACME, challenge-account names the account that gets everybody's mails")
        raise typer.BadParameter(said, param_hint="--ca")

    asking = Asking(
        session,
        settings,
        "" if protocol.by_mail else settings.login,
        tls_anchors,
        fingerprint,
        agreed=agreed,
        patience=_MAIL_PATIENCE if protocol.by_mail else _PATIENCE,
    )

    def way() -> "Ask":
        return opened.enter_context(contextlib.closing(reach(asking))).enrol

    with contextlib.closing(reach(asking)) as authority:
        if isinstance(authority, MailProving):
            authority.sign_up(session.account(settings.challenge_account).address)
        roots = authority.anchors()
        return _Asked(settings, fingerprint, way, authority.url, authority.key_kinds(), roots)


def _untrusted(asked: _Asked, out: "Handout") -> "Iterator[Note]":
    """Tell of the roots that the homes will not trust, while there is time to break off."""
    from medmail_cli.cms.certificates import fingerprint
    from medmail_cli.model import Note
    from medmail_cli.pki.x509.certificate import subject_text

    for root in dict.fromkeys(asked.roots):
        if asked.vouched is None and fingerprint(root) not in out.trusted:
            yield Note("homes-trust-no-root", {"subject": subject_text(root), "sha256": fingerprint(root)})


def _handout(
    session: "Session", folder: Path, letters: Path | None, asked: _Asked, *, p12: bool
) -> "Handout":
    from medmail_cli.cms.certificates import fingerprint
    from medmail_cli.workflows.batch.person import Handout

    def letter(row: "Professional", password: str) -> tuple[str, bytes]:
        said = _(
            "{name}\n{address}\n\n"
            "Your key and certificate for signed and encrypted mail are ready. Your registrar gives them to\n"
            "you by another way; this password opens them:\n\n    {password}\n\n"
            "No copy of it is kept. Choose a password of your own with `medmail keys passwd`,\n"
            "then destroy this letter.\n"
        )
        if p12:
            said = _(
                "{name}\n{address}\n\n"
                "Your key and certificate for signed and encrypted mail are ready, in a PKCS#12 file. Your\n"
                "registrar gives it to you by another way; this password opens it:\n\n    {password}\n\n"
                "No copy of it is kept. Take the file in with `medmail enrol import`, or with your mail\n"
                "program, then destroy this letter.\n"
            )
        return ".txt", said.format(name=row.name, address=row.address, password=password).encode()

    return Handout(
        folder,
        session.unlock_or_create().subkey("batch"),
        p12=p12,
        letters=letters,
        letter=letter,
        home=_home_files(session, asked),
        trusted=frozenset(map(fingerprint, session.trust.anchors()))
        | frozenset(filter(None, [asked.vouched])),
    )


def _home_files(session: "Session", asked: _Asked) -> "Callable[[str], dict[str, bytes]]":
    """The files of a person's home beside the keystore: the registrar's servers and authority, no secrets."""
    import tomli_w

    config, files = session.config, dict[str, bytes]()
    account = next(iter(config.accounts.values()), None)
    content: dict[str, Any] = {"profile": config.profile}
    if config.profile.endswith(".toml"):
        content["profile"] = "./profile.toml"
        files["profile.toml"] = session.read(Path(config.profile), "profile")
    if config.lang:
        content["lang"] = config.lang
    authority: dict[str, Any] = {"url": asked.settings.url, "method": asked.settings.method}
    content["authorities"] = {"order": authority}
    if config.fetch_private:
        # whoever asks a hospital's own authority about revocation has to ask it in its network
        content["fetch-private"] = True
    if asked.settings.tls_anchors is not None:
        authority["tls-anchors"] = "order-ca.pem"
        files["order-ca.pem"] = session.read(asked.settings.tls_anchors, "--tls-anchors")
    if account is not None and account.tls_anchors is not None:
        files["operator-ca.pem"] = session.read(account.tls_anchors, "tls-anchors")

    def files_of(address: str) -> dict[str, bytes]:
        mailbox: dict[str, Any] = {"address": address}
        for name, server in (("smtp", account and account.smtp), ("imap", account and account.imap)):
            if server:
                mailbox[name] = {"host": server.host, "port": server.port, "security": server.security}
        if "operator-ca.pem" in files:
            mailbox["tls-anchors"] = "operator-ca.pem"
        whole = content | {"accounts": {"work": mailbox}}
        return files | {"config.toml": tomli_w.dumps(whole).encode()}

    return files_of


def _registry(
    session: "Session", asked: _Asked, out: "Handout", opened: contextlib.ExitStack, shard: tuple[int, int]
) -> "Registry":
    from medmail_cli.store.batch_journal import Journal
    from medmail_cli.workflows.batch.run import Registry

    rate = asked.settings.requests_per_minute
    return Registry(
        journal=opened.enter_context(Journal(out.folder, shard)),
        run=session.run,
        authority=asked.url,
        method=asked.settings.method,
        ask=asked.way,
        out=out,
        clock=session.now,
        interval=60 / rate if rate else 0.0,
        same_answer=asked.settings.same_answer or PROTOCOLS[asked.settings.method].same_answer,
        escrow=escrow_of(session),
    )
