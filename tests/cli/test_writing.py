"""Letters written in an editor, on a real terminal: nothing typed is lost, whatever fails afterwards."""

import os
import signal
import stat
from pathlib import Path

import pexpect
import pytest

from medmail_cli.store.queue.outbox import Outbox
from tests.support import letters
from tests.support.cli import MEDMAIL
from tests.support.homes import make_home
from tests.support.senders import Sender

BOB = letters.person("bob")
TYPED = "Subject: Été\n\nTrois pages de texte\n"
CONFIG = """[accounts.work]
address = "alice@medecin.test"
smtp = { host = "127.0.0.1", port = 1, security = "tls" }
password-file = "password"
"""


@pytest.fixture
def alice(tmp_path: Path) -> Sender:
    person = letters.person("alice")
    made = Sender(make_home(tmp_path, person), person)
    (made.home / "config.toml").write_text(CONFIG)
    (made.home / "password").write_text("x\n")
    made.knows(BOB)
    (tmp_path / "run").mkdir(mode=0o700)
    return made


def start(alice: Sender, script: str, *argv: str | Path, passphrase: bool = True) -> "pexpect.spawn[str]":
    """medmail on a terminal, its editor a shell script that finds the file in ``$1``."""
    folder = alice.home.parent
    editor = folder / "editor.sh"
    editor.write_text(f"#!/bin/sh\necho opened >> {folder}/opened\n{script}\n")
    editor.chmod(0o700)
    around = os.environ | {
        "MEDMAIL_HOME": str(alice.home),
        "MEDMAIL_LANG": "en",
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "VISUAL": str(editor),
        "COLUMNS": "500",
    }
    if passphrase:
        around["MEDMAIL_PASSPHRASE_FILE"] = str(folder / "home.passphrase")
    return pexpect.spawn(
        MEDMAIL, [str(word) for word in argv], env=around, timeout=300, encoding="utf-8", dimensions=(24, 500)
    )


def ended(child: "pexpect.spawn[str]") -> tuple[int | None, str]:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before or ""


def writes(alice: Sender) -> str:
    (alice.home.parent / "typed").write_text(TYPED)
    return f'cp {alice.home.parent}/typed "$1"'


def texts(alice: Sender) -> list[Path]:
    """Every file left that holds what was typed."""
    places = (alice.home.parent / "run", alice.home / "unsent")
    found = [path for place in places for path in place.rglob("letter.txt")]
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    return found


def opened(alice: Sender) -> bool:
    return (alice.home.parent / "opened").exists()


def kept(alice: Sender, said: str) -> None:
    """One file is left, it holds what was typed, and what was said names it."""
    (path,) = texts(alice)
    assert path.read_text() == TYPED
    assert str(path) in said


@pytest.mark.parametrize(
    ("to", "more", "code"),
    [
        ("stranger@medecin.test", (), 5),
        ("bob@medecin.test", ("--from", "nobody@medecin.test"), 1),
        ("bob@medecin.test", ("--output", "here.eml"), 1),
        ("bob@medecin.test", ("--output", "no/where.eml"), 1),
        ("bob@medecin.test", ("--transport-only", "bbo@medecin.test"), 2),
    ],
)
def test_what_can_be_known_before_is_said_before_the_editor_opens(
    alice: Sender, to: str, more: tuple[str, ...], code: int
) -> None:
    (alice.home.parent / "here.eml").write_text("mine")
    argv = [str(alice.home.parent / word) if "eml" in word else word for word in more]
    done, said = ended(start(alice, writes(alice), "send", "--to", to, *argv))
    assert (done, opened(alice)) == (code, False), said


def test_a_wrong_passphrase_is_said_before_the_editor_opens(alice: Sender) -> None:
    child = start(alice, writes(alice), "send", "--to", BOB.address, "--queue", passphrase=False)
    child.expect("assphrase")
    child.sendline("wrong")
    done, _ = ended(child)
    assert (done, opened(alice)) == (4, False)


def test_what_is_written_and_sent_leaves_nothing_behind(alice: Sender) -> None:
    done, said = ended(start(alice, writes(alice), "send", "--to", BOB.address, "--queue"))
    assert (done, texts(alice)) == (0, []), said
    assert len(list(Outbox(alice.home / "outbox").open())) == 1


@pytest.mark.parametrize("attach", [False, True])
@pytest.mark.parametrize("script", [":", ': > "$1"', 'rm "$1"'])
def test_a_text_left_as_it_was_is_not_sent(alice: Sender, script: str, attach: bool) -> None:
    file = alice.home.parent / "scan.pdf"
    file.write_bytes(b"%PDF-1.4\n")
    more = ("--attach", file) if attach else ()
    done, said = ended(start(alice, script, "send", "--to", BOB.address, "--queue", *more))
    assert (done, "not sent" in said, texts(alice)) == (2, True, []), said
    assert list(Outbox(alice.home / "outbox").open()) == []


def test_an_editor_that_ends_with_an_error_sends_nothing_and_loses_nothing(alice: Sender) -> None:
    script = f"{writes(alice)}; exit 7"
    done, said = ended(start(alice, script, "send", "--to", BOB.address, "--queue"))
    assert done == 2
    kept(alice, said)
    assert list(Outbox(alice.home / "outbox").open()) == []


@pytest.mark.parametrize("how", ["attachment gone", "outbox in the way", "dry run"])
def test_a_failure_after_the_editor_keeps_the_text(alice: Sender, how: str) -> None:
    file = alice.home.parent / "scan.pdf"
    file.write_bytes(b"%PDF-1.4\n")
    spoil = {
        "attachment gone": f"rm {file}",
        "outbox in the way": f"rm -rf {alice.home}/outbox; echo > {alice.home}/outbox",
        "dry run": ":",
    }[how]
    more = ("--dry-run",) if how == "dry run" else ("--queue",)
    script = f"{writes(alice)}; {spoil}"
    done, said = ended(start(alice, script, "send", "--to", BOB.address, "--attach", file, *more))
    assert (done != 0) is (how != "dry run"), said
    kept(alice, said)


def test_an_interrupt_during_the_editor_keeps_the_text(alice: Sender) -> None:
    # a shell that hears it before it has started the next command waits for that to end
    script = f"{writes(alice)}; echo now; while :; do sleep 0.1; done"
    child = start(alice, script, "send", "--to", BOB.address, "--queue")
    child.expect("now")
    child.sendintr()
    done, said = ended(child)
    assert done == 130
    kept(alice, said)


def test_a_closed_terminal_lets_the_editor_put_its_text_away(alice: Sender) -> None:
    """As an editor does that hears the hang-up: what is in its memory goes to the disk then."""
    save = writes(alice)
    script = f"trap '{save}; exit 1' HUP; echo now; while :; do sleep 0.1; done"
    child = start(alice, script, "send", "--to", BOB.address, "--queue")
    child.expect("now")
    child.ptyproc.fileobj.close()  # the terminal goes away
    child.ptyproc.wait()
    (path,) = texts(alice)
    assert path.read_text() == TYPED
    assert path.is_relative_to(alice.home)
    assert list(Outbox(alice.home / "outbox").open()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_during_the_editor_keeps_the_text(alice: Sender, number: signal.Signals) -> None:
    script = f"{writes(alice)}; echo $$ > {alice.home.parent}/pid; echo now; exec sleep 60"
    child = start(alice, script, "send", "--to", BOB.address, "--queue")
    child.expect("now")
    os.kill(child.pid, number)
    if number == signal.SIGKILL:
        child.wait()
        os.kill(int((alice.home.parent / "pid").read_text()), signal.SIGKILL)
        child.close()
    else:
        assert ended(child)[0] == 130
    (path,) = texts(alice)
    assert path.read_text() == TYPED


def test_an_answer_is_not_lost_either(alice: Sender, tmp_path: Path) -> None:
    raw = tmp_path / "letter.eml"
    letter = letters.letter(from_=BOB.box, to=(alice.person.box,))
    raw.write_bytes(letters.sealed(letter, signer="bob", to=("alice",)))
    spoil = f"rm -rf {alice.home}/outbox; echo > {alice.home}/outbox"
    done, said = ended(start(alice, f"{writes(alice)}; {spoil}", "reply", raw, "--queue"))
    assert done != 0
    kept(alice, said)


def test_an_answer_to_somebody_without_certificate_opens_no_editor(alice: Sender, tmp_path: Path) -> None:
    raw = tmp_path / "letter.eml"
    carol = letters.person("carol")
    letter = letters.letter(from_=carol.box, to=(alice.person.box,))
    raw.write_bytes(letters.sealed(letter, signer="carol", to=("alice",)))
    done, _ = ended(start(alice, writes(alice), "reply", raw, "--queue"))
    assert (done, opened(alice)) == (5, False)


@pytest.mark.parametrize("said", ["y", "n"])
def test_recipients_whom_the_signature_does_not_cover_are_asked_for(
    alice: Sender, tmp_path: Path, said: str
) -> None:
    carol = letters.person("carol")
    alice.knows(carol)
    raw = tmp_path / "letter.eml"
    outer = b"From: %b\r\nTo: %b\r\nCc: %b\r\n" % tuple(
        one.address.encode() for one in (BOB, alice.person, carol)
    )
    raw.write_bytes(outer + letters.encrypt(letters.sign(letters.TEXT, "bob"), "alice"))
    child = start(alice, writes(alice), "reply", "--all", raw, "--queue")
    child.expect(r"added carol@medecin\.test\. Answer them too\? \[y/N\]")
    child.sendline(said)
    done, told = ended(child)
    (queued,) = Outbox(alice.home / "outbox").open()
    assert (done, queued.pending) == (0, (BOB.address, carol.address) if said == "y" else (BOB.address,)), (
        told
    )
