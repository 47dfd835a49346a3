"""Small HTTPS exchanges with one server the user chose: bounded, no redirects, one connection kept.

Answers are a few certificates or a page of JSON, so each is read whole, up to a limit. What strangers'
certificates point to is fetched by ``http``, which trusts the address less.
"""

import contextlib
import email.utils
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.errors import MedmailError
from medmail_cli.transport import proxy, tls, trace

LARGEST_ANSWER = 1 << 20
"""In octets; the certificates of a national authority take some 20,000."""
IDLE = 2.0
"""Seconds after which a kept connection is not trusted to be open still: a request that cannot be repeated
must not be sent into one that the server is about to close."""


Body = bytes | Callable[[bytes | None], bytes]
"""What is sent, or what makes it of the connection's tls-unique (None where there is none)."""
Show = Callable[[ssl.SSLContext], None]
"""Gives a context the certificate to be shown, and its key."""


@dataclass(frozen=True)
class Answer:
    """What a server answered; ``headers`` by lower-case name."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """A header's value, empty where it is missing."""
        return self.headers.get(name.lower(), "")

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asks to wait (RFC 9110 §10.2.3), None where it does not say."""
        value = self.header("Retry-After").strip()
        if re.fullmatch(r"\d{1,9}", value):
            return float(value)
        try:
            at = email.utils.parsedate_to_datetime(value)
        except (ValueError, IndexError):
            return None
        return max(0.0, at.timestamp() - time.time())

    @property
    def text(self) -> str:
        """The first words of a refusal, where the server gave some as plain text."""
        if not self.header("Content-Type").lower().startswith("text/plain"):
            return ""
        return " ".join(self.body[:400].decode("utf-8", "replace").split())[:200]


def _nothing(_context: ssl.SSLContext) -> None:
    """Shows nobody anything."""


def refusal(answer: Answer, url: str) -> MedmailError:
    """What an authority at ``url`` means by an HTTP status that is no success."""
    status = answer.status
    if 300 <= status < 400:
        return MedmailError("ca-redirected", url=url, location=answer.header("Location"))
    facts = {"url": url, "status": status, "detail": answer.text}
    if status in (401, 403):
        return MedmailError("ca-refused", **facts)
    if status == 429 or status >= 500:
        return MedmailError("ca-busy", **facts, seconds=round(answer.retry_after or 0))
    return MedmailError("ca-rejected", **facts)


class Https:
    """A server at ``url`` (scheme checked by the caller), trusted by ``anchors`` or the system's.

    ``verified=False`` trusts nobody and anybody: for EST's bootstrap only. Under ``http`` nothing is trusted
    either: for messages that protect themselves, as CMP's do.
    """

    def __init__(
        self, url: str, *, anchors: Path | None, verified: bool = True, timeout: float = 30.0
    ) -> None:
        parts = urlsplit(url)
        self._scheme = parts.scheme
        # a dot at the end is no part of the name in TLS (RFC 6066 §3)
        self.host, self.path = (parts.hostname or "").removesuffix("."), parts.path.rstrip("/")
        self.port = parts.port or (80 if self._scheme == "http" else 443)
        self.timeout = timeout
        self._context = tls.context(anchors) if verified else _unverified()
        self._show: Show = _nothing
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0

    def trust(self, root: x509.Certificate) -> None:
        """From the next connection on, let ``root`` alone vouch for the server."""
        self.close()
        self._context = tls.context(pem=root.public_bytes(Encoding.PEM).decode())
        self._show(self._context)

    def present(self, show: Show) -> None:
        """From the next connection on, log in with what ``show`` gives a context, where the server asks."""
        self.close()
        self._show = show
        show(self._context)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def binding(self) -> bytes | None:
        """tls-unique (RFC 5929 §3) of the connection there is; None under TLS 1.3, which has none."""
        connected = self._connection.sock if self._connection is not None else None
        if not isinstance(connected, ssl.SSLSocket) or connected.version() != "TLSv1.2":
            return None
        return connected.get_channel_binding("tls-unique")

    def bind(self) -> None:
        """Speak TLS 1.2 from here on if the server does, as a request shall be tied to the connection.

        Raises ``server-unreachable`` and ``server-untrusted``.
        """
        if self.binding is not None:
            return
        self.close()
        newest = self._context.maximum_version
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            with tls.network_errors(self.name, self._context), self._deadline():
                return
        except MedmailError as error:
            if error.code not in ("server-unreachable", "tls-failed"):
                raise
        self.close()
        self._context.maximum_version = newest

    def ask(
        self, method: str, path: str, body: Body | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One exchange; a ``body`` that is tied to the connection is made when that is there.

        Raises ``server-unreachable`` (no connection, too slow, cut off), ``server-untrusted``,
        ``tls-failed``, ``client-certificate-refused`` and ``server-answer-malformed`` (no HTTP, too large).
        Where no connection came about, the error's fact ``sent`` is False.
        """
        try:
            return self._exchange(method, path, body, headers or {})
        except BaseException:
            self.close()
            raise

    def _exchange(self, method: str, path: str, body: Body | None, headers: dict[str, str]) -> Answer:
        try:
            with tls.network_errors(self.name, self._context), self._deadline() as connection:
                content = body(self.binding) if callable(body) else body
                trace.sent(self.name, f"{method} {path} {trace.octets(content or b'')}")
                connection.request(method, path, content, {"User-Agent": "medmail", **headers})
                with connection.getresponse() as response:
                    answer = self._read(response)
                trace.received(self.name, f"{answer.status} {trace.octets(answer.body)}")
        except http.client.IncompleteRead:
            raise MedmailError("server-unreachable", host=self.name, reason="cut-off") from None
        except http.client.HTTPException:
            raise MedmailError("server-answer-malformed", host=self.name, detail="no-http") from None
        self._used_at = time.monotonic()
        return answer

    @property
    def name(self) -> str:
        """The server as errors name it."""
        return f"{self.host}:{self.port}"

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is not None and time.monotonic() - self._used_at > IDLE:
            self.close()
        if self._connection is None:
            try:
                with tls.network_errors(self.name, self._context):
                    self._connection = self._opened()
            except MedmailError as error:
                error.facts["sent"] = False
                raise
        return self._connection

    def _opened(self) -> http.client.HTTPConnection:
        connected = proxy.connect(
            self.host, self.port, self.timeout, proxy.from_environment(self._scheme, self.host)
        )
        opened = http.client.HTTPConnection(self.host, self.port)
        if self._scheme != "http":
            try:
                connected = self._context.wrap_socket(connected, server_hostname=self.host)
            except BaseException:
                connected.close()
                raise
            opened = http.client.HTTPSConnection(self.host, self.port, context=self._context)
        opened.sock = connected
        return opened

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[http.client.HTTPConnection]:
        """A connection that is cut after ``timeout`` seconds in all.

        A socket's own timeout begins again with every octet of a slow server.
        """
        connection = self._connect()
        late = threading.Event()

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError, AttributeError):  # closed already
                connection.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.timeout, cut)
        timer.daemon = True
        timer.start()
        try:
            yield connection
        except (OSError, http.client.HTTPException) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()

    def _read(self, response: http.client.HTTPResponse) -> Answer:
        body = response.read(LARGEST_ANSWER + 1)
        if len(body) > LARGEST_ANSWER:
            raise MedmailError("server-answer-malformed", host=self.name, detail="too-large")
        if response.length:
            # read(n) gives what came before the connection was cut, without a word
            raise http.client.IncompleteRead(body, response.length)
        headers = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            self.close()
        return Answer(response.status, body, headers)


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
