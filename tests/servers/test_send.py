"""Sending through Postfix, as people and scripts do."""

import hashlib
import json
import smtplib
import ssl
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.smime.protect import sign_only
from medmail_cli.store.mail.mailbox import Mailbox
from tests.support import letters, senders
from tests.support.letters import Person, person
from tests.support.senders import Sender, opened_by, recipients, somebody
from tests.support.servers import MailServers as Servers

PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\nxref\n0 4\n0000000000 65535 f \n"
    b"0000000009 00000 n \n0000000052 00000 n \n0000000101 00000 n \ntrailer<</Size 4/Root 1 0 R>>\n"
    b"startxref\n164\n%%EOF\n"
)


@pytest.fixture
def bob(mail_servers: Servers) -> Person:
    return somebody(mail_servers, "bob")


@pytest.fixture
def alice(mail_servers: Servers, tmp_path: Path, bob: Person) -> Sender:
    return senders.sender(mail_servers, tmp_path, bob)


def test_a_letter_with_a_pdf_arrives_readable_by_its_recipient_alone(
    mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path
) -> None:
    pdf = tmp_path / "Compte rendu – Élodie Übermaß.pdf"
    pdf.write_bytes(PDF)
    text = tmp_path / "letter.txt"
    text.write_text("Subject: Résultats de Mme Gœthals\n\nChère consœur,\n.\nvoici.\n", "utf-8")
    done = alice.send("--to", f"Dr Bób <{bob.address}>", "--attach", pdf, text)
    assert done.exit == 0, done
    assert recipients(done)[bob.address]["status"] == "accepted"
    assert done.stderr == ""
    (raw,) = mail_servers.wait_for(bob.address, 1)
    assert b"lodie" not in raw
    assert b"Subject: [...]" in raw
    opened = opened_by(bob, raw)
    assert opened.verdict.trusted, opened.verdict.problems
    assert opened.verdict.headers.subject == "Résultats de Mme Gœthals"
    assert opened.verdict.text == "Chère consœur,\n.\nvoici.\n"
    (attachment,) = opened.verdict.attachments
    assert (attachment.name, attachment.size) == (pdf.name, len(PDF))


def test_what_was_sent_is_kept_and_the_outbox_is_empty(
    mail_servers: Servers, alice: Sender, bob: Person
) -> None:
    done = alice.send("--to", bob.address, "--subject", "x", "-", stdin=b"hello\n")
    assert done.exit == 0, done
    assert alice.run("outbox", "list", "--json").objects[-1]["counts"] == {}
    assert not list((alice.home / "outbox" / "messages").iterdir())
    mailbox = Mailbox(alice.home / "mail")
    name = recipients(done)[bob.address]["id"]
    assert opened_by(alice.person, mailbox.read(mailbox.find(name).id)).verdict.text == "hello\n"
    mailbox.close()


def test_every_recipient_has_a_fate_of_their_own(mail_servers: Servers, alice: Sender, bob: Person) -> None:
    people = [somebody(mail_servers, name) for name in ("carol", "refused", "later", "nobody")]
    alice.knows(*people)
    carol, refused, later, nobody = people
    to = [word for one in (bob, *people) for word in ("--to", one.address)]
    done = alice.send(*to, "--subject", "x", "-", stdin=b"hello\n")
    assert done.exit == 3
    fates = recipients(done)
    assert {a: (r["status"], r["exit"]) for a, r in fates.items()} == {
        bob.address: ("accepted", 0),
        carol.address: ("accepted", 0),
        refused.address: ("refused", 1),
        later.address: ("queued", 75),
        nobody.address: ("refused", 1),
    }
    assert "no such mailbox here" in fates[refused.address]["reply"]
    (raw,) = mail_servers.wait_for(carol.address, 1)
    assert opened_by(carol, raw).verdict.trusted
    (waiting,) = [one for one in alice.run("outbox", "list", "--json").objects if one["type"] == "submission"]
    assert [r["address"] for r in waiting["recipients"] if r["status"] == "queued"] == [later.address]


def test_one_refused_recipient_is_exit_1_with_the_servers_words(mail_servers: Servers, alice: Sender) -> None:
    refused = somebody(mail_servers, "refused")
    alice.knows(refused)
    done = alice.run("send", "--to", refused.address, "--subject", "x", "-", stdin=b"hello\n")
    assert done.exit == 1
    assert "no such mailbox here" in done.stderr
    assert alice.run("outbox", "list").stdout == ""


def test_a_bcc_recipient_gets_a_message_of_their_own(
    mail_servers: Servers, alice: Sender, bob: Person
) -> None:
    carol = somebody(mail_servers, "carol")
    alice.knows(carol)
    done = alice.send("--to", bob.address, "--bcc", carol.address, "--subject", "x", "-", stdin=b"hello\n")
    assert done.exit == 0
    fates = recipients(done)
    assert fates[bob.address]["id"] != fates[carol.address]["id"]
    (for_bob,) = mail_servers.wait_for(bob.address, 1)
    (for_carol,) = mail_servers.wait_for(carol.address, 1)
    assert carol.address.encode() not in for_bob.split(b"\n\n")[0].split(b"From: ")[1]
    assert opened_by(carol, for_bob).verdict.exit == 1  # no key of hers opens it
    assert opened_by(carol, for_carol).verdict.text == "hello\n"


def test_twenty_megabytes(mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path) -> None:
    image = tmp_path / "scanner.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 80_000)
    done = alice.send("--to", bob.address, "--subject", "x", "--attach", image, "-", stdin=b"image\n")
    assert done.exit == 0, done
    (raw,) = mail_servers.wait_for(bob.address, 1, seconds=30)
    (attachment,) = opened_by(bob, raw).verdict.attachments
    assert attachment.size == image.stat().st_size


def test_more_than_the_server_takes_is_refused_before_anything_is_done(
    mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path
) -> None:
    mail_servers.set_access(size_limit=2_000_000)
    try:
        image = tmp_path / "scanner.png"
        image.write_bytes(bytes(3_000_000))
        done = alice.send("--to", bob.address, "--subject", "x", "--attach", image, "-", stdin=b"image\n")
    finally:
        mail_servers.set_access()
    assert done.exit == 1
    assert done.objects[-1]["error"]["code"] == "too-large"
    assert alice.run("outbox", "list").stdout == ""


def test_addresses_in_utf8(mail_servers: Servers, alice: Sender) -> None:
    rene = replace(somebody(mail_servers, "rene"), address="rené@hosp.test")
    alice.knows(rene)  # pinned: the certificate bears another address
    done = alice.send("--to", rene.address, "--subject", "x", "-", stdin=b"hello\n")
    # Postfix takes it (SMTPUTF8); Dovecot's LMTP, which does not, is behind it
    assert done.exit == 0, done
    assert recipients(done)[rene.address]["status"] == "accepted"


def test_more_recipients_than_one_transaction_takes(mail_servers: Servers, alice: Sender) -> None:
    crowd = [person("bob", address=f"crowd{i}@hosp.test") for i in range(120)]
    alice.knows(*crowd)
    to = [word for one in crowd for word in ("--to", one.address)]
    done = alice.send(*to, "--subject", "x", "-", stdin=b"hello\n")
    assert done.exit == 0, done.stdout[-600:]
    assert done.objects[-1]["counts"]["accepted"] == 120


def test_a_manifest_is_sent_once_however_often_it_is_given(
    mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path
) -> None:
    manifest = tmp_path / "results.jsonl"
    rows = [
        {"id": f"r{i}", "to": bob.address, "subject": f"Résultat {i}", "body": f"n° {i}"} for i in range(30)
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = alice.send("--batch", manifest)
    assert done.exit == 0, done
    assert done.objects[-1]["counts"] == {"recipient": 30, "accepted": 30}
    again = alice.send("--batch", manifest)
    assert again.exit == 0
    assert again.objects[-1]["counts"] == {"recipient": 30, "unchanged": 30}
    texts = {opened_by(bob, raw).verdict.text for raw in mail_servers.wait_for(bob.address, 30)}
    assert texts == {f"n° {i}\n" for i in range(30)}
    rows[3]["body"] = "another"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    reused = alice.send("--batch", manifest)
    assert (reused.exit, reused.objects[-1]["code"]) == (1, "id-reused")


def test_one_connection_at_a_time_sends_a_whole_batch(
    mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path
) -> None:
    limit = "smtpd_client_connection_count_limit = 1\n"
    mail_servers.restart_postfix(limit)
    try:
        manifest = tmp_path / "results.jsonl"
        rows = [{"id": f"r{i}", "to": bob.address, "subject": "x", "body": f"n° {i}"} for i in range(40)]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        done = alice.send("--batch", manifest)
        assert done.exit == 0, done
        assert done.objects[-1]["counts"] == {"recipient": 40, "accepted": 40}
        assert done.stderr == ""
    finally:
        mail_servers.restart_postfix()
    texts = [opened_by(bob, raw).verdict.text for raw in mail_servers.wait_for(bob.address, 40)]
    assert sorted(map(str, texts)) == sorted(f"n° {i}\n" for i in range(40))
    assert "Connection concurrency limit exceeded" in (mail_servers.folder / "postfix.log").read_text()


@pytest.mark.parametrize("auth", ["xoauth2", "oauthbearer"])
def test_a_refused_token_is_fetched_anew_once(
    mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path, auth: str
) -> None:
    stale, fresh = (mail_servers.token(alice.person.address, lifetime) for lifetime in (-10, 300))
    for name, tokens, exit_status, calls in (
        ("renewed", [stale, fresh], 0, 2),
        ("never good", [stale, mail_servers.token(alice.person.address, -20), fresh], 4, 2),
        ("the same again", [stale, stale, fresh], 4, 2),
        ("good at once", [fresh, stale], 0, 1),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for number, token in enumerate(tokens):
            (folder / str(number)).write_text(token)
        command = folder / "command"
        command.write_text(
            f'#!/bin/sh\ncd "{folder}"; n=$(ls called* 2>/dev/null | wc -l); touch "called$n"; cat "$n"\n'
        )
        command.chmod(0o700)
        keys: dict[str, Any] = {"auth": auth, "token-command": str(command).replace(" ", "\\ ")}
        account = mail_servers.account(alice.person.address, **keys)
        del account["password-file"]
        (alice.home / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": account}}))
        done = alice.send("--to", bob.address, "--subject", "x", "-", stdin=b"hello\n")
        assert done.exit == exit_status, (name, done)
        assert len(list(folder.glob("called*"))) == calls, name
        if exit_status:
            assert recipients(done)[bob.address]["status"] == "queued"
        else:
            assert done.stderr == ""


def test_whoever_sends_can_prove_it_afterwards(
    mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path
) -> None:
    done = alice.send("--to", bob.address, "--subject", "Geheimnis", "-", stdin=b"Verborgenes\n")
    entries = [o for o in alice.run("audit", "log", "--json").objects if o.get("action") == "send"]
    assert [one["kind"] for one in entries] == ["intent", "outcome"]
    assert entries[0]["facts"]["recipient"] == bob.address
    assert entries[0]["objects"] == [recipients(done)[bob.address]["id"]]
    assert entries[1]["reply"].startswith("250")
    facts, ended = entries[0]["facts"], entries[1]["facts"]
    assert facts["certificate"] == fingerprint(bob.certificate)
    account = tomllib.loads((alice.home / "config.toml").read_text())["accounts"]["work"]
    host, port = account["smtp"]["host"], account["smtp"]["port"]
    with smtplib.SMTP(host, port) as client:
        client.starttls(context=ssl.create_default_context(cafile=account["tls-anchors"]))
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = client.sock.getpeercert(binary_form=True) or b""
    assert ended["server"] == f"{host}:{port}"
    assert ended["server_certificate"] == hashlib.sha256(shown).hexdigest()
    # letter, salt and proof show the content to somebody who has no key of ours
    (raw,) = mail_servers.wait_for(bob.address, 1)
    (tmp_path / "bob.pem").write_bytes(
        bob.raw_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + bob.certificate.public_bytes(Encoding.PEM)
    )
    argv = ["openssl", "cms", "-decrypt", "-binary", "-recip", str(tmp_path / "bob.pem")]
    entity = subprocess.run(argv, input=raw, capture_output=True, check=True).stdout
    for path in (alice.home / "mail").rglob("*.eml*"):
        path.unlink()  # whatever happens to the copy
    *_, salt, _result = alice.run("audit", "prove", str(entries[0]["index"]), "--salt", "--json").objects
    assert hashlib.sha256(bytes.fromhex(salt["salt"]) + entity).hexdigest() == facts["commitment"]
    assert salt["commitment"] == facts["commitment"]
    assert salt["salt"] not in (alice.home / "audit" / "entries.jsonl").read_text()
    outcome = entries[1]["index"]
    no_salt = alice.run("audit", "prove", str(outcome), "--salt")
    said = f"medmail: error: there is no salt “{outcome}”"
    assert (no_salt.exit, no_salt.stderr.splitlines()[0]) == (1, said)
    for path in alice.home.rglob("*"):
        if path.is_file():
            assert b"Geheim" not in path.read_bytes(), path
            assert b"Verborgen" not in path.read_bytes(), path


def test_a_wrong_password_is_exit_4_and_the_letter_waits(
    mail_servers: Servers, alice: Sender, bob: Person, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("nonsense\n")
    done = alice.run(
        "send",
        "--json",
        "--to",
        bob.address,
        "--password-file",
        wrong,
        "--subject",
        "x",
        "-",
        stdin=b"hello\n",
    )
    assert done.exit == 4
    assert done.objects[-1]["error"]["code"] == "login-refused"
    flushed = alice.run("outbox", "flush", "--json")
    assert flushed.exit == 0, flushed
    assert len(mail_servers.wait_for(bob.address, 1)) == 1


@pytest.mark.parametrize("auth", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("implicit", [False, True])
def test_every_way_in(mail_servers: Servers, tmp_path: Path, bob: Person, auth: str, implicit: bool) -> None:
    alice = senders.sender(mail_servers, tmp_path, bob, auth=auth, implicit=implicit)
    assert alice.send("--to", bob.address, "--subject", "x", "-", stdin=b"hello\n").exit == 0


def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(
    mail_servers: Servers, tmp_path: Path, bob: Person
) -> None:
    alice = senders.sender(mail_servers, tmp_path, bob)
    config = alice.home / "config.toml"
    config.write_text(
        "\n".join(line for line in config.read_text().splitlines() if not line.startswith("tls-anchors"))
    )
    done = alice.send("--to", bob.address, "--subject", "x", "-", stdin=b"hello\n")
    assert (done.exit, done.objects[-1]["error"]["code"]) == (5, "server-untrusted")
    assert alice.run("outbox", "list", "--json").objects[-1]["counts"]["submission"] == 1


def test_a_copy_goes_to_the_servers_folder_where_the_account_names_one(
    mail_servers: Servers, tmp_path: Path, bob: Person
) -> None:
    alice = senders.sender(mail_servers, tmp_path, bob, sent_folder="Envoyés")
    assert alice.send("--to", bob.address, "--subject", "x", "-", stdin=b"hello\n").exit == 0
    (kept,) = mail_servers.wait_for(alice.person.address, 1, "Envoy&AOk-s")
    assert opened_by(alice.person, kept).verdict.text == "hello\n"


def test_letters_that_wait_are_sent_by_the_next_send_once_they_are_due(
    mail_servers: Servers, alice: Sender, bob: Person
) -> None:
    assert alice.send("--queue", "--to", bob.address, "--subject", "x", "-", stdin=b"first\n").exit == 0
    done = alice.send("--to", bob.address, "--subject", "x", "-", stdin=b"second\n")
    assert done.exit == 0
    assert [one["status"] for one in done.objects if one["type"] == "retried"] == ["accepted"]
    assert len(mail_servers.wait_for(bob.address, 2)) == 2


def test_an_answer_stays_in_its_thread(mail_servers: Servers, tmp_path: Path) -> None:
    bob_there = senders.sender(mail_servers, tmp_path / "b", name="bob")
    carol = somebody(mail_servers, "carol")
    alice = senders.sender(mail_servers, tmp_path / "a", bob_there.person, carol)
    bob_there.knows(carol)
    to = ["--to", bob_there.person.address, "--cc", carol.address]
    assert alice.send(*to, "--subject", "Mme Gœthals", "-", stdin="Très bien ?\n".encode()).exit == 0
    mail_servers.wait_for(bob_there.person.address, 1)
    fetched = bob_there.run("fetch", "--json")
    assert fetched.exit == 0, fetched
    (name,) = [one["id"] for one in fetched.objects if one["type"] == "message"]
    done = bob_there.run("reply", "--json", "--all", name[:10], "-", stdin=b"Oui.\n")
    assert done.exit == 0, done
    assert set(recipients(done)) == {alice.person.address, carol.address}
    (raw,) = mail_servers.wait_for(alice.person.address, 1)
    headers = opened_by(alice.person, raw).verdict.headers
    sent = opened_by(carol, mail_servers.wait_for(carol.address, 2)[0]).verdict.headers
    assert headers.subject == "Re: Mme Gœthals"
    assert headers.in_reply_to == sent.message_id
    assert headers.references == (sent.message_id,)


def test_a_letter_that_is_not_trusted_is_not_answered(
    mail_servers: Servers, alice: Sender, tmp_path: Path
) -> None:
    forged = tmp_path / "forged.eml"
    forged.write_bytes(letters.sealed(signer="alice"))
    done = alice.run("reply", "--json", forged, "-", stdin=b"Oui.\n")
    assert done.exit == 1  # no key of hers opens it
    stranger = letters.person("mallory", root="Nobody's Root")
    signed = sign_only(letters.letter(from_=stranger.box), signer=stranger.signer, signed_at=letters.NOW)[
        0
    ].message
    forged.write_bytes(signed)
    done = alice.run("reply", "--json", forged, "-", stdin=b"Oui.\n")
    assert (done.exit, done.objects[-1]["code"]) == (5, "untrusted-letter")
