"""Fetching what certificates point to (RFC 5280 §4.2.1.13, §4.2.2.1), with little trust in who wrote the URL.

Only http and https; bounded in size, time and redirects; unless allowed, no request goes to loopback,
private or otherwise special addresses, whatever the name says: the address checked is the one connected to.
Through a proxy (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) it is the proxy that looks names up, so that only what
can be known here is checked; the proxy itself may stand anywhere. No cookies, no logins.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from medmail_cli.errors import MedmailError
from medmail_cli.transport import proxy, tls, trace

_REDIRECTS = {301, 302, 303, 307, 308}
_LOCAL_NAMES = ("localhost", "local", "internal", "home.arpa", "lan", "intranet", "private", "corp", "home")
"""Ends of names that mean something in one network alone (RFC 6761, 6762, 8375, and by custom)."""


@dataclass(frozen=True)
class Limits:
    """What one fetch may cost: octets, seconds for all of it, redirects."""

    size: int = 64 << 20
    seconds: float = 30.0
    redirects: int = 3
    allow_private: bool = False


@dataclass(frozen=True)
class Form:
    """What to POST, and its media type."""

    body: bytes
    content_type: str


_DEFAULT = Limits()


def fetch(url: str, limits: Limits = _DEFAULT, form: Form | None = None) -> bytes:
    """The body behind an http(s) URL, by GET, or by POST of ``form``.

    Raises ``address-refused`` (another scheme, a special address, too many redirects), ``too-large``,
    ``server-unreachable`` (also for timeouts and any status but 200) and ``server-untrusted``.
    """
    give_up = time.monotonic() + limits.seconds
    for _ in range(limits.redirects + 1):
        status, location, body = _exchange(url, limits, form, give_up)
        if status == http.client.OK:
            return body
        if status not in _REDIRECTS or not location or (form and status == http.client.SEE_OTHER):
            raise MedmailError("server-unreachable", host=url, reason=f"HTTP {status}", status=status)
        try:
            url = urljoin(url, location)
        except ValueError:
            raise MedmailError("address-refused", url=location) from None
    raise MedmailError("address-refused", url=url)


def host_of(url: str) -> str:
    """Host and port behind a URL, as the name of one server. Raises ``address-refused``."""
    parts = _parts(url)
    return f"{parts.hostname}:{_port(parts, url)}"


def _exchange(url: str, limits: Limits, form: Form | None, give_up: float) -> tuple[int, str, bytes]:
    parts = _parts(url)
    host, port = parts.hostname or "", _port(parts, url)
    connection = http.client.HTTPConnection(host, port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"User-Agent": "medmail", "Connection": "close"}
    if form is not None:
        headers["Content-Type"] = form.content_type
    try:
        via = proxy.from_environment(parts.scheme, host)
        if via is None:
            connected = _straight(host, port, url, limits, give_up)
        else:
            _check_unseen(host, port, url, limits, give_up)
            asked = proxy.parse(via)
            if asked.scheme == "http" and parts.scheme == "http":
                connected = proxy.to(asked, _left(give_up))
                target = f"http://{parts.netloc}{target}"
                if login := proxy.authorization(asked):
                    headers["Proxy-Authorization"] = login
            else:
                connected = proxy.connect(host, port, _left(give_up), via)
        connection.sock = connected
        with _deadline(connected, give_up):
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(connected, server_hostname=host.removesuffix("."))
            method, body = ("GET", None) if form is None else ("POST", form.body)
            trace.sent(f"{host}:{port}", f"{method} {target} {trace.octets(body or b'')}")
            connection.request(method, target, body, headers)
            with connection.getresponse() as response:
                content = _read(response, url, limits)
                trace.received(f"{host}:{port}", f"{response.status} {trace.octets(content)}")
                return response.status, response.getheader("Location") or "", content
    except OSError as error:
        raise tls.explained(error, host, ours=False) from None
    except (http.client.HTTPException, ValueError):
        # ValueError: http.client's own refusal of a target with control characters
        raise MedmailError("server-unreachable", host=host, reason="not-http") from None
    finally:
        connection.close()


@contextlib.contextmanager
def _deadline(connected: socket.socket, give_up: float) -> Iterator[None]:
    """Bound the whole exchange: a socket's own timeout begins again with every octet of a slow server."""
    late = threading.Event()
    # TLS takes the socket over: what is cut is the connection itself
    cord = connected.dup()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            cord.shutdown(socket.SHUT_RDWR)

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
        timer.join()
        cord.close()
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


def _port(parts: SplitResult, url: str) -> int:
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise MedmailError("address-refused", url=url) from None


def _straight(host: str, port: int, url: str, limits: Limits, give_up: float) -> socket.socket:
    addresses = proxy.look_up(host, port, _left(give_up))
    _check(addresses, url, limits)
    return proxy.reach(addresses, _left(give_up))


def _check_unseen(host: str, port: int, url: str, limits: Limits, give_up: float) -> None:
    """Refuse what is known here to be private, before a proxy is asked for it.

    Behind a proxy names often mean nothing here: then those that can only be private are refused.
    """
    if limits.allow_private:
        return
    try:
        # half of the time, so that a look-up that never ends leaves some for the proxy
        addresses = proxy.look_up(host, port, _left(give_up) / 2)
    except OSError:
        name = host.rstrip(".").lower()
        if "." not in name or name.endswith(tuple(f".{end}" for end in _LOCAL_NAMES)):
            raise MedmailError("address-refused", url=url) from None
    else:
        _check(addresses, url, limits)


def _check(addresses: Sequence[proxy.Found], url: str, limits: Limits) -> None:
    if not limits.allow_private and not all(_public(str(address[4][0])) for address in addresses):
        raise MedmailError("address-refused", url=url)


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if inside is not None:
            ip = inside
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that is given to anybody (RFC 4291 §2.4); site-local and IPv4-compatible ones lie outside."""
_NOT_PUBLIC = [ipaddress.ip_network(network) for network in ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")]
"""Special purposes (RFC 6890, 7526, 9637) that some versions of ``ipaddress`` take for public."""


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
