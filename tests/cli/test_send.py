"""``medmail send`` without a server: what it accepts, what it refuses, what it writes."""

import hashlib
import json
import os
import signal
import subprocess
from email import message_from_bytes
from pathlib import Path

import pexpect
import pytest

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.protect import sign_only
from medmail_cli.workflows.audit import read_entries
from tests.support import letters
from tests.support.cli import MEDMAIL, Done
from tests.support.homes import make_home
from tests.support.senders import Sender, opened_by, recipients

BOB = letters.person("bob")
CAROL = letters.person("carol")
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
    return made


def untouched(alice: Sender) -> bool:
    """Nothing was entered anywhere."""
    written = {one.action for one in read_entries(alice.home / "audit")} - {"trust-add", "contact-add"}
    return alice.run("outbox", "list").stdout == "" and not written


def code_of(done: Done) -> str:
    """What went wrong."""
    last = done.objects[-1]
    return str(last["code"] if last["type"] == "error" else last["error"]["code"])


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_output_is_the_message_and_nothing_is_sent(alice: Sender, tmp_path: Path) -> None:
    out = tmp_path / "letter.eml"
    text = tmp_path / "text"
    text.write_text("Subject: Résultats\nBonjour\n")
    done = alice.send("--to", BOB.address, "--output", out, text)
    assert done.exit == 0, done
    assert recipients(done)[BOB.address]["status"] == "written"
    verdict = opened_by(BOB, out.read_bytes()).verdict
    assert (verdict.headers.subject, verdict.text, verdict.trusted) == ("Résultats", "Bonjour\n", True)
    assert opened_by(alice.person, out.read_bytes()).verdict.text == "Bonjour\n"
    assert code_of(alice.send("--to", BOB.address, "--output", out, text)) == "exists"


def test_a_letter_as_a_person_sees_it_leave(alice: Sender, tmp_path: Path) -> None:
    done = alice.run("send", "--to", BOB.address, "--subject", "x", "--queue", "-", stdin=b"hello\n")
    assert (done.exit, done.stdout, done.stderr) == (0, f"{BOB.address}\tqueued\tend-to-end\n", "")
    listed = alice.run("outbox", "list").stdout.split("\t")
    assert listed[2:5] == ["alice@medecin.test", BOB.address, "0"]


@pytest.mark.parametrize(
    ("argv", "stdin", "code"),
    [
        (["--to", "bob@medecin.test"], b"", "empty-letter"),
        (["--to", "bob@medecin.test", "--subject", "x"], b"not read", "empty-letter"),
        (["--to", "bob@medecin.test", "-"], b" \n", "empty-letter"),
        (["--to", "bob@medecin.test", "-"], b"\xff\xfe", "not-text"),
        (["--to", "bob", "-"], b"x", "bad-address"),
        (["--to", "a@b.test, c@d.test", "-"], b"x", "bad-address"),
        (["--to", "bob@medecin.test\r\nBcc: eve@evil.test", "-"], b"x", "bad-address"),
        (["-"], b"x", "usage"),
        (["--batch", "-", "--to", "bob@medecin.test"], b"x", "usage"),
        (["--message", "-", "--subject", "x"], b"x", "usage"),
        (["--batch", "-", "--passphrase-file", "-"], b"", "stdin-twice"),
    ],
)
def test_what_cannot_be_a_letter_is_usage(alice: Sender, argv: list[str], stdin: bytes, code: str) -> None:
    if code == "stdin-twice":
        stdin = json.dumps({"id": "1", "to": BOB.address, "body": "x"}).encode()
    done = alice.send(*argv, stdin=stdin)
    assert done.exit == 2, done
    assert code_of(done) == code
    assert untouched(alice)


def test_nothing_leaves_if_one_recipient_has_no_certificate(alice: Sender) -> None:
    to = ["--to", BOB.address, "--to", "zoe@x.test", "--cc", "yan@x.test", "--subject", "x", "-"]
    done = alice.send(*to, stdin=b"x\n")
    assert done.exit == 5
    assert code_of(done) == "no-recipient-certificate"
    assert "zoe@x.test, yan@x.test" in done.stderr
    assert untouched(alice)
    partial = alice.send("--partial", "--queue", *to, stdin=b"x\n")
    assert partial.exit == 3
    assert {a: r["status"] for a, r in recipients(partial).items()} == {
        BOB.address: "queued",
        "zoe@x.test": "not-sent",
        "yan@x.test": "not-sent",
    }


def test_a_recipient_whose_issuer_nobody_trusts_gets_nothing(alice: Sender) -> None:
    mallory = letters.person("mallory", root="Nobody's Root")
    alice.knows(mallory)
    done = alice.send("--to", mallory.address, "--subject", "x", "-", stdin=b"x\n")
    assert done.exit == 5
    assert recipients(done)[mallory.address]["detail"] == "untrusted-issuer"


def test_a_dry_run_changes_nothing(alice: Sender) -> None:
    done = alice.send("--dry-run", "--to", BOB.address, "--subject", "x", "-", stdin=b"x\n")
    assert (done.exit, recipients(done)[BOB.address]["status"]) == (0, "ready")
    assert untouched(alice)


def test_a_faulty_manifest_sends_nothing_and_names_every_line(alice: Sender, tmp_path: Path) -> None:
    good = {"id": "1", "to": BOB.address, "body": "x"}
    manifest = write(
        tmp_path / "m.jsonl",
        good,
        {**good, "id": None},
        {**good, "id": "3", "tto": "x"},
        {**good, "id": "4", "to": "nobody"},
        {**good, "id": "5", "attach": "missing.pdf"},
        {**good, "id": "6", "body": ""},
        {**good, "id": "7", "body_file": "x"},
        {**good, "id": "1"},
        [good],
        {"id": "10", "body": "x"},
    )
    with manifest.open("ab") as stream:
        stream.write(b"{not json\n\xff\n")
    done = alice.send("--batch", manifest)
    assert done.exit == 1
    faults = [one for one in done.objects if one["type"] == "fault"]
    assert [one["line"] for one in faults] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert code_of(done) == "faulty-manifest"
    assert untouched(alice)


def test_a_manifests_files_are_relative_to_it(alice: Sender, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("from a file\n")
    (tmp_path / "Æ.pdf").write_bytes(b"%PDF-1.4")
    row = {"id": "1", "to": [BOB.address], "subject": "x", "body_file": "text.txt", "attach": ["Æ.pdf"]}
    manifest = write(tmp_path / "m.jsonl", row)
    out = tmp_path / "out"
    out.mkdir()
    assert alice.send("--batch", manifest, "--output", out).exit == 0
    (path,) = out.iterdir()
    verdict = opened_by(BOB, path.read_bytes()).verdict
    assert verdict.text == "from a file\n"
    assert [one.name for one in verdict.attachments] == ["Æ.pdf"]


def test_an_id_is_never_sent_twice(alice: Sender) -> None:
    argv = ["--id", "K", "--queue", "--to", BOB.address, "--subject", "x", "-"]
    assert alice.send(*argv, stdin=b"x\n").exit == 0
    again = alice.send(*argv, stdin=b"x\n")
    assert (again.exit, recipients(again)[BOB.address]["status"]) == (0, "unchanged")
    other = alice.send(*argv, stdin=b"y\n")
    assert (other.exit, code_of(other)) == (1, "id-reused")
    assert alice.run("outbox", "list", "--json").objects[-1]["counts"]["submission"] == 1


def test_a_whole_message_keeps_its_body_as_it_is(alice: Sender, tmp_path: Path) -> None:
    message = tmp_path / "m.eml"
    message.write_bytes(
        b"From: Alice <alice@medecin.test>\nTo: Bob <bob@medecin.test>\nSubject: =?utf-8?q?=C3=89t=C3=A9?=\n"
        b"MIME-Version: 1.0\nReceived: secret trace\nReply-To: office@medecin.test\n"
        b"Message-ID: <theirs@x.test>\nDate: Sat, 1 Jan 2000 00:00:00 +0000\n"
        b'Content-Type: multipart/alternative;\n boundary="b"\n\n--b\nContent-Type: text/plain\n\nplain\n'
        b"--b\nContent-Type: text/html\n\n<p>rich</p>\n--b--\n"
    )
    out = tmp_path / "out.eml"
    done = alice.send("--message", message, "--output", out)
    assert done.exit == 0, done
    opened = opened_by(BOB, out.read_bytes())
    assert opened.verdict.trusted, opened.verdict
    assert opened.verdict.headers.subject == "Été"
    assert opened.verdict.headers.protected
    assert opened.verdict.headers.reply_to == "office@medecin.test"
    assert opened.verdict.headers.message_id not in (None, "<theirs@x.test>")
    assert opened.verdict.headers.date is not None
    assert opened.verdict.headers.date.year > 2000
    assert b"<p>rich</p>" in opened.eml()
    assert b"secret trace" not in opened.eml()


def test_signing_only_needs_no_certificate(alice: Sender, tmp_path: Path) -> None:
    out = tmp_path / "out.eml"
    done = alice.send("--sign-only", "--to", "zoe@x.test", "--output", out, "-", stdin=b"x\n")
    assert (done.exit, recipients(done)["zoe@x.test"]["protection"]) == (0, "signed-only")


def test_transport_only_goes_to_whitelisted_domains_alone(alice: Sender, tmp_path: Path) -> None:
    (alice.home / "list").write_text("# domains\nclinic.test\n")
    (alice.home / "own.toml").write_text('end-to-end = "when-possible"\nwhitelist = "list"\n')
    (alice.home / "config.toml").write_text('profile = "own.toml"\n' + CONFIG)
    inside = alice.send("--dry-run", "--to", "zoe@clinic.test", "-", stdin=b"x\n")
    assert recipients(inside)["zoe@clinic.test"]["protection"] == "transport-only"
    outside = alice.send("--dry-run", "--to", "zoe@clinic.test", "--to", "yan@x.test", "-", stdin=b"x\n")
    assert outside.exit == 5
    known = alice.send("--dry-run", "--to", BOB.address, "-", stdin=b"x\n")
    assert recipients(known)[BOB.address]["protection"] == "end-to-end"
    # who has no certificate reads it in whatever program: the signature stands beside
    out = tmp_path / "out.eml"
    assert alice.send("--to", "zoe@clinic.test", "--output", out, "-", stdin=b"Bonjour\n").exit == 0
    parts = message_from_bytes(out.read_bytes())
    assert parts.get_content_type() == "multipart/signed"
    assert parts.get_payload(0).get_payload().split() == ["Bonjour"]  # type: ignore[union-attr]


def test_dropping_asks_first(alice: Sender) -> None:
    done = alice.send("--queue", "--to", BOB.address, "--subject", "x", "-", stdin=b"x\n")
    name = str(recipients(done)[BOB.address]["id"])
    refused = alice.run("outbox", "drop", name[:8])
    assert refused.exit == 2
    assert "--force" in refused.stderr
    assert alice.run("outbox", "drop", name[:8], "--force").exit == 0
    assert alice.run("outbox", "list").stdout == ""
    assert not list((alice.home / "outbox" / "messages").iterdir())


def editor(folder: Path, script: str) -> str:
    path = folder / "editor.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize("ending", ["written", "left empty", "interrupted"])
def test_the_editors_folder_is_private_and_gone_afterwards(
    alice: Sender, tmp_path: Path, ending: str
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    look = f'stat -c %a "$(dirname "$1")" > {tmp_path}/mode; touch "$(dirname "$1")/.swap"'
    scripts = {
        "written": f'{look}; printf "Subject: Été\\n\\nBonjour\\n" > "$1"',
        "left empty": look,
        "interrupted": f"{look}; echo now; while :; do sleep 0.1; done",
    }
    environment = os.environ | {
        "MEDMAIL_HOME": str(alice.home),
        "MEDMAIL_PASSPHRASE_FILE": str(alice.home.parent / "home.passphrase"),
        "XDG_RUNTIME_DIR": str(place),
        "VISUAL": editor(tmp_path, scripts[ending]),
    }
    out = tmp_path / "out.eml"
    child = pexpect.spawn(
        MEDMAIL, ["send", "--to", BOB.address, "--output", str(out)], env=environment, timeout=300
    )
    if ending == "interrupted":
        child.expect("now")
        child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == {"written": 0, "left empty": 2, "interrupted": 130}[ending]
    assert (tmp_path / "mode").read_text().strip() == "700"
    assert list(place.iterdir()) == []
    if ending == "written":
        verdict = opened_by(BOB, out.read_bytes()).verdict
        assert (verdict.headers.subject, verdict.text) == ("Été", "Bonjour\n")
        assert Mailbox(BOB.address, "") is not None


def test_stdin_is_read_only_for_a_dash(alice: Sender) -> None:
    process = subprocess.Popen(
        [MEDMAIL, "send", "--to", BOB.address, "--subject", "x"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"MEDMAIL_HOME": str(alice.home)},
    )
    # nobody writes and nobody closes: it must end by itself
    assert process.wait(20) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate()


@pytest.mark.parametrize("encrypted", [True, False])
def test_what_came_encrypted_is_not_answered_in_the_clear(
    alice: Sender, tmp_path: Path, encrypted: bool
) -> None:
    """Its subject stands in the answer's, and perhaps its text."""
    (alice.home / "list").write_text("medecin.test\n")
    (alice.home / "own.toml").write_text('end-to-end = "when-possible"\nwhitelist = "list"\n')
    (alice.home / "config.toml").write_text('profile = "own.toml"\n' + CONFIG)
    letter = letters.letter(from_=CAROL.box, to=(alice.person.box,))
    raw = tmp_path / "letter.eml"
    if encrypted:
        raw.write_bytes(letters.sealed(letter, signer="carol", to=("alice",)))
    else:
        signed = sign_only(letter, signer=CAROL.signer, signed_at=letters.NOW)
        raw.write_bytes(signed[0].message)
    done = alice.run("reply", "--json", "--queue", raw, "-", stdin=b"Oui.\n")
    fate = recipients(done)[CAROL.address]
    if encrypted:
        assert (done.exit, fate["code"]) == (5, "no-recipient-certificate")
    else:
        assert (done.exit, fate["protection"]) == (0, "transport-only")


@pytest.mark.parametrize("encrypted", [True, False])
def test_an_answer_goes_unencrypted_to_whom_it_is_said_of_unless_the_letter_came_encrypted(
    alice: Sender, tmp_path: Path, encrypted: bool
) -> None:
    """Bob could be encrypted to, Carol not: she takes his protection away only if Alice says so."""
    alice.knows(BOB)
    (alice.home / "list").write_text("medecin.test\n")
    (alice.home / "own.toml").write_text('end-to-end = "when-possible"\nwhitelist = "list"\n')
    (alice.home / "config.toml").write_text('profile = "own.toml"\n' + CONFIG)
    letter = letters.letter(from_=CAROL.box, to=(alice.person.box, BOB.box))
    raw = tmp_path / "letter.eml"
    if encrypted:
        raw.write_bytes(letters.sealed(letter, signer="carol", to=("alice",)))
    else:
        raw.write_bytes(sign_only(letter, signer=CAROL.signer, signed_at=letters.NOW)[0].message)
    answer = ("reply", "--json", "--queue", "--all", raw, "-")
    assert alice.run(*answer, stdin=b"Oui.\n").exit == 5
    done = alice.run(*answer, "--transport-only", CAROL.address, stdin=b"Oui.\n")
    if encrypted:
        assert done.exit == 5
    else:
        fates = recipients(done)
        assert {one["protection"] for one in fates.values()} == {"transport-only"}
        assert done.exit == 0


def test_a_copy_added_on_the_way_is_not_answered_where_nobody_can_be_asked(
    alice: Sender, tmp_path: Path
) -> None:
    """Bob's program protects no header; a server put Carol's address beside Alice's."""
    alice.knows(BOB, CAROL)
    raw = tmp_path / "letter.eml"
    outer = b"From: %b\r\nTo: %b\r\nCc: %b\r\n" % tuple(
        one.address.encode() for one in (BOB, alice.person, CAROL)
    )
    raw.write_bytes(outer + letters.encrypt(letters.sign(letters.TEXT, "bob"), "alice"))
    done = alice.run("reply", "--json", "--queue", "--all", raw, "-", stdin=b"Oui.\n")
    assert (done.exit, list(recipients(done))) == (0, [BOB.address])
    (note,) = [one for one in done.objects if one["type"] == "note" and one["code"] == "not-answered"]
    assert note["address"] == CAROL.address


def test_every_attempt_says_what_it_is_about_also_while_the_keystore_is_locked(alice: Sender) -> None:
    """The commitment to the content, its sealed salt and the recipient's certificate stay with the letter."""
    queued = alice.run("send", "--to", BOB.address, "--cc", alice.person.address, "--queue", "-", stdin=b"x")
    assert queued.exit == 0
    locked = {"MEDMAIL_PASSPHRASE_FILE": ""}
    assert alice.run("outbox", "flush", env=locked).exit == 75
    intents = [one for one in read_entries(alice.home / "audit", action="send") if one.kind == "intent"]
    assert [one.facts["attempt"] for one in intents] == [0, 0, 1, 1]
    assert len({one.facts["commitment"] for one in intents}) == 1
    assert len({one.facts["sealed_salt"] for one in intents}) == 1
    certificates = {BOB.address: BOB.certificate, alice.person.address: alice.person.certificate}
    for one in intents:
        assert one.facts["certificate"] == fingerprint(certificates[str(one.facts["recipient"])])


def test_the_salt_proves_what_a_signed_letter_says(alice: Sender, tmp_path: Path) -> None:
    """Each Bcc recipient's message has its own; in a letter that is only signed the entity can be seen."""
    out = tmp_path / "letter.eml"
    done = alice.run(
        "send", "--sign-only", "--to", BOB.address, "--bcc", CAROL.address, "--output", out, "-", stdin=b"x"
    )
    assert done.exit == 0
    intents = [one for one in read_entries(alice.home / "audit", action="protect") if one.kind == "intent"]
    for one, path in zip(intents, (out, tmp_path / "letter-2.eml"), strict=True):
        raw = path.read_bytes()
        entity = raw[raw.index(b"Content-Type: ") :]
        proved = alice.run("audit", "prove", str(one.index), "--salt", "-o", tmp_path / f"{one.index}.proof")
        name, salt = proved.stdout.split()
        assert (proved.exit, name) == (0, "salt")
        assert hashlib.sha256(bytes.fromhex(salt) + entity).hexdigest() == one.facts["commitment"]
        assert one.facts["certificate"] is None
    assert len({one.facts["commitment"] for one in intents}) == 2
