"""Opening many letters: no fault with one stands before the others."""

from pathlib import Path

import pytest

from medmail_cli.pki.path.validation import Authorities
from medmail_cli.profile import Profile
from medmail_cli.smime.open import Opened
from medmail_cli.smime.verdict import Verdict
from medmail_cli.store.log.run import RunContext
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.audit import read_entries
from medmail_cli.workflows.mail.decrypt import DecryptionContext, Source, decrypt
from medmail_cli.workflows.mail.opening import MessageOpener
from medmail_cli.workflows.trust.validator import Validator
from tests.support.letters import NOW, authority, person, sealed


def test_a_fault_of_ours_with_one_letter_is_raised_when_the_others_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, profile, real = person("bob"), Profile(), MessageOpener.open
    validator = Validator(Authorities([authority("Health Root").certificate]), profile)
    contacts = Contacts(tmp_path / "contacts")
    opener = MessageOpener([(bob.certificate, bob.key)], [bob.address], validator, contacts, profile, NOW)

    def faulty(self: MessageOpener, raw: bytes, *, source: str, **how: object) -> Opened:
        if source == "2":
            raise OverflowError
        return real(self, raw, source=source, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(MessageOpener, "open", faulty)
    raw = sealed()
    sources = [Source(name, len(raw), lambda: raw) for name in "123"]
    with AuditLog(tmp_path / "audit", lambda: NOW) as log:
        events = decrypt(sources, DecryptionContext(opener, RunContext(log, bob.address, NOW)))
        opened = [next(events), next(events)]
        with pytest.raises(OverflowError):
            next(events)
    assert [(one.source, one.trusted) for one in opened if isinstance(one, Verdict)] == [
        ("1", True), ("3", True),
    ]  # fmt: skip
    outcomes = [one.outcome for one in read_entries(tmp_path / "audit") if one.outcome]
    assert outcomes == ["done", "failed", "done"]
