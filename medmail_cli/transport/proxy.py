"""Reaching a server: straight, by an HTTP proxy's CONNECT (RFC 9110 §9.3.6) or by SOCKS 5 (RFC 1928).

With ``socks5h`` and with HTTP the proxy looks the name up, so that it is not told to anybody here.
"""

import base64
import queue
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from medmail_cli.errors import MedmailError

_HEADER_LIMIT = 16 * 1024
_SCHEMES = {"http": 8080, "socks5": 1080, "socks5h": 1080}

Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""One of a host's addresses, as getaddrinfo gives it."""


def look_up(host: str, port: int, timeout: float) -> Sequence[Found]:
    """The addresses of ``host``, within ``timeout`` seconds: the system's own look-up knows no limit.

    Raises OSError as the system does (TimeoutError if it takes longer).
    """
    answer: queue.SimpleQueue[Sequence[Found] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answer.put(error)
        except UnicodeError as error:
            # what cannot be written as a name is nobody's
            answer.put(socket.gaierror(socket.EAI_NONAME, str(error)))

    threading.Thread(target=ask, daemon=True).start()
    try:
        addresses = answer.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(addresses, Exception):
        raise addresses
    return addresses


def reach(addresses: Sequence[Found], timeout: float) -> socket.socket:
    """A socket connected to the first of ``addresses`` that answers, with ``timeout`` on every operation.

    Connecting takes that long in all: what is left is shared by the addresses still to try. Raises OSError
    as the system does.
    """
    problem: OSError = OSError("no address")
    give_up = time.monotonic() + timeout
    for index, (family, kind, protocol, _name, address) in enumerate(addresses):
        connected = socket.socket(family, kind, protocol)
        try:
            left = (give_up - time.monotonic()) / (len(addresses) - index)
            connected.settimeout(max(left, 0.001))
            connected.connect(address)
            connected.settimeout(timeout)
            # a request whose head and body leave apart must not wait for the receipt of the first
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        except OSError as error:
            connected.close()
            problem = error
    raise problem


def from_environment(scheme: str, host: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name; never one for this machine itself."""
    from urllib.request import getproxies, proxy_bypass

    named = getproxies().get(scheme)
    local = host in ("localhost", "::1") or host.startswith("127.")
    if not named or local or proxy_bypass(host):
        return None
    return named if "://" in named else f"http://{named}"


def parse(proxy: str) -> SplitResult:
    """The parts of a proxy's URL, which has a host. Raises ``server-unreachable`` for what is no proxy."""
    try:
        parts = urlsplit(proxy)
        fits = parts.scheme in _SCHEMES and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        fits = None
    if not fits:
        raise MedmailError("server-unreachable", host="proxy", reason="not-a-proxy")
    return parts


def to(parts: SplitResult, timeout: float) -> socket.socket:
    """A socket connected to the proxy itself. Raises OSError as the system does."""
    host, port = parts.hostname or "", parts.port or _SCHEMES[parts.scheme]
    return reach(look_up(host, port, timeout), timeout)


def authorization(parts: SplitResult) -> str | None:
    """What the proxy wants to hear of who asks (RFC 7617), if its URL says so."""
    if not parts.username:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def connect(host: str, port: int, timeout: float, proxy: str | None = None) -> socket.socket:
    """A connected socket with ``timeout`` seconds on every operation, and on all that a proxy has to say.

    Raises OSError as the system does, and ``server-unreachable`` where the proxy refuses.
    """
    if not proxy:
        return reach(look_up(host, port, timeout), timeout)
    parts = parse(proxy)
    via = f"{parts.hostname}:{parts.port or _SCHEMES[parts.scheme]}"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    connection = to(parts, timeout)
    said = _Said(connection, via, time.monotonic() + timeout)
    try:
        if parts.scheme == "http":
            _http(said, host, port, authorization(parts))
        else:
            _socks(said, host, port, user, password)
        connection.settimeout(timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _refused(via: str, reply: str) -> MedmailError:
    return MedmailError("server-unreachable", host=via, reason=reply)


@dataclass(frozen=True)
class _Said:
    """What the proxy says on a connection, ``via`` as errors name it, until the time is over."""

    connection: socket.socket
    via: str
    give_up: float

    def exactly(self, size: int) -> bytes:
        """So many octets."""
        data = b""
        while len(data) < size:
            # a socket's own timeout begins again with every octet
            self.connection.settimeout(max(self.give_up - time.monotonic(), 0.001))
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise _refused(self.via, "cut-off")
            data += piece
        return data


def _http(said: _Said, host: str, port: int, login: str | None) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if login:
        lines.append(f"Proxy-Authorization: {login}")
    said.connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # one octet at a time: what follows the header belongs to the mail server
        head += said.exactly(1)
        if len(head) > _HEADER_LIMIT:
            raise _refused(said.via, "cut-off")
    status = head.split(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise _refused(said.via, status[:100])


def _socks(said: _Said, host: str, port: int, user: str, password: str) -> None:
    said.connection.sendall(b"\x05\x02\x00\x02" if user else b"\x05\x01\x00")
    version, method = said.exactly(2)
    if version == 5 and method == 2 and user:
        name, secret = user.encode()[:255], password.encode()[:255]
        said.connection.sendall(b"\x01" + bytes([len(name)]) + name + bytes([len(secret)]) + secret)
        if said.exactly(2)[1]:
            raise _refused(said.via, "SOCKS 5: authentication failed")
    elif (version, method) != (5, 0):
        raise _refused(said.via, "SOCKS 5: no acceptable method")
    named = host.encode("idna") if not host.isascii() else host.encode()
    said.connection.sendall(b"\x05\x01\x00\x03" + bytes([len(named)]) + named + port.to_bytes(2, "big"))
    reply = said.exactly(4)
    if reply[1]:
        raise _refused(said.via, f"SOCKS 5: reply {reply[1]}")
    length = {1: 4, 4: 16}.get(reply[3]) or said.exactly(1)[0]
    said.exactly(length + 2)
