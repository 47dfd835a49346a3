"""Connections that fail: what passes is tried later, what does not names what to change."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from medmail_cli.config import Server
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.transport import reaching, tls
from medmail_cli.ui import i18n
from tests.support import pki

pytestmark = pytest.mark.thorough

TLS12, TLS11 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1
Serve = Callable[[socket.socket], object]


@contextlib.contextmanager
def listening(serve: Serve) -> Iterator[int]:
    """A server on loopback whose every connection is ``serve``'s; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                serve(connection)

        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


class Pki:
    """An authority, a server's certificate and clients' ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = pki.make_ca("Handshake Root")
        self.anchors = folder / "ca.pem"
        self.anchors.write_bytes(pki.pem(self.ca.certificate))
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        made = pki.issue(
            self.ca,
            None,
            "server",
            "p256",
            name="s",
            extensions=[(x509.SubjectAlternativeName(names), False)],
        )
        (folder / "server.pem").write_bytes(pki.pem(*made))

    def client(self, ca: pki.Authority, not_after: datetime = pki.FAR) -> Path:
        usage = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        path = self.folder / "client.pem"
        made = pki.issue(ca, None, "none", "p256", name="c", extensions=[usage], not_after=not_after)
        path.write_bytes(pki.pem(*made))
        return path

    def serves(
        self, newest: ssl.TLSVersion | None = None, *, client: bool = False, ciphers: str | None = None
    ) -> Serve:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem")
        if newest is TLS11:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                context.minimum_version = context.maximum_version = newest
        elif newest is not None:
            context.maximum_version = newest
        if ciphers:
            context.set_ciphers(ciphers)
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.anchors)

        def serve(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.sendall(b"220 here\r\n")
                secured.recv(1)

        return serve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def refused(made: Pki, serve: Serve, *, identity: Path | None = None, timeout: float = 20) -> MedmailError:
    """What comes of connecting and reading a greeting."""
    context = tls.context(made.anchors, identity)
    with listening(serve) as port:
        server = Server("localhost", port, "tls")
        with (
            pytest.raises(MedmailError) as caught,
            tls.network_errors("mail.test", context, "tls"),
            reaching.secured(server, context, timeout=timeout) as connection,
        ):
            connection.recv(10)
    return caught.value


@pytest.mark.parametrize("newest", [TLS12, None])
@pytest.mark.parametrize(
    ("whose", "reason"),
    [
        (None, "certificate-missing"),
        ("expired", "certificate-expired"),
        ("stranger", "certificate-issuer"),
    ],
)
def test_a_client_certificate_that_lets_nobody_in_is_a_refused_login(
    made: Pki, newest: ssl.TLSVersion | None, whose: str | None, reason: str
) -> None:
    identity = None
    now = datetime.now(UTC)
    if whose == "expired":
        identity = made.client(made.ca, now - timedelta(days=1))
    elif whose == "stranger":
        identity = made.client(pki.make_ca("Stranger"))
    error = refused(made, made.serves(newest, client=True), identity=identity)
    assert (error.code, error.facts["reason"]) == ("client-certificate-refused", reason)
    assert exit_of(error.code) == 4
    assert "client-identity" in i18n.hint(error)


@pytest.mark.parametrize(
    "said", [b"220 mail.test ESMTP\r\n", b"* OK ready\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_what_does_not_speak_tls_from_the_start_names_the_other_way(made: Pki, said: bytes) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(said)
        connection.recv(10_000)

    error = refused(made, greet)
    assert (error.code, exit_of(error.code)) == ("wrong-security", 78)
    assert 'security = "starttls"' in i18n.hint(error)


def test_tls_that_is_too_old_or_too_weak_is_not_tried_for_ever(made: Pki) -> None:
    old = refused(made, made.serves(TLS11))
    assert (old.code, old.facts["reason"], exit_of(old.code)) == ("tls-failed", "tls-too-old", 78)
    assert "1.2" in i18n.message(old)
    weak = refused(made, made.serves(TLS12, ciphers="AES128-SHA:@SECLEVEL=0"))
    assert (weak.code, weak.facts["reason"]) == ("tls-failed", "tls-too-weak")
    assert "`port`" in i18n.hint(weak)


@pytest.mark.parametrize("serve", [lambda _c: None, lambda c: c.recv(10), lambda c: c.recv(10_000)])
def test_a_connection_that_is_cut_is_tried_later(made: Pki, serve: Serve) -> None:
    error = refused(made, serve)
    assert (error.code, error.facts["reason"], exit_of(error.code)) == ("server-unreachable", "cut-off", 75)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "unknown-host"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "name-lookup-failed"),
        (TimeoutError(), "timed-out"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1006)"), "cut-off"),
        (ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds"), "cut-off"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "cut-off"),
        (EOFError(), "cut-off"),
    ],
)
def test_no_error_of_the_system_is_without_words(error: Exception, reason: str) -> None:
    found = tls.explained(error, "mail.test")
    assert (found.code, found.facts["reason"]) == ("server-unreachable", reason)
    said = i18n.message(found)
    assert not any(raw in said for raw in ("_ssl", "Unknown error", "Errno", reason))


def test_what_no_one_has_configured_is_no_fault_of_the_configuration(made: Pki) -> None:
    context = tls.context(made.anchors)
    with listening(made.serves(TLS11)) as port:
        connection = socket.create_connection(("127.0.0.1", port))
        with connection, pytest.raises(ssl.SSLError) as caught:
            context.wrap_socket(connection, server_hostname="localhost")
    assert tls.explained(caught.value, "x", ours=False).code == "server-unreachable"


def test_who_is_silent_is_asked_the_other_way(made: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "SILENCE", 0.5)
    seen: list[bytes] = []

    def clear(connection: socket.socket) -> None:
        # a greeting that comes only to those who do not begin: with a handshake, nothing
        connection.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            seen.append(connection.recv(10_000))
            connection.settimeout(20)
            connection.recv(10_000)
        connection.sendall(b"220 mail.test\r\n")
        seen.append(connection.recv(10))

    with listening(clear) as port, pytest.raises(MedmailError) as caught:
        reaching.secured(Server("localhost", port, "tls"), tls.context(made.anchors), timeout=20)
    assert (caught.value.code, caught.value.facts["wanted"]) == ("wrong-security", "starttls")
    with listening(made.serves()) as port, pytest.raises(MedmailError) as caught:
        reaching.secured(Server("localhost", port, "starttls"), tls.context(made.anchors), timeout=20)
    assert (caught.value.code, caught.value.facts["wanted"]) == ("wrong-security", "tls")
    assert seen[1:] == [b""]  # nothing is said in the clear


def test_who_is_slow_both_ways_is_waited_for(made: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "SILENCE", 0.2)
    monkeypatch.setattr(reaching, "PROBE", 0.2)
    late = threading.Event()

    def slow(connection: socket.socket) -> None:
        late.wait(1.5)
        connection.sendall(b"220 mail.test\r\n")
        connection.recv(10)

    def slow_tls(connection: socket.socket) -> None:
        late.wait(1.5)
        made.serves()(connection)

    for serve, security in ((slow, "starttls"), (slow_tls, "tls")):
        with listening(serve) as port:
            server = Server("localhost", port, security)  # type: ignore[arg-type]  # the two there are
            with reaching.secured(server, tls.context(made.anchors), timeout=30) as connection:
                assert connection.recv(3) == b"220"
