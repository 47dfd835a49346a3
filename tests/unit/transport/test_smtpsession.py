"""A submission server in front of STARTTLS: what is said without encryption is never taken for its word."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.config import Server
from medmail_cli.errors import MedmailError
from medmail_cli.transport import tls
from medmail_cli.transport.sasl import Credentials
from medmail_cli.transport.smtpsession import connect
from tests.support import pki

HOST = "127.0.0.1"
SCRIPT = {
    "greeting": b"220 mx.test ESMTP\r\n",
    "hello": b"250-mx.test\r\n250 STARTTLS\r\n",
    "starttls": b"220 go\r\n",
    "hello again": b"250-mx.test\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n",
    "auth": b"235 in\r\n",
    "quit": b"221 bye\r\n",
}
"""What a server says, step by step."""


class Submission:
    """One connection, by a script; ``heard`` is what came, with whether that was encrypted."""

    def __init__(self, folder: Path, script: dict[str, bytes]) -> None:
        self.script, self.heard = script, list[tuple[bool, bytes]]()
        ca = pki.make_ca("Scripted Root")
        san = [(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), False)]
        certificate, key = pki.issue(ca, None, "server", "p256", name=HOST, extensions=san)
        self.anchors = folder / "ca.pem"
        self.anchors.write_bytes(pki.pem(ca.certificate))
        (folder / "own.pem").write_bytes(pki.pem(certificate, key))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "own.pem")

    def serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            raw, _ = listener.accept()
            raw.settimeout(20)
            with raw:
                raw.sendall(self.script["greeting"])
                for step in ("hello", "starttls"):
                    self.heard.append((False, raw.recv(1000)))
                    raw.sendall(self.script[step])
                with self.context.wrap_socket(raw, server_side=True) as secured:
                    for step in ("hello again", "auth", "quit"):
                        self.heard.append((True, secured.recv(1000)))
                        secured.sendall(self.script[step])

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        with socket.create_server((HOST, 0)) as listener:
            thread = threading.Thread(target=self.serve, args=(listener,), daemon=True)
            thread.start()
            yield listener.getsockname()[1]
            thread.join(20)


def logged_in(folder: Path, script: dict[str, bytes]) -> tuple[MedmailError | None, Submission]:
    """Connect, log in and say goodbye; what went wrong before."""
    submission = Submission(folder, script)

    async def go(port: int) -> None:
        server = Server(host=HOST, port=port, security="starttls")
        credentials = Credentials("alice", "auto", password=lambda: b"sentinel")
        wire, _ = await connect(server, tls.context(submission.anchors), credentials)
        await wire.quit()

    with submission.running() as port:
        try:
            asyncio.run(go(port))
        except MedmailError as error:
            return error, submission
    return None, submission


def secrets(submission: Submission) -> list[bytes]:
    return [said for _, said in submission.heard if said.startswith(b"AUTH")]


def test_logging_in_behind_starttls(tmp_path: Path) -> None:
    error, submission = logged_in(tmp_path, SCRIPT)
    assert error is None
    assert [encrypted for encrypted, said in submission.heard if said.startswith(b"AUTH")] == [True]
    assert submission.heard[-1] == (True, b"QUIT\r\n")


@pytest.mark.parametrize(
    ("step", "more"),
    [
        ("greeting", b"250 ok\r\n"),
        ("greeting", b"250-mx.test\r\n250 AUTH PLAIN\r\n"),
        ("hello", b"250 ok\r\n"),
        ("hello", b"220 go\r\n"),
        ("starttls", b"250 ok\r\n"),
        ("starttls", b"250-evil.test\r\n250 AUTH PLAIN\r\n235 in\r\n"),
        ("starttls", b"250-half a li"),
        ("hello again", b"235 in\r\n"),
        ("hello again", b"334 \r\n"),
    ],
)
def test_what_is_said_in_advance_ends_the_connection_before_a_secret_is_said(
    tmp_path: Path, step: str, more: bytes
) -> None:
    error, submission = logged_in(tmp_path, {**SCRIPT, step: SCRIPT[step] + more})
    assert error is not None
    assert error.code in ("server-unreachable", "server-answer-malformed")
    assert not secrets(submission)


@pytest.mark.parametrize("more", [b"250 ok\r\n", b"535 no\r\n", b"x" * 5000])
def test_more_after_a_goodbye_harms_nobody(tmp_path: Path, more: bytes) -> None:
    error, submission = logged_in(tmp_path, {**SCRIPT, "quit": SCRIPT["quit"] + more})
    assert error is None
    assert secrets(submission)


@pytest.mark.parametrize(
    "said", [b"535 no\r\n235 in\r\n", b"250 ok\r\n", b"334 \r\n235 in\r\n", b"220 in\r\n"]
)
def test_nothing_but_235_in_answer_to_the_last_word_logs_in(tmp_path: Path, said: bytes) -> None:
    error, submission = logged_in(tmp_path, {**SCRIPT, "auth": said})
    assert error is not None
    assert len(secrets(submission)) == 1
