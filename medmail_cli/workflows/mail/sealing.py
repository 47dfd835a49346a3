"""Letters whose recipients are decided, made into protected messages for the outbox."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.protect import estimate, protect, sign_only
from medmail_cli.store.keys import seal
from medmail_cli.store.queue.outbox import QueuedMessage
from medmail_cli.workflows.mail import drafts
from medmail_cli.workflows.mail.drafts import Draft
from medmail_cli.workflows.mail.recipients import Plan, style_of
from medmail_cli.workflows.mail.sending import SendingContext

if TYPE_CHECKING:
    from medmail_cli.config import Account


GROUP_LETTERS = 24
GROUP_OCTETS = 16 << 20
"""Letters are made, entered and fsynced in groups of so many, while the group before is on its way."""
UNDER_WAY = 96
"""Letters handed to the connections and not yet answered for."""
SALTS = "send salts"
"""The keystore's subkey under which the salts of commitments are sealed, bound to the commitment."""
ASK_SIZE_FROM = 1 << 20
"""From this estimated size on, the server's limit is asked for before anything is encrypted."""


@dataclass(frozen=True)
class Ready:
    """A draft with all decided: who sends it, by which account, to whom, how."""

    draft: Draft
    sender: Mailbox
    account: "Account | None"
    """None where no server is asked, and the sender is known without."""
    plan: Plan
    digest: bytes | None
    unreadable: bool = False
    """Its own sender has no key of the kind that is wanted."""


def groups(ready: Sequence[Ready], context: SendingContext) -> Iterator[list[tuple[Ready, int]]]:
    """Letters in groups, each with the size its message will have; the first is small, so as to begin."""
    group: list[tuple[Ready, int]] = []
    octets, most = 0, GROUP_LETTERS // 3
    for letter in ready:
        size = estimated(letter, context)
        if group and (len(group) >= most or octets + size > GROUP_OCTETS):
            yield group
            group, octets, most = [], 0, GROUP_LETTERS
        group.append((letter, size))
        octets += size
    if group:
        yield group


def estimated(ready: Ready, context: SendingContext) -> int:
    """The size on the wire, known before a file is read."""
    letter = drafts.letter(replace(ready.draft, attach=()), ready.sender, context.delivery.now())
    signer = context.signer(ready.sender.address)
    style = style_of(context.profile, ready.plan, signer)
    attached = sum(path.stat().st_size + 1000 for path in ready.draft.attach)
    recipients = None
    if ready.plan.protection == "end-to-end":
        recipients = [each.certificate for each in ready.plan.addressees if each.certificate is not None]
    return estimate(letter, signer=signer, style=style, recipients=recipients) + attached * 16 // 9


def protected(group: Sequence[tuple[Ready, int]], context: SendingContext) -> list[QueuedMessage]:
    """The messages of a group of letters."""
    return [message for ready, _ in group for message in messages_of(ready, context)]


def messages_of(ready: Ready, context: SendingContext) -> Iterator[QueuedMessage]:
    """The messages of one letter, signed and encrypted."""
    now = context.delivery.now()
    wanted = {addressee.address: addressee for addressee in ready.plan.addressees}
    draft = ready.draft
    to, cc, bcc = (
        tuple(box for box in boxes if box.address in wanted) for boxes in (draft.to, draft.cc, draft.bcc)
    )
    draft = replace(draft, to=to, cc=cc, bcc=bcc)
    letter = drafts.letter(draft, ready.sender, now.astimezone())
    letter = replace(letter, headers=(*letter.headers, *context.profile.headers.items()))
    signer = context.signer(ready.sender.address)
    style = style_of(context.profile, ready.plan, signer)
    if ready.plan.protection == "end-to-end":
        certificates = {
            name: addressee.certificate
            for name, addressee in wanted.items()
            if addressee.certificate is not None
        }
        protected = protect(letter, signer=signer, recipients=certificates, signed_at=now, style=style)
    else:
        certificates = {}
        protected = sign_only(letter, signer=signer, signed_at=now, style=style)
    salts = context.unlock().subkey(SALTS)
    for submission in protected:
        message = submission.message
        yield QueuedMessage(
            id=hashlib.sha256(message).hexdigest(),
            message=message,
            account=ready.account.name if ready.account else "",
            sender=ready.sender.address,
            recipients=submission.recipients,
            message_id=letter.message_id,
            protection=ready.plan.protection,
            utf8=not message[: message.find(b"\r\n\r\n")].isascii(),
            key=ready.draft.key,
            digest=ready.digest,
            commitment=submission.commitment,
            sealed_salt=seal.sealed_line(salts, submission.salt, submission.commitment.encode()),
            certificates={name: fingerprint(certificate) for name, certificate in certificates.items()},
        )
