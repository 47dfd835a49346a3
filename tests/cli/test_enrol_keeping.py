"""Keys that letters are encrypted to are not lost: backups, refusals, and an organisation's copy."""

from pathlib import Path

import pexpect
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support import letters, pki
from tests.support.cli import MEDMAIL, Done, medmail, passphrase
from tests.support.homes import make_home
from tests.support.rosters import environment

ADDRESS = "dr.martin@medecin.test"


def new(home: Path, *options: str | Path, env: dict[str, str] | None = None) -> Done:
    return medmail(home, "enrol", "new", ADDRESS, "--key", "p256", "--json", *options, env=env)


def notes(done: Done) -> list[str]:
    return [one["code"] for one in done.objects if one["type"] == "note"]


def test_a_new_key_wants_a_backup_or_a_refusal(home: Path, tmp_path: Path) -> None:
    first = new(home)
    assert first.exit == 0
    assert "not-backed-up" in notes(first)
    # mere advice: off a terminal it is told to nobody but JSON
    assert first.stderr == ""
    assert "not-backed-up" not in notes(new(home, "--replace", "--no-backup"))
    assert "not-backed-up" in notes(new(home, "--replace"))
    (tmp_path / "secret").write_text("backup\n")
    saved = medmail(
        home, "keys", "backup", "-o", tmp_path / "k.medmail", "--backup-passphrase-file", tmp_path / "secret"
    )
    assert saved.exit == 0, saved.stderr
    assert "not-backed-up" not in notes(medmail(home, "enrol", "renew", "--all", "--no-backup", "--json"))


def test_the_backup_made_with_the_key_opens_old_mail(home: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("backup\n")
    env = {"MEDMAIL_BACKUP_PASSPHRASE_FILE": str(tmp_path / "secret")}
    done = new(home, "--backup", tmp_path / "k.medmail", env=env)
    assert (done.exit, notes(done)) == (0, ["root-not-trusted"])
    assert [one["status"] for one in done.objects if one["type"] == "keystore"] == ["backed-up"]
    words = ("send", "--to", ADDRESS, "--subject", "x", "-o", tmp_path / "l.eml", "-")
    assert medmail(home, *words, stdin=b"old\n").exit == 0
    other = tmp_path / "other"
    passphrase(other)
    assert medmail(other, "keys", "restore", tmp_path / "k.medmail", env=env).exit == 0
    opened = medmail(other, "decrypt", "--offline", tmp_path / "l.eml", "--json").objects[0]
    assert opened["text"] == "old\n"
    # it is not begun where it cannot end
    again = new(home, "--replace", "--backup", tmp_path / "nowhere" / "k.medmail", env=env)
    assert (again.exit, again.objects[-1]["code"]) == (1, "not-writable")
    assert len(medmail(home, "keys", "list", "--json").objects) == 2
    assert new(home, "--backup", "x", "--no-backup").exit == 2


def test_on_a_terminal_one_is_asked(home: Path) -> None:
    words = ["enrol", "new", ADDRESS, "--key", "p256"]
    child = pexpect.spawn(MEDMAIL, words, env=environment(home) | {"LC_ALL": "C.UTF-8"}, timeout=120)
    child.expect("Trust ")
    child.sendline("n")
    child.expect("Do without")
    child.sendline("y")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert (home / "keystore" / "backups.json").exists()


def test_an_organisation_s_copy_opens_what_the_holder_can_no_more(home: Path, tmp_path: Path) -> None:
    clinic = letters.person("archive", key_type="p256")
    (tmp_path / "clinic.pem").write_bytes(pki.pem(clinic.certificate))
    profile = tmp_path / "clinic.toml"
    profile.write_text('certificates = "two"\nescrow = "clinic.pem"\n')
    text = (home / "config.toml").read_text()
    (home / "config.toml").write_text(f'profile = "{profile}"\n{text}')
    assert new(home).exit == 0
    words = ("send", "--to", ADDRESS, "--subject", "x", "-o", tmp_path / "l.eml", "-")
    assert medmail(home, *words, stdin=b"of a patient\n").exit == 0
    (copy,) = (home / "escrow").iterdir()
    assert copy.stat().st_mode & 0o77 == 0
    (tmp_path / "archive").mkdir()
    archive = make_home(tmp_path / "archive", clinic)
    root = medmail(home, "keys", "list", "--json").objects[0]
    assert root["purpose"] == "sign"
    anchors = tmp_path / "order.pem"
    exported = medmail(home, "keys", "export", root["id"], "-o", tmp_path / "chain.pem")
    assert exported.exit == 0, exported.stderr
    anchors.write_bytes((tmp_path / "chain.pem").read_bytes())
    assert medmail(archive, "trust", "add", anchors).exit == 0
    out = tmp_path / "out"
    opened = medmail(archive, "decrypt", "--offline", copy, "--out-dir", out, "--accept-untrusted", "--json")
    saved = {Path(one["saved_as"]).suffix: one["saved_as"] for one in opened.objects[0]["attachments"]}
    assert opened.objects[0]["headers"]["from"] == ADDRESS
    assert medmail(archive, "enrol", "import", saved[".pem"], "--key-file", saved[".p8"]).exit == 0
    read = medmail(archive, "decrypt", "--offline", tmp_path / "l.eml", "--json").objects[0]
    assert read["text"] == "of a patient\n"
    # a renewed key is copied too, and what signs never is
    assert medmail(home, "enrol", "renew", "--all").exit == 0
    assert len(list((home / "escrow").iterdir())) == 2
    entries = medmail(home, "audit", "log", "--json").objects
    assert sum(one.get("action") == "key-escrow" and one["kind"] == "intent" for one in entries[:-1]) == 2


def test_escrow_wants_keys_that_only_encrypt(home: Path, tmp_path: Path) -> None:
    (tmp_path / "clinic.pem").write_bytes(letters.person("archive").certificate.public_bytes(Encoding.PEM))
    (tmp_path / "clinic.toml").write_text('escrow = "clinic.pem"\n')
    text = (home / "config.toml").read_text()
    (home / "config.toml").write_text(f'profile = "{tmp_path}/clinic.toml"\n{text}')
    done = new(home)
    assert done.exit == 78
    assert "certificates" in done.stderr
