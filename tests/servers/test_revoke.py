"""``enrol revoke``: the authority takes a certificate back, and it signs nothing here any more."""

from pathlib import Path

from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.keystore import Keystore
from tests.support.cli import Done, medmail
from tests.support.homes import by_cmp

ADDRESS = "dr.martin@medecin.test"


def new(home: Path, *options: str) -> Done:
    return medmail(home, "enrol", "new", ADDRESS, "--key", "p256", "--no-backup", "--json", *options)


def letter(home: Path, path: Path) -> Done:
    words = ("send", "--to", ADDRESS, "--subject", "x", "--offline", "-o", path, "-")
    return medmail(home, *words, stdin=b"old\n")


def test_it_is_on_the_list_and_opens_old_mail_alone(home: Path, operator: Operator, tmp_path: Path) -> None:
    by_cmp(home, operator)
    assert new(home, "--ca-fingerprint", operator.authority.fingerprint).exit == 0
    (one,) = Keystore(home / "keystore").identities()
    assert one.certificate is not None
    assert letter(home, tmp_path / "old.eml").exit == 0
    asked = medmail(home, "enrol", "revoke", ADDRESS, "--json", "--no-input")
    assert (asked.exit, asked.objects[-1]["code"]) == (2, "needs-confirmation")
    assert one.certificate.serial_number not in operator.authority.revoked
    done = medmail(home, "enrol", "revoke", ADDRESS, "--reason", "keyCompromise", "--force", "--json")
    assert (done.exit, done.objects[0]["status"]) == (0, "revoked")
    assert one.certificate.serial_number in operator.authority.revoked
    assert [each.state for each in Keystore(home / "keystore").identities()] == ["retired"]
    refused = letter(home, tmp_path / "new.eml")
    assert refused.exit == 5
    # what it signed before is believed no more, and can be read still
    opened = medmail(home, "decrypt", tmp_path / "old.eml", "--json")
    assert opened.exit == 5
    assert opened.objects[0]["text"] == "old\n"
    assert [each["code"] for each in opened.objects[0]["problems"]] == ["revoked"]
    # once more is no error, by its id; and there is room for another
    again = medmail(home, "enrol", "revoke", one.id, "--force", "--json")
    assert (again.exit, again.objects[0]["status"]) == (0, "unchanged")
    assert new(home).exit == 0
    assert letter(home, tmp_path / "new.eml").exit == 0
    entries = medmail(home, "audit", "log", "--json").objects
    (intent, *_rest) = (one for one in entries[:-1] if one["action"] == "enrol-revoke")
    assert intent["facts"]["reason"] == "keyCompromise"


def test_an_authority_that_takes_no_such_request(home: Path, operator: Operator) -> None:
    assert new(home).exit == 0
    done = medmail(home, "enrol", "revoke", ADDRESS, "--force", "--json")
    assert (done.exit, done.objects[-1]["code"]) == (1, "ca-cannot-revoke")
    assert [each.state for each in Keystore(home / "keystore").identities()] == ["active"]
    assert medmail(home, "enrol", "revoke", "nobody@medecin.test", "--force").exit == 1


def test_the_list_of_those_revoked_is_guarded(home: Path, operator: Operator) -> None:
    by_cmp(home, operator)
    assert new(home).exit == 0
    assert medmail(home, "enrol", "revoke", ADDRESS, "--force").exit == 0
    path = home / "keystore" / "revoked.json"
    path.write_bytes(path.read_bytes().replace(b"certificates", b"certificatez"))
    damaged = medmail(home, "keys", "list", "--json")
    assert (damaged.exit, damaged.objects[-1]["code"]) == (7, "store-damaged")
    path.unlink()
    missing = medmail(home, "keys", "list", "--json")
    assert (missing.exit, missing.objects[-1]["code"]) == (7, "own-revocations-missing")
    assert str(path) in missing.stderr
