"""Reaching a mail server: straight, by an HTTP proxy's CONNECT (RFC 9110 §9.3.6) or by SOCKS 5 (RFC 1928).

With ``socks5h`` and with HTTP the proxy looks the name up, so that it is not told to anybody here.
"""

import base64
import socket
from urllib.parse import unquote, urlsplit

from medmail_cli.errors import MedmailError

_HEADER_LIMIT = 16 * 1024


def connect(host: str, port: int, timeout: float, proxy: str | None = None) -> socket.socket:
    """A connected socket with ``timeout`` seconds on every operation.

    Raises OSError as the system does, and ``server-unreachable`` where the proxy refuses.
    """
    if not proxy:
        return socket.create_connection((host, port), timeout)
    parts = urlsplit(proxy)
    schemes = {"http": 8080, "socks5": 1080, "socks5h": 1080}
    if parts.scheme not in schemes or not parts.hostname:
        raise MedmailError("server-unreachable", host=parts.hostname or "proxy", reason="not-a-proxy")
    via = f"{parts.hostname}:{parts.port or schemes[parts.scheme]}"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    connection = socket.create_connection((parts.hostname, parts.port or schemes[parts.scheme]), timeout)
    try:
        if parts.scheme == "http":
            _http(connection, host, port, user, password, via)
        else:
            _socks(connection, host, port, user, password, via)
    except BaseException:
        connection.close()
        raise
    return connection


def _refused(via: str, reply: str) -> MedmailError:
    return MedmailError("server-unreachable", host=via, reason=reply)


def _http(connection: socket.socket, host: str, port: int, user: str, password: str, via: str) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if user:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {pair}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # one octet at a time: what follows the header belongs to the mail server
        octet = connection.recv(1)
        head += octet
        if not octet or len(head) > _HEADER_LIMIT:
            raise _refused(via, "cut-off")
    status = head.split(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise _refused(via, status[:100])


def _socks(connection: socket.socket, host: str, port: int, user: str, password: str, via: str) -> None:
    connection.sendall(b"\x05\x02\x00\x02" if user else b"\x05\x01\x00")
    version, method = _exactly(connection, 2, via)
    if version == 5 and method == 2 and user:
        name, secret = user.encode()[:255], password.encode()[:255]
        connection.sendall(b"\x01" + bytes([len(name)]) + name + bytes([len(secret)]) + secret)
        if _exactly(connection, 2, via)[1]:
            raise _refused(via, "SOCKS 5: authentication failed")
    elif (version, method) != (5, 0):
        raise _refused(via, "SOCKS 5: no acceptable method")
    name = host.encode("idna") if not host.isascii() else host.encode()
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    reply = _exactly(connection, 4, via)
    if reply[1]:
        raise _refused(via, f"SOCKS 5: reply {reply[1]}")
    length = {1: 4, 4: 16}.get(reply[3]) or _exactly(connection, 1, via)[0]
    _exactly(connection, length + 2, via)


def _exactly(connection: socket.socket, size: int, via: str) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise _refused(via, "cut-off")
        data += piece
    return data
