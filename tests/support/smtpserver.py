"""An SMTP server that misbehaves where it is told to: implicit TLS, AUTH PLAIN, on loopback.

``faults`` maps a phase (greeting, ehlo, auth, mail, rcpt, body, end) to what happens there, once each or for
good: ``drop``, ``garbage``, ``endless``, or a reply of its own. ``taken`` collects what it accepted.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, cast

import tomli_w
from cryptography import x509

from tests.support import pki

HOST = "127.0.0.1"


class _Dropped(Exception):  # noqa: N818 - what happens, not a fault
    """The connection ends here."""


@dataclass
class SmtpServer:
    """A running server; ``port`` and ``anchors`` go into a configuration."""

    port: int
    anchors: Path
    offers: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 1000000", "AUTH PLAIN")
    faults: dict[str, str] = field(default_factory=dict)
    once: bool = True
    taken: list[tuple[list[str], bytes]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    on_taken: Callable[[int], None] | None = None
    """Called with how many letters were taken, before the reply to one."""

    def write_config(self, home: Path, address: str) -> None:
        """A configuration whose one account is here."""
        password = home / "password"
        password.write_text("secret\n")
        account = {
            "address": address,
            "smtp": {"host": HOST, "port": self.port, "security": "tls"},
            "password-file": str(password),
            "tls-anchors": str(self.anchors),
        }
        (home / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": account}}))

    def _at(self, phase: str, stream: BinaryIO, reply: str) -> str:
        fault = self.faults.pop(phase, None) if self.once else self.faults.get(phase)
        if fault == "drop":
            raise _Dropped
        if fault == "garbage":
            reply = "\x00\xff not SMTP at all"
        elif fault == "endless":
            reply = "250-" + "x" * 100_000
        elif fault is not None:
            reply = fault
        stream.write(reply.encode("utf-8", "replace") + b"\r\n")
        stream.flush()
        return reply

    def serve(self, stream: BinaryIO) -> None:
        """One connection."""
        recipients: list[str] = []
        data, started = b"", False
        self._at("greeting", stream, "220 mx.test ESMTP")
        while line := stream.readline():
            command = line.decode("utf-8").strip()
            self.commands.append(command)
            verb = command.split(":")[0].split()[0].upper() if command else ""
            if verb == "EHLO":
                lines = ["mx.test", *self.offers]
                more = "\r\n".join(f"250-{one}" for one in lines[:-1])
                self._at("ehlo", stream, f"{more}\r\n250 {lines[-1]}")
            elif verb == "AUTH":
                self._at("auth", stream, "235 ok")
            elif verb == "MAIL":
                recipients = []
                started = self._at("mail", stream, "250 ok").startswith("250")
            elif verb == "RCPT" and not started:
                self._at("other", stream, "503 MAIL first")
            elif verb == "RCPT":
                if self._at("rcpt", stream, "250 ok").startswith("250"):
                    recipients.append(command.partition("<")[2].partition(">")[0])
            elif verb == "DATA":
                if recipients:
                    self._at("data", stream, "354 go on")
                    self._at("body", stream, "") if "body" in self.faults else None
                    data = self._body(stream)
                    self._end(stream, recipients, data)
                else:
                    self._at("data", stream, "554 no valid recipients")
            elif verb == "BDAT":
                size = int(command.split()[1])
                data += stream.read(size)
                if command.upper().endswith("LAST"):
                    self._end(stream, recipients, data)
                    data = b""
                else:
                    self._at("body", stream, "250 ok")
            elif verb == "QUIT":
                self._at("quit", stream, "221 bye")
                return
            else:
                self._at("other", stream, "250 ok")

    def _body(self, stream: BinaryIO) -> bytes:
        lines = []
        while (line := stream.readline()) and line != b".\r\n":
            lines.append(line.removeprefix(b"."))
        if not line:
            raise _Dropped
        return b"".join(lines)

    def _end(self, stream: BinaryIO, recipients: list[str], data: bytes) -> None:
        fault = self.faults.get("end", "250 taken")
        if recipients and fault[:1] not in "45":
            # a server that breaks here has taken the message: that is the case nobody can know of
            self.taken.append((list(recipients), data))
            if self.on_taken is not None:
                self.on_taken(len(self.taken))
        self._at("end", stream, "250 taken" if recipients else "554 no valid recipients")


@contextlib.contextmanager
def running(folder: Path, kind: type[SmtpServer] = SmtpServer, **options: object) -> Iterator[SmtpServer]:
    """A server for the time of a test."""
    ca = pki.make_ca("Hostile Root")
    names: list[x509.GeneralName] = [x509.IPAddress(ip_address(HOST))]
    san = [(x509.SubjectAlternativeName(names), False)]
    certificate, key = pki.issue(ca, None, "server", "p256", name=HOST, extensions=san)
    anchors, own = folder / "hostile-ca.pem", folder / "hostile.pem"
    anchors.write_bytes(pki.pem(ca.certificate))
    own.write_bytes(pki.pem(certificate, key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    with socket.create_server((HOST, 0)) as listener:
        server = kind(listener.getsockname()[1], anchors, **options)  # type: ignore[arg-type]
        threading.Thread(target=_accept, args=(listener, context, server), daemon=True).start()
        yield server


def _accept(listener: socket.socket, context: ssl.SSLContext, server: SmtpServer) -> None:
    with contextlib.suppress(OSError):  # the test has ended
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_one, args=(connection, context, server), daemon=True).start()


def _one(connection: socket.socket, context: ssl.SSLContext, server: SmtpServer) -> None:
    with (
        contextlib.suppress(OSError, _Dropped),
        connection,
        context.wrap_socket(connection, server_side=True) as secured,
    ):
        try:
            server.serve(cast("BinaryIO", secured.makefile("rwb")))
        finally:
            with contextlib.suppress(OSError):
                secured.shutdown(socket.SHUT_RDWR)
