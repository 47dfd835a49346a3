"""Reaching a mail server that is silent: is it slow, or does it wait for us to begin the other way?

A server with TLS from the start says nothing until a client begins a handshake; one with STARTTLS greets in
the clear, and may never answer a handshake. Who has ``security`` wrong would wait for minutes and hear
nothing, so after :data:`SILENCE` a second connection looks whether the server speaks the other way. Nothing
is ever sent on it but an empty handshake: no name, no secret, no mail.
"""

import socket
import ssl
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.transport import proxy

if TYPE_CHECKING:
    from medmail_cli.config import Server

SILENCE = 10.0
"""Seconds after which a silent server is asked the other way."""
PROBE = 10.0
"""Seconds that asking may take."""


def secured(
    server: "Server", context: ssl.SSLContext, *, via: str | None = None, timeout: float
) -> socket.socket:
    """A connection to ``server`` on which it has something to say: under TLS, or in front of STARTTLS.

    ``via`` is a proxy's URL; every operation on the socket takes ``timeout`` seconds at most. Raises OSError
    as the system does, and ``wrong-security`` where the server speaks only the other way.
    """
    connection = proxy.connect(server.host, server.port, timeout, via)
    try:
        connection.settimeout(min(SILENCE, timeout))
        if server.security == "tls":
            connection = context.wrap_socket(
                connection, server_hostname=server.host, do_handshake_on_connect=False
            )
        try:
            _begin(connection)
        except TimeoutError:
            if timeout <= SILENCE:
                raise
            check_other_way(server, via)
            connection.settimeout(timeout - SILENCE)
            _begin(connection)
        connection.settimeout(timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _begin(connection: socket.socket) -> None:
    """Wait until it is the server's turn no more."""
    if isinstance(connection, ssl.SSLSocket):
        connection.do_handshake()
    else:
        connection.recv(1, socket.MSG_PEEK)


def check_other_way(server: "Server", via: str | None = None) -> None:
    """Raise ``wrong-security`` where a second connection finds that ``server`` speaks the other way."""
    answers, wanted = (_greets, "starttls") if server.security == "tls" else (_handshakes, "tls")
    try:
        with proxy.connect(server.host, server.port, PROBE, via) as connection:
            refusal = answers(connection, server.host)
    except (OSError, MedmailError):
        # silent, slow or gone this way too: the first connection tells
        return
    if refusal:
        raise MedmailError("wrong-security", host=f"{server.host}:{server.port}", wanted=wanted)


def _greets(connection: socket.socket, _host: str) -> bool:
    """Does it say something in the clear, as SMTP and IMAP servers begin?"""
    return connection.recv(4).startswith((b"220", b"* "))


def _handshakes(connection: socket.socket, host: str) -> bool:
    """Does it answer a handshake? By whom it is answered does not matter here."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with bare.wrap_socket(connection, server_hostname=host):
        return True
