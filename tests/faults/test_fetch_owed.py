"""Fetching from a server that leaves things out: absence proves nothing, and one thing stops no other."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medmail_cli.session import Options, Session
from medmail_cli.transport.imap import GROUP
from medmail_cli.wiring.accounts import mail_server
from tests.support.cli import medmail
from tests.support.imapserver import ImapServer, Peer, _uids
from tests.support.servers import sample

MESSAGES = [sample(n, 3000) for n in range(5)]


def stored(home: Path, folder: str = "INBOX") -> list[bytes]:
    return sorted(path.read_bytes() for path in (home / "mail" / "work" / folder).glob("*/*.medmail*"))


def giving(
    third: Callable[[bytes], bytes], *, end: bytes = b"OK done"
) -> Callable[[Peer, bytes, bytes], None]:
    """Answers UID FETCH; what is said for message 3 is ``third``'s."""

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        for uid in _uids(b"UID " + rest if not rest.startswith(b"UID") else rest):
            message = peer.server.messages[uid - 1]
            literal = b"{%d}\r\n%s" % (len(message), message)
            if b"BODY.PEEK" not in rest:
                peer.send(b"* %d FETCH (UID %d)\r\n" % (uid, uid))
            elif uid != 3:
                peer.send(b"* %d FETCH (UID %d BODY[] %s)\r\n" % (uid, uid, literal))
            elif end == b"":
                peer.cut()
            else:
                peer.send(third(literal))
                if not end.startswith(b"OK"):
                    break
        else:
            peer.send(tag + b" OK done\r\n")
            return
        peer.send(tag + b" " + end + b"\r\n")

    return act


def nothing(_literal: bytes) -> bytes:
    return b""


WITHHELD: dict[str, Callable[[bytes], bytes]] = {
    "nothing": nothing,
    "NIL": lambda _literal: b"* 3 FETCH (UID 3 BODY[] NIL)\r\n",
    "no body": lambda _literal: b"* 3 FETCH (UID 3)\r\n",
    "no UID": lambda literal: b"* 3 FETCH (BODY[] %s)\r\n" % literal,
    "another UID": lambda literal: b"* 3 FETCH (UID 33 BODY[] %s)\r\n" % literal,
}
REFUSALS = {"no": b"NO Some messages could not be FETCHed", "bad": b"BAD Command Error. 10", "cut": b""}


@pytest.mark.parametrize("way", [*WITHHELD, *REFUSALS])
def test_a_message_that_does_not_come_is_told_of_and_asked_for_again(tmp_path: Path, way: str) -> None:
    act = giving(WITHHELD.get(way, nothing), end=REFUSALS.get(way, b"OK done"))
    with ImapServer(tmp_path / "server", MESSAGES, acts={"UID FETCH": act}).running() as server:
        home = server.write_config(tmp_path / "home")
        for again in range(2):
            done = medmail(home, "fetch", "--json")
            failed = [one for one in done.objects if one.get("status") == "failed"]
            assert [(one["folder"], one["uid"], one["exit"] != 0) for one in failed] == [("INBOX", 3, True)]
            folder = next(one for one in done.objects if one["type"] == "folder")
            assert (folder["name"], folder["status"]) == ("INBOX", "incomplete")
            assert len(stored(home)) == 4
            if not again:
                assert done.exit == 3
        server.acts = {}
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == sorted(MESSAGES)
        assert medmail(home, "fetch", "--json").objects[0]["status"] == "done"


@pytest.mark.parametrize(
    "written", [b"* 3 FETCH (UID 3 RFC822 %s)\r\n", b"*  3  FETCH (UID 3 BODY[] %s)\r\n"]
)
def test_a_message_given_in_another_way_is_taken(tmp_path: Path, written: bytes) -> None:
    act = giving(lambda literal: written % literal)
    with ImapServer(tmp_path / "server", MESSAGES, acts={"UID FETCH": act}).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == sorted(MESSAGES)


def examined(exists: bytes, uidnext: bytes = b"* OK [UIDNEXT 6] n\r\n") -> bytes:
    return exists + b"* OK [UIDVALIDITY 7] ok\r\n" + uidnext + b"TAG OK done\r\n"


@pytest.mark.parametrize(
    "answers",
    [
        {"EXAMINE": examined(b"*  5  EXISTS\r\n")},
        {"EXAMINE": examined(b"")},
        {"EXAMINE": examined(b"", b"")},
        {"EXAMINE": examined(b"* 5 EXISTS\r\n* OK see {5}\r\n")},
        {"UID SEARCH": b"* SEARCH\r\nTAG OK done\r\n"},
        {"UID SEARCH": b"TAG OK done\r\n"},
        {"UID SEARCH": b"* SEARCH 1 2\r\nTAG OK done\r\n"},
        {"UID SEARCH": b'* ESEARCH (TAG "TAG") UID ALL 1:3,5,4\r\nTAG OK done\r\n'},
        {"UID SEARCH": b"* SEARCH 5 4 3 2 1 (MODSEQ 99)\r\nTAG OK done {5}\r\n"},
    ],
)
def test_exists_search_and_uidnext_are_held_against_each_other(
    tmp_path: Path, answers: dict[str, bytes]
) -> None:
    def whole(peer: Peer, tag: bytes, rest: bytes) -> None:
        giving(lambda literal: b"* 3 FETCH (UID 3 BODY[] %s)\r\n" % literal)(
            peer, tag, rest.replace(b"*", b"5")
        )

    with ImapServer(
        tmp_path / "server", MESSAGES, answers=answers, acts={"UID FETCH": whole}
    ).running() as server:
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--json")
        assert done.exit == 0, done.stdout
        assert stored(home) == sorted(MESSAGES)


def test_a_mailbox_restored_from_a_backup_is_looked_through_again(tmp_path: Path) -> None:
    with ImapServer(tmp_path / "server", MESSAGES).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        # two were lost, and another has come under the number of one of them
        other = sample(77, 3000)
        server.messages = [*MESSAGES[:3], other]
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == sorted([*MESSAGES, other])


def test_a_restored_mailbox_is_looked_through_again_though_it_has_grown_since(tmp_path: Path) -> None:
    with ImapServer(tmp_path / "server", MESSAGES).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        # the backup held three; as many as were lost have come since, and two more
        since = [sample(n, 3000) for n in (70, 71, 72, 73)]
        server.messages = [*MESSAGES[:3], *since]
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == sorted([*MESSAGES, *since])
        # and that is over: the next letter is fetched alone
        later = sample(80, 3000)
        server.messages = [*server.messages, later]
        done = medmail(home, "fetch", "--json")
        assert [(one["uid"], one["status"]) for one in done.objects if one["type"] == "message"] == [
            (8, "new")
        ]
        assert len(stored(home)) == 10


def the_next_first(peer: Peer, tag: bytes, rest: bytes) -> None:
    """Answers UID FETCH; a command that is sent without waiting for the answer is ended before it."""
    server = peer.server
    uids = list(_uids(b"UID " + rest, len(server.messages)))
    if b"HEADER.FIELDS" in rest or (len(uids) == GROUP and uids[-1] < len(server.messages)):
        other, _, command = peer.line().partition(b" ")
        if command.startswith(b"UID SEARCH"):
            numbers = b" ".join(b"%d" % (n + 1) for n in range(len(server.messages)))
            peer.send(b"* SEARCH " + numbers + b"\r\n" + other + b" OK done\r\n")
        else:
            the_next_first(peer, other, command.removeprefix(b"UID "))
    named = b"[HEADER.FIELDS (MESSAGE-ID)]" if b"HEADER.FIELDS" in rest else b"[]"
    for uid in uids:
        said = server.messages[uid - 1]
        if b"HEADER.FIELDS" in rest:
            said = b"".join(line for line in said.splitlines(True) if line.startswith(b"Message-ID"))
        peer.send(b"* %d FETCH (UID %d BODY%s {%d}\r\n%s)\r\n" % (uid, uid, named, len(said), said))
    peer.send(tag + b" OK done\r\n")


def test_what_was_asked_for_together_may_be_answered_in_any_order(tmp_path: Path) -> None:
    """RFC 3501 §5.5; Dovecot ends a search before what was asked for before it."""
    messages = [sample(n) for n in range(GROUP + 5)]
    acts = {"UID FETCH": the_next_first}
    with ImapServer(tmp_path / "server", messages, acts=acts).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == sorted(messages)
        # restored, and grown past what was lost
        since = [sample(n) for n in range(1000, 1004)]
        server.messages = [*messages[:-3], *since]
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == sorted([*messages, *since])
        assert sum(b"LOGIN" in one or b"AUTHENTICATE" in one for one in server.commands) == 2


def test_a_mailbox_restored_while_the_index_was_lost(tmp_path: Path) -> None:
    with ImapServer(tmp_path / "server", MESSAGES).running() as server:
        home = server.write_config(tmp_path / "home")
        assert medmail(home, "fetch").exit == 0
        # how far it had come is forgotten, and numbers stand in the names of files alone
        (home / "mail" / "index.db").unlink()
        since = [sample(n, 3000) for n in (70, 71)]
        server.messages = [*MESSAGES[:3], *since]
        assert medmail(home, "fetch").exit == 0
        assert stored(home) == sorted([*MESSAGES, *since])


def test_a_folder_of_any_size_is_asked_for_in_another_way(tmp_path: Path) -> None:
    def named(peer: Peer, tag: bytes, _rest: bytes) -> None:
        peer.send(b"".join(b"* %d FETCH (UID %d)\r\n" % (n, n) for n in range(1, 120_001)) + tag + b" OK\r\n")

    with ImapServer(
        tmp_path / "server",
        answers={
            "UID SEARCH": b"* SEARCH\r\nTAG OK\r\n",
            "EXAMINE": examined(b"* 120000 EXISTS\r\n", b"* OK [UIDNEXT 120001] n\r\n"),
        },
        acts={"UID FETCH": named},
    ).running() as server:
        session = Session(Options(home=server.write_config(tmp_path / "home"), no_input=True))
        with mail_server(session, session.account()) as imap:
            assert imap.open("INBOX").messages == 120_000
            assert imap.news("").server_ids == tuple(str(n) for n in range(1, 120_001))
        session.close()


def probed(server: ImapServer, home: Path, act: Callable[[Peer, bytes, bytes], None] | None) -> list[object]:
    """Fetch one letter more from a server that deals with the question about known ones in its own way."""

    def chosen(peer: Peer, tag: bytes, rest: bytes) -> None:
        if b"HEADER.FIELDS" in rest and act is not None:
            act(peer, tag, rest)
        else:
            server._fetch(peer.connection, tag, b"UID FETCH " + rest.partition(b" ")[2])

    server.acts = {"UID FETCH": chosen}
    assert medmail(home, "fetch").exit == 0
    server.messages = [*server.messages, sample(50, 3000)]
    done = medmail(home, "fetch", "--json")
    assert done.exit == 0, done.stdout
    return [one["uid"] for one in done.objects if one["type"] == "message"]


def ended(peer: Peer, _tag: bytes, _rest: bytes) -> None:
    peer.cut()


@pytest.mark.parametrize(
    "act",
    [
        None,
        ended,
        lambda peer, tag, _rest: peer.send(tag + b" BAD what?\r\n"),
        lambda peer, tag, _rest: peer.send(tag + b" OK none\r\n"),
        lambda peer, tag, _rest: peer.send(
            b"* 5 FETCH (UID 5 BODY[HEADER.FIELDS (MESSAGE-ID)] NIL)\r\n" + tag + b" OK\r\n"
        ),
        lambda peer, tag, _rest: peer.send(
            b'* 5 FETCH (UID 5 BODY[HEADER.FIELDS ("MESSAGE-ID")] "\r\n")\r\n'.replace(b'"\r\n"', b'""')
            + tag + b" OK\r\n"
        ),
        lambda peer, tag, _rest: peer.send(
            b"* 9 FETCH (UID 5 BODY[HEADER.FIELDS (Message-Id)] {34}\r\n"
            b"message-id:\r\n\t<sample-4@hosp.test>)\r\n" + tag + b" OK\r\n"
        ),
        # the whole message, as from who does not know parts of a header
        lambda peer, tag, _rest: peer.send(
            b"* 5 FETCH (UID 5 BODY[] {%d}\r\n%s)\r\n" % (len(MESSAGES[0]), MESSAGES[0]) + tag + b" OK\r\n"
        ),
    ],
    ids=["right", "cut", "BAD", "nothing", "NIL", "empty", "folded", "whole"],
)  # fmt: skip
def test_who_does_not_tell_of_known_messages_has_not_been_restored(
    tmp_path: Path, act: Callable[[Peer, bytes, bytes], None] | None
) -> None:
    with ImapServer(tmp_path / "server", MESSAGES).running() as server:
        assert probed(server, server.write_config(tmp_path / "home"), act) == [6]


def test_known_messages_that_are_gone_or_moved_tell_of_no_restoring(tmp_path: Path) -> None:
    odd = [
        b"Subject: without a number\r\n\r\nx\r\n",
        b"Message-ID: <caf\xe9\xff\xed\xa0\x80@x.test>\r\n\r\nx\r\n",
        b"Message-ID:\r\n <" + b"long " * 1000 + b"@x.test>\r\n\r\nx\r\n",
    ]
    with ImapServer(tmp_path / "server", [*MESSAGES, MESSAGES[1], *odd]).running() as server:
        home = server.write_config(tmp_path / "home")
        assert probed(server, home, None) == [10]
        for path in (home / "mail" / "work" / "INBOX" / "new").iterdir():
            if path.read_bytes() == MESSAGES[4]:
                path.unlink()
        server.messages = [*server.messages, sample(51, 3000)]
        done = medmail(home, "fetch", "--json")
        assert [one["uid"] for one in done.objects if one["type"] == "message"] == [11]


NAMES = {
    b"[Gmail]/Spam": b"[Gmail]/Spam",
    b"foo]bar": b'"foo]bar"',
    b"bar[baz": b"bar[baz",
    b"NIL": b'"NIL"',
    b'say "a\\b"': b'"say \\"a\\\\b\\""',
    b"back\\slash": b'"back\\slash"',
    "Envoyés".encode(): "Envoyés".encode(),
    b"Envoy&AOk-s": b'"Envoy&AOk-s"',
    b"&BBAEMQQyACYEMwQ0BDU-": b'"&BBAEMQQyACYEMwQ0BDU-"',
    b"R&D": b"R&D",
    b"two words\t": b"two words\t",
    b"lit\xff\r\neral": b"{10}\r\nlit\xff\r\neral",
    b"fetching": b"fetching",
}


def test_a_line_of_list_that_cannot_be_read_keeps_back_no_other_folder(tmp_path: Path) -> None:
    lines = [b'* LIST (\\HasNoChildren "/" broken', b"* LIST", b'* LIST () "/" ', b'* LIST () "/" INBOX']
    listed = b"\r\n".join([*lines, b"TAG OK done", b""])

    def examine(peer: Peer, tag: bytes, rest: bytes) -> None:
        known = rest == b'"INBOX"'
        peer.send(
            examined(b"* 5 EXISTS\r\n").replace(b"TAG", tag) if known else tag + b" NO [NONEXISTENT] no\r\n"
        )

    with ImapServer(
        tmp_path / "server", MESSAGES, answers={"LIST": listed}, acts={"EXAMINE": examine}
    ).running() as server:
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--all-folders", "--json")
        assert done.exit == 3, done.stdout
        folders = [(one["name"] == "INBOX", one["exit"]) for one in done.objects if one["type"] == "folder"]
        assert folders == [(True, 0), (False, 1), (False, 1), (False, 1)]
        assert stored(home) == sorted(MESSAGES)


def test_names_of_folders_are_sent_back_as_they_came(tmp_path: Path) -> None:
    opened = []

    def examine(peer: Peer, tag: bytes, rest: bytes) -> None:
        if literal := re.fullmatch(rb"\{(\d+)\}", rest):
            peer.send(b"+ go\r\n")
            name = peer.lines.read(int(literal[1]))
            peer.line()
        else:
            name = re.sub(rb"\\(.)", rb"\1", rest[1:-1])
        opened.append(name)
        if name == b"forbidden":
            peer.send(tag + b" NO [NOPERM] not for you\r\n")
        else:
            peer.send(examined(b"* 5 EXISTS\r\n").replace(b"TAG", tag))

    listed = b"".join(
        b'* LIST () "/" %s\r\n' % line for line in (b"Inbox", *NAMES.values(), b"forbidden", b"zzz")
    )
    with ImapServer(
        tmp_path / "server", MESSAGES, answers={"LIST": listed + b"TAG OK\r\n"}, acts={"EXAMINE": examine}
    ).running() as server:
        home = server.write_config(tmp_path / "home")
        done = medmail(home, "fetch", "--all-folders", "--json")
        assert set(opened) == {b"Inbox", *NAMES, b"forbidden", b"zzz"}
        folders = {one["name"]: one for one in done.objects if one["type"] == "folder"}
        assert len(folders) == len(NAMES) + 3
        failed = {name: one for name, one in folders.items() if one["exit"]}
        assert list(failed) == ["forbidden"]
        assert failed["forbidden"]["reason"]["reply"] == "not for you"
        assert done.exit == 3
        assert all(one["new"] == 5 for one in folders.values() if not one["exit"])
        # a person writes what is shown
        assert medmail(home, "fetch", "--folder", "[Gmail]/Spam", "--folder", "inbox").exit == 0
