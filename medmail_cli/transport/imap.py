"""An IMAP mailbox over verified TLS, read without ever marking or deleting anything (RFC 3501).

A thin client of our own: messages are asked for by the hundred, the next hundred before the last has been
read, and every limit on what a server may send is ours.
"""

import base64
import re
import ssl
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from medmail_cli.config import Server
from medmail_cli.errors import MedmailError
from medmail_cli.transport import imapwire, proxy, sasl, tls
from medmail_cli.transport.imapwire import Response, TooLarge, Wire

TIMEOUT = 60.0
LARGEST = 512 * 1024 * 1024
"""Octets of a message that is still taken into memory."""
GROUP = 200
"""Messages a command asks for; two commands are under way at a time."""
UNASKED_LIMIT = 100_000
"""Untagged responses while one command runs: more are no honest server's."""
_TEMPORARY = {"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"}
"""Response codes that say: later (RFC 5530)."""


@dataclass(frozen=True)
class Examined:
    """What a server says of a folder (§6.3.2); ``uidnext`` is 0 where it does not say."""

    uidvalidity: int
    uidnext: int
    exists: int


class Imap:
    """A connection to ``server``, with TLS from the start or by STARTTLS, to be logged in with :meth:`login`.

    Every method raises ``server-unreachable``, ``server-answer-malformed`` and, while connecting,
    ``server-untrusted``.
    """

    def __init__(
        self, server: Server, context: ssl.SSLContext, *, via: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        self.name = f"{server.host}:{server.port}"
        self.capabilities: frozenset[str] = frozenset()
        self._server, self._context = server, context
        self._number = 0
        self._timeout = timeout
        with self._errors():
            connection = proxy.connect(server.host, server.port, timeout, via)
            try:
                if server.security == "tls":
                    connection = context.wrap_socket(connection, server_hostname=server.host)
                self._wire = Wire(connection, self.name, LARGEST)
                self._greeting()
                if server.security == "starttls":
                    self._start_tls(context)
            except BaseException:
                connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close(politely=kind is None)

    def close(self, *, politely: bool = True) -> None:
        """End the connection, with LOGOUT unless something has gone wrong on it."""
        with suppress(OSError):
            if politely:
                # nobody waits for the answer: nothing is left to lose
                self._wire.send(b"Z LOGOUT\r\n")
            self._wire.connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with tls.network_errors(self.name, self._context):
            try:
                yield
            except ssl.SSLError:
                # a bad certificate is a ValueError to Python, too
                raise
            except ValueError:
                raise MedmailError("server-answer-malformed", host=self.name, detail="IMAP") from None

    # -- commands and responses

    def _greeting(self) -> None:
        greeting = self._wire.response()
        if greeting.tag == b"*" and greeting.word == b"BYE":
            raise MedmailError("server-unreachable", host=self.name, reason=greeting.said)
        # PREAUTH would keep us from TLS (RFC 2595 §3.1) or let us be somebody else
        if greeting.tag != b"*" or greeting.word != b"OK":
            raise self._wire.malformed(greeting.text[:60].decode("ascii", "backslashreplace").strip())
        self._note_capabilities(greeting)

    def _start_tls(self, context: ssl.SSLContext) -> None:
        if self.capabilities and "STARTTLS" not in self.capabilities:
            raise MedmailError("no-starttls", host=self._server.host)
        try:
            self._command(b"STARTTLS")
        except MedmailError as error:
            if error.code == "server-refused":
                raise MedmailError("no-starttls", host=self._server.host) from None
            raise
        if self._wire.buffered:
            # sent before encryption, to be taken for the server's own word after it (CVE-2021-33515)
            raise self._wire.malformed("STARTTLS")
        connection = context.wrap_socket(self._wire.connection, server_hostname=self._server.host)
        self._wire = Wire(connection, self.name, LARGEST)
        # what was announced without encryption does not count
        self.capabilities = frozenset()

    def _note_capabilities(self, response: Response) -> None:
        if response.code.upper().startswith("CAPABILITY "):
            self.capabilities = frozenset(response.code.upper().split()[1:])
        elif response.tag == b"*" and response.word == b"CAPABILITY":
            self.capabilities = frozenset(response.text.decode("ascii", "replace").upper().split()[1:])

    def _send(self, command: bytes) -> bytes:
        self._number += 1
        tag = b"M%d" % self._number
        self._wire.send(tag + b" " + command + b"\r\n")
        return tag

    def _until(self, tag: bytes) -> Iterator[Response]:
        """The untagged responses and continuations up to the end of command ``tag``, which comes last."""
        for _ in range(UNASKED_LIMIT):
            response = self._wire.response()
            if response.tag == tag:
                self._note_capabilities(response)
                yield response
                return
            if response.tag not in (b"*", b"+"):
                raise self._wire.malformed("tag")
            if response.tag == b"*" and response.word == b"BYE":
                raise MedmailError("server-unreachable", host=self.name, reason=response.said)
            yield response
        raise self._wire.malformed("unasked")

    def _command(self, command: bytes) -> list[Response]:
        """Run a command to its end; its untagged responses. Raises ``server-refused``."""
        *untagged, end = self._until(self._send(command))
        self._succeed(end)
        return [one for one in untagged if one.tag == b"*"]

    def _succeed(self, end: Response) -> None:
        if end.word == b"OK":
            return
        if end.word not in (b"NO", b"BAD"):
            raise self._wire.malformed(end.text[:60].decode("ascii", "backslashreplace").strip())
        if end.code.upper() in _TEMPORARY:
            raise MedmailError("server-unreachable", host=self.name, reason=end.said)
        raise MedmailError("server-refused", host=self.name, reply=end.said, code=end.code.upper())

    # -- logging in

    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms on offer; asks for them if need be."""
        with self._errors():
            if not self.capabilities:
                for response in self._command(b"CAPABILITY"):
                    self._note_capabilities(response)
        return tuple(sorted(one[5:] for one in self.capabilities if one.startswith("AUTH=")))

    def login(self, credentials: sasl.Credentials) -> str:
        """Log in; the mechanism used. Raises ``login-refused``, ``no-login-mechanism``, ``no-secret``."""
        mechanism = sasl.choose(self.mechanisms(), credentials)
        exchange = sasl.Exchange(mechanism, credentials, self._server.host, self._server.port)
        with self._errors():
            command = b"AUTHENTICATE " + mechanism.encode()
            initial = exchange.initial
            if initial is not None and "SASL-IR" in self.capabilities:
                command += b" " + (base64.b64encode(initial) or b"=")
                initial = None
            self.capabilities = frozenset()
            for response in self._until(self._send(command)):
                if response.tag == b"+":
                    answer, initial = initial, None
                    if answer is None:
                        answer = exchange.respond(base64.b64decode(response.text.strip()))
                    self._wire.send(base64.b64encode(answer) + b"\r\n")
                elif response.tag == b"*":
                    self._note_capabilities(response)
                else:
                    self._logged_in(response, exchange, credentials.login)
            if not self.capabilities:
                self.mechanisms()
        return mechanism

    def _logged_in(self, end: Response, exchange: sasl.Exchange, login: str) -> None:
        if end.word == b"NO" and end.code.upper() not in _TEMPORARY:
            raise MedmailError("login-refused", host=self.name, login=login, reply=end.said)
        self._succeed(end)
        exchange.finish()

    # -- folders

    def folders(self) -> list[str]:
        """The names of all folders that hold messages."""
        names = []
        with self._errors():
            for response in self._command(b'LIST "" "*"'):
                if response.word != b"LIST":
                    continue
                match response.values():
                    case [_, [*flags], _, bytes(name), *_]:
                        lowered = {flag.lower() for flag in flags if isinstance(flag, bytes)}
                        if not lowered & {b"\\noselect", b"\\nonexistent"}:
                            names.append(imapwire.decode_folder(name.decode("utf-8", "replace")))
                    case _:
                        raise ValueError("LIST")
        return sorted(names, key=lambda name: (name.upper() != "INBOX", name))

    def examine(self, folder: str) -> Examined:
        """Open a folder for reading only. Raises ``not-found``."""
        found = {"UIDVALIDITY": 0, "UIDNEXT": 0}
        exists = 0
        with self._errors():
            try:
                responses = self._command(b"EXAMINE " + imapwire.quoted(imapwire.encode_folder(folder)))
            except MedmailError as error:
                if error.code != "server-refused":
                    raise
                raise MedmailError("not-found", what="folder", name=folder) from None
            for response in responses:
                name, _, value = response.code.partition(" ")
                if name.upper() in found and re.fullmatch(r"\d{1,10}", value):
                    found[name.upper()] = int(value)
                elif counted := re.match(rb"(\d{1,10}) EXISTS\s*\Z", response.text, re.IGNORECASE):
                    exists = int(counted[1])
        if not found["UIDVALIDITY"]:
            raise self._wire.malformed("UIDVALIDITY")
        return Examined(found["UIDVALIDITY"], found["UIDNEXT"], exists)

    def search(self, first: int) -> list[int]:
        """The UIDs from ``first`` on in the open folder, ascending."""
        uids: set[int] = set()
        with self._errors():
            for response in self._command(b"UID SEARCH UID %d:*" % first):
                if response.word == b"SEARCH":
                    uids.update(int(word) for word in response.text.split()[1:])
        # `n:*` is never empty: it names the last message even below n
        return sorted(uid for uid in uids if first <= uid < 1 << 32)

    def fetch(self, uids: Sequence[int]) -> Iterator[tuple[int, bytes | TooLarge]]:
        """The messages with ``uids`` in the open folder as the server sends them; those gone are left out.

        Raises ``server-refused``.
        """
        rest = iter(uids)
        under_way: deque[tuple[bytes, set[int]]] = deque()
        while True:
            with self._errors():
                while len(under_way) < 2 and (group := list(islice(rest, GROUP))):
                    command = b"UID FETCH " + imapwire.uid_set(group) + b" (UID BODY.PEEK[])"
                    under_way.append((self._send(command), set(group)))
            if not under_way:
                return
            tag, _ = under_way[0]
            wanted = [group for _, group in under_way]
            responses = self._until(tag)
            while True:
                with self._errors():
                    response = next(responses)
                    if response.tag == tag:
                        self._succeed(response)
                        under_way.popleft()
                        break
                    fetched = _fetched(response)
                if fetched is not None:
                    for group_ in wanted:
                        if fetched[0] in group_:
                            group_.discard(fetched[0])
                            yield fetched

    # -- keeping a copy, waiting

    def append(self, folder: str, message: bytes, flags: Iterable[str] = ("\\Seen",)) -> None:
        """Add a message to a folder of the server, which is made if need be. Raises ``server-refused``."""
        name = imapwire.quoted(imapwire.encode_folder(folder))
        command = b"APPEND %s (%s) {%d}" % (name, " ".join(flags).encode(), len(message))
        with self._errors():
            try:
                self._append(command, message)
            except MedmailError as error:
                if error.code != "server-refused" or not str(error.facts["code"]).startswith("TRYCREATE"):
                    raise
                self._command(b"CREATE " + name)
                self._append(command, message)

    def _append(self, command: bytes, message: bytes) -> None:
        for response in self._until(self._send(command)):
            if response.tag == b"+":
                self._wire.send(message + b"\r\n")
            elif response.tag != b"*":
                self._succeed(response)

    def wait(self, seconds: float) -> bool:
        """Wait until the open folder changes or ``seconds`` have passed: did it change?

        By IDLE (RFC 2177), else by asking once at the end.
        """
        with self._errors():
            if "IDLE" not in self.capabilities:
                import time

                time.sleep(seconds)
                return any(_changes(one) for one in self._command(b"NOOP"))
            tag = self._send(b"IDLE")
            changed = idling = False
            responses = self._until(tag)
            for response in responses:
                changed = changed or _changes(response)
                if response.tag == b"+" and not idling:
                    idling = True
                    changed = self._idle(seconds) or changed
                    self._wire.send(b"DONE\r\n")
                elif response.tag == tag:
                    self._succeed(response)
            return changed

    def _idle(self, seconds: float) -> bool:
        import time

        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                self._wire.connection.settimeout(left)
                response = self._wire.response()
                if response.word == b"BYE":
                    raise MedmailError("server-unreachable", host=self.name, reason=response.said)
                if _changes(response):
                    return True
        except TimeoutError:
            pass
        finally:
            self._wire.connection.settimeout(self._timeout)
        return False


def _changes(response: Response) -> bool:
    return response.tag == b"*" and re.match(rb"\d+ EXISTS", response.text, re.IGNORECASE) is not None


def _fetched(response: Response) -> tuple[int, bytes | TooLarge] | None:
    """UID and message of a FETCH response that carries both, else None. Raises ValueError."""
    if not re.match(rb"\d+ FETCH ", response.text, re.IGNORECASE):
        return None
    values = response.values()
    items = values[2] if len(values) > 2 else None
    if not isinstance(items, list):
        raise ValueError("FETCH")  # noqa: TRY004 - one exception for whatever is malformed
    uid: int | None = None
    body: bytes | TooLarge | None = None
    for name, value in zip(items[::2], items[1::2], strict=False):
        if not isinstance(name, bytes):
            raise ValueError("FETCH")  # noqa: TRY004 - one exception for whatever is malformed
        if name.upper() == b"UID" and isinstance(value, bytes):
            uid = int(value)
        elif name.upper() == b"BODY[]" and isinstance(value, bytes | TooLarge):
            body = value
    return None if uid is None or body is None else (uid, body)
