"""Fetching what certificates point to (RFC 5280 §4.2.1.13, §4.2.2.1), with little trust in who wrote the URL.

Only http and https; bounded in size, time and redirects; unless allowed, no request goes to loopback,
private or otherwise special addresses, whatever the name says: the address checked is the one connected to.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from medmail_cli.errors import MedmailError

_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class Limits:
    """What one fetch may cost: octets, seconds for all of it, redirects."""

    size: int = 64 << 20
    seconds: float = 30.0
    redirects: int = 3
    allow_private: bool = False


_DEFAULT = Limits()


def fetch(url: str, limits: Limits = _DEFAULT) -> bytes:
    """The body behind an http(s) URL.

    Raises ``address-refused`` (another scheme, a special address, too many redirects), ``too-large``,
    ``server-unreachable`` (also for timeouts and any status but 200) and ``server-untrusted``.
    """
    give_up = time.monotonic() + limits.seconds
    for _ in range(limits.redirects + 1):
        status, location, body = _get(url, limits, give_up)
        if status == http.client.OK:
            return body
        if status not in _REDIRECTS or not location:
            raise MedmailError("server-unreachable", host=url, reason=f"HTTP {status}")
        try:
            url = urljoin(url, location)
        except ValueError:
            raise MedmailError("address-refused", url=location) from None
    raise MedmailError("address-refused", url=url)


def _get(url: str, limits: Limits, give_up: float) -> tuple[int, str, bytes]:
    parts = _parts(url)
    secure = parts.scheme == "https"
    try:
        port = parts.port or (443 if secure else 80)
    except ValueError:
        raise MedmailError("address-refused", url=url) from None
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, port)
    try:
        connected = _connect(host, port, url, limits, give_up)
        if secure:
            context = ssl.create_default_context()
            connected = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
        connection.sock = connected
        with _deadline(connected, give_up):
            if isinstance(connected, ssl.SSLSocket):
                connected.do_handshake()
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"User-Agent": "medmail", "Connection": "close"})
            with connection.getresponse() as response:
                return response.status, response.getheader("Location") or "", _read(response, url, limits)
    except ssl.SSLCertVerificationError as error:
        raise MedmailError("server-untrusted", host=host, detail=error.verify_message) from None
    except TimeoutError:
        raise MedmailError("server-unreachable", host=host, reason="timed-out") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError: http.client's own refusal of a target with control characters
        raise MedmailError("server-unreachable", host=host, reason=str(error) or "cut-off") from None
    finally:
        connection.close()


@contextlib.contextmanager
def _deadline(connected: socket.socket, give_up: float) -> Iterator[None]:
    """Bound the whole exchange: a socket's own timeout begins again with every octet of a slow server."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_left(give_up), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError  # an answer without a length looks whole when it is cut


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise MedmailError("address-refused", url=url) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise MedmailError("address-refused", url=url)
    return parts


def _connect(host: str, port: int, url: str, limits: Limits, give_up: float) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not limits.allow_private and not all(_public(str(address[4][0])) for address in found):
        raise MedmailError("address-refused", url=url)
    problem: OSError = OSError(host)
    for family, kind, protocol, _name, address in found:
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(_left(give_up))
            connected.connect(address)
            return connected
        except OSError as error:
            connected.close()
            problem = error
    raise problem


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if inside is not None:
            ip = inside
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _left(give_up: float) -> float:
    left = give_up - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(response: http.client.HTTPResponse, url: str, limits: Limits) -> bytes:
    body = response.read(limits.size + 1)
    if len(body) > limits.size:
        raise MedmailError("too-large", what=url, size=len(body), limit=limits.size)
    if response.length:
        # read(n) gives what came before the connection was cut, without a word
        raise http.client.IncompleteRead(b"", response.length)
    return body
