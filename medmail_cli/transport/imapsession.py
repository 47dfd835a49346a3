"""A session with an IMAP server: connected, secured, logged in; commands and what comes back (RFC 3501 §3).

Each refused password has been tried once: a way to log in is given up for the next only where nothing
secret has been said in it.
"""

import base64
import binascii
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from medmail_cli.config import Server
from medmail_cli.errors import MedmailError
from medmail_cli.transport import imapanswers, imapwire, reaching, sasl, tls, trace
from medmail_cli.transport.imapwire import Response, Wanted, Wire
from medmail_cli.transport.mailserver import ClosedAtTheEnd

KEPT = 1024 * 1024
"""Octets of a literal that is kept in memory."""
UNASKED_LIMIT = 100_000
"""Untagged responses while one command runs: more are no honest server's."""
CHALLENGES_LIMIT = 8
"""More than any mechanism has."""
AFTER_BYE = 5.0
"""Seconds in which the answer to a command may still come after the server's goodbye."""
COMMAND_LINE = 1000
"""Octets of a command that every server takes (RFC 2683 §3.2.1.5)."""
LOGIN_COMMAND = "LOGIN command"


class ImapSession(ClosedAtTheEnd):
    """A connection to ``server``, with TLS from the start or by STARTTLS, to be logged in with :meth:`login`.

    Every method raises ``server-unreachable``, ``server-busy`` (it says: later), ``server-answer-malformed``
    and, while connecting, ``no-starttls`` and what :func:`.tls.explained` and :func:`.reaching.secured` name.
    """

    def __init__(
        self, server: Server, context: ssl.SSLContext, *, via: str | None = None, timeout: float = 60.0
    ) -> None:
        self.name = f"{server.host}:{server.port}"
        self._server, self._context, self._via = server, context, via
        self._number = 0
        self._timeout = timeout
        self._credentials: sasl.Credentials | None = None
        self._written: dict[str, bytes] = {}
        self._connect()

    def _connect(self) -> None:
        self.capabilities: frozenset[str] = frozenset()
        self.preauthenticated = False
        """The server knows us already, by our certificate or our place (§7.1.4)."""
        self._idles = True
        self._changed = False
        with self._errors():
            connection = reaching.secured(self._server, self._context, via=self._via, timeout=self._timeout)
            try:
                self._wire = Wire(connection, self.name, KEPT, self._timeout)
                self._greeting()
                if self._server.security == "starttls":
                    self._start_tls(self._context)
            except BaseException:
                connection.close()
                raise

    def close(self, *, politely: bool = True) -> None:
        """End the connection, with LOGOUT unless something has gone wrong on it."""
        if politely:
            with suppress(OSError):
                # nobody waits for the answer: nothing is left to lose
                self._wire.send(b"Z LOGOUT\r\n", "Z LOGOUT")
        with suppress(OSError):
            self._wire.connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with tls.network_errors(self.name, self._context, self._server.security):
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
            raise imapanswers.refusal(self.name, greeting)
        if greeting.tag == b"*" and greeting.word == b"PREAUTH":
            if self._server.security == "starttls":
                # whoever is logged in cannot ask for TLS any more (RFC 2595 §3.1)
                raise MedmailError("no-starttls", host=self._server.host)
            self.preauthenticated = True
        elif greeting.tag != b"*" or greeting.word != b"OK":
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
        self._wire = Wire(connection, self.name, KEPT, self._timeout)
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
        line = tag + b" " + command
        self._wire.send(line + b"\r\n", trace.imap_command(line) if trace.is_on() else "")
        return tag

    def _until(
        self, *tags: bytes, wanted: Wanted | None = None, most: int = UNASKED_LIMIT
    ) -> Iterator[Response]:
        """The untagged responses and continuations up to the end of a command of ``tags``, which comes last.

        Of several under way any may end first (RFC 3501 §5.5). A goodbye is told only where nothing follows
        it: servers say why after it, or before.
        """
        goodbye: Response | None = None
        self._wire.begin()
        for _ in range(most):
            try:
                response = self._wire.response(wanted)
            except (OSError, EOFError):
                if goodbye is None:
                    raise
                raise imapanswers.refusal(self.name, goodbye) from None
            if response.tag in tags:
                self._note_capabilities(response)
                yield response
                return
            if response.tag not in (b"*", b"+"):
                raise self._wire.malformed("tag")
            if response.tag == b"*" and response.word == b"BYE":
                goodbye = response
                self._wire.connection.settimeout(AFTER_BYE)
                continue
            yield response
        raise self._wire.malformed("unasked")

    def _command(self, command: bytes) -> list[Response]:
        """Run a command to its end; its untagged responses. Raises ``server-refused``."""
        *untagged, end = self._until(self._send(command))
        self._succeed(end)
        return [response for response in untagged if response.tag == b"*"]

    def _succeed(self, end: Response) -> None:
        if end.word == b"OK":
            return
        if end.word not in (b"NO", b"BAD"):
            raise self._wire.malformed(end.text[:60].decode("ascii", "backslashreplace").strip())
        raise imapanswers.refusal(self.name, end)

    # -- waiting

    @contextmanager
    def idling(self, every: float) -> Iterator[Callable[[float], bool]]:
        """Wait for the open folder to change: it gives what waits so many seconds at most.

        By IDLE (RFC 2177); by NOOP every so many seconds where the server has no IDLE or refuses it. At the
        end a server has to answer, or it is ``server-unreachable``.
        """
        with self._errors():
            self._changed = False
            idle = self._begin_idle()
        asked = time.monotonic()

        def changed(seconds: float) -> bool:
            nonlocal asked
            with self._errors():
                self._listen(seconds)
                if idle is None and not self._changed and time.monotonic() - asked >= every:
                    for response in self._command(b"NOOP"):
                        self._hear(response)
                    asked = time.monotonic()
            return self._changed

        yield changed
        if idle is not None and self._idles:
            with self._errors():
                self._wire.send(b"DONE\r\n", "DONE")
                self._wire.begin()
                for response in idle:
                    self._hear(response)

    def _begin_idle(self) -> Iterator[Response] | None:
        """The responses of an IDLE under way; None where there is none to be had on this connection."""
        if not self._idles or "IDLE" not in self.capabilities:
            return None
        responses = self._until(self._send(b"IDLE"))
        for response in responses:
            if response.tag == b"+":
                return responses
            # what comes before the continuation is news as well
            self._hear(response)
        self._idles = False
        return None

    def _listen(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._changed and (left := until - time.monotonic()) > 0 and self._wire.wait(left):
            self._wire.begin()
            response = self._wire.response()
            if response.tag == b"*" and response.word == b"BYE":
                raise imapanswers.refusal(self.name, response)
            if response.tag not in (b"*", b"+"):
                # it has ended IDLE by itself: there may be news, and next time it is asked instead
                self._idles, self._changed = False, True
            self._hear(response)

    def _hear(self, response: Response) -> None:
        if response.tag == b"*" and response.number(b"EXISTS") is not None:
            self._changed = True

    # -- logging in

    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms on offer; asks for them if need be."""
        with self._errors():
            if not self.capabilities:
                for response in self._command(b"CAPABILITY"):
                    self._note_capabilities(response)
        return tuple(
            sorted(capability[5:] for capability in self.capabilities if capability.startswith("AUTH="))
        )

    def login(self, credentials: sasl.Credentials) -> str:
        """Log in; the mechanism used. A token that is refused is fetched anew, once.

        Raises ``login-refused``, ``login-expired``, ``no-login-mechanism``, ``no-secret``.
        """
        self._credentials = credentials
        try:
            return self._login(credentials, at_once="SASL-IR" in self._known())
        except MedmailError as error:
            refused = error.code in ("login-refused", "login-expired")
            if refused and credentials.password is not None:
                credentials.refused(error)
            if not refused or credentials.token is None:
                raise
        self.close(politely=False)
        self._connect()
        return self._login(credentials, at_once=False)

    def _known(self) -> frozenset[str]:
        self.mechanisms()
        return self.capabilities

    def _login(self, credentials: sasl.Credentials, *, at_once: bool) -> str:
        if self.preauthenticated:
            return "PREAUTH"
        refused: Response | None = None
        for way in self._ways(credentials):
            self._wire.secret = True
            with self._errors():
                if way == LOGIN_COMMAND:
                    refused = self._login_command(credentials)
                else:
                    refused = self._authenticate(way, credentials, at_once=at_once)
            self._wire.secret = False
            if refused is None:
                self._known()
                return way
        assert refused is not None  # noqa: S101 - there is one way at least
        raise imapanswers.login_refusal(self.name, credentials.login, refused)

    def _ways(self, credentials: sasl.Credentials) -> list[str]:
        """Mechanisms, then the LOGIN command, which is there unless said otherwise (§6.2.3)."""
        offered = self.mechanisms()
        plainly = credentials.password is not None and credentials.auth in ("auto", "plain", "login")
        command = [LOGIN_COMMAND] if plainly and "LOGINDISABLED" not in self.capabilities else []
        return [*sasl.fitting(offered, credentials), *command] or [sasl.choose(offered, credentials)]

    def _authenticate(
        self, mechanism: str, credentials: sasl.Credentials, *, at_once: bool
    ) -> Response | None:
        """AUTHENTICATE (§6.2.2); None once logged in, the refusal where it came before anything was said.

        With ``at_once`` the first word goes along with the command (RFC 4959), but no password does: a
        server that announces this and does not know it would make us say it twice.
        """
        exchange = sasl.Exchange(mechanism, credentials, self._server.host, self._server.port)
        command = b"AUTHENTICATE " + mechanism.encode()
        first = exchange.initial
        said = False
        if at_once and first is not None and credentials.password is None:
            whole = command + b" " + (base64.b64encode(first) or b"=")
            if len(whole) <= COMMAND_LINE:
                command, said = whole, True
        self.capabilities = frozenset()
        challenges = 0
        with self._refusals(credentials.login, exchange):
            for response in self._until(self._send(command)):
                if response.tag == b"+":
                    challenges += 1
                    if challenges > CHALLENGES_LIMIT:
                        raise self._wire.malformed("challenges")
                    challenge = _decoded(response.text.strip())
                    if first is not None and challenges == 1 and _wants_first(challenge, said=said):
                        # it asks for the first word, also where that went along unread
                        answer = first
                    else:
                        answer = exchange.respond(challenge)
                    said = True
                    self._wire.send(base64.b64encode(answer) + b"\r\n")
                elif response.tag == b"*":
                    self._note_capabilities(response)
                elif response.word == b"OK":
                    exchange.finish()
                else:
                    return self._refused(response, credentials.login, exchange.report, said=said)
        return None

    def _login_command(self, credentials: sasl.Credentials) -> Response | None:
        """LOGIN (§6.2.3), for servers that know nothing else; None once logged in, else as above."""
        assert credentials.password is not None  # noqa: S101 - see _ways
        first, *rest = imapwire.with_strings(b"LOGIN", [credentials.login.encode(), credentials.password()])
        self.capabilities = frozenset()
        for response in self._until(self._send(first)):
            if response.tag == b"+":
                if not rest:
                    raise self._wire.malformed("continuation")
                self._wire.send(rest.pop(0) + b"\r\n")
            elif response.tag == b"*":
                self._note_capabilities(response)
            elif response.word != b"OK":
                return self._refused(response, credentials.login, "", said=not rest)
        return None

    @contextmanager
    def _refusals(self, login: str, exchange: sasl.Exchange) -> Iterator[None]:
        """A goodbye that speaks of the login is a refusal: who takes it for a passing one tries for ever."""
        try:
            yield
        except MedmailError as error:
            reply, code = str(error.facts.get("reply", "")), str(error.facts.get("code", ""))
            if error.code != "server-busy" or imapanswers.will_pass(code, reply):
                raise
            if not imapanswers.speaks_of_login(reply) and not exchange.report:
                raise
            raise MedmailError("login-refused", host=self.name, login=login, reply=reply) from None

    def _refused(self, end: Response, login: str, report: str, *, said: bool) -> Response:
        """The refusal where it is of a way to log in alone. Raises what it means where it is of a login."""
        if end.word not in (b"NO", b"BAD"):
            raise self._wire.malformed(end.text[:60].decode("ascii", "backslashreplace").strip())
        if said or not imapanswers.knows_no_such(end):
            raise imapanswers.login_refusal(self.name, login, end, report)
        return end


def _wants_first(challenge: bytes, *, said: bool) -> bool:
    """Does the first challenge ask for the first word? Once said it may report an error (RFC 7628 §3.2.2)."""
    return not challenge or not (said or challenge.startswith(b"{"))


def _decoded(challenge: bytes) -> bytes:
    try:
        return base64.b64decode(challenge, validate=True)
    except binascii.Error:
        # servers that ask for a name in plain words are met with; a mechanism that reads them will object
        return challenge
