"""Reaching a mail server through a proxy, which alone looks its name up."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from tests.support.cli import medmail
from tests.support.imapserver import ImapServer
from tests.support.listening import HOST
from tests.support.servers import sample


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data))
    return data


def shovel(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxy(kind: str, target: int, asked: list[str], refuse: bool = False) -> Iterator[str]:
    """A proxy that leads everything to ``target`` and notes what it was asked for."""

    def serve(client: socket.socket) -> None:
        if kind == "http":
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            asked.extend(head.decode().split("\r\n"))
            client.sendall(b"HTTP/1.1 403 No\r\n\r\n" if refuse else b"HTTP/1.1 200 Yes\r\nVia: x\r\n\r\n")
        else:
            methods = exactly(client, exactly(client, 2)[1])
            client.sendall(b"\x05\x02" if 2 in methods else b"\x05\x00")
            if 2 in methods:
                name = exactly(client, exactly(client, 2)[1])
                asked.append((name + b":" + exactly(client, exactly(client, 1)[0])).decode())
                client.sendall(b"\x01\x00")
            length = exactly(client, 5)[4]
            asked.append(exactly(client, length).decode())
            exactly(client, 2)
            client.sendall(b"\x05" + bytes([5 if refuse else 0]) + b"\x00\x01" + bytes(6))
        if refuse:
            client.close()
            return
        with socket.create_connection((HOST, target)) as server, client:
            back = threading.Thread(target=shovel, args=(server, client), daemon=True)
            back.start()
            shovel(client, server)
            back.join(5)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        login = "user:pass%20word@" if kind != "socks5" else ""
        yield f"{kind}://{login}{HOST}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ["http", "socks5h", "socks5"])
def test_by_proxy(tmp_path: Path, kind: str) -> None:
    from cryptography import x509

    asked: list[str] = []
    names = [x509.DNSName("imap.hidden.test")]
    with (
        ImapServer(tmp_path / "server", [sample(1)], names=names).running() as server,
        proxy(kind, server.port, asked) as url,
    ):
        account = server.account() | {"proxy": url}
        account["imap"] = {"host": "imap.hidden.test", "port": 993, "security": "tls"}
        (tmp_path / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": account}}))
        done = medmail(tmp_path, "fetch", "--json")
        assert done.exit == 0, done.stderr
        assert done.objects[-1]["counts"] == {"message": 1, "new": 1, "folder": 1, "done": 1}
    assert any("imap.hidden.test" in line for line in asked)
    if kind == "socks5h":
        assert "user:pass word" in asked
    if kind == "http":
        assert "Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=" in asked


@pytest.mark.parametrize("kind", ["http", "socks5h"])
def test_a_proxy_that_refuses(tmp_path: Path, kind: str) -> None:
    with proxy(kind, 1, [], refuse=True) as url:
        account = {
            "address": "bob@hosp.test",
            "imap": {"host": "imap.hidden.test", "port": 993},
            "proxy": url,
            "password-file": "password",
        }
        (tmp_path / "password").write_text("secret\n")
        (tmp_path / "config.toml").write_text(tomli_w.dumps({"accounts": {"work": account}}))
        done = medmail(tmp_path, "fetch", "--json")
    assert (done.exit, done.objects[0]["code"]) == (75, "server-unreachable")
    assert "pass word" not in done.stderr
