"""The sandbox's HTTP: EST (RFC 7030, 8951) over TLS, CMP with and without, CRLs and issuing certificate."""

import base64
import binascii
import datetime as dt
import hmac
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.errors import MedmailError
from medmail_cli.sandbox.ca import IdentityAuthority, RequestRefused, certs_only
from medmail_cli.sandbox.cmp import CMP, MEDIA_TYPE, Responder
from medmail_cli.sandbox.keygen import generated
from medmail_cli.sandbox.possession import linked

_LARGEST_REQUEST = 1 << 16
EST = "/.well-known/est"
# CsrAttrs: SEQUENCE { extensionRequest }: "put the names you want into the request" (RFC 7030 §4.5.2)
_CSR_ATTRIBUTES = bytes.fromhex("300b06092a864886f70d01090e")


class WebServer(ThreadingHTTPServer):
    """One listening port on loopback, in the clear or under TLS; ``login`` checks passwords."""

    daemon_threads = True
    authority: IdentityAuthority
    login: Callable[[str, bytes], bool]
    cmp: Responder

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        if tls is not None:
            # the handshake is made by the thread of the connection: a slow client stops nobody else
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.secure = tls is not None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Answer in a thread of its own until ``stop``."""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        if self._thread is not None:
            self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off or fails the handshake is its own affair."""


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"
    server_version = "medmail-sandbox"
    sys_version = ""
    timeout = 60
    wbufsize = -1  # headers and body in one segment, else the second waits for the first one's receipt

    def log_message(self, *_arguments: object) -> None:
        """Nothing: the operator keeps no log."""

    def do_GET(self) -> None:
        now, authority = dt.datetime.now(dt.UTC), self.server.authority
        pages: dict[str, Callable[[], tuple[str, bytes]]] = {
            "/crl": lambda: ("application/pkix-crl", authority.crl(now)),
            "/root-crl": lambda: ("application/pkix-crl", authority.root_crl(now)),
            "/issuing-ca": lambda: (
                "application/pkix-cert",
                authority.issuing.certificate.public_bytes(Encoding.DER),
            ),
        }
        if self.server.secure:
            pages |= {
                f"{EST}/cacerts": lambda: ("application/pkcs7-mime", authority.cacerts()),
                f"{EST}/csrattrs": lambda: (
                    "application/csrattrs",
                    base64.encodebytes(_CSR_ATTRIBUTES),
                ),
            }
        page = pages.get(self.path)
        if page is None:
            self._refuse(404, "there is nothing here")
        else:
            self._answer(200, *page())

    def do_POST(self) -> None:
        operations = (f"{EST}/simpleenroll", f"{EST}/simplereenroll", f"{EST}/serverkeygen")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LARGEST_REQUEST:
            self.close_connection = True
            self._refuse(413, "a request of that size is not read")
            return
        body = self.rfile.read(int(length))
        if self.path == CMP:  # its messages protect themselves: in the clear too
            self._converse(body)
        elif self.path not in operations or not self.server.secure:
            self._refuse(404, "there is nothing here")
        elif (holder := self._holder()) is None:
            # without a word: some clients (Bouncy Castle's) log in only where there is nothing to read
            self._answer(401, "text/plain", b"")
        else:
            self._certify(body, holder)

    def _converse(self, body: bytes) -> None:
        try:
            answer = self.server.cmp.answer(body, dt.datetime.now(dt.UTC))
        except MedmailError:
            self._refuse(400, "that is no CMP message")
            return
        self._answer(200, MEDIA_TYPE, answer)

    def _certify(self, body: bytes, holder: str) -> None:
        try:
            der = base64.b64decode(b"".join(body.split()), validate=True)
            if not linked(der, self._binding()):
                raise RequestRefused("the request is tied to another connection")
            now = dt.datetime.now(dt.UTC)
            if self.path == f"{EST}/serverkeygen":
                self._answer(200, *generated(self.server.authority, der, holder, now))
                return
            certificate = self.server.authority.issue(der, holder, now)
        except (RequestRefused, binascii.Error) as error:
            self._refuse(400, str(error))
            return
        self._answer(200, "application/pkcs7-mime; smime-type=certs-only", certs_only([certificate]))

    def _binding(self) -> bytes | None:
        if not isinstance(self.connection, ssl.SSLSocket) or self.connection.version() != "TLSv1.2":
            return None
        return self.connection.get_channel_binding("tls-unique")

    def _holder(self) -> str | None:
        """The address that logged in, by certificate or by password (HTTP Basic, RFC 7617)."""
        if isinstance(self.connection, ssl.SSLSocket):
            shown = self.connection.getpeercert(binary_form=True)
            if shown is not None and (holder := self.server.authority.holder(shown)) is not None:
                return holder
        scheme, _space, encoded = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            login, _colon, password = base64.b64decode(encoded, validate=True).partition(b":")
            name = login.decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        return name if self.server.login(name, password) else None

    def _refuse(self, status: int, why: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", why.encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="medmail sandbox", charset="UTF-8"')
        self.send_header("Content-Type", kind)
        if self.path.startswith(EST) and status == 200 and not kind.startswith("multipart"):
            # RFC 8951 §3.1 wants no one to need it; clients of RFC 7030 alone do
            self.send_header("Content-Transfer-Encoding", "base64")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def same_password(given: bytes, right: bytes) -> bool:
    """Compare without telling by the time it takes."""
    return hmac.compare_digest(given, right)
