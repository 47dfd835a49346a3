"""Servers that certificates name, and what they may try: special addresses, endless answers, slowness."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.transport.http import Limits, _public, fetch

HERE = Limits(seconds=0.6, size=100_000, allow_private=True)
Answer = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers every connection with a function; gives its URL."""
    listeners: list[socket.socket] = []

    def start(answer: Answer) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4096)
                    try:
                        answer(peer)
                    except OSError:
                        continue  # the client has had enough

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/x.crl"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def code_of(url: str, limits: Limits = HERE) -> str:
    with pytest.raises(MedmailError) as caught:
        fetch(url, limits)
    return caught.value.code


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_comes_whole(serve: Callable[[Answer], str]) -> None:
    sized = serve(lambda peer: peer.sendall(head("HTTP/1.1 200 OK", "Content-Length: 5") + b"hello"))
    assert fetch(sized, HERE) == b"hello"
    unsized = serve(lambda peer: peer.sendall(head("HTTP/1.0 200 OK") + b"hello"))
    assert fetch(unsized, HERE) == b"hello"
    chunked = serve(
        lambda peer: peer.sendall(
            head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
        )
    )
    assert fetch(chunked, HERE) == b"hello"


def test_a_body_cut_short_is_no_body(serve: Callable[[Answer], str]) -> None:
    url = serve(lambda peer: peer.sendall(head("HTTP/1.1 200 OK", "Content-Length: 50") + b"hello"))
    assert code_of(url) == "server-unreachable"
    url = serve(
        lambda peer: peer.sendall(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"50\r\nhello")
    )
    assert code_of(url) == "server-unreachable"


def test_an_endless_body_ends(serve: Callable[[Answer], str]) -> None:
    def endless(peer: socket.socket) -> None:
        peer.sendall(head("HTTP/1.1 200 OK"))
        while True:
            peer.sendall(b"x" * 65536)

    assert code_of(serve(endless)) == "too-large"


@pytest.mark.parametrize(
    "opening", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n"]
)
def test_a_slow_server_has_no_more_time_than_a_dead_one(
    serve: Callable[[Answer], str], opening: bytes
) -> None:
    def drip(peer: socket.socket) -> None:
        peer.sendall(opening)
        for _ in range(60):
            time.sleep(0.1)
            peer.sendall(b"a")

    started = time.monotonic()
    assert code_of(serve(drip)) == "server-unreachable"
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", head("HTTP/1.1 500 no"), head("HTTP/1.1 302 Found"), b"\0" * 70_000]
)
def test_what_is_no_answer(serve: Callable[[Answer], str], answer: bytes) -> None:
    assert code_of(serve(lambda peer: peer.sendall(answer))) == "server-unreachable"


@pytest.mark.parametrize(
    "place",
    ["file:///etc/passwd", "ftp://x.test/", "http://a:b@x.test/", "gopher://x", "http://[::1", "http://:80/"],
)
def test_other_places_are_refused_and_not_redirected_to(serve: Callable[[Answer], str], place: str) -> None:
    assert code_of(place) == "address-refused"
    url = serve(lambda peer: peer.sendall(head("HTTP/1.1 302 Found", f"Location: {place}")))
    assert code_of(url) == "address-refused"


LOCAL = [
    "127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.1.2.3",  # noqa: S104
    "2130706433",  # 127.0.0.1 as one number, as the resolver takes it
]  # fmt: skip


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_and_private_networks_are_not_asked(host: str) -> None:
    assert code_of(f"http://{host}/x", Limits(seconds=0.5)) == "address-refused"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("193.0.6.139", True),
        ("2001:67c:2e8:22::c100:68b", True),
        ("192.168.1.1", False),
        ("172.16.0.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::", False),
        ("64:ff9b::7f00:1", False),  # loopback behind a translator
        ("2002:7f00:1::", False),  # and behind 6to4
        ("::ffff:10.0.0.1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert _public(address) is public
