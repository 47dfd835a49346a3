"""Answers: to whom, and that nothing decrypted is carried to anybody its author did not name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medmail_cli.pki.path import Authorities
from medmail_cli.profile import Profile
from medmail_cli.smime.fields import Mailbox
from medmail_cli.store.auditlog import AuditLog
from medmail_cli.store.contacts import Contacts
from medmail_cli.workflows.decrypt import from_bytes
from medmail_cli.workflows.reading import Reader
from medmail_cli.workflows.reply import Answer, answer
from medmail_cli.workflows.validating import Validator
from tests.support.letters import NOW, OUTER, TEXT, authority, encrypt, letter, person, sealed, sign

Answering = Callable[..., Answer]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """What somebody's answer to a message would be."""
    with AuditLog(tmp_path / "audit", lambda: NOW) as log:

        def made(raw: bytes, who: str = "bob", *, everybody: bool = False) -> Answer:
            me = person(who)
            profile = Profile()
            reader = Reader(
                [(me.certificate, me.key)],
                [me.address],
                Validator(Authorities([authority("Health Root").certificate]), profile),
                Contacts(tmp_path / "contacts"),
                profile,
                NOW,
            )
            return answer(from_bytes(raw), reader=reader, log=log, everybody=everybody)

        yield made


def to_and_cc(made: Answer) -> list[list[str]]:
    return [[box.address for box in boxes] for boxes in (made.draft.to, made.draft.cc)]


def test_what_the_author_named_is_answered_and_quoted(answering: Answering) -> None:
    made = answering(sealed(letter(cc=(person("carol").box,))), everybody=True)
    assert to_and_cc(made) == [["alice@medecin.test"], ["carol@medecin.test"]]
    assert made.quoted.startswith("> Chère consœur,")
    assert made.confidential


ADDED = OUTER.replace(b"To:", b"Cc: eve@evil.test\r\nReply-To: eve@evil.test\r\nTo:")


@pytest.mark.parametrize(("everybody", "copies"), [(False, []), (True, ["eve@evil.test"])])
def test_to_recipients_whom_anybody_could_have_added_nothing_is_quoted(
    answering: Answering, everybody: bool, copies: list[str]
) -> None:
    made = answering(ADDED + encrypt(sign(TEXT)), everybody=everybody)
    assert to_and_cc(made) == [["alice@medecin.test"], copies]
    assert made.quoted == ("" if everybody else "> Hello\n")


def test_one_s_own_letter_that_came_back_to_others_is_not_quoted(answering: Answering) -> None:
    """A server delivers Alice's letter to herself, with Eve where Bob stood."""
    raw = OUTER.replace(b"bob@medecin.test", b"eve@evil.test") + encrypt(sign(TEXT), "alice")
    made = answering(raw, "alice")
    assert (to_and_cc(made)[0], made.quoted) == (["eve@evil.test"], "")
    assert answering(sealed(), "alice").quoted


def test_an_address_in_a_name_is_no_recipient(answering: Answering) -> None:
    to = (Mailbox("bob@medecin.test", "x, eve@evil.test"), Mailbox("carol@medecin.test", "y <eve@evil.test>"))
    made = answering(sealed(letter(to=to)), everybody=True)
    assert to_and_cc(made) == [["alice@medecin.test"], ["carol@medecin.test"]]


def test_what_came_open_may_be_answered_openly(answering: Answering) -> None:
    assert not answering(OUTER + sign(TEXT)).confidential
