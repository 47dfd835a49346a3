"""Who acted here, and who tried in vain: what the audit log says of people."""

import os
from pathlib import Path
from pwd import getpwuid

import pytest
import tomli_w
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.store.mail.mailbox import Mailbox
from medmail_cli.workflows.audit import read_entries
from tests.support import pki
from tests.support.cli import PASSPHRASE, medmail
from tests.support.homes import make_home
from tests.support.letters import NOW, letter, person, sealed

ME = getpwuid(os.getuid()).pw_name
BOB = person("bob")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path, BOB)


def events(home: Path, action: str) -> list[tuple[str, str, str | None, dict[str, object]]]:
    found = read_entries(home / "audit", action=action)
    return [(one.kind, one.actor, one.outcome, dict(one.facts)) for one in found]


def test_the_name_in_the_log_is_the_users_own(home: Path) -> None:
    """Whatever the environment calls them."""
    named = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "mallory")
    assert medmail(home, "keys", "lock", env=named).exit == 0
    assert events(home, "keystore-lock") == [
        ("intent", ME, None, {}),
        ("outcome", ME, "done", {}),
    ]


def test_a_wrong_secret_is_logged_wherever_it_is_given(home: Path, tmp_path: Path) -> None:
    backup, wrong, mail, p12 = (tmp_path / name for name in ("backup", "wrong", "letter.eml", "new.p12"))
    right = tmp_path / "right"
    right.write_text("a good backup passphrase")
    assert medmail(home, "keys", "backup", "-o", backup, "--backup-passphrase-file", right).exit == 0
    wrong.write_text("sentinel not the passphrase\n")
    mail.write_bytes(sealed(letter()))
    authority = pki.make_ca("Order Root")
    certificate, key = pki.issue(authority, BOB.address, "both", "p256")
    p12.write_bytes(
        pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, BestAvailableEncryption(b"right"))  # type: ignore[arg-type]  # not every kind of key
    )
    tries: list[tuple[str, tuple[str | Path, ...]]] = [
        ("wrong-passphrase", ("keys", "export", BOB.address, "--private", "-o", tmp_path / "a.pem")),
        ("wrong-passphrase", ("keys", "passwd", "--new-passphrase-file", right)),
        ("wrong-passphrase", ("decrypt", mail)),
        ("wrong-passphrase", ("send", "--to", BOB.address, "--from", BOB.address, "--output", "-", wrong)),
        ("wrong-p12-password", ("enrol", "import", p12, "--p12-password-file", wrong)),
    ]
    (home / "config.toml").write_text(
        tomli_w.dumps(
            {"accounts": {"work": {"address": BOB.address, "smtp": {"host": "127.0.0.1", "port": 9}}}}
        )
    )
    expected = []
    for code, argv in tries:
        done = medmail(home, *argv, "--passphrase-file", wrong)
        assert done.exit == 4, (argv, done.stderr)
        expected.append(("event", ME, None, {"error": code}))
        assert events(home, "secret-refused") == expected, argv
    assert "sentinel" not in (home / "audit" / "entries.jsonl").read_text()
    other = tmp_path / "other"
    done = medmail(other, "keys", "restore", backup, "--backup-passphrase-file", wrong)
    assert done.exit == 4
    assert events(other, "secret-refused") == [("event", ME, None, {"error": "wrong-backup-passphrase"})]


def test_reading_the_sealed_index_is_logged_and_what_was_looked_for_is_not(home: Path) -> None:
    box = Mailbox(home / "mail")
    box.store("work", "INBOX", "1", [("1", b"From: a@x.test\r\nSubject: one\r\n\r\n")], NOW)
    subkey = unlock(Keystore(home / "keystore"), PASSPHRASE.encode()).subkey("learned")
    (stored,) = box.list()
    box.mark_opened(
        [(stored.id, {"from": "A <a@x.test>", "subject": "SENTINEL Dupont", "trusted": True})], subkey
    )
    box.close()
    for query, found in ((("SENTINEL",), 1), (("nothing",), 0), ((), 1)):
        assert medmail(home, "inbox", *query).exit == 0
        *_, intent, outcome = read_entries(home / "audit", action="inbox")
        assert (intent.kind, intent.actor, intent.facts) == ("intent", ME, {"searched": bool(query)})
        assert (outcome.of, outcome.facts, outcome.objects) == (
            intent.index, {"count": found}, (stored.id,) * found,
        )  # fmt: skip
    before = (home / "audit" / "entries.jsonl").read_text()
    assert "sentinel" not in before.lower()
    assert medmail(home, "inbox", "one", "--no-input", env={"MEDMAIL_PASSPHRASE_FILE": ""}).exit == 0
    assert (home / "audit" / "entries.jsonl").read_text() == before  # outer headers alone


def test_a_try_of_the_servers_is_logged(home: Path) -> None:
    (home / "password").write_text("sentinel\n")
    server = {"host": "127.0.0.1", "port": 1}
    account = {"address": BOB.address, "imap": server, "smtp": server, "password-file": "password"}
    (home / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": account}}))
    assert medmail(home, "server", "check").exit == 75
    expected = [
        entry
        for protocol in ("imap", "smtp")
        for entry in (
            ("intent", ME, None, {"account": "work", "protocol": protocol, "server": "127.0.0.1:1"}),
            ("outcome", ME, "failed", {"error": "server-unreachable"}),
        )
    ]
    assert events(home, "server-check") == expected


def test_a_damaged_log_key_says_what_can_be_done(home: Path) -> None:
    assert medmail(home, "keys", "lock").exit == 0
    key, public = home / "audit" / "key", home / "audit" / "key.pub"
    whole = key.read_bytes()
    key.write_bytes(whole[:-9] + b"AAAAAAAA\n")
    done = medmail(home, "keys", "lock")
    assert (done.exit, str(key) in done.stderr) == (7, True)
    assert (
        f"keep {home / 'audit'} as evidence, moved away together with keystore/trust.seal"
        in done.stderr.replace("\n", " ")
    )
    verified = medmail(home, "audit", "verify")
    assert (verified.exit, "moved away" in verified.stdout + verified.stderr) == (7, True)
    key.write_bytes(whole)
    public.write_bytes(public.read_bytes()[:-9] + b"AAAAAAAA\n")
    done = medmail(home, "keys", "lock")
    assert (done.exit, str(public) in done.stderr, "remove the file" in done.stderr) == (7, True, True)
    public.unlink()
    assert medmail(home, "keys", "lock").exit == 0
    assert medmail(home, "audit", "verify").exit == 0
