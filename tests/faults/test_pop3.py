"""POP3 servers that lie, stall, break off and repeat themselves: nothing is lost, and nothing comes twice."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.session import Options, Session
from medmail_cli.transport import pop3
from medmail_cli.transport.mailserver import TooLarge
from medmail_cli.wiring.accounts import mail_server, source_of
from medmail_cli.workflows.mail.fetch import fetch
from medmail_cli.workflows.mail.fetched import FetchedMessage, Stores
from tests.support.cli import medmail
from tests.support.pop3server import Act, Peer, Pop3Server, stuffed
from tests.support.servers import sample

MESSAGES = [sample(n, 3000) for n in range(1, 6)]


def stored(home: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (home / "mail" / "work" / "INBOX" / "new").iterdir())


def wired(messages: list[bytes]) -> list[bytes]:
    """Messages as they are once a wire has given them their line ends."""
    return sorted(message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for message in messages)


def test_each_letter_once_and_none_is_deleted(tmp_path: Path) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES).running() as server:
        home = server.write_config(tmp_path / "home")
        first = medmail(home, "fetch", "--json")
        assert (first.exit, first.objects[-1]["counts"]["new"]) == (0, 5)
        assert stored(home) == wired(MESSAGES)
        assert medmail(home, "fetch", "--json").objects[-1]["counts"] == {"folder": 1, "done": 1}
        server.messages = [*MESSAGES, sample(9)]
        assert medmail(home, "fetch", "--json").objects[-1]["counts"]["new"] == 1
        retrieved = [line for line in server.commands if line.startswith(b"RETR")]
        assert sorted(retrieved) == [b"RETR %d" % n for n in range(1, 7)]
        assert not [line for line in server.commands if line.startswith(b"DELE")]


def test_what_another_program_took_away_here_does_not_come_again(tmp_path: Path) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        next((home / "mail" / "work" / "INBOX" / "new").iterdir()).unlink()
        server.messages = [*MESSAGES, sample(9)]
        assert medmail(home, "fetch", "--json").objects[-1]["counts"]["new"] == 1
        assert len(stored(home)) == 5


@pytest.mark.parametrize(
    "ids", [[b"a"] * 5, [b"x" * 70, b"x" * 69 + b"!", b"#", b"~", b"%"], [b"1", b"2", b"3", b"4", b"5"]]
)
def test_odd_long_and_repeated_ids_lose_nothing(tmp_path: Path, ids: list[bytes]) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES, ids).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == wired(MESSAGES)
        assert medmail(home, "fetch", "--json").objects[-1]["counts"] == {"folder": 1, "done": 1}


def refusing(number: int, reply: bytes) -> Act:
    def act(peer: Peer, rest: bytes) -> None:
        peer.send(reply if int(rest) == number else b"+OK\r\n" + stuffed(MESSAGES[int(rest) - 1]) + b".\r\n")

    return act


@pytest.mark.parametrize("reply", [b"-ERR cannot\r\n", b"-ERR\r\n", b"-ERR [SYS/PERM] broken file\r\n"])
def test_a_letter_that_is_refused_is_told_of_and_asked_for_again(tmp_path: Path, reply: bytes) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES, acts={"RETR": refusing(3, reply)}).running() as server:
        home = server.write_config(tmp_path / "home")
        assert "message id-3 of INBOX did not come" in medmail(home, "fetch").stderr
        for _ in range(2):
            done = medmail(home, "fetch", "--json")
            assert [one["status"] for one in done.objects if one.get("status") == "failed"] == ["failed"]
            assert len(stored(home)) == 4
        server.acts = {}
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == wired(MESSAGES)


def cutting(number: int, said: bytes) -> Act:
    """Say something instead of one letter, once, and end the connection."""
    left = [1]

    def act(peer: Peer, rest: bytes) -> None:
        if int(rest) == number and left:
            left.clear()
            peer.send(said)
            peer.cut()
        peer.send(b"+OK\r\n" + stuffed(MESSAGES[int(rest) - 1]) + b".\r\n")

    return act


@pytest.mark.parametrize(
    "said", [b"", b"+OK\r\n", b"+OK\r\nSubject: half", b"+OK\r\n" + MESSAGES[2], b"garbage\r\n", b"\0" * 9000]
)
def test_a_connection_that_ends_in_a_letter_is_made_again(tmp_path: Path, said: bytes) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES, acts={"RETR": cutting(3, said)}).running() as server:
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--json")
        assert done.exit == 0, done.stdout
        assert stored(home) == wired(MESSAGES)
        assert not list((home / "mail" / "work" / "INBOX" / "tmp").iterdir())


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"greeting": b"-ERR [SYS/TEMP] later\r\n"}, "server-busy"),
        ({"greeting": b"* OK IMAP4rev1\r\n"}, "server-answer-malformed"),
        ({"greeting": b"+OK " + b"x" * 20_000 + b"\r\n"}, "server-answer-malformed"),
        ({"CAPA": b"+OK\r\n" + b"x" * 5000 + b"\r\n.\r\n"}, "server-answer-malformed"),
        ({"UIDL": b"+OK\r\nno number\r\n.\r\n"}, "server-answer-malformed"),
        ({"UIDL": b"-ERR not here\r\n"}, "server-refused"),
        ({"AUTH": b"-ERR [AUTH] wrong\r\n"}, "login-refused"),
        ({"AUTH": b"-ERR [IN-USE] somebody reads it\r\n"}, "server-busy"),
        ({"AUTH": b"-ERR unknown mechanism\r\n", "PASS": b"-ERR wrong\r\n"}, "login-refused"),
        ({"AUTH": b"-ERR unknown mechanism\r\n", "PASS": b"-ERR [LOGIN-DELAY] wait\r\n"}, "server-busy"),
    ],
)
def test_what_a_server_says_is_heard(tmp_path: Path, answers: dict[str, bytes], code: str) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES, answers=answers).running() as server:
        done = medmail(server.write_config(tmp_path / "home"), "fetch", "--json")
        last = done.objects[-1]
        assert last.get("error", last)["code"] == code
        assert b"secret" not in b"".join(server.commands) or "PASS" in answers


def test_challenges_without_end_come_to_an_end(tmp_path: Path) -> None:
    def asking(peer: Peer, _rest: bytes) -> None:
        for _ in range(100):
            peer.send(b"+ !!!\r\n")
            peer.line()

    with Pop3Server(tmp_path / "server", acts={"AUTH": asking}).running() as server:
        done = medmail(server.write_config(tmp_path / "home"), "fetch", "--json")
        assert done.objects[-1]["code"] == "server-answer-malformed"


def test_a_password_is_not_said_twice_where_it_was_refused(tmp_path: Path) -> None:
    def refuse(peer: Peer, _rest: bytes) -> None:
        peer.send(b"+ \r\n")
        peer.line()
        peer.send(b"-ERR no\r\n")

    with Pop3Server(tmp_path / "server", acts={"AUTH": refuse}).running() as server:
        done = medmail(server.write_config(tmp_path / "home"), "fetch", "--json")
        assert done.objects[-1]["code"] == "login-refused"
        assert [line.split()[0] for line in server.commands] == [b"CAPA", b"AUTH"]


def test_where_a_server_knows_no_capabilities_user_and_pass_are_tried(tmp_path: Path) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES, answers={"CAPA": b"-ERR\r\n"}).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == wired(MESSAGES)
        assert [line for line in server.commands if line[:4] in (b"USER", b"PASS")] == [
            b"USER bob@hosp.test",
            b"PASS secret",
        ]


def fetched(home: Path, patience: float) -> str:
    """The code that fetching in this process ends with."""
    session = Session(Options(home=home, no_input=True))
    try:
        source = source_of(session, session.account(), None, patience=patience)
        with pytest.raises(MedmailError) as caught:
            list(fetch(source, Stores(session.mailbox, session.log, session.now)))
    finally:
        session.close()
    return caught.value.code


def dripping(peer: Peer, said: bytes) -> None:
    for octet in said:
        peer.send(bytes([octet]))
        if threading.Event().wait(0.05):
            return


@pytest.mark.parametrize(
    "act",
    [
        lambda _peer, _rest: threading.Event().wait(60),
        lambda peer, _rest: dripping(peer, b"+OK\r\n" + b"1 a\r\n" * 400),
    ],
    ids=["silent", "dripping"],
)
def test_a_server_that_never_comes_to_an_end_is_given_up(
    tmp_path: Path, act: Callable[[Peer, bytes], None]
) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES, acts={"UIDL": act}).running() as server:
        assert fetched(server.write_config(tmp_path / "home"), 0.5) == "server-unreachable"


def test_a_large_letter_goes_to_disk_and_one_that_is_too_large_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pop3, "LARGEST", 5 << 20)
    large, larger = (b"Subject: s\r\n\r\n" + b"." * size + b"\r\n" for size in (3 << 20, 6 << 20))
    with Pop3Server(tmp_path / "server", [MESSAGES[0], large, larger]).running() as server:
        home = server.write_config(tmp_path / "home")
        session = Session(Options(home=home, no_input=True))
        source = source_of(session, session.account(), None)
        events = list(fetch(source, Stores(session.mailbox, session.log, session.now)))
        session.close()
    statuses = [event.status for event in events if isinstance(event, FetchedMessage)]
    assert sorted(statuses) == ["new", "new", "too-large"]
    assert stored(home) == wired([MESSAGES[0], large])


def test_where_there_is_no_room_a_large_letter_is_read_past(tmp_path: Path) -> None:
    large = b"Subject: s\r\n\r\n" + b"x" * (3 << 20) + b"\r\n"
    with Pop3Server(tmp_path / "server", [large, MESSAGES[0]]).running() as server:
        session = Session(Options(home=server.write_config(tmp_path / "home"), no_input=True))
        with mail_server(session, session.account()) as maildrop:
            maildrop.open("INBOX")
            first, second = maildrop.fetch(["id-1", "id-2", "id-of-nobody"])
        session.close()
    assert first == ("id-1", TooLarge(len(large)))
    assert second == ("id-2", wired(MESSAGES[:1])[0])


def test_whoever_waits_leaves_the_maildrop_to_others(tmp_path: Path) -> None:
    with Pop3Server(tmp_path / "server", MESSAGES).running() as server:
        session = Session(Options(home=server.write_config(tmp_path / "home"), no_input=True))
        with mail_server(session, session.account()) as maildrop:
            before = maildrop.open("INBOX")
            with maildrop.idling(0.05) as changed:
                assert server.commands[-1] == b"QUIT" or b"UIDL" in server.commands
                assert not changed(0.2)
                server.messages = [*MESSAGES, sample(9)]
                assert changed(5.0)
            assert maildrop.open("INBOX") != before
            assert len(maildrop.news(before.end).server_ids) == 1
        session.close()
