"""Servers that certificates name, and what they may try: special addresses, endless answers, slowness."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.transport.http import Form, Limits, _public, fetch
from tests.support import pki

HERE = Limits(seconds=0.6, size=100_000, allow_private=True)
Answer = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def no_proxy_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy the machine has, these servers are asked straight."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def request(peer: socket.socket) -> bytes:
    """What a client asks: its head, and a body whose length it tells."""
    got = peer.recv(4096)
    for line in got.lower().split(b"\r\n"):
        if line.startswith(b"content-length: "):
            while len(got.partition(b"\r\n\r\n")[2]) < int(line[16:]):
                got += peer.recv(4096)
    return got


@pytest.fixture
def asked() -> list[bytes]:
    """What was asked of the servers."""
    return []


@pytest.fixture
def serve(asked: list[bytes]) -> Iterator[Callable[[Answer], str]]:
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
                    asked.append(request(peer))
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
    given_up = threading.Event()

    def drip(peer: socket.socket) -> None:
        peer.sendall(opening)
        try:
            for _ in range(1000):
                time.sleep(0.1)
                peer.sendall(b"a")
        except OSError:
            given_up.set()

    assert code_of(serve(drip)) == "server-unreachable"
    assert given_up.wait(120)  # long before it had come to its end


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
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b:1::7f00:1", False),
        ("fec0::1", False),
        ("3fff::1", False),
        ("192.0.0.8", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert _public(address) is public


def test_a_form_is_posted_and_again_where_the_server_sends_on(
    serve: Callable[[Answer], str], asked: list[bytes]
) -> None:
    def answer(peer: socket.socket) -> None:
        moved = head("HTTP/1.1 307 There", "Location: /ocsp", "Content-Length: 0")
        peer.sendall(moved if len(asked) == 1 else head("HTTP/1.1 200 OK", "Content-Length: 2") + b"ok")

    assert fetch(serve(answer), HERE, Form(b"question", "application/ocsp-request")) == b"ok"
    assert [one.split(b" HTTP")[0] for one in asked] == [b"POST /x.crl", b"POST /ocsp"]
    assert all(one.endswith(b"question") and b"application/ocsp-request" in one for one in asked)
    url = serve(lambda peer: peer.sendall(head("HTTP/1.1 303 See", "Location: /other", "Content-Length: 0")))
    with pytest.raises(MedmailError, match="303"):
        fetch(url, HERE, Form(b"question", "application/ocsp-request"))


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    over, answered = threading.Event(), threading.Event()

    def look_up(*_args: object, **_options: object) -> None:
        over.wait(300)
        answered.set()

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert code_of("http://slow.test/x", Limits(seconds=0.3)) == "server-unreachable"
    assert not answered.is_set()
    over.set()


def test_a_name_means_one_address_when_it_is_checked_and_when_it_is_asked(
    serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second look-up would give this machine, but there is none."""
    port = int(
        serve(lambda peer: peer.sendall(head("HTTP/1.1 200 OK") + b"secret")).split(":")[2].split("/")[0]
    )
    answers = iter(["192.0.2.1", "127.0.0.1"])

    def looked_up(*_args: object, **_options: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr("medmail_cli.transport.http._public", lambda address: address == "192.0.2.1")
    assert code_of(f"http://rebound.test:{port}/x", Limits(seconds=0.3)) == "server-unreachable"
    assert next(answers) == "127.0.0.1"


# --- through a proxy ----------------------------------------------------------------------------------------


def test_the_proxy_of_the_environment_is_asked(
    serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def proxy() -> None:
        for _ in range(2):
            peer, _address = listener.accept()
            with peer:
                heard.append(request(peer).decode())
                peer.sendall(head("HTTP/1.1 200 OK", "Content-Length: 3") + b"crl")

    thread = threading.Thread(target=proxy, daemon=True)
    thread.start()
    monkeypatch.setenv("http_proxy", f"http://me:s%20s@127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("no_proxy", "straight.example")
    # behind a proxy names need mean nothing here, and the proxy itself may be private
    assert fetch("http://pki.example/a?b=c", Limits(seconds=5)) == b"crl"
    lines = heard[0].split("\r\n")
    assert lines[0] == "GET http://pki.example/a?b=c HTTP/1.1"
    assert "Host: pki.example" in lines
    assert "Proxy-Authorization: Basic bWU6cyBz" in lines
    assert (
        fetch("http://pki.example/ocsp", Limits(seconds=5), Form(b"?", "application/ocsp-request")) == b"crl"
    )
    assert heard[1].startswith("POST http://pki.example/ocsp HTTP/1.1\r\n")
    # neither what NO_PROXY names nor what is known to be private
    assert code_of("http://straight.example/x", Limits(seconds=5)) == "server-unreachable"
    for private in (*LOCAL, "intranet", "ca.corp", "ca.home.arpa."):
        assert code_of(f"http://{private}/x", Limits(seconds=1)) == "address-refused", private
    listener.close()
    assert len(heard) == 2


@pytest.mark.parametrize("proxy", ["ftp://x", "http://[::1", "http://x:99999", "https://x"])
def test_what_is_no_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    assert code_of("http://pki.example/", Limits(seconds=1)) == "server-unreachable"


def test_https_goes_through_the_proxy_unseen_and_the_systems_anchors_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pki.make_ca("Web Root", key_type="p256")
    certificate, key = pki.issue(root, "pki.example", "server", "p256")
    (tmp_path / "server.pem").write_bytes(pki.pem(certificate, key))
    (tmp_path / "root.pem").write_bytes(pki.pem(root.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[str] = []

    def proxy() -> None:
        while True:
            try:
                peer, _address = listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                heard.append(peer.recv(4096).decode().split("\r\n")[0])
                peer.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
                with context.wrap_socket(peer, server_side=True) as secured:
                    heard.append(secured.recv(4096).decode().split("\r\n")[0])
                    secured.sendall(head("HTTP/1.1 200 OK", "Content-Length: 3") + b"crl")

    threading.Thread(target=proxy, daemon=True).start()
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{listener.getsockname()[1]}")
    assert code_of("https://pki.example/x", Limits(seconds=5)) == "server-untrusted"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    assert fetch("https://pki.example/x", Limits(seconds=5)) == b"crl"
    assert heard == ["CONNECT pki.example:443 HTTP/1.1"] * 2 + ["GET /x HTTP/1.1"]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
