"""``medmail reply``: answer a trusted letter."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import At, Offline, TransportOnly, examples, instant, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmail_cli.session import Session

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.workflows.mail.outcomes import RecipientOutcome, Retried

    return {"reply": (RecipientOutcome, Retried)}


@app.command(
    "reply",
    help=_("Answer a letter: in its thread, under its subject; only if it is trusted."),
    epilog=examples(
        "medmail reply 3fa9c1",
        "medmail reply 3fa9c1 --all answer.txt",
    ),
)
def reply(
    ctx: typer.Context,
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE", help=_("The first digits of its name, or a file."))
    ],
    body: Annotated[
        str | None,
        typer.Argument(metavar="[BODY-FILE|-]", help=_("The text, a file in UTF-8; - for stdin.")),
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help=_("Answer all of its recipients."))] = False,
    transport_only: TransportOnly = None,
    queue: Annotated[
        bool, typer.Option("--queue", help=_("Into the outbox only; `outbox flush` sends."))
    ] = False,
    at: At = None,
    offline: Offline = False,
) -> int:
    from medmail_cli.model import Note
    from medmail_cli.pki.x509.address import canonical
    from medmail_cli.ui.render import show
    from medmail_cli.wiring.opening import decryption_context, message_opener, sources_of
    from medmail_cli.wiring.sending import given, letter, sending_context
    from medmail_cli.workflows.mail import send
    from medmail_cli.workflows.mail.reply import answer

    session: Session = ctx.obj

    def include(addresses: tuple[str, ...]) -> bool:
        if session.can_ask:
            return session.ask("answer-added", addresses=addresses)
        for address in addresses:
            session.note(Note("not-answered", {"address": address}))
        return False

    def sender(named: "Sequence[str]") -> str | None:
        if session.account_name:
            return session.account().address
        accounts = session.config.accounts
        known = {canonical(each.address) for each in accounts.values()}
        came_by = accounts.get(source.stored.account) if source.stored else None
        served = (address for address in named if canonical(address) in known)
        return next(iter((*served, *named)), came_by.address if came_by else None)

    source, *others = sources_of(session, [message], unopened=False)
    if others:
        raise typer.BadParameter(_("the file holds several messages; one is answered at a time"))
    prepared = answer(
        source,
        decryption_context(session, message_opener(session, None, instant(at), offline=offline), [source]),
        everybody=everybody,
        sender=sender,
        include=include,
    )
    heading = _("{author} wrote:").format(author=prepared.author)
    template = f"\n\n{heading}\n{prepared.quoted}" if prepared.quoted else "\n"
    draft = replace(prepared.draft, body=given(session, body))
    options = send.SendOptions(
        queue=queue, transport_only=named(transport_only), confidential=prepared.confidential
    )
    return show(
        ctx, "reply", letter(session, draft, sending_context(session, offline=offline), options, template)
    )
