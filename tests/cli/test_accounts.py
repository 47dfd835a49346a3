"""Several accounts and identities in one home: which server is asked, and as whom one writes."""

from contextlib import closing
from pathlib import Path

import pytest

from medmail_cli.smime.protect import sign_only
from medmail_cli.store.mail.mailbox import Mailbox as Store
from medmail_cli.store.queue.outbox import Outbox
from tests.support import letters
from tests.support.homes import make_home
from tests.support.senders import Sender, opened_by

ALICE = letters.person("alice")
CLINIC = letters.person("alice-clinic", address="alice@clinic.test")
GROUP = letters.person("practice", address="practice@medecin.test")
BOB = letters.person("bob")
CONFIG = "".join(
    f'[accounts.{name}]\naddress = "{address}"\npassword-file = "password"\n'
    'smtp = { host = "127.0.0.1", port = 1, security = "tls" }\n'
    for name, address in (("work", ALICE.address), ("clinic", CLINIC.address))
)


@pytest.fixture
def alice(tmp_path: Path) -> Sender:
    """Alice with two accounts, and a third identity for the practice that has none."""
    made = Sender(make_home(tmp_path, ALICE, CLINIC, GROUP), ALICE)
    (made.home / "config.toml").write_text(CONFIG)
    (made.home / "password").write_text("x\n")
    made.knows(BOB)
    return made


def sent_by(alice: Sender) -> tuple[str, str]:
    """The account and the sender of the one letter in the outbox."""
    (queued,) = Outbox(alice.home / "outbox").open()
    return queued.account, queued.sender


def letter(*to: letters.Person) -> bytes:
    what = letters.letter(from_=BOB.box, to=tuple(one.box for one in to))
    return sign_only(what, signer=BOB.signer, signed_at=letters.NOW)[0].message


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), ("work", ALICE.address)),
        (("--account", "clinic"), ("clinic", CLINIC.address)),
        (("--from", CLINIC.address), ("clinic", CLINIC.address)),
        (("--from", "Alice@Clinic.test"), ("clinic", "Alice@clinic.test")),
        (("--from", CLINIC.address, "--account", "work"), ("work", CLINIC.address)),
        (("--from", GROUP.address), ("work", GROUP.address)),
    ],
)
def test_account_and_sender_default_from_each_other(
    alice: Sender, argv: tuple[str, ...], expected: tuple[str, str]
) -> None:
    done = alice.run("send", "--to", BOB.address, "--queue", *argv, "-", stdin=b"x")
    assert done.exit == 0, done.stderr
    assert sent_by(alice) == expected


@pytest.mark.parametrize(
    ("to", "argv", "expected"),
    [
        ((ALICE,), (), ("work", ALICE.address)),
        ((CLINIC,), (), ("clinic", CLINIC.address)),
        ((GROUP, CLINIC), (), ("clinic", CLINIC.address)),
        ((CLINIC, ALICE), (), ("clinic", CLINIC.address)),
        ((GROUP,), (), ("work", GROUP.address)),
        ((CLINIC,), ("--account", "work"), ("work", ALICE.address)),
    ],
)
def test_an_answer_goes_by_the_account_and_under_the_name_that_was_written_to(
    alice: Sender,
    tmp_path: Path,
    to: tuple[letters.Person, ...],
    argv: tuple[str, ...],
    expected: tuple[str, str],
) -> None:
    """An address that has a server of its own comes first, an account that is named before all."""
    raw = tmp_path / "letter.eml"
    raw.write_bytes(letter(*to))
    done = alice.run("reply", *argv, "--queue", raw, "-", stdin=b"x")
    assert done.exit == 0, done.stderr
    assert sent_by(alice) == expected


def test_a_letter_to_a_list_is_answered_by_the_account_that_it_came_by(alice: Sender) -> None:
    raw = letter(letters.person("list"))
    with closing(Store(alice.home / "mail")) as mailbox:
        ((stored, _),) = mailbox.store("clinic", "INBOX", "1", [("1", raw)], letters.NOW)
    done = alice.run("reply", "--queue", stored.id[:10], "-", stdin=b"x")
    assert done.exit == 0, done.stderr
    assert sent_by(alice) == ("clinic", CLINIC.address)


def test_a_message_for_a_file_needs_no_account(alice: Sender, tmp_path: Path) -> None:
    (alice.home / "config.toml").unlink()
    out = tmp_path / "out.eml"
    named = ("--from", CLINIC.address)
    done = alice.run("send", "--to", BOB.address, *named, "--output", out, "-", stdin=b"x")
    assert done.exit == 0, done.stderr
    assert opened_by(BOB, out.read_bytes()).verdict.headers.from_ == CLINIC.address
    assert alice.run("send", "--to", BOB.address, *named, "--queue", "-", stdin=b"x").exit == 78
