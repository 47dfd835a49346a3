"""``medmail sandbox`` as other people's scripts use it, and ``enrol new`` against it."""

import imaplib
import signal
import smtplib
import socket
import ssl
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.support import tools
from tests.support.cli import medmail, passphrase
from tests.support.sandbox import BERNARD, MARTIN, Sandbox, sandbox

LETTER = (
    b"From: dr.martin@medecin.test\r\nTo: dr.bernard@medecin.test\r\nSubject: =?utf-8?q?=C3=A9?=\r\n\r\n"
     b".dot\r\n..dots\r\n" + bytes(range(128, 256)) + b"\r\n" + b"x" * 990 + b"\r\n"
)  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with sandbox() as started:
        yield started


def context(running: Sandbox) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=running.ready["imap"]["anchors"])


def mailbox(running: Sandbox) -> imaplib.IMAP4_SSL:
    return imaplib.IMAP4_SSL("localhost", running.ready["imap"]["port"], ssl_context=context(running))


def submission(running: Sandbox) -> smtplib.SMTP:
    server = smtplib.SMTP("localhost", running.ready["smtp"]["port"], timeout=10)
    server.starttls(context=context(running))
    return server


def test_a_letter_goes_from_submission_to_imap_octet_for_octet(running: Sandbox) -> None:
    with submission(running) as server:
        server.login(MARTIN, running.password)
        everybody = [BERNARD.upper(), BERNARD, "new.colleague@medecin.test"]
        assert server.sendmail(MARTIN, everybody, LETTER) == {}
    for address in (BERNARD, "new.colleague@medecin.test"):
        with imaplib.IMAP4_SSL(
            "localhost", running.ready["imap"]["port"], ssl_context=context(running)
        ) as imap:
            imap.login(address, running.password)
            assert imap.select("INBOX") == ("OK", [b"1"])
            _, found = imap.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
            trace, stored = found[0][1].split(b"From: ", 1)
            assert b"From: " + stored == LETTER
            assert trace.startswith(b"Return-Path: <dr.martin@medecin.test>\r\nReceived: from ")


def test_nothing_without_tls_and_a_login(running: Sandbox) -> None:
    with smtplib.SMTP("localhost", running.ready["smtp"]["port"], timeout=10) as plain:
        plain.ehlo()
        assert not plain.has_extn("auth")
        assert plain.docmd("MAIL", f"FROM:<{MARTIN}>")[0] == 530
    with submission(running) as server:
        server.ehlo()
        assert server.docmd("MAIL", f"FROM:<{MARTIN}>")[0] == 530
        with pytest.raises(smtplib.SMTPAuthenticationError):
            server.login(MARTIN, "wrong")
    with submission(running) as server, pytest.raises(smtplib.SMTPAuthenticationError):
        server.login("dr.martin@elsewhere.test", running.password)
    with (
        mailbox(running) as imap,
        pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
    ):
        imap.login(MARTIN, "wrong")


def test_only_own_letters_and_only_to_the_domain(running: Sandbox) -> None:
    with submission(running) as server:
        server.login(MARTIN, running.password)
        assert server.mail(BERNARD)[0] == 553
        assert server.mail(MARTIN)[0] == 250
        assert server.rcpt("someone@elsewhere.test") == (550, b"5.1.2 medecin.test is the only domain here")
        assert server.rcpt(BERNARD)[0] == 250


def test_the_system_does_not_trust_it(running: Sandbox) -> None:
    with (
        socket.create_connection(("localhost", running.ready["imap"]["port"])) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")


def test_cmp_answers_where_the_sandbox_says(running: Sandbox, tmp_path: Path) -> None:
    passphrase(home := tmp_path / "home")
    done = medmail(
        home, "enrol", "new", MARTIN, "--method", "cmp", "--key", "p256",
        "--ca", running.ready["cmp_url"], "--tls-anchors", running.ready["est"]["anchors"],
        "--ca-fingerprint", running.ready["ca_sha256"],
        "--password-file", running.ready["password_file"], "--json",
    )  # fmt: skip
    assert done.exit == 0, done.stderr
    assert (done.objects[0]["status"], done.objects[0]["method"]) == ("enrolled", "cmp")


def test_a_physician_enrols_with_the_fingerprint_alone(running: Sandbox) -> None:
    home = running.home(MARTIN)
    passphrase(home)
    done = medmail(
        home, "enrol", "new", MARTIN, "--name", "Dr Éloïse Martin", "--key", "p256",
        "--ca", running.ready["est_url"], "--ca-fingerprint", running.ready["ca_sha256"].upper(),
        "--password-file", running.ready["password_file"], "--json",
    )  # fmt: skip
    assert done.exit == 0, done.stderr
    kinds = {one["type"]: one for one in done.objects}
    assert kinds["enrolment"]["status"] == "enrolled"
    assert kinds["anchor"]["sha256"] == running.ready["ca_sha256"]
    again = medmail(home, "enrol", "new", MARTIN, "--json")
    assert (again.exit, again.objects[0]["status"]) == (0, "unchanged")
    exported = medmail(home, "keys", "export", MARTIN)
    certificate = x509.load_pem_x509_certificates(exported.stdout.encode())[0]
    assert "Dr Éloïse Martin" in certificate.subject.rfc4514_string()
    with urllib.request.urlopen(running.ready["crl_url"], timeout=10) as answer:  # noqa: S310
        crl = x509.load_der_x509_crl(answer.read())
    assert crl.issuer == certificate.issuer


@pytest.mark.parametrize(
    ("argv", "exit_code", "code"),
    [
        (["--ca-fingerprint", "ab" * 32], 5, "ca-fingerprint-mismatch"),
        (["--password-file", "{wrong}"], 4, "ca-refused"),
        (["--tls-anchors", "{mail}"], 5, "server-untrusted"),
        (["--ca", "https://localhost:1"], 75, "server-unreachable"),
        (["--ca", "http://localhost:1"], 2, "insecure-url"),
    ],
)
def test_what_goes_wrong_and_is_taken_up_again(
    running: Sandbox, tmp_path: Path, argv: list[str], exit_code: int, code: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_bytes((running.home(BERNARD) / "config.toml").read_bytes())
    passphrase(home)
    (tmp_path / "wrong").write_text("wrong\n")
    filled = [word.format(wrong=tmp_path / "wrong", mail=running.ready["smtp"]["anchors"]) for word in argv]
    failed = medmail(home, "enrol", "new", BERNARD, "--key", "p256", *filled, "--json")
    assert (failed.exit, failed.objects[-1]["exit"]) == (exit_code, exit_code), failed.stdout
    assert code in (failed.objects[-1].get("code"), failed.objects[-1].get("error", {}).get("code"))
    assert "medmail: error:" in failed.stderr
    done = medmail(home, "enrol", "new", BERNARD, "--ca-fingerprint", running.ready["ca_sha256"], "--json")
    assert done.exit == 0, done.stderr
    listed = medmail(home, "keys", "list", "--json").objects
    assert [one["status"] for one in listed if one["type"] == "identity"] == ["active"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_told_and_leaves_nothing(how: int) -> None:
    with sandbox("--mailbox", "dr.a@medecin.test") as started:
        folder = Path(started.ready["folder"])
        assert (folder / "homes" / "dr.a@medecin.test" / "config.toml").is_file()
        assert folder.stat().st_mode & 0o077 == 0
        exit_code, result = started.stop(how)
    assert (exit_code, result["exit"], result["command"]) == (0, 0, "sandbox")
    assert not folder.exists()


def test_ports_folder_and_password_of_ones_own(tmp_path: Path, running: Sandbox) -> None:
    (tmp_path / "secret").write_text("open sesame\n")
    with sandbox("--dir", tmp_path / "s", "--password-file", tmp_path / "secret") as started:
        assert started.password == "open sesame"
        assert Path(started.ready["folder"]) == tmp_path / "s"
    taken = str(running.ready["smtp"]["port"])
    for argv, exit_code, code in (
        (["--dir", str(tmp_path / "s")], 1, "folder-not-empty"),
        (["--smtp-port", taken], 1, "port-taken"),
        (["--est-port", "70000"], 2, "usage"),
        (["--mailbox", "dr.a@elsewhere.test"], 2, "usage"),
    ):
        done = medmail(tmp_path, "sandbox", *argv, "--json")
        assert (done.exit, done.objects[-1]["code"]) == (exit_code, code), done.stdout


def test_without_the_extra_it_says_what_to_install() -> None:
    without = (
        "import sys; sys.modules['pymap'] = None; from medmail_cli.app import run; sys.exit(run(['sandbox']))"
    )
    done = tools.run(sys.executable, "-c", without, expect=78)
    assert done.stdout == b""
    assert b"pymap" in done.stderr
    assert b"pip install 'medmail-cli[sandbox]'" in done.stderr
