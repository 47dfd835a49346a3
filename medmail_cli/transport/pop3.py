"""A POP3 maildrop over verified TLS, read without ever deleting anything (RFC 1939, 2449, 2595, 5034).

While a session lasts nobody else reads the maildrop, and it sees nothing new: whoever waits for letters does
so without a session, and begins another to look again. A letter's server id is its UIDL, or a digest of one
that is long or odd; a position names every letter that is there and has been dealt with.
"""

import base64
import binascii
import hashlib
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from medmail_cli.config import Server
from medmail_cli.errors import MedmailError
from medmail_cli.transport import imapanswers, reaching, sasl, tls, trace
from medmail_cli.transport.mailserver import INBOX, ClosedAtTheEnd, News, OpenFolder, Received, Sink, TooLarge
from medmail_cli.transport.pop3wire import Status, Wire

GENERATION = "pop3"
"""A server never gives a UIDL twice (RFC 1939 §7)."""
KEPT = 1024 * 1024
"""Octets of a letter that are kept in memory."""
LARGEST = 512 * 1024 * 1024
"""Octets of a letter that is still taken."""
UNDER_WAY = 8
"""Letters asked for at a time where the server takes several commands (RFC 2449 §6.6)."""
CHALLENGES_LIMIT = 8
"""More than any mechanism has."""
FIRST_LINE = 255
"""Octets of AUTH with the first word along (RFC 5034 §4)."""
USER = "USER"
"""The commands USER and PASS (RFC 1939 §7)."""
_LATER = {"IN-USE", "LOGIN-DELAY", "SYS/TEMP"}
"""Response codes of what will pass (RFC 2449 §8.1, RFC 3206 §4)."""
_PLAIN_ID = re.compile(rb"[0-9A-Za-z_-]{1,42}")


class Pop3(ClosedAtTheEnd):
    """A maildrop as a :class:`.mailserver.MailServer` with one folder."""

    def __init__(
        self, server: Server, context: ssl.SSLContext, *, via: str | None = None, timeout: float = 60.0
    ) -> None:
        self.name = f"{server.host}:{server.port}"
        self._server, self._context, self._via, self._timeout = server, context, via, timeout
        self._credentials: sasl.Credentials | None = None
        self._connect()

    def _connect(self) -> None:
        self.capabilities: frozenset[str] = frozenset()
        self._numbers: dict[str, int] | None = None
        """The letters that are there for this connection, by server id."""
        self._looked = False
        """They have been told of: who opens the folder again wants to see what has come since."""
        self._ended = False
        with self._errors():
            connection = reaching.secured(self._server, self._context, via=self._via, timeout=self._timeout)
            try:
                self._wire = Wire(connection, self.name, self._timeout)
                self._succeed(self._wire.status())
                self._ask_capabilities()
                if self._server.security == "starttls":
                    self._start_tls()
            except BaseException:
                connection.close()
                raise

    def close(self, *, politely: bool = True) -> None:
        """End the session, with QUIT unless something has gone wrong in it; nothing was to be deleted."""
        if politely and not self._ended:
            with suppress(OSError):
                self._wire.send(b"QUIT\r\n", "QUIT")
        self._ended = True
        with suppress(OSError):
            self._wire.connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with tls.network_errors(self.name, self._context, self._server.security):
            yield

    # -- commands

    def _command(self, command: bytes) -> Status:
        self._wire.send(command + b"\r\n", trace.text(command))
        return self._wire.status()

    def _succeed(self, status: Status) -> None:
        if not status.ok:
            raise self._refusal(status)

    def _refusal(self, status: Status) -> MedmailError:
        passes = status.code in _LATER or (not status.code and imapanswers.will_pass("", status.words))
        facts = {"host": self.name, "reply": status.words, "code": status.code}
        return MedmailError("server-busy" if passes else "server-refused", **facts)

    def _ask_capabilities(self) -> None:
        """What the server says it can do; it need not know the question (RFC 2449 §5)."""
        if self._command(b"CAPA").ok:
            listed = (line.strip().decode("ascii", "replace").upper() for line in self._wire.listing())
            self.capabilities = frozenset(filter(None, listed))

    def _start_tls(self) -> None:
        if self.capabilities and "STLS" not in self.capabilities:
            raise MedmailError("no-starttls", host=self._server.host)
        if not self._command(b"STLS").ok:
            raise MedmailError("no-starttls", host=self._server.host)
        if self._wire.buffered:
            # sent before encryption, to be taken for the server's own word after it
            raise self._wire.malformed("STLS")
        connection = self._context.wrap_socket(self._wire.connection, server_hostname=self._server.host)
        self._wire = Wire(connection, self.name, self._timeout)
        # what was announced without encryption does not count
        self.capabilities = frozenset()
        self._ask_capabilities()

    # -- logging in

    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms on offer (RFC 5034 §3)."""
        lines = (line.split() for line in self.capabilities if line.startswith("SASL"))
        return tuple(sorted({name for words in lines for name in words[1:]}))

    def login(self, credentials: sasl.Credentials) -> str:
        """Log in; the mechanism used. A token that is refused is fetched anew, once.

        Raises ``login-refused``, ``no-login-mechanism``, ``no-secret``.
        """
        self._credentials = credentials
        try:
            return self._login(credentials)
        except MedmailError as error:
            if error.code == "login-refused" and credentials.password is not None:
                credentials.refused(error)
            if error.code != "login-refused" or credentials.token is None:
                raise
        self.close(politely=False)
        self._connect()
        return self._login(credentials)

    def _login(self, credentials: sasl.Credentials) -> str:
        plainly = credentials.password is not None and credentials.auth in ("auto", "plain", "login")
        commands = [USER] if plainly and (USER in self.capabilities or not self.capabilities) else []
        ways = [*sasl.fitting(self.mechanisms(), credentials), *commands]
        refused: Status | None = None
        for way in ways or [sasl.choose(self.mechanisms(), credentials)]:
            self._wire.secret = True
            with self._errors():
                refused = self._user(credentials) if way == USER else self._auth(way, credentials)
            self._wire.secret = False
            if refused is None:
                return way
        assert refused is not None  # noqa: S101 - there is one way at least
        raise self._login_refusal(refused, credentials.login)

    def _login_refusal(self, status: Status, login: str, report: str = "") -> MedmailError:
        """What a refusal comes to once somebody has said who they are."""
        error = self._refusal(status)
        if error.code == "server-busy":
            return error
        words = f"{status.words} ({report})" if report else status.words
        return MedmailError("login-refused", host=self.name, login=login, reply=words)

    def _user(self, credentials: sasl.Credentials) -> Status | None:
        """USER and PASS; None once logged in. What a line cannot hold is never sent."""
        assert credentials.password is not None  # noqa: S101 - see _login
        for command, said in ((b"USER ", credentials.login.encode()), (b"PASS ", credentials.password())):
            if re.search(rb"[\r\n\0]", said):
                raise MedmailError("login-refused", host=self.name, login=credentials.login, reply=USER)
            self._wire.send(command + said + b"\r\n", f"{command.decode()}{trace.octets(said)}")
            status = self._wire.status()
            if not status.ok:
                raise self._login_refusal(status, credentials.login)
        return None

    def _auth(self, mechanism: str, credentials: sasl.Credentials) -> Status | None:
        """AUTH (RFC 5034 §4); None once logged in, the refusal where it came before anything was said."""
        exchange = sasl.Exchange(mechanism, credentials, self._server.host, self._server.port)
        command = b"AUTH " + mechanism.encode()
        first, said = exchange.initial, False
        if first is not None and credentials.password is None:
            along = command + b" " + (base64.b64encode(first) or b"=")
            if len(along) <= FIRST_LINE:
                command, said = along, True
        self._wire.send(command + b"\r\n", f"AUTH {mechanism}")
        for turn in range(CHALLENGES_LIMIT):
            answer = self._wire.status()
            if answer.challenge is None:
                if answer.ok:
                    exchange.finish()
                    return None
                if said or answer.code == "AUTH" or not imapanswers.says_no_such(answer.words):
                    raise self._login_refusal(answer, credentials.login, exchange.report)
                return answer
            try:
                challenge = base64.b64decode(answer.challenge, validate=True)
            except binascii.Error:
                challenge = answer.challenge
            # it asks for the first word, also where that went along unread
            wants_first = first is not None and turn == 0 and not challenge
            word = first if wants_first and first is not None else exchange.respond(challenge)
            said = True
            self._wire.send(base64.b64encode(word) + b"\r\n")
        raise self._wire.malformed("challenges")

    # -- sessions and what they see

    def again(self) -> None:
        """See :meth:`.mailserver.MailServer.again`."""
        self.close(politely=False)
        self._connect()
        if self._credentials is not None:
            self.login(self._credentials)

    def reopen(self) -> None:
        """See :meth:`.mailserver.MailServer.reopen`."""
        self.again()
        self.open(INBOX)

    def folders(self) -> list[str]:
        """There is but one."""
        return [INBOX]

    def open(self, folder: str) -> OpenFolder:
        """See :meth:`.mailserver.MailServer.open`. Raises ``not-found`` for every folder but the inbox."""
        if folder.upper() != INBOX:
            raise MedmailError("not-found", what="folder", name=folder)
        if self._looked or self._ended:
            self.close()
            self.again()
        self._looked = True
        numbers = self._listed()
        return OpenFolder(GENERATION, _position(numbers), len(numbers))

    def _listed(self) -> dict[str, int]:
        """Server ids and numbers of the letters that are there for this connection, in their order."""
        if self._numbers is None:
            with self._errors():
                self._succeed(self._command(b"UIDL"))
                entries: list[tuple[int, bytes]] = []
                for line in self._wire.listing():
                    entry = re.fullmatch(rb"\s*(\d{1,9}) +([\x21-\x7e]{1,200})\s*", line)
                    if entry is None:
                        raise self._wire.malformed("UIDL")
                    entries.append((int(entry[1]), entry[2]))
            ids = server_ids(uidl for _, uidl in entries)
            self._numbers = {server_id: number for server_id, (number, _) in zip(ids, entries, strict=True)}
        return self._numbers

    def news(self, since: str, witnesses: Callable[[], Mapping[str, frozenset[str]]] = dict) -> News:  # noqa: ARG002 - an id is never given twice
        """See :meth:`.mailserver.MailServer.news`."""
        numbers, known = self._listed(), set(since.split())
        return News(tuple(one for one in numbers if one not in known), _position(numbers))

    def named(self, server_ids: Sequence[str]) -> list[str]:
        """See :meth:`.mailserver.MailServer.named`: what came since the login is not there yet."""
        return [server_id for server_id in server_ids if server_id in self._listed()]

    # -- letters

    def fetch(
        self, server_ids: Sequence[str], room: Callable[[], Sink] | None = None
    ) -> Iterator[tuple[str, Received | MedmailError]]:
        """See :meth:`.mailserver.MailServer.fetch`."""
        rest = deque(self.named(server_ids))
        asked: deque[str] = deque()
        most = UNDER_WAY if "PIPELINING" in self.capabilities else 1
        while rest or asked:
            with self._errors():
                while rest and len(asked) < most:
                    asked.append(rest.popleft())
                    command = b"RETR %d" % self._listed()[asked[-1]]
                    self._wire.send(command + b"\r\n", command.decode())
                status = self._wire.status()
                letter = self._letter(room) if status.ok else self._refusal(status)
            if isinstance(letter, MedmailError) and letter.code == "server-busy":
                raise letter
            yield asked.popleft(), letter

    def _letter(self, room: Callable[[], Sink] | None) -> Received:
        """The letter that follows, dots unstuffed; one that grows large goes where there is room."""
        most = KEPT if room is None else LARGEST
        pieces: list[bytes] = []
        size = 0
        sink: Sink | None = None
        try:
            for piece in self._wire.text():
                size += len(piece)
                if size > most:
                    if sink is not None:
                        sink.discard()
                        sink = None
                    pieces.clear()
                elif sink is not None:
                    sink.write(piece)
                else:
                    pieces.append(piece)
                    if room is not None and size > KEPT:
                        sink = room()
                        sink.write(b"".join(pieces))
                        pieces.clear()
        except BaseException:
            if sink is not None:
                sink.discard()
            raise
        if size > most:
            return TooLarge(size)
        return b"".join(pieces) if sink is None else sink

    # -- waiting

    @contextmanager
    def idling(self, every: float) -> Iterator[Callable[[float], bool]]:
        """See :meth:`.mailserver.MailServer.idling`: without a session, so that others may have theirs."""
        before = self._listed()
        self.close()
        looked = time.monotonic()

        def changed(seconds: float) -> bool:
            nonlocal looked
            time.sleep(max(0.0, min(seconds, looked + every - time.monotonic())))
            if time.monotonic() - looked < every:
                return False
            looked = time.monotonic()
            self.again()
            if self._listed() == before:
                self.close()
                return False
            return True

        yield changed

    def append(self, folder: str, message: bytes, flags: Iterable[str] = ()) -> None:  # noqa: ARG002 - there is no such thing
        """A maildrop takes nothing. Raises ``server-refused``."""
        raise MedmailError("server-refused", host=self.name, reply="POP3", code="")


def server_ids(uidls: Iterable[bytes]) -> Iterator[str]:
    """UIDLs as server ids: as they are, or a digest of what is long or odd, or was given before.

    A server should give no two letters the same (RFC 1939 §7); one that does loses none by it.
    """
    given: dict[bytes, int] = {}
    for uidl in uidls:
        before = given.get(uidl, 0)
        given[uidl] = before + 1
        if not before and _PLAIN_ID.fullmatch(uidl):
            yield uidl.decode()
        else:
            digest = hashlib.sha256(b"%d %s" % (before, uidl)).digest()
            yield base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _position(numbers: Iterable[str]) -> str:
    return " ".join(numbers)
