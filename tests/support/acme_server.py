"""acme2certifier, an ACME server that knows RFC 8823, and somebody with TLS in front of it.

The server is a process of its own, in a virtual environment that is made once, under the user's cache.
Its mail goes through Postfix and Dovecot; what it lacks of RFC 8823 (Auto-Submitted, a signature) is added
on the way, as the operator of such a server would have his mail server do.

Each of its requests looks at the unseen answers only, and marks as seen those that are another's (its
``EmailHandler._emails_fetch``): of two answers that come together one is never found again, and its challenge
ends as invalid. So its mailbox does not let it mark a mail as seen, and every request looks at every answer.
"""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.support import pki
from tests.support.servers import HOST, MailServers, _free_ports, _wait_for_port
from tests.support.tools import require, run

PACKAGES = ("acme2certifier==0.46.3", "waitress==3.0.2")
SENDER = "acme@hosp.test"
KID, MAC_KEY = "order-7", "b3JkZXItb2YtcGh5c2ljaWFucy1tYWMta2V5LTAwMDE"
_CONFIG = """\
[DEFAULT]
debug: True
email_address: {sender}
username: {sender}
password: {password}
imap_server: {host}
imap_port: {imaps}
imap_use_ssl: True
smtp_server: {host}
smtp_port: {smtp}
smtp_use_tls: True
connection_timeout: 5
[Nonce]
nonce_check_disable: False
[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: {folder}/ca.key
issuing_ca_cert: {folder}/ca.pem
issuing_ca_crl: {folder}/ca.crl
ca_cert_chain_list: []
cert_validity_days: 30
cert_save_path: {folder}/certs
openssl_conf: {folder}/openssl.conf
[DBhandler]
handler: wsgi
dbfile: {folder}/acme.db
[Order]
email_identifier_support: True
[Directory]
{directory}
{binding}
"""
_EXTENSIONS = """\
[extensions]
subjectKeyIdentifier = hash, issuer:always
authorityKeyIdentifier = keyid:always, issuer:always
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment, keyAgreement
extendedKeyUsage = emailProtection
"""

Sign = Callable[[bytes], bytes]
"""What becomes of a challenge mail on its way."""


def unchanged(message: bytes) -> bytes:
    """As it was sent."""
    return message


@dataclass
class Signer:
    """The mail server of the authority: it says that a machine wrote the mail, and signs by S/MIME."""

    folder: Path
    ca: pki.Authority
    address: str = SENDER
    change: Callable[[bytes], bytes] = unchanged

    def __post_init__(self) -> None:
        require("openssl")
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate, key = pki.issue(self.ca, self.address, "sign", "p256")
        (self.folder / "signer.pem").write_bytes(pki.pem(certificate, key))

    def __call__(self, message: bytes) -> bytes:
        head, _, body = self.change(complete(message)).partition(b"\r\n\r\n")
        # as RFC 9788 has it: the whole header inside, and the part marked
        inside = head.replace(b'charset="us-ascii"', b'charset="us-ascii"; hp="clear"')
        done = run(
            "openssl", "cms", "-sign", "-binary", "-signer", self.folder / "signer.pem",
            "-outform", "SMIME", "-crlfeol", stdin=inside + b"\r\n\r\n" + body,
        )  # fmt: skip
        outside = b"".join(
            line + b"\r\n" for line in head.split(b"\r\n") if not line.startswith((b"Content-", b"MIME-"))
        )
        return outside + done.stdout


def complete(message: bytes) -> bytes:
    """What RFC 8823 wants in the header and acme2certifier leaves out."""
    return b"Auto-Submitted: auto-generated; type=acme\r\n" + message


def program() -> Path:
    """The folder of the server's programs; made where it is not there yet. Fails where that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "medmail-tests" / PACKAGES[0].replace("==", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
            pip = [str(folder / "venv" / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *PACKAGES], check=True)
            (folder / "ready").touch()
    return folder / "venv" / "bin"


@dataclass
class AcmeServer:
    """The server with its own authority; ``sign`` makes its challenge mails what they must be."""

    folder: Path
    mail: MailServers
    sign: Sign
    terms: str = ""
    binding: bool = False
    ca: pki.Authority = field(default_factory=lambda: pki.make_ca("ACME Root"))
    sent: list[bytes] = field(default_factory=list)
    held: bool = False
    """Whether challenge mails are not delivered."""
    catch_all: str = ""
    """The mailbox that gets everybody's mail, where there is one."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "certs").mkdir(exist_ok=True)
        (self.folder / "ca.pem").write_bytes(pki.pem(self.ca.certificate))
        (self.folder / "ca.key").write_bytes(pki.pem(self.ca.key))
        (self.folder / "openssl.conf").write_text(_EXTENSIONS)
        (self.folder / "eab.json").write_text(json.dumps({KID: MAC_KEY}))
        self._stack = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        # no s, which is \Seen (RFC 4314 §4); with w, for it uses no folder that is wholly read-only
        self.mail.set_rights(SENDER, "lrw")
        smtp, port = _free_ports(2)
        gateway = _Gateway(self)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls = self.mail.folder / "tls"
        context.load_cert_chain(tls / "server.pem", tls / "server.key")
        controller = Controller(
            gateway, HOST, smtp, tls_context=context, authenticator=gateway.authenticate, auth_required=True
        )
        controller.start()
        self._stack.callback(controller.stop)
        text = _CONFIG.format(
            folder=self.folder,
            sender=SENDER,
            password=self.mail.password(SENDER),
            host=HOST,
            imaps=self.mail.imaps_port,
            smtp=smtp,
            directory=f"tos_url: {self.terms}" if self.terms else "",
            binding=(
                "[EABhandler]\neab_handler_module: acme2certifier.eabhandlers.json_handler\n"
                f"key_file: {self.folder}/eab.json\n"
                if self.binding
                else ""
            ),
        )
        (self.folder / "acme_srv.cfg").write_text(text)
        log = self._stack.enter_context((self.folder / "server.log").open("wb"))
        process = subprocess.Popen(
            [
                program() / "waitress-serve",
                f"--listen={HOST}:{port}",
                "--url-scheme=https",
                "acme2certifier.share.acme2certifier_wsgi:application",
            ],
            cwd=self.folder,
            env=os.environ | {"ACME_SRV_CONFIGFILE": str(self.folder / "acme_srv.cfg")},
            stdout=log,
            stderr=log,
        )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.terminate)
        _wait_for_port(port)
        self.front = self._stack.enter_context(Front(port, context))

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.front.port}/directory"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def deliver(self, message: bytes) -> None:
        """Sign a challenge mail and put it where it belongs."""
        self.sent.append(message)
        if not self.held:
            to = next(line for line in message.split(b"\r\n") if line.startswith(b"To: "))
            self.mail.inject(self.catch_all or to[4:].decode(), [self.sign(message)])

    @property
    def issued(self) -> int:
        """How many certificates it has made."""
        return len(list((self.folder / "certs").iterdir()))


class _Gateway:
    def __init__(self, server: AcmeServer) -> None:
        self._server = server

    def authenticate(self, *_arguments: object) -> AuthResult:
        return AuthResult(success=True)

    async def handle_DATA(  # noqa: N802 - the name aiosmtpd calls
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        self._server.deliver(envelope.content)
        return "250 OK"


Reply = tuple[int, dict[str, str], bytes]
Change = Callable[[str, str, bytes, Callable[[], Reply]], Reply]
"""What answers a request, by its method, path and body; the last argument asks the server itself."""


class Cut(Exception):  # noqa: N818 - what is to happen
    """The connection is to end without an answer."""


def as_it_is(_method: str, _path: str, _body: bytes, ask: Callable[[], Reply]) -> Reply:
    """Nothing is changed."""
    return ask()


@dataclass
class Front:
    """TLS in front of a server on ``upstream``; ``change`` may alter or replace what it answers."""

    upstream: int
    context: ssl.SSLContext
    change: Change = as_it_is
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer((HOST, 0), _Passing)
        self._server.daemon_threads = True
        self._server.socket = self.context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server.front = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_arguments: object) -> None:
        """Silent."""

    def _pass(self) -> None:
        front: Front = self.server.front  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        front.seen.append((self.command, self.path))

        def ask() -> Reply:
            connection = http.client.HTTPConnection(HOST, front.upstream, timeout=20)
            names = ("Content-Type", "User-Agent", "Accept")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            connection.request(self.command, self.path, body, headers | {"Host": self.headers["Host"]})
            with contextlib.closing(connection), connection.getresponse() as response:
                dropped = ("connection", "transfer-encoding", "content-length", "server", "date")
                kept = {name: value for name, value in response.getheaders() if name.lower() not in dropped}
                return response.status, kept, response.read()

        try:
            status, headers, answer = front.change(self.command, self.path, body, ask)
        except Cut:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_HEAD = _pass  # noqa: N815 - the names http.server calls


@contextlib.contextmanager
def pebble(folder: Path, mail: MailServers, *, binding: bool = False) -> Iterator[str]:
    """Let's Encrypt's test server, strict and forgetful of nonces on purpose; the URL of its directory."""
    if not shutil.which("pebble"):
        raise RuntimeError("pebble is missing: apt-get install pebble")
    port, management = _free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pebble.json").write_text(
        json.dumps(
            {
                "pebble": {
                    "listenAddress": f"{HOST}:{port}",
                    "managementListenAddress": f"{HOST}:{management}",
                    "certificate": str(mail.folder / "tls" / "server.pem"),
                    "privateKey": str(mail.folder / "tls" / "server.key"),
                    "httpPort": 5002,
                    "tlsPort": 5001,
                    "ocspResponderURL": "",
                    "externalAccountBindingRequired": binding,
                    "externalAccountMACKeys": {KID: MAC_KEY},
                }
            }
        )
    )
    # by chance: of a hundred nonces so many, few enough that eight in a row do not come up
    environment = {"PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20"}
    with (folder / "pebble.log").open("wb") as log:
        process = subprocess.Popen(
            ["pebble", "-strict", "-config", folder / "pebble.json"],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for_port(port)
            yield f"https://{HOST}:{port}/dir"
        finally:
            process.terminate()
            process.wait(10)
