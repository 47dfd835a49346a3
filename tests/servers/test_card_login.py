"""Logging in to a real operator by the key on a card, or by one of the keystore: Dovecot asks for it."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import pki, tokens
from tests.support.cli import Done, medmail, passphrase
from tests.support.tokens import PIN, SOFTHSM, SPY, WRONG_PIN, Reader, Token

if TYPE_CHECKING:
    from tests.support.servers import MailServers

FOR_LOGINS = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return tokens.reader(tmp_path / "reader")


def fetch(home: Path, reader: Reader, pin: str = PIN) -> Done:
    (home.parent / "pin").write_text(pin)
    return medmail(
        home, "fetch", "--json", env={**reader.spied(), "MEDMAIL_PIN_FILE": str(home.parent / "pin")}
    )


def set_up(servers: "MailServers", home: Path, address: str) -> None:
    passphrase(home)
    keys: dict[str, Any] = {"auth": "external", "client-identity": address}
    servers.write_config(home, address, **keys)


def mail_card(servers: "MailServers", token: Token, address: str, kind: pki.KeyType) -> None:
    """A card with a key that signs mail, and another that Dovecot knows the address by."""
    signs, key = pki.issue(servers.ca, address, "sign", kind, name="signs")
    token.put_pair(signs, key, "01")
    login, login_key = pki.issue(servers.ca, None, "none", kind, name=address, extensions=[FOR_LOGINS])
    token.put_pair(login, login_key, "02")


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_a_card_s_key_for_logins_logs_in(
    mail_servers: "MailServers", reader: Reader, tmp_path: Path, kind: pki.KeyType
) -> None:
    address, home = mail_servers.new_mailbox("card"), tmp_path / "home"
    mail_servers.inject(address, [b"From: x@y.test\r\nSubject: s\r\n\r\nb\r\n"])
    set_up(mail_servers, home, address)
    mail_card(mail_servers, reader.insert(), address, kind)
    (tmp_path / "pin").write_text(PIN)
    enrolled = medmail(
        home, "enrol", "card", "--module", SPY, "--pin-file", tmp_path / "pin", env=reader.spied()
    )
    assert enrolled.exit == 0, enrolled
    done = fetch(home, reader)
    assert (done.exit, done.objects[-1]["counts"].get("new")) == (0, 1), done
    assert reader.calls()[-3:] == ["C_Logout", "C_CloseSession", "C_Finalize"]
    wrong = fetch(home, reader, WRONG_PIN)
    assert (wrong.exit, wrong.objects[0]["code"]) == (4, "wrong-pin")
    assert reader.calls().count("C_Login") == 1
    reader.pull()
    gone = fetch(home, reader)
    assert (gone.exit, gone.objects[0]["code"]) == (4, "card-absent")


def test_an_identity_of_the_keystore_logs_in(
    mail_servers: "MailServers", reader: Reader, tmp_path: Path
) -> None:
    address, home = mail_servers.new_mailbox("soft"), tmp_path / "home"
    set_up(mail_servers, home, address)
    certificate, key = pki.issue(mail_servers.ca, None, "none", "p256", name=address, extensions=[FOR_LOGINS])
    (tmp_path / "login.pem").write_bytes(pki.pem(certificate, key))
    imported = medmail(home, "enrol", "import", tmp_path / "login.pem", "--address", address)
    assert imported.exit == 0, imported
    assert fetch(home, reader).exit == 0


@pytest.mark.parametrize("protocol", ["imap", "smtp", "est"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_a_card_that_is_pulled_during_the_handshake_is_absent(
    reader: Reader, tmp_path: Path, protocol: str, kind: pki.KeyType
) -> None:
    address, home, ca = "dr.martin@medecin.test", tmp_path / "home", pki.make_ca("Root")
    certificate, key = pki.issue(ca, address, "sign", kind)
    reader.insert().put_pair(certificate, key)
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "ca.pem").write_bytes(pki.pem(ca.certificate))
    serving = asking(ca, tmp_path)
    passphrase(home)
    env = reader.env | {"MEDMAIL_PIN_FILE": str(tmp_path / "pin")}
    assert medmail(home, "enrol", "card", "--module", SOFTHSM, env=env).exit == 0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        login = {"client-identity": address, "tls-anchors": str(tmp_path / "ca.pem")}
        server = {"host": "localhost", "port": port, "security": "tls"}
        if protocol == "est":
            url = {"url": f"https://localhost:{port}/.well-known/est", "method": "est"}
            config: dict[str, Any] = {"authorities": {"order": url | login}}
            words: tuple[str, ...] = ("enrol", "new", "somebody@medecin.test", "--key", "p256", "--json")
        else:
            account = {"address": address, "auth": "external", protocol: server}
            config = {"accounts": {"work": account | login}}
            words = ("server", "check", "--json")
        (home / "config.toml").write_text(tomli_w.dumps(config))

        def pull() -> None:
            connection = listening.accept()[0]
            reader.pull()
            with contextlib.suppress(OSError), serving.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(100)

        puller = threading.Thread(target=pull)
        puller.start()
        done = medmail(home, *words, env=env)
        puller.join(30)
    said = done.objects[0]
    assert (done.exit, said.get("code") or said["error"]) == (4, "card-absent"), done


def asking(ca: pki.Authority, folder: Path) -> ssl.SSLContext:
    """A server on localhost that wants a certificate of whoever connects."""
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    extensions = [(usage, False), (names, False)]
    (folder / "server.pem").write_bytes(
        pki.pem(*pki.issue(ca, None, "none", "p256", name="localhost", extensions=extensions))
    )
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(folder / "server.pem")
    return serving


def test_without_bare_rsa_the_login_is_by_tls_1_2(reader: Reader, tmp_path: Path) -> None:
    """A card may do PKCS #1 v1.5 alone, and TLS 1.3 wants more of it."""
    ca = pki.make_ca("Root")
    (tmp_path / "ca.pem").write_bytes(pki.pem(ca.certificate))
    certificate, key = pki.issue(ca, None, "none", "rsa2048", name="login", extensions=[FOR_LOGINS])
    reader.insert().put_pair(certificate, key)
    serving = asking(ca, tmp_path)
    for bare, version in ((True, "TLSv1.3"), (False, "TLSv1.2")):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            words = [sys.executable, "-c", _CLIENT, str(SOFTHSM), str(listening.getsockname()[1]), str(bare)]
            with subprocess.Popen(words, env=os.environ | reader.env, stdin=subprocess.PIPE) as client:
                assert client.stdin is not None
                client.stdin.write(pki.pem(certificate))
                client.stdin.close()
                listening.settimeout(30)
                with serving.wrap_socket(listening.accept()[0], server_side=True) as connection:
                    connection.settimeout(30)
                    assert connection.recv(100) == b"hello"
                    assert connection.version() == version
                    shown = connection.getpeercert()
                    assert shown is not None
                    assert shown["subject"] == ((("commonName", "login"),),)
            assert client.returncode == 0


_CLIENT = """
import socket, ssl, sys
from pathlib import Path
from cryptography import x509
from medmail_cli.devices.cards import Cards
from medmail_cli.devices.cardkey import key_at
from medmail_cli.model import CardPlace
from medmail_cli.store.keys.refused_pins import RefusedPins
from medmail_cli.transport import tlskey
module, port, bare = sys.argv[1:]
certificate = x509.load_pem_x509_certificate(sys.stdin.buffer.read())
cards = Cards(lambda _label: b"1234", lambda: RefusedPins(Path("/nonexistent"), bytes(32)))
card = cards.choose(Path(module), None)
key = key_at(cards, CardPlace(card.module, card.label, card.serial, "01"), certificate.public_key())
if bare == "False":
    key._primitives = frozenset({"rsa-pkcs1v15"})
made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
tlskey.present(made, key, [certificate])
with made.wrap_socket(socket.create_connection(("localhost", int(port)))) as found:
    found.write(b"hello")
cards.close()
"""
