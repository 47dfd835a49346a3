"""``medmail keys rewrap``: old letters open to the new key, and nothing else about them changes."""

import hashlib
import os
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.store.mail.mailbox import Mailbox
from tests.support import letters
from tests.support.cli import MEDMAIL, PASSPHRASE, medmail
from tests.support.homes import make_home
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.letters import OUTER, TEXT, Person, encrypt, person, sealed, sign
from tests.support.tools import run

STORED_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OLD = person("bob")
HEIR = person("bob", serial=2, key_type="rsa2048")
SIGNED = sign(TEXT)
LETTERS = {
    "sealed": sealed(),
    "to several": sealed(to=("bob", "carol")),
    "cbc": OUTER + encrypt(SIGNED, cipher="aes-256-cbc"),
    "unsigned": OUTER + encrypt(TEXT),
    "lines end in CR": (OUTER + encrypt(SIGNED)).replace(b"\r\n", b"\r"),
    "forged": OUTER + encrypt(sign(TEXT, detached=True).replace(b"Hello", b"Hallo")),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Bob's, whose letters are from the time of a key that has been replaced."""
    return filled(tmp_path, OLD, HEIR, list(LETTERS.values()))


def filled(folder: Path, old: Person, heir: Person, messages: Sequence[bytes]) -> Path:
    home = make_home(folder, old)
    unlocked = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    unlocked.add(
        heir.raw_key,
        heir.certificate,
        addresses=[heir.address],
        purpose="both",
        method="import",
        now=STORED_AT,
        replaces=[one.id for one in unlocked.identities()],
    )
    box = Mailbox(home / "mail")
    box.store("work", "INBOX", "1", [(str(n), each) for n, each in enumerate(messages, 1)], STORED_AT)
    box.close()
    return home


def rewrap(home: Path, *more: str) -> list[dict[str, Any]]:
    done = medmail(home, "keys", "rewrap", "--json", "--no-input", *more)
    assert done.objects[-1]["exit"] == done.exit
    return [one for one in done.objects if one["type"] not in ("progress", "note")]


def files(home: Path) -> list[Path]:
    return sorted((home / "mail").glob("*/*/*/*.medmail*"))


def delete(home: Path, *gone: Person) -> None:
    for one in gone:
        sha256 = hashlib.sha256(one.certificate.public_bytes(Encoding.DER)).hexdigest()
        assert medmail(home, "keys", "delete", sha256, "--force").exit == 0


def verdicts(home: Path) -> dict[str, dict[str, Any]]:
    """What is said of every letter, without whose key opened it."""
    # after a kill a note says what the run before left unfinished
    listed = medmail(home, "inbox", "--json").objects
    ids = [one["id"] for one in listed if one["type"] not in ("note", "result")]
    done = medmail(home, "decrypt", *ids, "--json", "--show-unverified")
    found = [one for one in done.objects if one["type"] == "message"]
    for one in found:
        one["encryption"] |= {"key_management": None, "recipient": None}
    return {one["id"]: one for one in found}


def test_the_new_key_opens_what_the_old_one_did_and_says_the_same(home: Path) -> None:
    before = verdicts(home)
    assert {one["exit"] for one in before.values()} == {0, 5, 6}
    found = rewrap(home)
    assert [one["status"] for one in found[:-2]] == ["rewrapped"] * len(LETTERS)
    assert (found[-2]["rewrapped"], found[-2]["kept"], found[-1]["exit"]) == (len(LETTERS), 0, 0)
    delete(home, OLD)
    assert verdicts(home) == before
    assert rewrap(home)[:-1] == [
        {
            "type": "rewrap-summary",
            "rewrapped": 0,
            "unchanged": len(LETTERS),
            "kept": 0,
            "unopenable": 0,
            "dry_run": False,
        }
    ]


def test_only_the_new_key_opens_it_for_other_programs_too(home: Path, tmp_path: Path) -> None:
    rewrap(home)
    for name, who in (("old", OLD), ("heir", HEIR)):
        key = who.raw_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(key + who.certificate.public_bytes(Encoding.PEM))
    contents = set()
    for path in files(home):
        if b"\n" not in path.read_bytes():
            continue  # OpenSSL reads no lines that end in CR
        argv = ["openssl", "cms", "-decrypt", "-in", str(path), "-out", str(tmp_path / "out"), "-recip"]
        run(*argv, tmp_path / "heir.pem")
        contents.add((tmp_path / "out").read_bytes())
        refused = subprocess.run([*argv, str(tmp_path / "old.pem")], capture_output=True, check=False)
        assert refused.returncode != 0
    assert SIGNED in contents
    assert TEXT in contents


def test_everything_but_the_entries_is_what_came(home: Path) -> None:
    ids = {hashlib.sha256(raw).hexdigest(): raw for raw in LETTERS.values()}
    found = {one["id"]: one["sha256"] for one in rewrap(home)[:-2]}
    assert found.keys() == ids.keys()
    for path in files(home):
        raw = path.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        (id_,) = [key for key, value in found.items() if value == digest]
        assert head(raw) == head(ids[id_])
        assert f"I{id_}R{digest}.medmail" in path.name


def head(raw: bytes) -> bytes:
    return re.split(rb"\r\n\r\n|\r\r", raw, maxsplit=1)[0]


def test_the_server_s_copy_is_not_taken_for_another_letter(home: Path) -> None:
    before = verdicts(home)
    rewrap(home)
    (home / "mail" / "index.db").unlink()
    box = Mailbox(home / "mail")
    for generation in (1, 2):
        again = box.store(
            "work",
            "INBOX",
            str(generation),
            [(str(n), each) for n, each in enumerate(LETTERS.values(), 1)],
            STORED_AT,
        )
        assert [new for _, new in again] == [False] * len(LETTERS)
    box.close()
    delete(home, OLD)
    assert len(files(home)) == len(LETTERS)
    assert verdicts(home) == before


def test_flags_and_what_was_opened_stay(home: Path) -> None:
    first, *_ = files(home)
    first.rename(first.parent.parent / "cur" / f"{first.name}:2,FS")
    assert medmail(home, "decrypt", hashlib.sha256(LETTERS["sealed"]).hexdigest()).exit == 0
    opened = medmail(home, "inbox", "--json").objects[:-1]
    rewrap(home)
    assert [path.name[-4:] for path in files(home) if path.parent.name == "cur"] == [":2,FS"[-4:]]
    after = medmail(home, "inbox", "--json").objects[:-1]
    assert [(one["id"], one["opened"]) for one in after] == [(one["id"], one["opened"]) for one in opened]


def test_what_is_left_alone(tmp_path: Path) -> None:
    nested = OUTER + sign(encrypt(TEXT), detached=True)
    twice = OUTER + encrypt(encrypt(TEXT))
    stranger = OUTER + encrypt(TEXT, to="carol")
    damaged = OUTER + letters.entity(b"0\x80junk", "enveloped-data")
    plain, mine = OUTER + TEXT, OUTER + encrypt_to(HEIR)
    mine_nested = OUTER + sign(encrypt_to(HEIR), detached=True)
    theirs = OUTER + sign(encrypt(TEXT, to="carol"), detached=True)
    messages = [nested, twice, stranger, damaged, plain, mine, mine_nested, theirs]
    home = filled(tmp_path, OLD, HEIR, messages)
    before = {path: path.read_bytes() for path in files(home)}
    *found, summary, result = rewrap(home)
    said = {one["id"]: (one["status"], one["reason"], one["exit"]) for one in found}
    assert said == {
        hashlib.sha256(raw).hexdigest(): how
        for raw, how in (
            (nested, ("kept", "nested-encryption", 1)),
            (twice, ("kept", "nested-encryption", 1)),
            (stranger, ("unopenable", "no-key", 0)),
            (theirs, ("unopenable", "no-key", 0)),
            (damaged, ("unopenable", "malformed", 0)),
        )
    }
    assert (summary["unchanged"], result["exit"]) == (3, 3)
    assert {path: path.read_bytes() for path in files(home)} == before


def encrypt_to(who: Person) -> bytes:
    from medmail_cli.cms import enveloped

    return letters.entity(enveloped.encrypt(TEXT, [who.certificate]), "authEnveloped-data")


def test_what_was_safe_from_quantum_computers_stays_so(tmp_path: Path) -> None:
    old, heir = (person("bob", serial=n, key_type="ml-kem-768", purpose="encrypt") for n in (3, 4))
    home = filled(tmp_path, old, HEIR, [OUTER + encrypt_to(old)])
    assert [one["reason"] for one in rewrap(home)[:-2]] == ["not-post-quantum"]
    sha256 = hashlib.sha256(heir.certificate.public_bytes(Encoding.DER)).hexdigest()
    unlocked = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    unlocked.add(
        heir.raw_key,
        heir.certificate,
        addresses=[heir.address],
        purpose="encrypt",
        method="import",
        now=STORED_AT,
    )
    assert [one["key"] for one in rewrap(home)[:-2]] == [sha256[:32]]
    delete(home, old, HEIR)
    (listed, _) = medmail(home, "inbox", "--json").objects
    (verdict, _) = medmail(home, "decrypt", listed["id"], "--json").objects
    assert verdict["encryption"]["key_management"] == "ml-kem-768"


def test_every_letter_to_one_key_and_to_no_other(home: Path) -> None:
    rewrap(home)
    heir = hashlib.sha256(HEIR.certificate.public_bytes(Encoding.DER)).hexdigest()
    old = hashlib.sha256(OLD.certificate.public_bytes(Encoding.DER)).hexdigest()
    for name in (heir, HEIR.address):
        assert rewrap(home, "--to", name)[-2]["rewrapped"] == 0
    would = rewrap(home, "--to", old, "--dry-run")
    assert [one["status"] for one in would[:-2]] == ["would-rewrap"] * len(LETTERS)
    assert rewrap(home, "--to", old)[-2]["rewrapped"] == len(LETTERS)
    delete(home, HEIR)
    assert {one["exit"] for one in verdicts(home).values()} == {0, 5, 6}


def test_a_dry_run_changes_nothing(home: Path) -> None:
    before = {path: path.read_bytes() for path in files(home)}
    assert rewrap(home, "--dry-run")[-2]["rewrapped"] == len(LETTERS)
    assert {path: path.read_bytes() for path in files(home)} == before
    assert "rewrap" not in medmail(home, "audit", "log", "--json").stdout


def test_each_letter_stands_in_the_audit_log(home: Path) -> None:
    found = {(one["id"], one["sha256"]) for one in rewrap(home)[:-2]}
    entries = [
        one for one in medmail(home, "audit", "log", "--json").objects if one.get("action") == "rewrap"
    ]
    intents = {one["index"]: one["objects"][0] for one in entries if one["kind"] == "intent"}
    outcomes = {(intents[one["of"]], one["objects"][0]) for one in entries if one["kind"] == "outcome"}
    assert outcomes == found
    assert medmail(home, "audit", "verify").exit == 0


def test_killed_anywhere_every_letter_opens_and_the_next_run_ends_it(home: Path, tmp_path: Path) -> None:
    whole = verdicts(home)
    argv, spare = ["medmail", "keys", "rewrap", "--no-input", "-q"], tmp_path / "spare"

    def fresh() -> dict[str, str]:
        shutil.rmtree(spare, ignore_errors=True)
        shutil.copytree(home, spare)
        shutil.copyfile(tmp_path / "home.passphrase", tmp_path / "spare.passphrase")
        return os.environ | {
            "MEDMAIL_HOME": str(spare), "MEDMAIL_PASSPHRASE_FILE": str(tmp_path / "spare.passphrase")
        }  # fmt: skip

    killed = 0
    total = count_effects(argv, env=fresh())
    for k in kill_points(total, 12):
        killed += run_killed_at(argv, k, env=fresh()).returncode == KILLED
        assert verdicts(spare) == whole
        assert rewrap(spare)[-1]["exit"] == 0
        delete(spare, OLD)
        assert verdicts(spare) == whole
        assert len(files(spare)) == len(LETTERS)
        assert medmail(spare, "audit", "verify").exit == 0
    assert killed > 9


def test_who_reads_meanwhile_finds_every_letter(home: Path) -> None:
    whole = verdicts(home)
    ids = [hashlib.sha256(raw).hexdigest() for raw in LETTERS.values()]
    box, stop = Mailbox(home / "mail"), threading.Event()
    heir, old = (
        hashlib.sha256(one.certificate.public_bytes(Encoding.DER)).hexdigest() for one in (HEIR, OLD)
    )

    def read() -> int:
        rounds = 0
        while not stop.is_set():
            for one in ids:
                box.read(one)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for target in (heir, old, heir):
            assert rewrap(home, "--to", target)[-1]["exit"] == 0
        stop.set()
        assert reading.result() > 10
    box.close()
    delete(home, OLD)
    assert verdicts(home) == whole


@pytest.mark.parametrize("limit", [0, 1500, 2500])
def test_a_full_disk_loses_nothing(home: Path, limit: int) -> None:
    whole = verdicts(home)

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    environment = os.environ | {
        "MEDMAIL_HOME": str(home), "MEDMAIL_PASSPHRASE_FILE": str(home.parent / "home.passphrase")
    }  # fmt: skip
    done = subprocess.run(
        [MEDMAIL, "keys", "rewrap", "--json"],
        env=environment,
        preexec_fn=full,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b'"code": "disk-full"' in done.stdout) == (1, True), done
    assert b"Traceback" not in done.stderr
    assert verdicts(home) == whole
    assert rewrap(home)[-1]["exit"] == 0
    delete(home, OLD)
    assert verdicts(home) == whole


def test_what_it_cannot_be_rewrapped_for(home: Path, tmp_path: Path) -> None:
    assert rewrap(home, "--to", "nobody@medecin.test")[-1]["code"] == "no-identity"
    assert rewrap(home, "--to", "00ff00")[-1]["code"] == "not-found"
    signer = person("bob", serial=9, key_type="ed25519", purpose="sign")
    unlocked = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    one = unlocked.add(
        signer.raw_key,
        signer.certificate,
        addresses=[signer.address],
        purpose="sign",
        method="import",
        now=STORED_AT,
    )
    assert rewrap(home, "--to", one.id)[-1]["code"] == "wrong-key-usage"
    (tmp_path / "home.passphrase").write_text("wrong\n")
    assert rewrap(home)[-1]["code"] == "wrong-passphrase"
