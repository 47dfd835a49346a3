"""``medmail decrypt`` as people and scripts meet it: streams, exits, files left."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from medmail_cli.cms import algorithms, ber, der, enveloped, signed
from medmail_cli.commands.decrypt import events
from medmail_cli.smime import mime
from medmail_cli.smime.compose import base64_lines
from medmail_cli.store.mail.mailbox import Mailbox
from medmail_cli.ui.schema import of_command
from tests.support.cli import Done, medmail
from tests.support.forged import together
from tests.support.homes import make_home
from tests.support.letters import FILE, NOW, OUTER, TEXT, encrypt, entity, letter, person, sealed, sign
from tests.support.pki import pem
from tests.support.tools import run

ALICES_CONFIG = """\
[accounts.work]
address = "alice@medecin.test"
smtp = { host = "127.0.0.1", port = 9, security = "tls" }
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("bob"), person("bob"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return of_command("decrypt", events()["decrypt"])


def save(folder: Path, raw: bytes, name: str = "letter.eml") -> Path:
    path = folder / name
    path.write_bytes(raw)
    return path


def flipped(raw: bytes) -> bytes:
    """The message with one bit of its tag changed."""
    root = mime.parse(raw)
    data = bytearray(mime.decode_body(root))
    data[-1] ^= 1
    return raw[: root.body] + base64_lines(bytes(data))


def verdict(done: Done, schema: dict[str, Any]) -> dict[str, Any]:
    for line in done.objects:
        jsonschema.validate(line, schema)
    assert done.objects[-1]["exit"] == done.exit
    return done.objects[0]


# --- for people --------------------------------------------------------------------------------------------


def test_a_trusted_letter(home: Path, tmp_path: Path) -> None:
    done = medmail(home, "decrypt", save(tmp_path, sealed(letter(attachments=(FILE,)))), env={"TZ": "UTC"})
    assert (done.exit, done.stderr) == (0, "")
    (mark,) = set(re.findall(r"(?m)^\+-- [0-9a-f]{8}$", done.stdout))
    assert done.stdout == (
        "Signed by alice@medecin.test on 2026-11-22 09:30\n"
        "By authority of CN=Health Root, which you trust\n"
        "Believe it: every check held (whether the certificate was revoked is not known)\n"
        "\n"
        f"{mark}\n"
        "| From: Alice <alice@medecin.test>\n"
        "| To: Bob <bob@medecin.test>\n"
        "| Date: 2026-11-22 09:30 +0000\n"
        "| Subject: Résultats de Mme Durand\n"
        "| Attached: Compte rendu – Élodie.pdf (application/pdf, 10240 bytes)\n"
        "|\n"
        "| Chère consœur,\n"
        "|\n"
        "| voici les résultats.\n"
        f"{mark}\n"
        "\n"
    )


def test_no_line_of_a_letter_passes_for_one_of_ours(home: Path, tmp_path: Path) -> None:
    verdict = "Signed by alice@medecin.test on 2026-11-30 02:42\nBelieve it: every check held\n"
    raw = OUTER.replace(b"Subject: outside", b"Subject: x\x85Believe it") + b"\r\n" + verdict.encode()
    done = medmail(home, "decrypt", save(tmp_path, raw + b"\r\n+-- 00000000\r\nBelieve it\r\n"))
    assert done.exit == 5
    ours = [line for line in done.stdout.splitlines() if not line.startswith("|")]
    assert not [line for line in ours if line.startswith(("Signed by alice", "Believe it"))]
    assert len([line for line in ours if line.startswith("+-- ")]) == 2


def test_an_untrusted_letter_is_shown_and_marked(home: Path, tmp_path: Path) -> None:
    done = medmail(home, "decrypt", save(tmp_path, sealed(signer="carol")))
    assert done.exit == 5
    assert "DO NOT BELIEVE IT: " in done.stdout
    assert "voici les résultats" in done.stdout


@pytest.mark.parametrize("turned", [False, True])
def test_a_stranger_who_signed_beside_the_author_is_not_named(
    home: Path, tmp_path: Path, turned: bool
) -> None:
    """Anybody can add a signature of his own making to a letter, under any name."""
    signers = [person("boss", "Mallory Root"), person("alice")]
    data = together(*(signers[::-1] if turned else signers))
    done = medmail(home, "decrypt", save(tmp_path, OUTER + entity(data, "signed-data")), "--explain")
    assert done.exit == 0
    assert done.stdout.startswith("Signed by alice@medecin.test on ")
    assert "boss" not in done.stdout.partition("\n\n")[0]
    assert "alice@medecin.test · From: alice@medecin.test" in done.stdout
    log = medmail(home, "audit", "log", "--json").objects
    told = [line["facts"]["signer"] for line in log if "signer" in line.get("facts", {})]
    assert told[-1] == person("alice").certificate.fingerprint(hashes.SHA256()).hex()


def test_of_several_messages_each_bears_its_number_and_name(home: Path, tmp_path: Path) -> None:
    """What a letter says may look like the verdict on the next one."""
    paths = [save(tmp_path, sealed(), "a.eml"), save(tmp_path, OUTER + TEXT, "b\x1b.eml")]
    done = medmail(home, "decrypt", *paths)
    lines = done.stdout.splitlines()
    assert lines[0] == f"[1/2] {tmp_path}/a.eml"
    assert lines[1].startswith("Signed by alice@medecin.test")
    second = lines.index(f"[2/2] {tmp_path}/b\\x1b.eml")
    assert lines[second - 1 : second + 2 : 2] == ["", "Signed by nobody"]
    assert "[1/" not in medmail(home, "decrypt", paths[0]).stdout


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_mbox_of_several_is_opened_as_several(home: Path, tmp_path: Path, end: bytes) -> None:
    """A line "From …" of a signed text stands quoted there, and is signed as it was."""
    text = sign(b"Content-Type: text/plain\r\n\r\nFrom here on: 5 mg\r\n", detached=True)
    letters = [sealed(), OUTER + text, OUTER + b"\r\nnobody signed\r\n"]
    first = b"From alice@medecin.test Mon Nov 30 10:00:00 2026" + end
    quoted = [re.sub(rb"(?m)^(?=>*From )", b">", raw.replace(b"\r\n", end)) for raw in letters]
    raw = b"".join(first + one + end for one in quoted)
    path = save(tmp_path, raw, "box")
    done = medmail(home, "decrypt", path, "--json")
    found = [one for one in done.objects if one["type"] == "message"]
    assert [one["source"] for one in found] == [f"{path}:{number}" for number in (1, 2, 3)]
    assert [(one["trusted"], one["exit"]) for one in found] == [(True, 0), (True, 0), (False, 5)]
    assert found[1]["text"] == "From here on: 5 mg\n"
    assert done.exit == 3
    piped = medmail(home, "decrypt", "-", "--json", stdin=raw)
    assert [one["id"] for one in piped.objects[:3]] == [one["id"] for one in found]
    assert medmail(home, "reply", path, "-", stdin=b"x").exit == 2


def test_an_encrypted_letter_that_got_a_footer_is_opened_by_itself(home: Path, tmp_path: Path) -> None:
    """Beside the footer it stays closed (direct exfiltration); saved, it is the letter that was sent."""
    head, version, body = sealed().partition(b"MIME-Version: 1.0\r\n")
    mixed = b"Content-Type: multipart/mixed; boundary=l\r\n\r\n--l\r\n%b\r\n--l\r\n\r\nfooter\r\n--l--\r\n"
    path = save(tmp_path, head + version + mixed.replace(b"%b", body))
    shown = medmail(home, "decrypt", path)
    assert (shown.exit, "résultats" in shown.stdout) == (5, False)
    assert "save it with --out-dir and open it by itself" in shown.stdout
    done = medmail(home, "decrypt", path, "--out-dir", tmp_path / "out", "--accept-untrusted", "--json")
    (part,) = done.objects[0]["attachments"]
    alone = medmail(home, "decrypt", part["saved_as"])
    assert (alone.exit, "voici les résultats" in alone.stdout) == (0, True)


def test_of_a_bad_signature_nobody_is_said_to_have_signed(home: Path, tmp_path: Path) -> None:
    raw = OUTER + sign(TEXT, detached=True).replace(b"Hello", b"Hallo")
    done = medmail(home, "decrypt", save(tmp_path, raw), env={"TZ": "UTC"})
    assert done.exit == 6
    assert "Signed by" not in done.stdout
    assert done.stdout.startswith("A signature in the name of alice@medecin.test that does not hold\n")


def test_control_characters_of_strangers_are_escaped(home: Path, tmp_path: Path) -> None:
    written = letter(body="a\x1b[2Jb\u202ec\n", subject="x")
    done = medmail(home, "decrypt", save(tmp_path, sealed(written)))
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "a\\x1b[2Jb\\u202ec" in done.stdout


def test_explain_numbers_every_check(home: Path, tmp_path: Path, schema: dict[str, Any]) -> None:
    path = save(tmp_path, sealed(signer="carol"))
    done = medmail(home, "decrypt", path, "--explain")
    assert "16. the signer is the sender: fails (RFC 8550 §3)\n   carol@medecin.test" in done.stdout
    told = medmail(home, "decrypt", path, "--explain", "--json")
    verdict(told, schema)
    assert [step["number"] for step in told.objects[1]["steps"]] == list(range(1, 19))


# --- for scripts -------------------------------------------------------------------------------------------


def test_json_of_a_trusted_letter(home: Path, tmp_path: Path, schema: dict[str, Any]) -> None:
    path = save(tmp_path, sealed(letter(attachments=(FILE,))))
    done = medmail(home, "decrypt", path, "--json")
    found = verdict(done, schema)
    assert (done.exit, done.stderr, found["exit"], found["trusted"]) == (0, "", 0, True)
    assert found["source"] == str(path)
    assert found["layers"] == ["encrypted", "signed"]
    assert found["encryption"] == {
        "status": "ok",
        "algorithm": "aes-256-gcm",
        "authenticated": True,
        "key_management": "ecdh-es-p256",
        "recipient": "bob@medecin.test",
    }
    assert found["signature"]["status"] == "valid"
    assert found["headers"]["from"] == "Alice <alice@medecin.test>"
    assert found["headers"]["date"] == "2026-11-22T09:30:00Z"
    assert found["outer_headers"] == {"from": "Alice <alice@medecin.test>", "subject": "[...]"}
    assert found["attachments"][0]["saved_as"] is None
    assert done.objects[-1] == {
        "type": "result",
        "command": "decrypt",
        "ok": True,
        "exit": 0,
        "counts": {"message": 1},
    }


@pytest.mark.parametrize(
    ("raw", "exit_code", "code", "released"),
    [
        (sealed(signer="carol"), 5, "signer-is-not-sender", True),
        (OUTER + TEXT, 5, "no-signature", True),
        (OUTER + encrypt(TEXT, cipher="aes-256-cbc"), 5, "no-signature", False),
        (OUTER + encrypt(TEXT, "carol"), 1, "no-key", False),
        (OUTER + encrypt(sign(TEXT, detached=True).replace(b"Hello", b"Hallo")), 6, "bad-signature", False),
        (flipped(sealed()), 6, "bad-tag", False),
        (b"\0not a message", 1, "malformed", False),
        (b"", 1, "malformed", False),
    ],
    ids=["untrusted", "unsigned", "cbc", "no-key", "bad-signature", "bad-tag", "malformed", "empty"],
)
def test_exits(
    home: Path, tmp_path: Path, schema: dict[str, Any], raw: bytes, exit_code: int, code: str, released: bool
) -> None:
    done = medmail(home, "decrypt", save(tmp_path, raw), "--json")
    found = verdict(done, schema)
    assert (done.exit, found["exit"], found["trusted"]) == (exit_code, exit_code, False)
    assert [problem["code"] for problem in found["problems"]] == [code]
    assert (found["text"] is not None) == released
    if not released:
        assert found["attachments"] == []


def test_gcm_in_plain_enveloped_data_is_called_by_its_name(home: Path, tmp_path: Path) -> None:
    """A known fault of some senders: it looks like any other failure, and says what to tell them."""
    whole = enveloped.encrypt(TEXT, [person("bob").certificate], cipher="aes-256-gcm")
    _, explicit = ber.parse(whole).elements()
    (body,) = explicit.elements()
    _, recipients, content, _tag = (bytes(each.raw) for each in body.elements())
    data = der.sequence(der.integer(2), recipients, content)
    tagless = der.sequence(der.oid(algorithms.ENVELOPED_DATA), der.tlv(0xA0, data))
    path = save(tmp_path, OUTER + entity(tagless, "enveloped-data"))
    done = medmail(home, "decrypt", path)
    assert done.exit == 6
    assert "DO NOT BELIEVE IT: the message was changed on its way, or is not for this key" in done.stdout
    why = "aes-256-gcm in plain EnvelopedData, which has no place for its tag"
    assert f"Nothing could be opened: {why}." in done.stdout
    (found, _) = medmail(home, "decrypt", path, "--json").objects
    assert found["problems"] == [{"code": "bad-tag", "detail": why}]
    assert (found["text"], found["encryption"]["status"]) == (None, "failed")


def test_several_that_end_differently_are_partial(home: Path, tmp_path: Path, schema: dict[str, Any]) -> None:
    good, bad = save(tmp_path, sealed()), save(tmp_path, OUTER + TEXT, "plain.eml")
    done = medmail(home, "decrypt", good, bad, "--json")
    verdict(done, schema)
    assert [line.get("exit") for line in done.objects] == [0, 5, 3]
    assert medmail(home, "decrypt", bad, bad).exit == 5


def test_stdin_is_read_for_a_dash_only(home: Path) -> None:
    assert medmail(home, "decrypt", "-", stdin=sealed()).exit == 0
    done = medmail(home, "decrypt", stdin=sealed())
    assert (done.exit, done.stdout) == (2, "")
    assert medmail(home, "decrypt", "-", "--passphrase-file", "-", stdin=sealed()).exit == 2


def test_a_file_that_is_not_there(home: Path) -> None:
    done = medmail(home, "decrypt", "./nothing.eml", "--json")
    assert (done.exit, done.objects[0]["type"], done.objects[0]["code"]) == (1, "error", "not-readable")


def test_the_wrong_passphrase_is_no_verdict(home: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    done = medmail(home, "decrypt", save(tmp_path, sealed()), "--passphrase-file", wrong, "--json")
    assert (done.exit, done.objects[-1]["code"]) == (4, "wrong-passphrase")


def test_a_signed_letter_asks_for_no_passphrase(home: Path, tmp_path: Path) -> None:
    path = save(tmp_path, OUTER + sign(TEXT))
    assert medmail(home, "decrypt", path, "--passphrase-file", tmp_path / "none").exit == 0


def test_somebody_without_keystore_can_check_a_signature(tmp_path: Path) -> None:
    done = medmail(tmp_path / "fresh", "decrypt", save(tmp_path, OUTER + sign(TEXT)), "--json")
    assert (done.exit, done.objects[0]["problems"][0]["code"]) == (5, "untrusted-issuer")
    assert medmail(tmp_path / "fresh", "decrypt", save(tmp_path, sealed())).exit == 1


def test_judged_at_another_time(home: Path, tmp_path: Path) -> None:
    path = save(tmp_path, sealed())
    done = medmail(home, "decrypt", path, "--at", "2025-12-31", "--json")
    assert [p["code"] for p in done.objects[0]["problems"]] == ["implausible-time", "not-yet-valid"]
    assert medmail(home, "decrypt", path, "--at", "tomorrow").exit == 2


def test_only_the_identity_asked_for_opens(tmp_path: Path) -> None:
    both = make_home(tmp_path, person("bob"), person("carol"))
    path = save(tmp_path, sealed())
    assert medmail(both, "decrypt", path, "--identity", "Bob@medecin.test").exit == 0
    assert medmail(both, "decrypt", path, "--identity", "carol@medecin.test").exit == 1
    assert medmail(both, "decrypt", path, "--identity", "nobody@medecin.test").exit == 1


# --- output ------------------------------------------------------------------------------------------------


def test_output_to_a_file(home: Path, tmp_path: Path) -> None:
    path, target = save(tmp_path, sealed()), tmp_path / "out.txt"
    assert medmail(home, "decrypt", path, "-o", target).exit == 0
    assert target.read_text() == letter().body
    assert target.stat().st_mode & 0o777 == 0o600
    # an identical file is success, another is left alone
    assert medmail(home, "decrypt", path, "-o", target).exit == 0
    target.write_text("mine")
    done = medmail(home, "decrypt", path, "-o", target, "--json")
    assert (done.exit, done.objects[-1]["code"], target.read_text()) == (1, "exists", "mine")
    assert medmail(home, "decrypt", path, "-o", target, "--force").exit == 0
    assert target.read_text() == letter().body


def test_output_to_stdout_is_content_alone(home: Path, tmp_path: Path) -> None:
    path = save(tmp_path, sealed())
    done = medmail(home, "decrypt", path, "-o", "-")
    assert (done.exit, done.stdout, done.stderr) == (0, letter().body, "")
    done = medmail(home, "decrypt", path, "--format", "eml")
    assert "Subject: =?utf-8?b?" in done.stdout
    assert medmail(home, "decrypt", path, path.with_name("x.eml"), "-o", "-").exit in (1, 2)


def test_untrusted_content_is_written_only_when_accepted(home: Path, tmp_path: Path) -> None:
    path, target = save(tmp_path, sealed(signer="carol")), tmp_path / "out.txt"
    for extra, written in ((), False), (("--accept-untrusted",), True):
        done = medmail(home, "decrypt", path, "-o", target, *extra)
        assert (done.exit, target.exists()) == (5, written)
    done = medmail(home, "decrypt", path, "-o", "-")
    assert (done.exit, done.stdout) == (5, "")
    assert "DO NOT BELIEVE IT" in done.stderr


def test_a_folder_for_each_message(home: Path, tmp_path: Path, schema: dict[str, Any]) -> None:
    hostile = letter(attachments=(FILE, FILE, FILE.__class__("../../evil\n.sh", "text/x-sh", b"boo")))
    done = medmail(home, "decrypt", save(tmp_path, sealed(hostile)), "--out-dir", tmp_path / "out", "--json")
    found = verdict(done, schema)
    folder = tmp_path / "out" / found["id"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "Compte rendu – Élodie-2.pdf",
        "Compte rendu – Élodie.pdf",
        "evil .sh",
        "message.txt",
    ]
    assert found["attachments"][0]["saved_as"] == str(folder / FILE.name)
    assert (folder / FILE.name).read_bytes() == FILE.data
    assert [path.name for path in tmp_path.iterdir() if "evil" in path.name] == []


def test_what_is_withheld_and_shown_on_demand(home: Path, tmp_path: Path) -> None:
    path = save(tmp_path, OUTER + encrypt(TEXT, cipher="aes-256-cbc"))
    assert "Hello" not in medmail(home, "decrypt", path).stdout
    done = medmail(home, "decrypt", path, "--show-unverified")
    assert (done.exit, "Hello" in done.stdout) == (5, True)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["a.eml", "-o", "x.txt", "--out-dir", "y"],
        ["-", "--json", "-o", "-"],
        ["--format", "pdf", "-"],
    ],
)
def test_wrong_usage(home: Path, argv: list[str]) -> None:
    done = medmail(home, "decrypt", *argv, stdin=sealed())
    assert (done.exit, done.stderr.count("medmail: error: ")) == (2, 1)


# --- mailbox and log ---------------------------------------------------------------------------------------


def test_from_the_mailbox_once(tmp_path: Path, schema: dict[str, Any]) -> None:
    own = make_home(tmp_path, person("bob"))
    mailbox = Mailbox(own / "mail")
    good, forged = sealed(), sealed(letter(message_id="<2@medecin.test>"), signer="carol")
    stored = mailbox.store("work", "INBOX", "1", [("1", good), ("2", forged)], NOW)
    mailbox.close()
    name = stored[0][0].id
    done = medmail(own, "decrypt", name[:8], "--json")
    assert (verdict(done, schema)["id"], done.exit) == (name, 0)
    waiting = medmail(own, "decrypt", "--unopened", "--json")
    assert [line["id"] for line in waiting.objects if line["type"] == "message"] == [stored[1][0].id]
    assert medmail(own, "decrypt", "--unopened", "--json").objects[0]["type"] == "result"
    # what was learned is sealed: no word of it stands readable in the home
    for path in own.rglob("*"):
        if path.is_file():
            assert b"Durand" not in path.read_bytes(), path
    # Alice's certificate was learned, the forger's was not
    assert len(list((own / "contacts").glob("*.json"))) == 1
    assert medmail(own, "decrypt", "abcdef").exit == 1


def test_a_replay_is_noted(tmp_path: Path) -> None:
    own = make_home(tmp_path, person("bob"))
    mailbox = Mailbox(own / "mail")
    first, again = (
        one for one, _ in mailbox.store("work", "INBOX", "1", [("1", sealed()), ("2", sealed())], NOW)
    )
    mailbox.close()
    done = medmail(own, "decrypt", again.id, "--json")
    assert {"code": "replayed", "detail": first.id} in done.objects[0]["notes"]


@pytest.mark.parametrize("together", [True, False])
def test_an_old_letter_in_a_new_envelope_is_noted(tmp_path: Path, together: bool) -> None:
    """What stands outside is anybody's; the Message-ID inside is the author's."""
    own = make_home(tmp_path, person("bob"))
    mailbox = Mailbox(own / "mail")
    outside = [sealed().replace(b"<1@medecin.test>", b"<%d@new.test>" % n, 1) for n in (7, 8)]
    first, again = (
        one
        for one, _ in mailbox.store(
            "work", "INBOX", "1", [(str(n), each) for n, each in enumerate(outside, 1)], NOW
        )
    )
    mailbox.close()
    if together:
        done = medmail(own, "decrypt", first.id, again.id, "--json")
    else:
        medmail(own, "decrypt", first.id)
        done = medmail(own, "decrypt", again.id, "--json")
    notes = [one["notes"] for one in done.objects if one["type"] == "message"]
    assert {"code": "replayed", "detail": first.id} in notes[-1]
    assert b"@medecin.test" not in (own / "mail" / "learned.db").read_bytes()


@pytest.mark.parametrize(("profile", "where"), [("generic", "notes"), ("direct", "problems")])
def test_who_is_not_named_reads_as_the_profile_says(tmp_path: Path, profile: str, where: str) -> None:
    """Carol passes on to Bob, in an envelope of her own, what Alice had signed for her."""
    own = make_home(tmp_path, person("bob"))
    (own / "config.toml").write_text(f'profile = "{profile}"\n')
    raw = OUTER.replace(b"bob@", b"carol@") + encrypt(sign(TEXT))
    found = medmail(own, "decrypt", save(tmp_path, raw), "--json").objects[0]
    for name in ("notes", "problems"):
        assert ("not-addressed-to-you" in [one["code"] for one in found[name]]) == (name == where)


@pytest.mark.parametrize(
    ("profile", "where"), [("generic", "notes"), ("direct", "notes"), ("kim", "problems")]
)
def test_cbc_reads_as_the_profile_says(tmp_path: Path, profile: str, where: str) -> None:
    """KIM knows nothing but AES-GCM; Direct's letters are CBC."""
    own = make_home(tmp_path, person("bob"))
    (own / "config.toml").write_text(f'profile = "{profile}"\n')
    raw = OUTER + encrypt(sign(TEXT), cipher="aes-256-cbc")
    found = medmail(own, "decrypt", save(tmp_path, raw), "--json").objects[0]
    for name in ("notes", "problems"):
        told = [one["code"] for one in found[name]]
        assert ("unauthenticated-encryption" in told) == (name == where)


def test_no_authority_is_claimed_for_a_chain_that_does_not_hold(home: Path, tmp_path: Path) -> None:
    """It ends at a root of ours, and yet nobody there vouches for it."""
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    erin = person("erin", extensions=((unknown, True),))
    data = signed.sign(TEXT, key=erin.key, certificate=erin.certificate, signed_at=NOW)
    raw = OUTER.replace(b"alice@", b"erin@") + entity(data, "signed-data")
    done = medmail(home, "decrypt", save(tmp_path, raw))
    assert done.exit == 5
    assert (
        done.stdout.splitlines()[1]
        == "By no authority: CN=Health Root, which you trust, does not vouch for it"
    )


def test_a_replay_among_files_is_noted(home: Path, tmp_path: Path) -> None:
    """The same letter in two envelopes; a third that is another; the first once more, the same bytes."""
    first, again = (save(tmp_path, sealed(), f"{n}.eml") for n in (1, 2))
    other = save(tmp_path, sealed(letter(message_id="<2@medecin.test>")), "3.eml")
    same = save(tmp_path, first.read_bytes(), "4.eml")
    done = medmail(home, "decrypt", first, other, again, same, "--json")
    assert done.exit == 0
    found = [one for one in done.objects if one["type"] == "message"]
    told = [[note["detail"] for note in one["notes"] if note["code"] == "replayed"] for one in found]
    assert told == [[], [], [found[0]["id"]], []]


@pytest.mark.parametrize("named", [True, False])
def test_a_delegate_may_send_for_another(tmp_path: Path, named: bool) -> None:
    own = make_home(tmp_path, person("bob"))
    if named:
        save(own, b'delegates = ["Secretary@medecin.test"]\n', "config.toml")
    raw = b"Sender: secretary@medecin.test\r\n" + OUTER + sign(TEXT)
    done = medmail(own, "decrypt", save(tmp_path, raw), "--json")
    problems = [one["code"] for one in done.objects[0]["problems"]]
    assert problems == ([] if named else ["signer-is-not-sender"])


def test_old_ciphers_only_on_request(tmp_path: Path) -> None:
    own = make_home(tmp_path, person("bob"))
    path = save(tmp_path, pem(person("bob").certificate), "bob.pem")
    data = run("openssl", "cms", "-encrypt", "-des3", "-binary", path, stdin=sign(TEXT)).stdout
    old = save(tmp_path, OUTER.replace(b"MIME-Version: 1.0\r\n", b"") + data)
    refused = medmail(own, "decrypt", old, "--json")
    shown = medmail(own, "decrypt", old, "--json", "--allow-weak")
    for done, text in ((refused, None), (shown, "Hello\n")):
        assert done.exit == 5
        assert [one["code"] for one in done.objects[0]["problems"]] == ["weak-algorithm"]
        assert done.objects[0]["text"] == text
    assert "Nothing could be opened: 3des-cbc." in medmail(own, "decrypt", old).stdout


def test_every_message_leaves_intent_and_outcome(tmp_path: Path) -> None:
    own = make_home(tmp_path, person("bob"))
    sent = sealed(letter(subject="Durand"))
    paths = [save(tmp_path, sent, f"{n}.eml") for n in range(260)]
    done = medmail(own, "decrypt", *paths, "--json")
    assert (done.exit, done.objects[-1]["counts"]) == (0, {"message": 260})
    entries = medmail(own, "audit", "log", "--action", "decrypt", "--json").objects[:-1]
    # in groups, each made durable at once
    groups = [list(kinds) for _, kinds in itertools.groupby(entry["kind"] for entry in entries)]
    assert [(kinds[0], len(kinds)) for kinds in groups] == [
        ("intent", 256), ("outcome", 256), ("intent", 4), ("outcome", 4),
    ]  # fmt: skip
    assert {entry["outcome"] for entry in entries} == {None, "done"}
    assert "Durand" not in json.dumps(entries)
    assert entries[0]["objects"] == [done.objects[0]["id"]]
    assert medmail(own, "audit", "verify").exit == 0


def test_a_queued_letter_is_found_by_its_name(tmp_path: Path) -> None:
    own = make_home(tmp_path, person("alice"))
    save(own, ALICES_CONFIG.encode(), "config.toml")
    contact = save(tmp_path, pem(person("bob").certificate), "bob.pem")
    assert medmail(own, "contacts", "add", contact).exit == 0
    body = save(tmp_path, b"Hello\n", "body.txt")
    sent = medmail(own, "send", "--to", "bob@medecin.test", "--subject", "s", "--queue", body, "--json")
    (queued,) = medmail(own, "outbox", "list", "--json").objects[:-1]
    assert sent.exit in (0, 75)
    assert medmail(own, "decrypt", queued["id"][:8]).exit == 0
