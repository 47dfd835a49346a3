"""An EST server whose certificates are made by OpenSSL's command line alone, and which can misbehave."""

import base64
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.support.tools import run

EST = "/.well-known/est"
_EXTENSIONS = """
[server]
subjectAltName = DNS:localhost
extendedKeyUsage = serverAuth
[person]
keyUsage = critical, digitalSignature, keyEncipherment, keyAgreement
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[signs]
keyUsage = critical, digitalSignature
"""

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class OpenSslCa:
    """A root in ``folder``, kept and used by the ``openssl`` program."""

    folder: Path
    name: str = "OpenSSL Root"

    @classmethod
    def create(cls, folder: Path, name: str = "OpenSSL Root") -> "OpenSslCa":
        folder.mkdir(parents=True)
        (folder / "extensions").write_text(_EXTENSIONS)
        ca = cls(folder, name)
        run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}",
            "-keyout", folder / "ca.key", "-out", ca.root,
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        return ca

    @property
    def root(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def fingerprint(self) -> str:
        done = run("openssl", "x509", "-in", self.root, "-noout", "-fingerprint", "-sha256")
        return done.stdout.decode().strip()

    def server(self) -> Path:
        """A certificate and key for localhost in one file."""
        key, combined = self.folder / "server.key", self.folder / "server.pem"
        certificate = self.sign(new_request("localhost", key), "PEM", "server")
        combined.write_bytes(certificate + key.read_bytes())
        return combined

    def sign(self, csr: bytes, form: str, section: str = "person") -> bytes:
        """A certificate (PEM) for a request whose signature OpenSSL has checked; its names are copied."""
        copied = [] if section == "server" else ["-copy_extensions", "copy"]
        return run(
            "openssl", "x509", "-req", "-inform", form, "-CA", self.root, "-CAkey", self.folder / "ca.key",
            "-days", "20", "-sha256", *copied, "-extfile", self.folder / "extensions", "-extensions", section,
            stdin=csr,
        ).stdout  # fmt: skip

    def certs_only(self, pem: bytes) -> bytes:
        """PEM certificates as certs-only PKCS#7 in base64."""
        made = run("openssl", "crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-outform", "DER", stdin=pem)
        return base64.encodebytes(made.stdout)


def new_request(name: str, key: Path) -> bytes:
    """A request (PEM) for ``name`` under a new key, which is written to ``key``."""
    words = ("-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key)
    return run("openssl", "req", *words).stdout


@dataclass
class OpenSslEst:
    """The server on loopback; ``replies`` by operation say what it answers instead of the right thing."""

    ca: OpenSslCa
    tls_from: OpenSslCa | None = None
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    seen: list[tuple[str, str, bool]] = field(default_factory=list)
    replies: dict[str, Callable[["Handler", bytes], Reply | None]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = self.versions
        context.load_cert_chain((self.tls_from or self.ca).server())
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.est = self
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}"

    def answer(self, handler: "Handler", operation: str, body: bytes) -> Reply | None:
        if operation in self.replies:
            return self.replies[operation](handler, body)
        pkcs7 = {"Content-Type": "application/pkcs7-mime"}
        if operation == "cacerts":
            return 200, pkcs7, self.ca.certs_only(self.ca.root.read_bytes())
        if operation in ("simpleenroll", "simplereenroll"):
            return 200, pkcs7, self.issue(body)
        return 404, {}, b""

    def issue(self, body: bytes, ca: OpenSslCa | None = None) -> bytes:
        ca = ca or self.ca
        return ca.certs_only(ca.sign(base64.b64decode(body), "DER"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    est: OpenSslEst

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that break off are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """One connection; given to replies that misbehave."""

    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_arguments: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation = self.path.removeprefix(f"{EST}/")
        self.server.est.seen.append((self.command, operation, "Authorization" in self.headers))
        reply = self.server.est.answer(self, operation, body)
        if reply is None:
            self.close_connection = True
            return
        status, headers, content = reply
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def raw(self, content: bytes) -> None:
        """Send what is no HTTP."""
        self.wfile.write(content)

    def drip(self, content: bytes, pause: float) -> None:
        """Send octet by octet."""
        for octet in content:
            self.wfile.write(bytes([octet]))
            self.wfile.flush()
            time.sleep(pause)
