"""Fetching has an end and a size: a byte at a time, letters larger than memory, what nobody asked for."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.session import Options, Session
from medmail_cli.transport import proxy
from medmail_cli.wiring.accounts import source_of
from medmail_cli.workflows.mail.fetch import fetch
from medmail_cli.workflows.mail.fetched import Event, FetchedMessage, Stores
from tests.support.cli import MEDMAIL, medmail
from tests.support.imapserver import Act, ImapServer, Peer, _uids
from tests.support.servers import sample, until

MESSAGES = [sample(n, 3000) for n in range(3)]
MIB = 1024 * 1024
LINE = b"x" * 1022 + b"\r\n"


def stored(home: Path) -> list[Path]:
    return sorted((home / "mail" / "work" / "INBOX").glob("*/*.medmail*"))


def left(home: Path) -> list[Path]:
    return list((home / "mail" / "work" / "INBOX" / "tmp").iterdir())


def fetched(home: Path, patience: float) -> Iterator[Event]:
    """Fetch in this process, with so much patience."""
    session = Session(Options(home=home, no_input=True))
    try:
        source = source_of(session, session.account(), ("INBOX",), patience=patience)
        yield from fetch(source, Stores(session.mailbox, session.log, session.now))
    finally:
        session.close()


def trickled(peer: Peer, said: bytes) -> None:
    """A byte at a time, for as long as anybody listens."""
    for at in range(len(said)):
        peer.send(said[at : at + 1])
        # the other end has gone when it sends something, its end
        peer.connection.settimeout(0.05)
        try:
            if not peer.connection.recv(1):
                peer.cut()
        except TimeoutError:
            continue


def trickling(said: bytes) -> Act:
    return lambda peer, tag, _rest: trickled(peer, said.replace(b"TAG", tag))


ENDLESS = b"x" * 2000
TRICKLES = {
    "CAPABILITY": b"* CAPABILITY IMAP4rev1 " + ENDLESS,
    "AUTHENTICATE": b"* OK " + ENDLESS,
    "EXAMINE": b"* OK still opening\r\n" * 100,
    "UID SEARCH": b"* SEARCH " + b"1 " * 1000,
    "UID FETCH": b"* 1 FETCH (UID 1 BODY[] {3000000}\r\n" + ENDLESS,
}


@pytest.mark.parametrize("word", TRICKLES)
def test_a_byte_at_a_time_holds_nobody(tmp_path: Path, word: str) -> None:
    act = trickling(TRICKLES[word])
    with ImapServer(tmp_path / "server", MESSAGES[:1], acts={word: act}).running() as server:
        home = server.write_config(tmp_path / "home")
        events = fetched(home, patience=0.2)
        if word == "UID FETCH":
            (failed,) = [one for one in events if isinstance(one, FetchedMessage)]
            assert (failed.status, failed.error, failed.reason["reason"]) == (
                "failed",
                "server-unreachable",
                "timed-out",
            )
            assert not left(home)
        else:
            with pytest.raises(MedmailError) as caught:
                list(events)
            assert caught.value.code == "server-unreachable"
            assert caught.value.facts["reason"] == "timed-out"
        server.acts = {}
        assert medmail(home, "fetch").exit == 0
        assert [path.read_bytes() for path in stored(home)] == MESSAGES[:1]


def test_one_letter_that_comes_by_the_byte_keeps_back_no_other(tmp_path: Path) -> None:
    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        for uid in _uids(b"UID FETCH " + rest.partition(b" ")[2]):
            message = peer.server.messages[uid - 1]
            said = b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n" % (uid, uid, len(message), message)
            if uid == 2:
                trickled(peer, said)
            peer.send(said)
        peer.send(tag + b" OK\r\n")

    with ImapServer(tmp_path / "server", MESSAGES, acts={"UID FETCH": act}).running() as server:
        home = server.write_config(tmp_path / "home")
        events = list(fetched(home, patience=0.2))
        told = {one.uid: one.status for one in events if isinstance(one, FetchedMessage)}
        assert told == {1: "new", 2: "failed", 3: "new"}
        server.acts = {}
        assert medmail(home, "fetch").exit == 0
        assert sorted(path.read_bytes() for path in stored(home)) == sorted(MESSAGES)


def giving(
    sizes: list[int],
    written: bytes = b"* %d FETCH (UID %d BODY[] {%d}\r\n",
    after: Callable[[int], bytes] = lambda _uid: b"",
) -> Act:
    """Gives letters of so many lines of a KiB each, which never lie in memory whole."""

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        for uid in _uids(b"UID FETCH " + rest.partition(b" ")[2]):
            head = sample(uid)[:-64]
            values = (uid, uid, len(head) + sizes[uid - 1] * len(LINE))
            peer.send(written % values[-written.count(b"%d") :])
            peer.send(head)
            block = LINE * 64
            for _ in range(sizes[uid - 1] // 64):
                peer.send(block)
            peer.send(after(uid) + b")\r\n")
        peer.send(tag + b" OK\r\n")

    return act


PEAK = """
import atexit, pathlib, sys
def tell(place=sys.argv[1]):
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(place).write_text(status.split("VmHWM:")[1].split()[0])
atexit.register(tell)
sys.argv = ["medmail", "fetch", "--json"]
from medmail_cli.app import main
main()
"""


def peak(home: Path) -> float:
    """The memory (MiB) that a run of ``medmail fetch`` has had at most."""
    place = home / "peak"
    environment = os.environ | {"MEDMAIL_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(place)], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(place.read_text()) / 1024


@pytest.mark.parametrize("sizes", [[200 * 1024], [50 * 1024] * 5], ids=["one", "five"])
def test_large_letters_go_to_disk_and_not_to_memory(tmp_path: Path, sizes: list[int]) -> None:
    with ImapServer(tmp_path / "server", MESSAGES).running() as server:
        ordinary = peak(server.write_config(tmp_path / "other"))
    acts = {"UID FETCH": giving(sizes)}
    with ImapServer(tmp_path / "server", [b""] * len(sizes), acts=acts).running() as server:
        home = server.write_config(tmp_path / "home")
        assert peak(home) < ordinary + 24
        assert sorted(path.stat().st_size for path in stored(home)) == sorted(
            len(sample(uid)[:-64]) + size * len(LINE) for uid, size in enumerate(sizes, 1)
        )
        assert {path.parent.name for path in stored(home)} == {"new"}
        assert {path.stat().st_mode & 0o777 for path in stored(home)} == {0o600}
        listed = medmail(home, "inbox", "--json").objects[:-1]
        assert sorted(one["subject"] for one in listed) == [f"Message {n + 1}" for n in range(len(sizes))]
        assert not left(home)
        again = medmail(home, "fetch", "--json").objects
        assert [one["status"] for one in again if one["type"] == "folder"] == ["done"]


@pytest.mark.parametrize(
    ("written", "after"),
    [
        (b"* %d FETCH (UID %d RFC822 {%d}\r\n", lambda _uid: b""),
        (b"* 1 FETCH (BODY[] {%d}\r\n", lambda uid: b" UID %d" % uid),
    ],
    ids=["RFC822", "UID after it"],
)
def test_a_large_letter_is_taken_however_it_is_given(
    tmp_path: Path, written: bytes, after: Callable[[int], bytes]
) -> None:
    acts = {"UID FETCH": giving([3 * 1024] * 2, written, after)}
    with ImapServer(tmp_path / "server", [b""] * 2, acts=acts).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        assert len(stored(home)) == 2
        # under another number they are known by their bytes, and leave nothing behind
        server.uidvalidity = 8
        done = medmail(home, "fetch", "--json")
        assert [one["status"] for one in done.objects if one["type"] == "message"] == ["known"] * 2
        assert len(stored(home)) == 2
        assert not left(home)


@pytest.mark.parametrize(
    "place", ["in front", "of another UID", "told later", "again and again", "in another answer"]
)
def test_large_literals_that_nobody_asked_for_are_read_past_and_soon_enough(
    tmp_path: Path, place: str
) -> None:
    literal = b"{%d}\r\n" % (9 * MIB)

    floods: list[int] = []

    def flood(peer: Peer, before: bytes, after: bytes) -> None:
        floods.append(0)
        for _ in range(40):
            floods[-1] += 9
            peer.send(before + literal)
            for _ in range(9):
                peer.send(b"x" * MIB)
            peer.send(after)

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        if place == "in front":
            flood(peer, b"* 1 FETCH (ENVELOPE (", b") UID 1)\r\n")
        elif place == "of another UID":
            flood(peer, b"* 1 FETCH (UID 77 BODY[] ", b")\r\n")
        elif place == "again and again":
            peer.send(b"* 1 FETCH (UID 1 ")
            flood(peer, b" BODY[] ", b" ")
        elif place == "told later":
            flood(peer, b"* 1 FETCH (BODY[] ", b" UID 77)\r\n")
        else:
            flood(peer, b"* SEARCH ", b"\r\n")
        peer.send(tag + b" OK\r\n")

    word = "UID SEARCH" if place == "in another answer" else "UID FETCH"
    with ImapServer(tmp_path / "server", MESSAGES[:1], acts={word: act}).running() as server:
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--json")
        assert done.exit == 1
        assert '"server-answer-malformed"' in done.stdout
        # in MiB, of 360; what lies in buffers is not read
        assert max(floods) < 80
        assert not [path for path in home.rglob("*") if path.is_file() and path.stat().st_size > MIB]
        server.acts = {}
        assert medmail(home, "fetch").exit == 0


def test_killed_or_cut_off_in_a_large_letter(tmp_path: Path) -> None:
    whole = giving([3 * 1024])

    def half(peer: Peer, tag: bytes, rest: bytes) -> None:
        peer.send(b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % (30 * MIB) + LINE * 2048)
        # and no more, until the other end has gone
        peer.line()
        peer.cut()

    with ImapServer(tmp_path / "server", [b""], acts={"UID FETCH": half}).running() as server:
        home = server.write_config(tmp_path / "home")
        environment = os.environ | {"MEDMAIL_HOME": str(home)}
        tmp = home / "mail" / "work" / "INBOX" / "tmp"
        running = subprocess.Popen([MEDMAIL, "fetch"], env=environment, stdout=subprocess.DEVNULL)
        until(lambda: tmp.is_dir() and any(one.stat().st_size > MIB for one in tmp.iterdir()), "half", 60)
        # another command that sweeps meanwhile leaves alone what is being written
        session = Session(Options(home=home, no_input=True))
        with session.mailbox.rewrapping():
            assert left(home)
        session.close()
        running.send_signal(signal.SIGKILL)
        running.wait(30)
        assert left(home)
        server.acts = {"UID FETCH": lambda peer, _tag, _rest: peer.cut()}
        assert medmail(home, "fetch").exit == 75
        assert not left(home)
        server.acts = {"UID FETCH": whole}
        assert medmail(home, "fetch").exit == 0
        assert len(stored(home)) == 1
        assert not left(home)
        assert medmail(home, "audit", "verify").exit == 0


def test_a_disk_that_is_full_in_the_midst_of_a_large_letter(tmp_path: Path) -> None:
    import resource

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB))

    with ImapServer(tmp_path / "server", [b""], acts={"UID FETCH": giving([9 * 1024])}).running() as server:
        home = server.write_config(tmp_path / "home")
        environment = os.environ | {"MEDMAIL_HOME": str(home)}
        done = subprocess.run(
            [MEDMAIL, "fetch", "--json"], env=environment, preexec_fn=full, capture_output=True, check=False
        )
        assert done.returncode == 1
        assert b'"code": "disk-full"' in done.stdout
        assert not stored(home)
        assert not left(home)
        assert medmail(home, "fetch").exit == 0
        assert len(stored(home)) == 1


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_speaks_by_the_byte_holds_nobody(scheme: str) -> None:
    ended = threading.Event()

    def trickle(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            # a name of 255 octets; a header that has no end
            peer.sendall(b"\x05\x00\x05\x00\x00\x03\xff" if scheme == "socks5h" else b"HTTP/1.1 200 OK\r\n")
            while not ended.wait(0.05):
                peer.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, args=(listener,), daemon=True).start()
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TimeoutError):
            proxy.connect("mail.hosp.test", 993, 0.5, url)
        ended.set()
