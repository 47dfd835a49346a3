"""Answers: to whom, and that nothing decrypted is carried to anybody its author did not name."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.profile import Profile
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.protect import Style, protect
from medmail_cli.smime.verdict import Verdict
from medmail_cli.store.log.run import RunContext
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.mail import drafts
from medmail_cli.workflows.mail.decrypt import DecryptionContext, from_bytes
from medmail_cli.workflows.mail.opening import MessageOpener
from medmail_cli.workflows.mail.reply import Answer, answer
from medmail_cli.workflows.trust.validator import Validator
from tests.support.letters import NOW, OUTER, TEXT, authority, encrypt, letter, opened, person, sealed, sign

Answering = Callable[..., Answer]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """What somebody's answer to a message would be."""
    with AuditLog(tmp_path / "audit", lambda: NOW) as log:

        def made(raw: bytes, who: str = "bob", *, everybody: bool = False, added: bool = False) -> Answer:
            me = person(who)
            profile = Profile()
            opener = MessageOpener(
                [(me.certificate, me.key)],
                [me.address],
                Validator(Authorities([authority("Health Root").certificate]), profile),
                Contacts(tmp_path / "contacts"),
                profile,
                NOW,
            )
            return answer(
                from_bytes(raw)[0],
                DecryptionContext(opener, RunContext(log, me.address, NOW)),
                everybody=everybody,
                sender=lambda named: next(iter(named), None),
                include=lambda _: added,
            )

        yield made


def to_and_cc(made: Answer) -> list[list[str]]:
    return [[box.address for box in boxes] for boxes in (made.draft.to, made.draft.cc)]


def test_what_the_author_named_is_answered_and_quoted(answering: Answering) -> None:
    made = answering(sealed(letter(cc=(person("carol").box,))), everybody=True)
    assert to_and_cc(made) == [["alice@medecin.test"], ["carol@medecin.test"]]
    assert made.quoted.startswith("> Chère consœur,")
    assert made.confidential


ADDED = OUTER.replace(b"To:", b"Cc: eve@evil.test\r\nReply-To: eve@evil.test\r\nTo:")


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("everybody", [True, False])
def test_recipients_whom_anybody_could_have_added_are_answered_on_demand_and_nothing_is_quoted_to_them(
    answering: Answering, everybody: bool, added: bool
) -> None:
    """Bob and Carol stand outside of the protection too, but Bob is who answers."""
    made = answering(ADDED + encrypt(sign(TEXT)), everybody=everybody, added=added)
    assert to_and_cc(made) == [["alice@medecin.test"], ["eve@evil.test"] if everybody and added else []]
    assert made.quoted == ("" if everybody and added else "> Hello\n")


def test_one_s_own_letter_that_came_back_to_others_is_not_quoted(answering: Answering) -> None:
    """A server delivers Alice's letter to herself, with Eve where Bob stood."""
    raw = OUTER.replace(b"bob@medecin.test", b"eve@evil.test") + encrypt(sign(TEXT), "alice")
    made = answering(raw, "alice", added=True)
    assert (to_and_cc(made)[0], made.quoted) == (["eve@evil.test"], "")
    with pytest.raises(MedmailError, match="no-reply-address"):
        answering(raw, "alice")
    assert answering(sealed(), "alice").quoted


def test_an_address_in_a_name_is_no_recipient(answering: Answering) -> None:
    to = (Mailbox("bob@medecin.test", "x, eve@evil.test"), Mailbox("carol@medecin.test", "y <eve@evil.test>"))
    made = answering(sealed(letter(to=to)), everybody=True)
    assert to_and_cc(made) == [["alice@medecin.test"], ["carol@medecin.test"]]


def test_what_came_open_may_be_answered_openly(answering: Answering) -> None:
    assert not answering(OUTER + sign(TEXT)).confidential


INSIDE = """\
From: Alice Martin <alice@medecin.test>
To: Bob Durand <bob@medecin.test>, Dora <dora@medecin.test>
Cc: Carol Petit <carol@medecin.test>
Subject: Mme Durand
Date: Sun, 22 Nov 2026 09:30:00 +0000
Message-ID: <inside@medecin.test>
References: <first@medecin.test>
"""
SHY = """\
HP-Outer: From: alice@medecin.test
HP-Outer: To: bob@medecin.test
HP-Outer: Cc: carol@medecin.test
HP-Outer: Subject: [...]
HP-Outer: Message-ID: <outside@medecin.test>
"""
SAME = re.sub(r"(?m)^", "HP-Outer: ", INSIDE.rstrip().replace("Mme Durand", "[...]")) + "\n"


def hidden(outer: str, inside: str = INSIDE) -> bytes:
    """A letter of Alice's under a policy of hers for what stands outside."""
    payload = inside + outer + 'Content-Type: text/plain; hp="cipher"\n\nHello\n'
    return OUTER + encrypt(sign(payload.replace("\n", "\r\n").encode()))


def answered(made: Answer, *, protection: bool = True) -> tuple[Verdict, dict[str, str]]:
    """What Alice reads of Bob's answer, and the header around it."""
    bob, alice = person("bob"), person("alice")
    written = drafts.letter(replace(made.draft, body="Yes"), bob.box, NOW)
    readers = {box.address: person(box.address.partition("@")[0]).certificate for box in made.draft.everybody}
    style = Style(header_protection=protection)
    (submission,) = protect(written, signer=bob.signer, recipients=readers, signed_at=NOW, style=style)
    outside = message_from_bytes(submission.message)
    verdict = opened(submission.message, keys=[(alice.certificate, alice.key)]).verdict
    return verdict, {name: " ".join(value.split()) for name, value in outside.items()}


@pytest.mark.parametrize("outer", [SHY, SAME], ids=["shy", "baseline"])
def test_what_the_letter_hid_is_hidden_in_the_answer(answering: Answering, outer: str) -> None:
    """RFC 9788 6.1: names, addresses and identifiers too, whatever our own policy lets stand outside."""
    verdict, outside = answered(answering(hidden(outer), everybody=True))
    assert verdict.trusted
    headers = verdict.headers
    assert headers.subject == "Re: Mme Durand"
    assert headers.to == ("Alice Martin <alice@medecin.test>",)
    assert headers.cc == ("Dora <dora@medecin.test>", "Carol Petit <carol@medecin.test>")
    thread = ("<first@medecin.test>", "<inside@medecin.test>")
    assert (headers.in_reply_to, headers.references) == (thread[1], thread)
    assert outside["Subject"] == "[...]"
    if outer == SAME:
        assert (outside["To"], outside["Cc"]) == (*headers.to, ", ".join(headers.cc))
        assert (outside["In-Reply-To"], outside["References"]) == (thread[1], " ".join(thread))
    else:
        assert (outside["To"], outside["Cc"]) == ("alice@medecin.test", "carol@medecin.test")
        assert outside["In-Reply-To"] == outside["References"] == "<outside@medecin.test>"


def test_a_letter_that_let_nothing_stand_outside_is_answered_to_nobody_named(answering: Answering) -> None:
    _, outside = answered(answering(hidden("")))
    assert outside["To"] == "undisclosed-recipients:;"
    assert not {"Cc", "In-Reply-To", "References"} & set(outside)
    assert outside["From"] == "Bob <bob@medecin.test>"


def test_a_subject_that_alone_was_inside_is_hidden_by_any_policy(answering: Answering) -> None:
    """The older form protects what it holds, often nothing but Subject."""
    payload = b"Subject: Mme Durand\r\nContent-Type: text/plain; protected-headers=v1\r\n\r\nHello\r\n"
    made = answering(OUTER + encrypt(sign(payload)))
    assert made.draft.subject == "Re: Mme Durand"
    _, outside = answered(made, protection=False)
    assert (outside["Subject"], outside["To"]) == ("Re: outside", "alice@medecin.test")


@pytest.mark.parametrize("named", ["<a b@x.test>", "no id", "<a@x.test", "<a@x.test><b@x.test>"])
def test_what_is_no_identifier_is_not_referred_to(answering: Answering, named: str) -> None:
    """RFC 5322 3.6.4; of the references those that are one stay."""
    inside = INSIDE.replace("<inside@medecin.test>", named).replace("<first@", "foo bar <first@")
    draft = answering(hidden(SAME, inside)).draft
    assert draft.in_reply_to is None
    assert draft.references == ("<first@medecin.test>",)
