"""A TLS server of a test's own on loopback: its certificate, and a thread that takes connections."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cryptography import x509

from tests.support import pki

HOST = "127.0.0.1"


def server_context(folder: Path, names: Sequence[x509.GeneralName]) -> ssl.SSLContext:
    """TLS as a server whose certificate bears ``names``; ``ca.pem`` in ``folder`` is the CA to trust."""
    folder.mkdir(parents=True, exist_ok=True)
    ca = pki.make_ca("Scripted Root")
    bears = [(x509.SubjectAlternativeName(names), False)]
    certificate, key = pki.issue(ca, None, "server", "p256", name="scripted", extensions=bears)
    (folder / "ca.pem").write_bytes(pki.pem(ca.certificate))
    (folder / "server.pem").write_bytes(pki.pem(certificate, key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


@contextlib.contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which connections are handled one after the other until the block ends; OSError ends one."""

    def accept() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), raw:
                handle(raw)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            # wakes the thread that waits in accept, which closing alone does not
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
