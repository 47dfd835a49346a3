"""What sends letters in this run, and letters written in an editor.

Nothing that somebody typed is thrown away before it is safe elsewhere.
"""

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.wiring.accounts import above, credentials, mail_server, tls_context
from medmail_cli.wiring.opening import validator

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from medmail_cli.devices.editor import Paper
    from medmail_cli.session import Session
    from medmail_cli.workflows.mail.drafts import Draft
    from medmail_cli.workflows.mail.send import Event, SendOptions
    from medmail_cli.workflows.mail.sending import SendingContext
    from medmail_cli.workflows.mail.submission_session import DeliveryContext


def given(session: "Session", body: str | None) -> str | None:
    """The text that a file has, or stdin for ``-``; None where none is given. Raises ``not-text``."""
    from medmail_cli.workflows.mail import drafts

    if body == "-":
        return drafts.text_of(session.stdin("BODY-FILE"), "-")
    return None if body is None else drafts.text_of(drafts.read(Path(body)), body)


def letter(
    session: "Session", draft: "Draft", context: "SendingContext", options: "SendOptions", template: str
) -> "Generator[Event, None, None]":
    """Send a draft that has its text, or one whose text is written now, beginning with ``template``.

    All that can fail without the text is looked at before the editor opens. Raises ``empty-letter`` where
    there is no text and nobody to write one, or it was left as it was.
    """
    from medmail_cli.workflows.mail import drafts, send

    if draft.body is not None or draft.entity is not None or not session.can_ask:
        yield from send.send([drafts.finished(draft)], context, options)
        return
    from medmail_cli.devices.editor import edit, paper

    yield from send.check([draft], context, options)
    sheet = paper(template.encode())

    def written() -> "Generator[Event, None, None]":
        edit(sheet)
        text = drafts.text_of(sheet.read(), str(sheet.path))
        if text.strip() in ("", template.strip()):
            raise MedmailError("empty-letter")
        return send.send([drafts.finished(replace(draft, body=text))], context, options)

    yield from _watched(session, sheet, written, context)


def _watched(
    session: "Session",
    sheet: "Paper",
    written: "Callable[[], Generator[Event, None, None]]",
    context: "SendingContext",
) -> "Generator[Event, None, None]":
    """The events of a letter; what was typed is deleted once it stands somewhere else."""
    from medmail_cli.model import Note
    from medmail_cli.ui import render
    from medmail_cli.workflows.mail.outcomes import RecipientOutcome

    outcomes: list[RecipientOutcome] = []

    def kept() -> Path | None:
        entered = context.entered and not any(outcome.status == "refused" for outcome in outcomes)
        if entered or any(outcome.stands for outcome in outcomes) or not sheet.touched:
            sheet.discard()
            return None
        return sheet.keep(session.paths.outbox.parent / "unsent")

    try:
        with closing(written()) as events:
            for event in events:
                if isinstance(event, RecipientOutcome):
                    outcomes.append(event)
                yield event
    except GeneratorExit:
        if (path := kept()) is not None:
            session.format().note(Note("text-kept", {"path": str(path)}))
        raise
    except (Exception, KeyboardInterrupt) as raised:
        error = render.understood(raised)
        if (path := kept()) is not None:
            error.facts["kept"] = str(path)
        raise error from raised
    if (path := kept()) is not None:
        yield Note("text-kept", {"path": str(path)})


def sending_context(
    session: "Session", *, post_quantum: bool = False, offline: bool = False
) -> "SendingContext":
    """What sending needs of this run."""
    from medmail_cli.model import Note
    from medmail_cli.workflows.mail.recipients import read_whitelist
    from medmail_cli.workflows.mail.sending import SendingContext
    from medmail_cli.workflows.trust.lookup import KnownContacts, OwnAddresses, RecipientResolver

    profile = session.profile
    added = {name.lower() for name in profile.headers}
    for name in profile.wanted_headers:
        if name.lower() not in added:
            session.note(Note("header-wanted", {"header": name, "profile": profile.name}))
    own = [
        (address, identity.certificate)
        for identity in session.keystore.identities()
        if identity.state == "active"
        and identity.certificate is not None
        and identity.purpose in ("encrypt", "both")
        for address in identity.addresses
    ]
    return SendingContext(
        keystore=session.keystore,
        unlock=lambda: session.unlocked,
        resolver=RecipientResolver(
            (KnownContacts(session.contacts), OwnAddresses(own)),
            validator(session, offline=offline),
            profile,
            session.now(),
            post_quantum or profile.post_quantum,
        ),
        profile=profile,
        account=lambda address: session.account(address=address),
        above=partial(above, session),
        delivery=delivery_context(session),
        whitelist=read_whitelist(profile.whitelist),
    )


def delivery_context(session: "Session") -> "DeliveryContext":
    """What handing over needs of this run; secrets are asked for before a connection is made."""
    from medmail_cli.workflows.mail.submission_session import DeliveryContext

    return DeliveryContext(
        outbox=session.outbox,
        log=session.log,
        mailbox=session.mailbox,
        accounts=session.config.accounts,
        credentials=partial(credentials, session),
        tls_context=partial(tls_context, session),
        mail_server=partial(mail_server, session),
        now=session.now,
        ask_dsn=session.profile.request_dsn,
    )
