"""A POP3 server that misbehaves on demand: it says what it is told to, and remembers what it was told."""

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, NoReturn, Self

from cryptography import x509

from tests.support.listening import HOST, listening, server_context

CAPABILITIES = b"UIDL\r\nUSER\r\nSASL PLAIN\r\nRESP-CODES\r\nPIPELINING\r\n"


class _Cut(Exception):  # noqa: N818 - what is to happen
    pass


@dataclass
class Peer:
    """The client at the other end of a connection."""

    connection: ssl.SSLSocket
    lines: BinaryIO

    def send(self, data: bytes) -> None:
        """Say something."""
        self.connection.sendall(data)

    def line(self) -> bytes:
        """The next line, without its end."""
        return self.lines.readline(100_000).rstrip(b"\r\n")

    def cut(self) -> NoReturn:
        """End the connection."""
        raise _Cut


Act = Callable[[Peer, bytes], None]
"""Deals with a command, given its argument."""


@dataclass
class Pop3Server:
    """Serves ``messages`` over TLS from the first octet to whoever logs in; ``ids`` are their UIDLs.

    ``answers`` replaces what is said to a command (or as ``greeting``), ``acts`` deals with it altogether.
    """

    folder: Path
    messages: Sequence[bytes] = ()
    ids: Sequence[bytes] | None = None
    answers: Mapping[str, bytes] = field(default_factory=dict)
    acts: Mapping[str, Act] = field(default_factory=dict)
    capabilities: bytes = CAPABILITIES
    commands: list[bytes] = field(default_factory=list)
    port: int = 0

    def write_config(self, home: Path, **keys: object) -> Path:
        """A ``config.toml`` under ``home`` with one account, ``work``; ``home``."""
        import tomli_w

        home.mkdir(parents=True, exist_ok=True)
        (self.folder / "password").write_text("secret\n")
        account = {
            "address": "bob@hosp.test",
            "pop3": {"host": HOST, "port": self.port, "security": "tls"},
            "password-file": str(self.folder / "password"),
            "tls-anchors": str(self.folder / "ca.pem"),
        } | keys
        (home / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": account}}))
        return home

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Serve until the block ends."""
        self._context = server_context(self.folder, [x509.IPAddress(ip_address(HOST))])
        with listening(self._accepted) as self.port:
            yield self

    def _accepted(self, raw: socket.socket) -> None:
        raw.settimeout(60)
        with contextlib.suppress(_Cut), self._context.wrap_socket(raw, server_side=True) as secured:
            self._serve(Peer(secured, secured.makefile("rb")))

    def _serve(self, peer: Peer) -> None:
        messages = list(self.messages)
        ids = list(self.ids or [b"id-%d" % number for number in range(1, len(messages) + 1)])
        peer.send(self.answers.get("greeting", b"+OK ready\r\n"))
        while line := peer.line():
            self.commands.append(line)
            word, _, rest = line.partition(b" ")
            name = word.decode().upper()
            if name in self.acts:
                self.acts[name](peer, rest)
            elif name in self.answers:
                peer.send(self.answers[name])
            elif name == "CAPA":
                peer.send(b"+OK\r\n" + self.capabilities + b".\r\n")
            elif name == "UIDL":
                listed = b"".join(b"%d %s\r\n" % entry for entry in enumerate(ids, 1))
                peer.send(b"+OK\r\n" + listed + b".\r\n")
            elif name == "RETR" and 0 < int(rest) <= len(messages):
                peer.send(b"+OK\r\n" + stuffed(messages[int(rest) - 1]) + b".\r\n")
            elif name == "AUTH" and rest == b"PLAIN":
                peer.send(b"+ \r\n")
                peer.line()
                peer.send(b"+OK\r\n")
            elif name in ("USER", "PASS", "QUIT"):
                peer.send(b"+OK\r\n")
                if name == "QUIT":
                    return
            else:
                peer.send(b"-ERR what\r\n")


def stuffed(message: bytes) -> bytes:
    """A message as it goes over the wire: lines end in CRLF, their first dots doubled (RFC 1939 §3)."""
    text = re.sub(rb"\r?\n", b"\r\n", message)
    return re.sub(rb"(?m)^\.", b"..", text if text.endswith(b"\r\n") else text + b"\r\n")
