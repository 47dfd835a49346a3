"""``medmail keys rewrap``: stored letters that an old key opens, for a new one to open.

A letter keeps its id, header, ciphertext and signatures; only its recipient entries change, to the one that
is wrapped for the new key. The new file is opened, compared and durable before the old one goes.
"""

import datetime as dt
import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.cms.certificates import fingerprint
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Progress
from medmail_cli.store.keys.identity import Identity

if TYPE_CHECKING:
    from cryptography import x509

    from medmail_cli.model import PrivateKey
    from medmail_cli.smime.rewrap import Recipients
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.store.mail.outer_index import Stored

_GROUP_MESSAGES, _GROUP_OCTETS = 256, 16 << 20
_OF_A_LETTER = {
    "bad-tag", "malformed", "message-damaged", "nested-encryption", "no-identity", "no-key",
    "not-post-quantum", "too-large", "unsupported-algorithm", "weak-algorithm",
}  # fmt: skip
"""What may be wrong with one letter and stops no other; a locked card, say, stops them all."""
_BEYOND_HELP = {"malformed", "no-key"}
"""Why no key of ours opens a letter: deleting the old one takes nothing away."""


@dataclass(frozen=True)
class Rewrap:
    """What became of a letter that the key does not open already.

    ``kept``: it could not be changed and still needs the old key, for ``reason``, an error's code;
    ``unopenable``: no key of ours opens it. ``key`` is the id of the new key's identity, ``sha256`` the
    digest of the letter as it is stored now.
    """

    type: ClassVar[str] = "rewrap"
    status: Literal["rewrapped", "would-rewrap", "kept", "unopenable"]
    id: str
    account: str
    folder: str
    key: str | None = None
    sha256: str | None = None
    reason: str | None = None
    exit: int = OK


@dataclass(frozen=True)
class RewrapSummary:
    """How many letters there were; ``unchanged`` were open to the key already or never encrypted."""

    type: ClassVar[str] = "rewrap-summary"
    rewrapped: int
    unchanged: int
    kept: int
    unopenable: int
    dry_run: bool


@dataclass(frozen=True)
class _Change:
    stored: "Stored"
    target: Identity
    raw: bytes


class _Keys:
    """The keystore's keys as letters name them, and which of them is to open a letter from now on."""

    def __init__(self, unlocked: "Unlocked", to: Identity | None, now: dt.datetime) -> None:
        self.pairs = unlocked.decryption_keys()
        self.certificates = [certificate for certificate, _ in self.pairs]
        self._store, self._to, self._now = unlocked, to, now
        self._held = {identity.sha256: identity for identity in unlocked.identities()}

    def identity(self, certificate: "x509.Certificate") -> Identity:
        return self._held[fingerprint(certificate)]

    def pair(self, identity: Identity) -> "tuple[x509.Certificate, PrivateKey]":
        return identity.certified, self._store.private_key(identity)

    def sufficient(self) -> "list[tuple[x509.Certificate, PrivateKey]]":
        """The keys that shall open every letter: the one asked for, or those in use."""
        return [pair for pair in self.pairs if self._lasts(self.identity(pair[0]))]

    def _lasts(self, identity: Identity) -> bool:
        if self._to is not None:
            return identity.id == self._to.id
        return identity.state == "active" and identity.purpose != "sign"

    def suffice(self, recipients: "Recipients") -> bool:
        """Whether a letter for these needs nothing: the key asked for alone, or any in use, opens it."""
        if self._to is not None and recipients.count != 1:
            return False
        return any(self._lasts(self.identity(certificate)) for certificate in recipients.own)

    def target(self, recipients: "Recipients") -> Identity:
        """Whose key shall open a letter for these. Raises ``no-identity``, ``not-post-quantum``."""
        if self._to is not None:
            return self._to
        old = self.identity(recipients.own[0])
        # what was safe from quantum computers stays so
        quantum = old.key_type.startswith("ml-kem")
        return self._store.decryption_identity(old.address, at=self._now, post_quantum=quantum)


def check_target(to: Identity) -> None:
    """Refuse a key that opens no letters. Raises ``no-certificate``, ``wrong-key-usage``."""
    if to.certificate is None:
        raise MedmailError("no-certificate", address=to.address)
    if to.purpose == "sign":
        raise MedmailError("wrong-key-usage", address=to.address)


def rewrap(
    mailbox: "Mailbox",
    unlocked: "Unlocked",
    run: "RunContext",
    *,
    to: Identity | None,
    dry_run: bool = False,
) -> Generator[Rewrap | RewrapSummary | Progress, None, bool]:
    """Make every stored letter open to ``to``; without it, those that only a retired key opens to its heir.

    Returns whether any was changed. Raises what stops the whole run (``disk-full``, ``store-busy``, a card's
    refusal): what was done before stays done, and running it again goes on.
    """
    keys = _Keys(unlocked, to, run.now)
    if not mailbox.folder.is_dir():
        yield RewrapSummary(0, 0, 0, 0, dry_run)
        return False
    counts = {"rewrapped": 0, "kept": 0, "unopenable": 0}
    with mailbox.rewrapping():
        everything = sorted(mailbox.list(), key=lambda letter: (letter.account, letter.folder))
        done = 0
        for group in _groups(everything):
            changes: list[_Change] = []
            for stored in group:
                planned = _look(mailbox, stored, keys)
                if isinstance(planned, Rewrap):
                    counts[planned.status] += 1
                    yield planned
                elif planned is not None:
                    changes.append(planned)
            for event in _told(changes) if dry_run else _carry_out(changes, mailbox, run):
                counts["rewrapped"] += 1
                yield event
            done += len(group)
            yield Progress(done, len(everything), "messages")
    yield RewrapSummary(**counts, unchanged=len(everything) - sum(counts.values()), dry_run=dry_run)
    return not dry_run and counts["rewrapped"] > 0


def _groups(messages: "Sequence[Stored]") -> "Iterator[list[Stored]]":
    """Messages of one folder, as many at a time as memory shall hold."""
    for _, folder in groupby(messages, key=lambda stored: (stored.account, stored.folder)):
        group: list[Stored] = []
        octets = 0
        for message in folder:
            if group and (len(group) >= _GROUP_MESSAGES or octets + message.size > _GROUP_OCTETS):
                yield group
                group, octets = [], 0
            group.append(message)
            octets += message.size
        if group:
            yield group


def _look(mailbox: "Mailbox", stored: "Stored", keys: _Keys) -> _Change | Rewrap | None:
    """What is to be done about a letter; None where nothing is."""
    from medmail_cli.smime import rewrap as smime

    try:
        raw = mailbox.read_stored(stored)
        if raw is None:
            return None
        recipients = smime.recipients(raw, keys.certificates)
        if recipients is None:
            if not smime.is_encrypted(raw) or smime.opens(raw, keys.sufficient()):
                return None
            raise MedmailError("nested-encryption" if smime.opens(raw, keys.pairs) else "no-key")
        if not recipients.own:
            raise MedmailError("no-key")
        if keys.suffice(recipients):
            return None
        target = keys.target(recipients)
        return _Change(stored, target, smime.rewrap(raw, keys.pairs, keys.pair(target)))
    except MedmailError as error:
        if error.code not in _OF_A_LETTER:
            raise
        hopeless = error.code in _BEYOND_HELP
        return Rewrap(
            "unopenable" if hopeless else "kept",
            stored.id,
            stored.account,
            stored.folder,
            reason=error.code,
            exit=OK if hopeless else exit_of(error.code),
        )


def _told(changes: Sequence[_Change]) -> Iterator[Rewrap]:
    for change in changes:
        yield Rewrap(
            "would-rewrap", change.stored.id, change.stored.account, change.stored.folder, change.target.id
        )


def _carry_out(changes: Sequence[_Change], mailbox: "Mailbox", run: "RunContext") -> Iterator[Rewrap]:
    if not changes:
        return
    intents = run.log.intents(
        Intent("rewrap", run.actor, (each.stored.id,), {"key": each.target.id}) for each in changes
    )
    outcomes: list[Outcome] = []
    events: list[Rewrap] = []
    try:
        placed, failure = mailbox.replace([(each.stored, each.raw) for each in changes])
    except MedmailError as error:
        placed, failure = set(), error
    for intent, change in zip(intents, changes, strict=True):
        stored, digest = change.stored, hashlib.sha256(change.raw).hexdigest()
        if stored in placed:
            outcomes.append(Outcome(intent, "done", OK, objects=(digest,)))
            events.append(
                Rewrap("rewrapped", stored.id, stored.account, stored.folder, change.target.id, digest)
            )
        elif failure is None:  # deleted by another program
            outcomes.append(Outcome(intent, "unchanged", OK))
        else:
            code = exit_of(failure.code)
            outcomes.append(Outcome(intent, "failed", code, facts={"error": failure.code}))
    try:
        run.log.outcomes(outcomes)
    except MedmailError as error:
        failure = failure or error
    yield from events
    if failure is not None:
        raise failure
