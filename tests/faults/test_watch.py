"""Watching over what goes wrong: what passes ends nothing, nothing comes late, no password is worn out."""

import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medmail_cli.errors import exit_of
from medmail_cli.model import Note
from medmail_cli.session import Session
from medmail_cli.wiring.accounts import PATIENCE
from medmail_cli.workflows.mail.refusals import Refusals
from medmail_cli.workflows.mail.watch import Pace
from tests.support.cli import medmail
from tests.support.imapserver import Act, ImapServer, Peer
from tests.support.servers import sample
from tests.support.watching import PATIENT, QUICK, Watched, watching

IDLE = b"IMAP4rev1 AUTH=PLAIN IDLE"
NO_IDLE = b"IMAP4rev1 AUTH=PLAIN"


class Mailbox(ImapServer):
    """A server whose one folder grows while it is watched, and which announces that to who idles."""

    def __init__(
        self, folder: Path, acts: Mapping[str, Act] | None = None, capabilities: bytes = IDLE
    ) -> None:
        super().__init__(folder, [sample(1)], capabilities=capabilities)
        self.grown = threading.Event()
        self.acts = {"IDLE": idle, "AUTHENTICATE": let_in} | dict(acts or {})

    def grow(self) -> None:
        """A letter comes."""
        self.messages = [*self.messages, sample(len(self.messages) + 1)]
        self.grown.set()

    def count(self, word: bytes) -> int:
        """How often a command was given."""
        return sum(line.upper().split()[1:2] == [word] for line in self.commands)


@contextmanager
def watched(
    folder: Path,
    pace: Pace = QUICK,
    *,
    acts: Mapping[str, Act] | None = None,
    capabilities: bytes = IDLE,
    **more: Any,
) -> Iterator[tuple[Mailbox, Watched]]:
    """A server and who watches it."""
    with Mailbox(folder / "server", acts, capabilities).running() as server:
        home = server.write_config(folder / "home")
        with watching(home, pace, **more) as one:
            yield server, one


def mailbox(peer: Peer) -> Mailbox:
    assert isinstance(peer.server, Mailbox)
    return peer.server


def let_in(peer: Peer, tag: bytes, rest: bytes) -> None:
    if b" " not in rest:
        peer.send(b"+ \r\n")
        peer.line()
    peer.send(tag + b" OK in\r\n")


def idle(peer: Peer, tag: bytes, rest: bytes) -> None:
    """IDLE as it should be; in one thread, as OpenSSL takes a connection."""
    peer.send(b"+ idling\r\n")
    grown = mailbox(peer).grown
    while not select.select([peer.connection], [], [], 0.02)[0]:
        if grown.is_set():
            grown.clear()
            peer.send(b"* %d EXISTS\r\n" % len(peer.server.messages))
            break
    assert peer.line().upper() in (b"DONE", b"")
    peer.send(tag + b" OK done\r\n")


def nth(number: int, act: Act, otherwise: Act | None = None) -> Act:
    """``act`` deals with the command given for the ``number``-th time, another with all others."""
    times = iter(range(1, 1_000_000))

    def chosen(peer: Peer, tag: bytes, rest: bytes) -> None:
        (act if next(times) == number else (otherwise or ordinary))(peer, tag, rest)

    return chosen


def ordinary(peer: Peer, tag: bytes, rest: bytes) -> None:
    word = peer.server.commands[-1].split(None, 2)[1].upper().decode()
    if word == "UID":
        word = b" ".join(peer.server.commands[-1].upper().split()[1:3]).decode()
    if word == "UID FETCH":
        peer.server._fetch(peer.connection, tag, b"UID FETCH " + rest.partition(b" ")[2])
    else:
        peer.send(peer.server._ordinary(word, tag))


def saying(text: bytes) -> Act:
    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        peer.send(text.replace(b"TAG", tag))

    return act


def asked_then(text: bytes) -> Act:
    """Refuses a password after it has been said."""

    def act(peer: Peer, tag: bytes, rest: bytes) -> None:
        peer.send(b"+ \r\n")
        peer.line()
        peer.send(text.replace(b"TAG", tag))

    return act


def cut(peer: Peer, tag: bytes, rest: bytes) -> None:
    peer.cut()


def cut_in_idle(peer: Peer, tag: bytes, rest: bytes) -> None:
    peer.send(b"+ idling\r\n")
    peer.cut()


TROUBLE: dict[str, tuple[dict[str, Act], "str | None"]] = {
    "IDLE: NO": ({"IDLE": saying(b"TAG NO IDLE not available\r\n")}, None),
    "IDLE: BAD": ({"IDLE": saying(b"TAG BAD Unknown command\r\n")}, None),
    "IDLE: ended at once": ({"IDLE": saying(b"+ idling\r\nTAG OK done\r\n")}, None),
    "IDLE: a goodbye": (
        {"IDLE": nth(1, saying(b"+ idling\r\n* BYE restarting\r\n"), idle)},
        "server-busy",
    ),
    "IDLE: nonsense": (
        {"IDLE": nth(1, saying(b"+ idling\r\nnonsense\r\n"), idle)},
        "server-answer-malformed",
    ),
    "IDLE: cut off": ({"IDLE": nth(1, cut_in_idle, idle)}, "server-unreachable"),
    "one EXAMINE refused": (
        {"EXAMINE": nth(3, saying(b"TAG NO [NOPERM] not now\r\n"))},
        "server-refused",
    ),
    "one EXAMINE unavailable": (
        {"EXAMINE": nth(3, saying(b"TAG NO Server Unavailable. 15\r\n"))},
        "server-busy",
    ),
    "one folder not there": ({"EXAMINE": nth(3, saying(b"TAG NO [NONEXISTENT] what\r\n"))}, "not-found"),
    "one FETCH refused": ({"UID FETCH": nth(2, saying(b"TAG NO cannot\r\n"))}, "server-refused"),
    "one SEARCH malformed": (
        {"UID SEARCH": nth(2, saying(b"* SEARCH x\r\nTAG OK\r\n"))},
        "server-answer-malformed",
    ),
    "too many connections": (
        {
            "IDLE": nth(1, cut_in_idle, idle),
            "AUTHENTICATE": nth(
                2, asked_then(b"TAG NO [ALERT] Too many simultaneous connections.\r\n"), let_in
            ),
        },
        "server-busy",
    ),
    "a password refused once": (
        {
            "IDLE": nth(1, cut_in_idle, idle),
            "AUTHENTICATE": nth(2, asked_then(b"TAG NO AUTHENTICATE failed.\r\n"), let_in),
        },
        "login-refused",
    ),
    "no capabilities for once": (
        {
            "IDLE": nth(1, cut_in_idle, idle),
            "CAPABILITY": nth(3, saying(b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\nTAG OK\r\n")),
        },
        "no-login-mechanism",
    ),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLE)
def test_what_passes_ends_nothing(tmp_path: Path, trouble: str) -> None:
    acts, code = TROUBLE[trouble]
    with watched(tmp_path, acts=acts) as (server, one):
        one.until(lambda: one.uids == [1], "the first letter")
        if code is not None and "FETCH" not in trouble and "SEARCH" not in trouble:
            one.until(lambda: one.interrupted_by, "the trouble")
        server.grow()
        one.until(lambda: one.uids == [1, 2], "the second letter")
        assert set(one.interrupted_by) <= {code, "server-unreachable"}


def test_a_token_command_that_fails_once(tmp_path: Path) -> None:
    command = tmp_path / "token.sh"
    command.write_text(
        f'#!/bin/sh\necho x >> "{tmp_path}/n"; [ $(wc -l < "{tmp_path}/n") = 2 ] && exit 3; echo t\n'
    )
    command.chmod(0o755)
    server = Mailbox(tmp_path / "s", {"IDLE": nth(1, cut_in_idle, idle)}, b"IMAP4rev1 IDLE AUTH=XOAUTH2")
    with server.running():
        home = server.write_config(tmp_path / "h", **{"token-command": str(command)})
        with watching(home) as one:
            one.until(
                lambda: one.interrupted_by == ["server-unreachable", "secret-command-failed"], "trouble"
            )
            server.grow()
            one.until(lambda: one.uids == [1, 2], "the second letter")


def test_words_of_the_server_are_told(tmp_path: Path) -> None:
    from medmail_cli.ui import i18n

    acts = {"EXAMINE": nth(3, saying(b"TAG NO Server Unavailable. 15\r\n"))}
    with watched(tmp_path, acts=acts) as (_, one):
        one.until(lambda: one.interrupted_by, "the trouble")
        (note,) = [each for each in one.events if isinstance(each, Note)]
        assert "Server Unavailable. 15" in i18n.note(note)


def test_news_before_idle_has_begun(tmp_path: Path) -> None:
    def late(peer: Peer, tag: bytes, rest: bytes) -> None:
        mailbox(peer).grow()
        peer.send(b"* 2 EXISTS\r\n+ idling\r\n")
        assert peer.line().upper() in (b"DONE", b"")
        peer.send(tag + b" OK done\r\n")

    with watched(tmp_path, PATIENT, acts={"IDLE": nth(1, late, idle)}) as (_, one):
        one.until(lambda: one.uids == [1, 2], "the second letter")


@pytest.mark.parametrize("between", [b"* 2  EXISTS\r\n", b"* OK still here\r\n* 2 EXISTS\r\n* 1 RECENT\r\n"])
def test_news_while_idling(tmp_path: Path, between: bytes) -> None:
    def news(peer: Peer, tag: bytes, rest: bytes) -> None:
        mailbox(peer).grow()
        peer.send(b"+ idling\r\n" + between)
        assert peer.line().upper() in (b"DONE", b"")
        peer.send(tag + b" OK done\r\n")

    with watched(tmp_path, PATIENT, acts={"IDLE": nth(1, news, idle)}) as (_, one):
        one.until(lambda: one.uids == [1, 2], "the second letter")


@pytest.mark.parametrize(
    ("capabilities", "noop", "pace"),
    [
        (NO_IDLE, b"* 2 EXISTS\r\nTAG OK\r\n", replace(PATIENT, poll=0.1)),
        (NO_IDLE, b"TAG OK\r\n", replace(PATIENT, look=0.2)),  # NOOP brings no news
        (IDLE, b"TAG OK\r\n", replace(PATIENT, look=0.2)),  # nor does IDLE
    ],
)
def test_servers_that_announce_nothing(tmp_path: Path, capabilities: bytes, noop: bytes, pace: Pace) -> None:
    def deaf(peer: Peer, tag: bytes, rest: bytes) -> None:
        peer.send(b"+ idling\r\n")
        assert peer.line().upper() in (b"DONE", b"")
        peer.send(tag + b" OK done\r\n")

    def asked(peer: Peer, tag: bytes, rest: bytes) -> None:
        peer.send((noop if len(peer.server.messages) > 1 else b"TAG OK\r\n").replace(b"TAG", tag))

    acts = {"IDLE": deaf, "NOOP": asked}
    with watched(tmp_path, pace, acts=acts, capabilities=capabilities) as (server, one):
        one.until(lambda: one.uids == [1], "the first letter")
        server.grow()
        one.until(lambda: one.uids == [1, 2], "the second letter")
        assert not one.interrupted_by


def test_a_dead_connection_is_noticed(tmp_path: Path) -> None:
    over = threading.Event()

    def dead(peer: Peer, tag: bytes, rest: bytes) -> None:
        peer.send(b"+ idling\r\n")
        over.wait(60)
        peer.cut()

    with watched(tmp_path, acts={"IDLE": nth(1, dead, idle)}, patience=0.5) as (server, one):
        one.until(lambda: one.interrupted_by, "the dead connection")
        over.set()
        server.grow()
        one.until(lambda: one.uids == [1, 2], "the second letter")


def test_the_promises_hold_at_the_usual_pace() -> None:
    pace, patience = Pace(), PATIENCE
    assert pace.errands <= 60
    assert pace.poll + pace.errands <= 120  # without IDLE
    assert pace.look <= 120  # other folders, and servers that announce nothing
    assert pace.look + patience <= 180  # a dead connection
    assert pace.last_retry <= 60
    assert (Refusals().pause, Refusals().most) == (900, 3)


def test_other_folders_are_looked_at(tmp_path: Path) -> None:
    with watched(tmp_path, folders=("INBOX", "Other")) as (server, one):
        one.until(lambda: one.uids == [1, 1], "both folders")
        last = [line for line in server.commands if b"EXAMINE" in line or b"IDLE" in line]
        idles = [n for n, line in enumerate(last) if b"IDLE" in line]
        one.until(lambda: server.count(b"IDLE") > 1, "IDLE")
        assert all(b"INBOX" in last[n - 1] for n in idles)


def test_nothing_is_logged_where_nothing_happens(tmp_path: Path) -> None:
    with watched(tmp_path) as (server, one):
        one.until(lambda: server.count(b"EXAMINE") > 12, "many looks")
        one.until(lambda: one.uids == [1], "the letter")
    logged = medmail(tmp_path / "home", "audit", "log", "--json").objects
    assert len([each for each in logged if each.get("action") == "fetch" and each["kind"] == "intent"]) == 1


def test_a_folder_that_changes_without_end_is_no_endless_work(tmp_path: Path) -> None:
    times = iter(range(2, 1_000_000))

    def ever_more(peer: Peer, tag: bytes, rest: bytes) -> None:
        peer.send(
            b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT %d] ok\r\n" % next(times)
            + tag
            + b" OK\r\n"
        )

    pace = replace(PATIENT, between=3600, last_between=3600)
    with watched(tmp_path, pace, acts={"EXAMINE": ever_more}) as (server, one):
        one.until(lambda: server.count(b"EXAMINE") >= 5, "two rounds")
        # the third waits
        assert server.count(b"EXAMINE") == 5


def test_a_refused_password_is_tried_three_times(tmp_path: Path) -> None:
    acts = {
        "IDLE": cut_in_idle,
        "AUTHENTICATE": nth(1, let_in, asked_then(b"TAG NO [AUTHENTICATIONFAILED] wrong\r\n")),
    }
    with watched(tmp_path, acts=acts) as (server, one):
        error = one.until_ended()
        assert error is not None
        assert (error.code, exit_of(error.code)) == ("login-refused", 4)
        assert server.count(b"AUTHENTICATE") == 4
        assert one.interrupted_by == ["server-unreachable", "login-refused", "login-refused"]


def test_a_password_that_never_held_is_tried_once(tmp_path: Path) -> None:
    acts = {"AUTHENTICATE": asked_then(b"TAG NO no\r\n")}
    with watched(tmp_path, acts=acts) as (server, one):
        error = one.until_ended()
        assert error is not None
        assert error.code == "login-refused"
        assert server.count(b"AUTHENTICATE") == 1


def test_a_password_that_was_corrected_meanwhile(tmp_path: Path) -> None:
    import base64

    right = b"secret"

    def check(peer: Peer, tag: bytes, rest: bytes) -> None:
        nonlocal right
        peer.send(b"+ \r\n")
        said = base64.b64decode(peer.line()).split(b"\0")[2]
        if said == right:
            peer.send(tag + b" OK in\r\n")
        else:
            # the person reads the note and corrects the file
            (peer.server.folder / "password").write_bytes(right)
            peer.send(tag + b" NO [AUTHENTICATIONFAILED] changed\r\n")

    def cut_and_change(peer: Peer, tag: bytes, rest: bytes) -> None:
        nonlocal right
        right = b"other"
        cut_in_idle(peer, tag, rest)

    acts = {"IDLE": nth(1, cut_and_change, idle), "AUTHENTICATE": check}
    with watched(tmp_path, acts=acts) as (server, one):
        one.until(lambda: one.interrupted_by == ["server-unreachable", "login-refused"], "the refusal")
        server.grow()
        one.until(lambda: one.uids == [1, 2], "the second letter")


def test_what_is_being_sent_keeps_no_letter_waiting(tmp_path: Path) -> None:
    begun = threading.Event()

    def endless(_session: Session, _refusals: Refusals) -> Iterator[object]:
        begun.set()
        while not finish.is_set():
            yield None

    finish = threading.Event()
    with watched(tmp_path, PATIENT, flush=endless) as (server, one):
        one.until(begun.is_set, "the errand")
        one.until(lambda: one.uids == [1], "the first letter")
        server.grow()
        one.until(lambda: one.uids == [1, 2], "the second letter")
        finish.set()


def test_what_is_due_is_sent_though_the_mailbox_cannot_be_reached(tmp_path: Path) -> None:
    sent: list[int] = []

    def errand(_session: Session, _refusals: Refusals) -> Iterator[object]:
        sent.append(1)
        return iter(())

    with Mailbox(tmp_path / "s").running() as server:
        home = server.write_config(tmp_path / "h")
    pace = replace(QUICK, first_retry=3600, last_retry=3600)
    with watching(home, pace, flush=errand) as one:
        one.until(lambda: one.interrupted_by == ["server-unreachable"] and len(sent) > 2, "errands")


def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medmail_cli.errors import MedmailError
    from medmail_cli.store.mail.mailbox import Mailbox as Store

    def full(*_arguments: object) -> None:
        raise MedmailError("disk-full", path="x")

    monkeypatch.setattr(Store, "store", full)
    with watched(tmp_path) as (_, one):
        error = one.until_ended()
    assert error is not None
    assert error.code == "disk-full"


def test_refusals_hold_an_account_for_a_while_and_then_for_good() -> None:
    now = 0.0
    forgotten: list[str] = []
    refusals = Refusals(pause=900, most=3, clock=lambda: now, forget=forgotten.append)
    refusals.add("smtp", "work")
    assert refusals.holds("work")
    assert not refusals.holds("home")
    now = 901
    assert not refusals.holds("work")
    # another server of the account that lets us in says nothing of this one
    refusals.clear("imap", "work")
    refusals.add("smtp", "work")
    now = 1802
    refusals.add("smtp", "work")
    assert refusals.spent("smtp", "work")
    now = 1e9
    assert refusals.holds("work")
    refusals.clear("smtp", "work")
    assert not refusals.holds("work")
    assert forgotten == ["work"] * 3
