"""``medmail keys`` as people and scripts see it."""

import base64
import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pexpect
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from medmail_cli.commands.keys import events
from medmail_cli.devices import keyring
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.address import addresses
from medmail_cli.pki.x509.usage import Purpose
from medmail_cli.store.keys.acme_accounts import account_key
from medmail_cli.store.keys.backup_record import missing
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.own_revoked import add_revoked
from medmail_cli.store.keys.pending_requests import memory_of
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.ui.schema import of_command
from medmail_cli.workflows.audit import read_entries
from tests.support import pki
from tests.support.cli import MEDMAIL, PASSPHRASE, Done, medmail, passphrase
from tests.support.homes import keystore, sealing
from tests.support.servers import until

ADDRESS = "dr.martin@medecin.test"
OTHER_SECRETS = {"p12-password": "sentinel p12 0b7c", "backup-passphrase": "sentinel backup 91aa"}
NEW = "sentinel new passphrase 4d"
CA = pki.make_ca("Order Root")
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A keystore of two: one in use, and the one before it, which ended."""
    home = tmp_path / "home"
    store = keystore(home)
    past = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
    old = _keep(store, NOW, not_after=past)
    _keep(store, NOW + dt.timedelta(hours=1), replaces=[old.id])
    for name, secret in OTHER_SECRETS.items():
        (tmp_path / name).write_text(secret + "\n")
    return home


def _keep(
    store: Any, now: dt.datetime, *, replaces: Any = (), purpose: Purpose = "both", **more: Any
) -> Identity:
    certificate, key = pki.issue(CA, ADDRESS, purpose, "rsa2048", name="Dr Martin", **more)
    kept: Identity = store.add(
        key, certificate, CA.chain, addresses=addresses(certificate), purpose=purpose, method="import",
        now=now, name="Dr Martin", replaces=replaces,
    )  # fmt: skip
    return kept


def run(home: Path, *argv: str | Path, **how: Any) -> Done:
    done = medmail(home, *argv, **how)
    for secret in (*OTHER_SECRETS.values(), NEW):
        assert secret not in done.stdout + done.stderr
    return done


def objects(home: Path, *argv: str | Path, **how: Any) -> list[dict[str, Any]]:
    """The objects of a run with --json, each of which its schema allows."""
    command = f"keys {argv[0]}"
    done = run(home, "keys", *argv, "--json", **how)
    schema = of_command(command, events()[command])
    for one in done.objects:
        jsonschema.validate(one, schema)
    assert done.objects[-1]["exit"] == done.exit
    return done.objects


def secret_file(home: Path, name: str) -> tuple[str, Path]:
    return f"--{name}-file", home.parent / name


def held(home: Path) -> tuple[Identity, ...]:
    return Keystore(home / "keystore").identities()


def endings(home: Path) -> list[tuple[str, str]]:
    return [(one.action, one.outcome) for one in read_entries(home / "audit") if one.outcome]


# --- seeing -------------------------------------------------------------------------------------------------


def test_list_needs_no_passphrase(home: Path) -> None:
    passphrase(home).unlink()
    done = run(home, "keys", "list", env={"TZ": "UTC"})
    old, new = held(home)
    assert (done.exit, done.stderr) == (0, "")
    assert done.stdout == (
        f"{old.id[:12]}\t{ADDRESS}\tDr Martin\tsigning and encryption\trsa2048\t2026-02-01 00:00\treplaced\n"
        f"{new.id[:12]}\t{ADDRESS}\tDr Martin\tsigning and encryption\trsa2048\t2046-01-01 00:00\tin use\n"
    )
    assert [one.get("status") for one in objects(home, "list")] == ["retired", "active", None]


def test_list_of_nothing(tmp_path: Path) -> None:
    done = medmail(tmp_path / "none", "keys", "list")
    assert (done.exit, done.stdout, done.stderr) == (0, "", "")


def test_an_address_names_the_identities_in_use(home: Path, tmp_path: Path) -> None:
    old, new = held(home)
    shown, _ = objects(home, "show", ADDRESS)
    assert (shown["id"], shown["status"]) == (new.id, "active")
    (exported, _) = objects(home, "export", ADDRESS, "-o", str(tmp_path / "c.pem"))
    assert exported["id"] == new.id
    assert objects(home, "show", old.id[:8])[0]["id"] == old.id
    # of two each for its work; one that has ended counts less, however new
    store = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    later = NOW + dt.timedelta(hours=2)
    ids = {purpose: _keep(store, later, purpose=purpose).id for purpose in ("sign", "encrypt")}
    _keep(store, later, purpose="encrypt", not_after=dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
    assert [one.get("id") for one in objects(home, "show", ADDRESS)[:-1]] == list(ids.values())
    for purpose, expected in ids.items():
        for command in ("show", "export"):
            assert objects(home, command, ADDRESS, "--purpose", purpose)[0]["id"] == expected
    (error,) = objects(home, "export", ADDRESS)
    assert (error["code"], error["exit"], "--purpose" in error["hint"]) == ("ambiguous-identity", 2, True)
    (error,) = objects(home, "show", ids["sign"], "--purpose", "encrypt")
    assert (error["code"], error["exit"]) == ("not-found", 1)


def test_show_tells_all_but_the_key(home: Path) -> None:
    _old, new = held(home)
    shown, result = objects(home, "show", new.id[:8])
    assert (shown["sha256"], shown["chain"], shown["issuer"]) == (
        new.sha256,
        ["CN=Order Root"],
        "CN=Order Root",
    )
    assert result["exit"] == 0
    (error,) = objects(home, "delete", ADDRESS, "--force")
    assert (error["code"], error["exit"]) == ("ambiguous-identity", 2)
    (error,) = objects(home, "show", "zz")
    assert (error["code"], error["exit"]) == ("not-found", 1)
    text = run(home, "keys", "show", new.id).stdout
    assert new.sealed_key["data"] not in text


def test_a_damaged_store_is_exit_7_and_named(home: Path) -> None:
    path = home / "keystore" / held(home)[0].id / "chain.pem"
    path.write_bytes(path.read_bytes().replace(b"M", b"N", 1))
    (error,) = objects(home, "list")
    assert (error["code"], error["exit"]) == ("store-damaged", 7)
    assert str(path) in error["message"]


# --- export -------------------------------------------------------------------------------------------------


def test_export_of_the_certificate_alone_needs_no_passphrase(home: Path) -> None:
    passphrase(home).unlink()
    new = held(home)[1]
    done = run(home, "keys", "export", new.id)
    assert x509.load_pem_x509_certificates(done.stdout.encode()) == [new.certificate, *CA.chain]
    der = home.parent / "m.der"
    assert objects(home, "export", new.id, "--format", "der", "-o", der)[0]["status"] == "written"
    assert x509.load_der_x509_certificate(der.read_bytes()) == new.certificate
    assert objects(home, "export", new.id, "--format", "der", "-o", der)[0]["status"] == "unchanged"
    der.write_bytes(b"other")
    assert objects(home, "export", new.id, "--format", "der", "-o", der)[0]["code"] == "exists"
    assert not (home / "audit").exists()


def test_export_with_the_private_key_is_encrypted_and_logged(home: Path) -> None:
    new = held(home)[1]
    password = OTHER_SECRETS["p12-password"].encode()
    p12, pem = home.parent / "m.p12", home.parent / "m.pem"
    wanted = secret_file(home, "p12-password")
    assert run(home, "keys", "export", new.id, "--format", "p12").exit == 2
    assert run(home, "keys", "export", new.id, "--private").exit == 4
    assert run(home, "keys", "export", new.id, "--private", "--format", "p12", "-o", p12, *wanted).exit == 0
    assert run(home, "keys", "export", new.id, "--private", "-o", pem, *wanted).exit == 0
    opened = pkcs12.load_pkcs12(p12.read_bytes(), password)
    assert opened.cert is not None
    assert opened.cert.certificate == new.certificate
    assert new.certificate is not None
    assert load_pem_private_key(pem.read_bytes(), password).public_key() == new.certificate.public_key()
    assert {oct(path.stat().st_mode)[-3:] for path in (p12, pem)} == {"600"}
    check: list[str | Path] = ["openssl", "pkcs12", "-in", p12, "-passin", f"file:{wanted[1]}", "-noout"]
    subprocess.run(check, check=True, capture_output=True)
    assert endings(home) == [("key-export", "done")] * 2


def test_exports_are_as_costly_to_guess_in_their_mac_as_in_their_safes(home: Path) -> None:
    new = held(home)[1]
    p12, pem, newer = (home.parent / name for name in ("m.p12", "m.pem", "newer.p12"))
    wanted = secret_file(home, "p12-password")
    export = ("keys", "export", new.id, "--private")
    assert run(home, *export, "--format", "p12", "-o", p12, *wanted).exit == 0
    assert run(home, *export, "-o", pem, *wanted).exit == 0
    info = subprocess.run(
        ["openssl", "pkcs12", "-in", p12, "-passin", f"file:{wanted[1]}", "-info", "-noout"],
        check=True, capture_output=True, text=True,
    ).stderr  # fmt: skip
    assert "MAC: sha256, Iteration 600000\n" in info
    assert info.count("PBES2, PBKDF2, AES-256-CBC, Iteration 600000, PRF hmacWithSHA256\n") == 2
    sealed = base64.b64decode(b"".join(pem.read_bytes().split(b"-----")[2].split()))
    shown = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=sealed, check=True, capture_output=True
    ).stdout
    assert b":PBKDF2" in shown
    assert b"INTEGER           :0927C0" in shown
    check: list[str | Path] = ["openssl", "pkey", "-in", pem, "-passin", f"file:{wanted[1]}", "-noout"]
    subprocess.run(check, check=True, capture_output=True)

    assert run(home, *export, "--pbmac1", "-o", newer, *wanted).exit == 2
    assert run(home, *export, "--format", "p12", "--pbmac1", "-o", newer, *wanted).exit == 0
    assert b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0e" in newer.read_bytes()  # PBMAC1 (RFC 9579)
    opened = pkcs12.load_pkcs12(newer.read_bytes(), OTHER_SECRETS["p12-password"].encode())
    assert opened.cert is not None
    for file in (p12, pem, newer):
        assert run(home, "enrol", "import", file, "--p12-password-file", wanted[1]).exit == 0


def test_export_of_binary_data_with_json_needs_a_file(home: Path) -> None:
    assert run(home, "keys", "export", held(home)[1].id, "--format", "der", "--json").exit == 2
    raw = subprocess.run(
        [MEDMAIL, "--home", home, "keys", "export", held(home)[1].id, "--format", "der"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert x509.load_der_x509_certificate(raw.stdout) == held(home)[1].certificate


# --- backup and restore -------------------------------------------------------------------------------------


def test_a_restored_backup_is_the_same_keystore_under_a_new_passphrase(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "keystore.medmail"
    secret = secret_file(home, "backup-passphrase")
    found = objects(home, "backup", "-o", file, *secret)
    assert (found[0]["status"], found[0]["identities"]) == ("backed-up", 2)
    for private in (
        PASSPHRASE.encode(),
        OTHER_SECRETS["backup-passphrase"].encode(),
        held(home)[1].id.encode(),
    ):
        assert private not in file.read_bytes()

    other = tmp_path / "other"
    (tmp_path / "other.passphrase").write_text(NEW + "\n")
    environment = {"MEDMAIL_PASSPHRASE_FILE": str(tmp_path / "other.passphrase")}
    restored = objects(other, "restore", file, *secret, env=environment)
    assert (restored[0]["status"], restored[0]["identities"]) == ("restored", 2)
    assert held(other) == held(home)
    store = unlock(Keystore(other / "keystore"), NEW.encode())
    assert store.master_key() == unlock(Keystore(home / "keystore"), PASSPHRASE.encode()).master_key()
    for one in held(other):
        assert one.certificate is not None
        assert store.unseal(one).public_key() == one.certificate.public_key()
    start, *_ = read_entries(other / "audit")
    assert start.action == "start"
    assert start.facts.get("cites") is None  # nothing was logged before the backup was begun

    (error,) = objects(other, "restore", file, *secret, env=environment)
    assert (error["code"], error["exit"]) == ("keystore-exists", 1)


def test_a_restored_keystore_begins_a_log_that_cites_the_old_checkpoint(home: Path, tmp_path: Path) -> None:
    secret = secret_file(home, "backup-passphrase")
    run(home, "keys", "delete", held(home)[0].id, "--force")
    checkpoint = (home / "audit" / "checkpoint").read_text()
    run(home, "keys", "backup", "-o", tmp_path / "b", *secret)
    other = tmp_path / "other"
    passphrase(other)
    assert run(other, "keys", "restore", tmp_path / "b", *secret).exit == 0
    start, *_ = read_entries(other / "audit")
    assert start.facts["cites"] == checkpoint
    assert run(other, "audit", "verify").exit == 0


def test_what_stands_beside_the_keys_comes_back_with_them(home: Path, tmp_path: Path) -> None:
    secret, other = secret_file(home, "backup-passphrase"), tmp_path / "other"
    first, second = held(home)
    assert first.sha256 is not None
    add_revoked(home / "keystore", first.sha256)
    store = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    account = account_key(store, "https://ca.test/directory").public_key
    memory_of(store.keystore, second).save(b"under way")
    run(home, "keys", "backup", "-o", tmp_path / "b", *secret)
    passphrase(other)
    assert run(other, "keys", "restore", tmp_path / "b", *secret).exit == 0
    assert [one.state for one in held(other)] == ["retired", "active"] == [one.state for one in held(home)]
    restored = unlock(Keystore(other / "keystore"), PASSPHRASE.encode())
    assert account_key(restored, "https://ca.test/directory").public_key == account
    assert memory_of(restored.keystore, second).load() == b"under way"
    assert missing(other / "keystore", held(other)) == ()


def test_restore_of_what_is_no_good_backup(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b"
    run(home, "keys", "backup", "-o", file, *secret_file(home, "backup-passphrase"))
    data = file.read_bytes()
    other = tmp_path / "other"
    passphrase(other)
    secret = secret_file(home, "backup-passphrase")
    for content, flags, code, exit_ in (
        (data, ("--backup-passphrase-file", tmp_path / "p12-password"), "wrong-backup-passphrase", 4),
        (data[:200] + bytes([data[200] ^ 4]) + data[201:], secret, "backup-damaged", 7),
        (data[:-10], secret, "backup-damaged", 7),
        (b"no backup", secret, "malformed", 1),
    ):
        file.write_bytes(content)
        (error,) = objects(other, "restore", file, *flags)
        assert (error["code"], error["exit"]) == (code, exit_)
    assert not (other / "keystore" / "keystore.json").exists()


# --- passphrase ---------------------------------------------------------------------------------------------


def test_passwd_changes_the_passphrase_and_nothing_else(home: Path, tmp_path: Path) -> None:
    before = held(home)
    (tmp_path / "new").write_text(NEW + "\n")
    assert run(home, "keys", "passwd").exit == 4
    assert (
        objects(home, "passwd", "--new-passphrase-file", tmp_path / "new")[0]["status"]
        == "passphrase-changed"
    )
    (error,) = objects(home, "passwd", "--new-passphrase-file", tmp_path / "new")
    assert (error["code"], error["exit"]) == ("wrong-passphrase", 4)
    assert held(home) == before
    unlock(Keystore(home / "keystore"), NEW.encode())
    assert endings(home) == [("keystore-passwd", "done")]


def test_passwd_on_a_terminal_asks_for_the_old_and_twice_for_the_new(home: Path) -> None:
    child = pexpect.spawn(
        MEDMAIL, ["keys", "passwd"], encoding="utf-8", timeout=120,
        env={"MEDMAIL_HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "dumb"},
    )  # fmt: skip
    for typed in (PASSPHRASE, NEW, NEW):
        child.expect("assphrase.*: ")
        child.sendline(typed)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    unlock(Keystore(home / "keystore"), NEW.encode())


# --- for a while --------------------------------------------------------------------------------------------


def _kernel_keyring() -> bool:
    try:
        keyring.require_keyring()
    except MedmailError:
        return False
    return True


def files_but_the_log(home: Path) -> dict[Path, bytes]:
    found = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if path.parent.name not in ("audit", "runs")}


def test_unlock_lets_the_kernel_keep_the_key_until_its_time_or_lock(home: Path) -> None:
    if not _kernel_keyring():
        (error,) = objects(home, "unlock")
        assert (error["code"], error["exit"]) == ("no-kernel-keyring", 1)
        return
    sealing(home)
    before = files_but_the_log(home)
    argv = ("enrol", "new", "x@medecin.test", "--method", "csr", "--key", "p256")
    nowhere = {"MEDMAIL_PASSPHRASE_FILE": ""}
    assert run(home, *argv, env=nowhere).exit == 4
    assert objects(home, "unlock", "--for", "1h")[0]["status"] == "unlocked"
    assert files_but_the_log(home) == before
    assert run(home, *argv, env=nowhere).exit == 0
    assert run(home, "keys", "backup", "-o", home.parent / "b", env=nowhere).exit == 4
    assert objects(home, "unlock", "--for", "1s")[0]["status"] == "unlocked"
    until(lambda: run(home, *argv, env=nowhere).exit == 4, "the end of its time")
    assert objects(home, "unlock")[0]["status"] == "unlocked"
    assert objects(home, "lock")[0]["status"] == "locked"
    assert objects(home, "lock")[0]["status"] == "unchanged"
    assert run(home, *argv, env=nowhere).exit == 4
    entries = [(e.action, e.kind) for e in read_entries(home / "audit") if "lock" in e.action]
    assert entries == [
        (f"keystore-{name}", kind)
        for name in ("unlock", "unlock", "unlock", "lock", "lock")
        for kind in ("intent", "outcome")
    ]


def test_a_key_kept_for_another_keystore_in_the_same_place_opens_nothing(home: Path) -> None:
    if _kernel_keyring():
        keyring.keep_master_key(home / "keystore", bytes(32), 20)
    argv = ("enrol", "new", "x@medecin.test", "--method", "csr", "--key", "p256")
    assert run(home, *argv).exit == 0
    keyring.forget_master_key(home / "keystore")


def test_unlock_takes_a_duration_and_the_right_passphrase(home: Path, tmp_path: Path) -> None:
    assert run(home, "keys", "unlock", "--for", "soon").exit == 2
    assert run(home, "keys", "unlock", "--for", "0s").exit == 2
    (tmp_path / "wrong").write_text("wrong")
    if _kernel_keyring():
        done = run(home, "keys", "unlock", "--passphrase-file", tmp_path / "wrong")
        assert done.exit == 4
    assert run(tmp_path / "none", "keys", "lock").exit == 0


# --- delete -------------------------------------------------------------------------------------------------


def test_delete_wants_a_confirmation_and_is_logged(home: Path) -> None:
    old, new = held(home)
    (error,) = objects(home, "delete", old.id)
    assert (error["code"], error["exit"]) == ("needs-confirmation", 2)
    assert "--force" in error["hint"]
    assert objects(home, "delete", old.id, "--force")[0]["id"] == old.id
    assert held(home) == (new,)
    assert endings(home) == [("key-delete", "done")]


def test_every_key_command_without_a_keystore(tmp_path: Path) -> None:
    home = tmp_path / "none"
    passphrase(home)
    for argv in (["passwd"], ["backup", "-o", str(tmp_path / "b")], ["unlock"]):
        (error,) = objects(home, *argv)
        assert (error["code"], error["exit"]) in (("no-keystore", 1), ("no-kernel-keyring", 1))
    assert not home.exists()
