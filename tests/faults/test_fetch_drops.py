"""Fetching from a server that cuts off, or lies: what has come is kept, and the next run completes it."""

import json
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.cli import medmail
from tests.support.imapserver import PHASES, ImapServer
from tests.support.servers import sample

MESSAGES = [sample(n, 3000) for n in range(9)]


def stored(home: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (home / "mail").glob("work/INBOX/*/*.medmail*"))


def complete(home: Path, server: ImapServer) -> None:
    server.cut, server.answers = None, {}
    done = medmail(home, "fetch", "--json")
    assert done.exit == 0, done.stderr
    assert stored(home) == sorted(MESSAGES)
    assert len(medmail(home, "inbox", "--json").objects) == len(MESSAGES) + 1
    assert medmail(home, "audit", "verify").exit == 0


@pytest.mark.parametrize("phase", PHASES)
def test_a_server_that_cuts_off(tmp_path: Path, phase: str) -> None:
    with ImapServer(tmp_path / "server", MESSAGES, cut=phase).running() as server:
        home = server.write_config(tmp_path / "home")
        cut = medmail(home, "fetch", "--json")
        # what does not come by the hundred is asked for singly, over another connection
        assert cut.exit == (0 if phase in ("between", "before-end", "logout") else 75), cut.stdout
        # whatever had come whole was not thrown away
        kept = {"between": 9, "before-end": 9, "logout": 9}.get(phase, 0)
        assert len(stored(home)) == kept
        complete(home, server)
        again = medmail(home, "fetch", "--json")
        assert [(one["type"], one["exit"], one.get("new")) for one in again.objects] == [
            ("folder", 0, 0),
            ("result", 0, None),
        ]


LIES: dict[str, tuple[dict[str, bytes], int, str]] = {
    "bye": ({"greeting": b"* BYE too busy\r\n"}, 75, "server-busy"),
    "http": ({"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, 1, "server-answer-malformed"),
    "no end of line": ({"greeting": b"x" * (17 << 20)}, 1, "server-answer-malformed"),
    "login refused": (
        {"AUTHENTICATE": b"TAG NO [AUTHENTICATIONFAILED] \x1b[31mno\r\n"},
        4,
        "login-refused",
    ),
    "login later": ({"AUTHENTICATE": b"TAG NO [UNAVAILABLE] later\r\n"}, 75, "server-busy"),
    "no way to log in": (
        {"CAPABILITY": b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\nTAG OK\r\n"},
        4,
        "no-login-mechanism",
    ),
    "no folder": ({"EXAMINE": b"TAG NO [NONEXISTENT] no\r\n"}, 1, "not-found"),
    "no uidvalidity": ({"EXAMINE": b"* 3 EXISTS\r\nTAG OK\r\n"}, 1, "server-answer-malformed"),
    "uids that are no numbers": (
        {"UID SEARCH": b"* SEARCH 1 two\r\nTAG OK\r\n"},
        1,
        "server-answer-malformed",
    ),
    "huge literal": (
        {"UID FETCH": b"* 1 FETCH (UID 1 BODY[] {99999999999999999999}\r\n"},
        1,
        "server-answer-malformed",
    ),
    "deep": ({"UID FETCH": b"* 1 FETCH " + b"(" * 5000 + b"\r\n"}, 1, "server-answer-malformed"),
    "no list": ({"UID FETCH": b"* 1 FETCH (UID 1\r\nTAG OK\r\n"}, 1, "server-answer-malformed"),
    "other tag": ({"UID FETCH": b"X9 OK\r\n"}, 1, "server-answer-malformed"),
    "fetch refused": ({"UID FETCH": b"TAG NO cannot\r\n"}, 1, "server-refused"),
    "endless": ({"UID FETCH": b"* OK still here\r\n" * 100_001}, 1, "server-answer-malformed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies(tmp_path: Path, lie: str) -> None:
    answers, exit_, code = LIES[lie]
    with ImapServer(tmp_path / "server", MESSAGES, answers=answers).running() as server:
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--json")
        assert done.exit == exit_
        if lie == "fetch refused":
            # of each message by itself: the server may be well, and the messages are not
            refused = [(one["uid"], one["error"]) for one in done.objects if one["type"] == "message"]
            assert refused == [(n + 1, code) for n in range(len(MESSAGES))]
        else:
            # the whole run's, where a result tells of folders as where there is nothing else to tell
            last = done.objects[-1]
            assert (last["error"]["code"] if last["type"] == "result" else last["code"]) == code
        assert "\x1b" not in done.stdout + done.stderr
        assert not stored(home)
        complete(home, server)


def test_what_nobody_asked_for_is_not_taken(tmp_path: Path) -> None:
    # a UID never asked for, one twice, and one that is gone
    lies = b"* 9 FETCH (UID 4242 BODY[] {3}\r\nabc)\r\n" + b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n" * 2
    with ImapServer(
        tmp_path / "server", MESSAGES, answers={"UID FETCH": lies + b"TAG OK\r\n"}
    ).running() as server:
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--json")
        # what it names and does not give is told of
        assert done.exit == 3
        assert stored(home) == [b"abc"]


def test_a_name_that_is_not_the_servers(tmp_path: Path) -> None:
    server = ImapServer(tmp_path / "server", MESSAGES, names=[x509.DNSName("other.test")])
    with server.running():
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--json")
        assert done.exit == 5
        assert done.objects[0]["code"] == "server-untrusted"
        assert not server.commands


def test_folder_names_stay_in_their_place(tmp_path: Path) -> None:
    listed = b'* LIST () "/" "../../../escaped"\r\n* LIST () "/" "&AOk-t&AOk- / \xff..."\r\nTAG OK\r\n'
    with ImapServer(tmp_path / "server", MESSAGES, answers={"LIST": listed}).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch", "--all-folders").exit == 0
        assert not (tmp_path / "escaped").exists()
        folders = {
            json.loads(line).get("folder") for line in medmail(home, "inbox", "--json").stdout.splitlines()
        }
        assert folders == {"../../../escaped", "été / \ufffd...", None}
        assert len(list((home / "mail" / "work").glob("*/new/*"))) == 18
