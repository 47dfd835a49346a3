"""What opens letters and judges who signed them, in this run, and the letters that arguments name."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Sequence

    from medmail_cli.session import Session
    from medmail_cli.smime.layers import Keys
    from medmail_cli.workflows.mail.decrypt import DecryptionContext, Source
    from medmail_cli.workflows.mail.opening import MessageOpener
    from medmail_cli.workflows.trust.revocation_fetch import Fetcher
    from medmail_cli.workflows.trust.validator import Validator


def validator(session: "Session", *, offline: bool) -> "Validator":
    """What judges certificates in this run; unless ``offline`` it asks about those of unknown status."""
    from medmail_cli.workflows.trust.validator import Validator

    fetcher = None if offline else _fetcher(session)
    return Validator(session.trust.authorities, session.profile, fetcher)


def _fetcher(session: "Session") -> "Fetcher":
    """Asks about certificates of unknown status, while somebody waits; a person sees who is asked."""
    from medmail_cli.store.trust.silent_hosts import Unanswered
    from medmail_cli.workflows.trust.revocation_fetch import FETCH_SECONDS, RUN_SECONDS, Fetcher

    said = _("Asking {host} whether certificates have been revoked …")
    return Fetcher(
        session.trust,
        session.run,
        session.config.fetch_private,
        Unanswered(session.paths.cache / "unanswered.json", session.now()),
        announce=lambda host: session.console.say(said.format(host=host)),
        each=FETCH_SECONDS,
        seconds=RUN_SECONDS,
    )


def sources_of(session: "Session", messages: list[str], *, unopened: bool) -> "Iterator[Source]":
    """What the arguments name, each once, in order; every file is looked at before any work.

    Raises ``stdin-twice``, ``usage`` for what can be no message, and what finding each one raises.
    """
    from medmail_cli.errors import MedmailError
    from medmail_cli.workflows.mail import decrypt as workflow

    if messages.count("-") > 1:
        raise MedmailError("stdin-twice", first="MESSAGE", second="MESSAGE")
    for name in dict.fromkeys(messages):
        if name == "-":
            yield from workflow.from_bytes(session.stdin("MESSAGE"))
        elif "/" in name or "." in name:
            yield from workflow.from_file(Path(name))
        elif not re.fullmatch("[0-9A-Fa-f]{6,64}", name):
            said = _("{name!r} is neither a message (six hex digits or more) nor a file (with . or /)")
            raise typer.BadParameter(said.format(name=name))
        else:
            yield _stored(session, name)
    if unopened:
        for stored in session.mailbox.list(unopened=True):
            yield workflow.from_mailbox(session.mailbox, stored)


def _stored(session: "Session", prefix: str) -> "Source":
    """The message of the mailbox or the outbox whose name begins so: they share one space."""
    from medmail_cli.errors import MedmailError
    from medmail_cli.workflows.mail import decrypt as workflow

    queued = []
    if session.paths.outbox.exists():
        queued = [
            submission for submission in session.outbox.open() if submission.id.startswith(prefix.lower())
        ]
    try:
        return workflow.from_mailbox(
            session.mailbox, session.mailbox.find(prefix, [submission.id for submission in queued])
        )
    except MedmailError as error:
        if error.code != "not-found" or not queued:
            raise
    submission = session.outbox.find(prefix)
    return workflow.Source(submission.id, submission.size, lambda: session.outbox.read(submission))


def message_opener(
    session: "Session",
    identity: str | None,
    at: "datetime.datetime | None",
    *,
    offline: bool,
    show_unverified: bool = False,
    allow_weak: bool = False,
) -> "MessageOpener":
    """What opens and judges letters in this run. Raises ``no-identity``."""
    from medmail_cli.errors import MedmailError
    from medmail_cli.pki.x509.address import same_address
    from medmail_cli.store.trust.incomplete_chains import Incomplete
    from medmail_cli.workflows.mail.opening import LazyKeys, MessageOpener

    identities = session.keystore.identities()
    if identity is not None:
        identities = tuple(own for own in identities if any(same_address(a, identity) for a in own.addresses))
        if not identities:
            raise MedmailError("no-identity", address=identity)
    chosen = {own.certificate for own in identities if own.certificate is not None}

    def keys() -> "Keys":
        if not chosen:
            return []
        return [(c, key) for c, key in session.unlocked.decryption_keys() if c in chosen]

    return MessageOpener(
        keys=LazyKeys(keys),
        own_addresses=tuple(dict.fromkeys(a for own in identities for a in own.addresses)),
        validator=validator(session, offline=offline),
        contacts=session.contacts,
        profile=session.profile,
        now=session.now(),
        at=at,
        delegates=session.config.delegates,
        show_unverified=show_unverified,
        allow_weak=allow_weak,
        incomplete=Incomplete(session.paths.cache / "incomplete"),
    )


def decryption_context(
    session: "Session", opener: "MessageOpener", sources: "Sequence[Source]", identity: str | None = None
) -> "DecryptionContext":
    """What ``decrypt`` and ``reply`` open letters by; the log names who reads, not who typed."""
    from medmail_cli.workflows.mail.decrypt import DecryptionContext

    return DecryptionContext(
        opener,
        replace(session.run, actor=identity or next(iter(opener.own_addresses), "medmail")),
        mailbox=session.mailbox if any(source.stored for source in sources) else None,
        subkey=lambda: session.unlocked.subkey("learned"),
    )
