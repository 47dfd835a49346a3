"""The CMP server of OpenSSL's command line, which answers with one certificate; and somebody in between."""

import http.client
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.support.openssl_est import OpenSslCa
from tests.support.tools import run

REFERENCE, SECRET = "3078", "open sesame"
_EXTENSIONS = """
[authority]
keyUsage = critical, digitalSignature
extendedKeyUsage = 1.3.6.1.5.5.7.3.28
subjectKeyIdentifier = hash
[person]
keyUsage = critical, digitalSignature
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
"""


def signer(ca: OpenSslCa, section: str, name: str) -> tuple[Path, Path]:
    """A certificate and its key, for a registration authority or for a person."""
    key, csr, pem = (ca.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    (ca.folder / "cmp-extensions").write_text(_EXTENSIONS)
    run(
        "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", f"/CN={name}", "-keyout", key, "-out", csr,
    )  # fmt: skip
    run(
        "openssl", "x509", "-req", "-in", csr, "-CA", ca.root, "-CAkey", ca.folder / "ca.key", "-days", "5",
        "-extfile", ca.folder / "cmp-extensions", "-extensions", section, "-out", pem,
    )  # fmt: skip
    return pem, key


@dataclass
class OpenSslCmp:
    """``openssl cmp -port`` on loopback; ``options`` are its own."""

    folder: Path
    options: tuple[str | Path, ...]
    url: str = ""

    def __enter__(self) -> Self:
        self._log = (self.folder / "server.log").open("wb")
        # port 0 lets the system choose, and the first line tells which
        self._process = subprocess.Popen(
            ["openssl", "cmp", "-config", "", "-port", "0", *map(str, self.options)],
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        while not (found := re.search(rb"ACCEPT \S*:(\d+)", line := self._process.stdout.readline())):
            assert line, self.log
        self.url = f"http://127.0.0.1:{int(found[1])}/pkix/"
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()
        return self

    def _drain(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.write(line)
            self._log.flush()

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")


Change = Callable[[int, bytes], bytes]


@dataclass
class Between:
    """Somebody who passes messages on to ``upstream``, having changed the answers."""

    upstream: str
    change: Change = lambda _number, body: body
    asked: list[bytes] = field(default_factory=list)
    answered: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Passing)
        self._server.between = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/pkix/"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    between: Between

    def handle_error(self, request: object, client_address: object) -> None:
        """An upstream that cannot be reached, and clients that break off, are part of the tests."""


class _Passing(BaseHTTPRequestHandler):
    server: _Server
    wbufsize = -1

    def log_message(self, *_arguments: object) -> None:
        """Silent."""

    def do_POST(self) -> None:
        between = self.server.between
        body = self.rfile.read(int(self.headers["Content-Length"]))
        between.asked.append(body)
        host, path = re.fullmatch(r"http://([^/]+)(/.*)", between.upstream).groups()  # type: ignore[union-attr]
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("POST", path, body, {"Content-Type": "application/pkixcmp", "Connection": "close"})
        with connection.getresponse() as response:
            status, kind, answer = response.status, response.headers["Content-Type"], response.read()
        connection.close()
        between.answered.append(answer)
        answer = between.change(len(between.answered), answer)
        self.send_response(status)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
