"""An IMAP server that misbehaves on demand: it cuts off in any phase, and says what it is told to."""

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

PHASES = (
    "accept", "handshake", "greeting", "capability", "authenticate", "examine", "search",
    "before-literal", "in-literal", "after-literal", "between", "before-end", "logout",
)  # fmt: skip
"""Where :class:`ImapServer` can cut the connection off; ``between`` is after half of the messages."""

Answer = bytes | Callable[[bytes], bytes]


@dataclass
class Peer:
    """The client at the other end of a connection, for what takes more than one answer."""

    connection: ssl.SSLSocket
    lines: BinaryIO
    server: "ImapServer"

    def send(self, data: bytes) -> None:
        """Say something."""
        self.connection.sendall(data)

    def line(self) -> bytes:
        """The next line, without its end; empty where there is none."""
        line = self.lines.readline(100_000)
        self.server.commands.append(line)
        return line.rstrip(b"\r\n")

    def cut(self) -> NoReturn:
        """End the connection."""
        raise _Cut


Act = Callable[[Peer, bytes, bytes], None]
"""Deals with a command, given its tag and its arguments."""


class _Cut(Exception):  # noqa: N818 - what is to happen
    pass


@dataclass
class ImapServer:
    """Serves ``messages`` (UIDs from 1) over implicit TLS to whoever logs in.

    ``cut`` names the phase in which every connection ends; ``answers`` replaces all that is said to a
    command, its tagged line included (``TAG`` stands for the tag), and ``acts`` deals with it altogether.
    """

    folder: Path
    messages: Sequence[bytes] = ()
    cut: str | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)
    acts: Mapping[str, Act] = field(default_factory=dict)
    capabilities: bytes = b"IMAP4rev1 AUTH=PLAIN SASL-IR"
    uidvalidity: int = 7
    names: Sequence[x509.GeneralName] = (x509.IPAddress(ip_address(HOST)),)
    commands: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def anchors(self) -> Path:
        """The CA to trust."""
        return self.folder / "ca.pem"

    def account(self, **keys: object) -> dict[str, object]:
        """The table ``[accounts.NAME]`` for it; ``keys`` are added."""
        (self.folder / "password").write_text("secret\n")
        return {
            "address": "bob@hosp.test",
            "imap": {"host": HOST, "port": self.port, "security": "tls"},
            "password-file": str(self.folder / "password"),
            "tls-anchors": str(self.anchors),
        } | keys

    def write_config(self, home: Path, **keys: object) -> Path:
        """A ``config.toml`` under ``home`` with this account alone; ``home``."""
        import tomli_w

        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": self.account(**keys)}}))
        return home

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Serve until the block ends."""
        self._context = server_context(self.folder, self.names)
        with listening(self._accepted) as self.port:
            yield self

    def _accepted(self, raw: socket.socket) -> None:
        raw.settimeout(20)
        with contextlib.suppress(_Cut):
            self._at("accept")
            if self.cut == "handshake":
                raw.recv(1)
                raise _Cut
            with self._context.wrap_socket(raw, server_side=True) as connection:
                self._serve(connection)

    def _at(self, phase: str) -> None:
        if self.cut == phase:
            raise _Cut

    def _serve(self, connection: ssl.SSLSocket) -> None:
        self._at("greeting")
        connection.sendall(self._said("greeting", b"", b"* OK ready\r\n"))
        with connection.makefile("rb") as lines:
            while line := lines.readline(100_000):
                self.commands.append(line)
                tag, _, rest = line.strip().partition(b" ")
                name = rest.upper()
                word = b" ".join(name.split()[: 2 if name.startswith(b"UID") else 1]).decode()
                if word == "LOGOUT":
                    return
                if act := self.acts.get(word):
                    act(Peer(connection, lines, self), tag, rest.partition(b" ")[2])
                    continue
                if word == "UID FETCH" and word not in self.answers:
                    self._fetch(connection, tag, rest)
                else:
                    self._at({"UID SEARCH": "search"}.get(word, word.lower()))
                    connection.sendall(self._said(word, tag, self._ordinary(word, tag)))

    def _said(self, word: str, tag: bytes, ordinary: bytes) -> bytes:
        answer = self.answers.get(word, ordinary)
        said = answer(tag) if callable(answer) else answer
        return said.replace(b"TAG", tag)

    def _ordinary(self, word: str, tag: bytes) -> bytes:
        count = len(self.messages)
        said = {
            "CAPABILITY": b"* CAPABILITY " + self.capabilities + b"\r\n",
            "EXAMINE": b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] ok\r\n* OK [UIDNEXT %d] ok\r\n"
            % (count, self.uidvalidity, count + 1),
            "UID SEARCH": b"* SEARCH %s\r\n" % b" ".join(b"%d" % (n + 1) for n in range(count)),
            "LIST": b'* LIST (\\HasNoChildren) "/" INBOX\r\n',
        }.get(word, b"")
        return said + tag + b" OK done\r\n"

    def _fetch(self, connection: ssl.SSLSocket, tag: bytes, command: bytes) -> None:
        for number, uid in enumerate(_uids(command, len(self.messages)), start=1):
            message = self.messages[uid - 1]
            if b"BODY" not in command.upper():
                connection.sendall(b"* %d FETCH (UID %d)\r\n" % (uid, uid))
                continue
            if b"HEADER.FIELDS (MESSAGE-ID)" in command.upper():
                found = re.search(rb"(?im)^message-id:.*\n(?:[ \t].*\n)*", message)
                field_ = (found[0] if found else b"") + b"\r\n"
                said = b"* %d FETCH (UID %d BODY[HEADER.FIELDS (MESSAGE-ID)] {%d}\r\n%s)\r\n"
                connection.sendall(said % (uid, uid, len(field_), field_))
                continue
            self._at("before-literal")
            connection.sendall(b"* %d FETCH (UID %d BODY[] {%d}\r\n" % (uid, uid, len(message)))
            if self.cut == "in-literal":
                connection.sendall(message[: len(message) // 2])
                raise _Cut
            connection.sendall(message)
            self._at("after-literal")
            connection.sendall(b")\r\n")
            if number >= len(self.messages) // 2:
                self._at("between")
        self._at("before-end")
        connection.sendall(tag + b" OK done\r\n")


def _uids(command: bytes, last_one: int = 0) -> Iterator[int]:
    found = re.match(rb"UID FETCH ([\d,:*]+) ", command, re.IGNORECASE)
    assert found, command
    if found[1].endswith(b":*"):
        # names the last even where it lies below (RFC 3501 §6.4.8)
        yield from range(min(int(found[1][:-2]), last_one), last_one + 1)
        return
    for run in found[1].split(b","):
        first, _, last = run.partition(b":")
        yield from range(int(first), int(last or first) + 1)
