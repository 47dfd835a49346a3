"""Sending when things break: the server in each phase, the disk, the process itself, two at once."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support import letters, smtpserver
from tests.support.cli import MEDMAIL, Done
from tests.support.homes import make_home
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.senders import Sender, opened_by, recipients
from tests.support.smtpserver import SmtpServer

BOB = letters.person("bob")
CHUNKING = ("PIPELINING", "CHUNKING", "SIZE 1000000", "AUTH PLAIN")
PIPELINING = ("PIPELINING", "AUTH PLAIN")
PLAIN = ("AUTH PLAIN",)
PHASES = ("greeting", "ehlo", "auth", "mail", "rcpt", "end")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmtpServer]:
    with smtpserver.running(tmp_path) as made:
        yield made


@pytest.fixture
def alice(tmp_path: Path, server: SmtpServer) -> Sender:
    person = letters.person("alice")
    made = Sender(make_home(tmp_path, person), person)
    server.write_config(made.home, person.address)
    made.knows(BOB, letters.person("carol"))
    return made


def send(alice: Sender, *argv: str | Path) -> Done:
    return alice.send("--to", BOB.address, "--subject", "x", *argv, "-", stdin=b"hello\n")


def flush(alice: Sender) -> Done:
    return alice.run("outbox", "flush", "--json")


def message_ids(server: SmtpServer) -> list[bytes]:
    return [
        line
        for _, data in server.taken
        for line in data.split(b"\r\n\r\n")[0].split(b"\r\n")
        if line.startswith(b"Message-ID")
    ]


BREAKS = [
    *((offers, phase, "drop") for offers in (PIPELINING, PLAIN) for phase in (*PHASES, "data")),
    *((CHUNKING, phase, "drop") for phase in PHASES),
    *((CHUNKING, phase, fault) for phase in ("greeting", "mail", "end") for fault in ("garbage", "endless")),
]


@pytest.mark.parametrize(("offers", "phase", "fault"), BREAKS)
def test_whatever_breaks_the_letter_is_safe_and_sent_by_the_next_flush(
    alice: Sender, server: SmtpServer, phase: str, fault: str, offers: tuple[str, ...]
) -> None:
    server.offers, server.faults = offers, {phase: fault}
    done = send(alice)
    assert done.exit == 75, done
    (fate,) = recipients(done).values()
    assert fate["status"] == "queued"
    maybe_taken = bool(server.taken)
    # with CHUNKING the end goes out with the envelope: from there on nobody can know
    unknown = phase == "end" or (offers == CHUNKING and phase in ("mail", "rcpt"))
    assert fate["possible_duplicate"] == unknown
    again = flush(alice)
    assert again.exit == 0, again
    (fate,) = recipients(again).values()
    assert fate["status"] == "accepted"
    if maybe_taken:
        assert fate["possible_duplicate"]
        assert "possible-duplicate" in [one.get("code") for one in again.objects]
        assert len(set(message_ids(server))) == 1
    else:
        assert len(server.taken) == 1
    assert opened_by(BOB, server.taken[-1][1]).verdict.text == "hello\n"
    assert alice.run("outbox", "list").stdout == ""


MORE = {
    "greeting": "220 mx.test ESMTP\r\n250 go on",
    "ehlo": "250-mx.test\r\n250 AUTH PLAIN\r\n250 ok",
    "auth": "235 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken",
    "auth refused": "535 no\r\n235 ok",
    "auth asked": "334 \r\n235 ok",
}


@pytest.mark.parametrize("phase", MORE)
@pytest.mark.parametrize("offers", [CHUNKING, PIPELINING, PLAIN], ids=["chunking", "pipelining", "plain"])
def test_replies_said_in_advance_are_never_taken_for_those_to_come(
    alice: Sender, server: SmtpServer, phase: str, offers: tuple[str, ...]
) -> None:
    server.offers, server.faults = offers, {phase.split()[0]: MORE[phase]}
    done = send(alice)
    (fate,) = recipients(done).values()
    # a refusal, too, means nothing where it is not the only answer
    assert (done.exit, fate["status"]) == (75, "queued"), done
    assert not server.taken
    again = flush(alice)
    assert again.exit == 0, again
    assert len(server.taken) == 1


def test_a_goodbye_and_more_is_still_one(alice: Sender, server: SmtpServer) -> None:
    server.faults = {"quit": "221 bye\r\n250 and more\r\n550 no"}
    done = send(alice)
    assert done.exit == 0, done
    assert recipients(done)[BOB.address]["status"] == "accepted"


@dataclass
class OneAtATime(SmtpServer):
    """Refuses whoever comes while another connection is open, and takes its time with a login."""

    open: int = 0
    refused: int = 0
    too_early: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    logged_in: threading.Event = field(default_factory=threading.Event)

    def serve(self, stream: BinaryIO) -> None:
        with self.lock:
            self.open += 1
            alone = self.open == 1
            self.too_early |= not alone and not self.logged_in.is_set()
            self.refused += not alone
        try:
            if alone:
                super().serve(stream)
            else:
                stream.write(b"421 4.7.0 too many connections\r\n")
                stream.flush()
        finally:
            with self.lock:
                self.open -= 1

    def _at(self, phase: str, stream: BinaryIO, reply: str) -> str:
        if phase == "auth":
            time.sleep(0.5)  # in which whoever is in a hurry would have come
            self.logged_in.set()
        return super()._at(phase, stream, reply)


def test_the_first_connection_logs_in_before_a_second_which_may_be_refused(tmp_path: Path) -> None:
    with smtpserver.running(tmp_path, OneAtATime) as server:
        assert isinstance(server, OneAtATime)
        person = letters.person("alice")
        alice = Sender(make_home(tmp_path, person), person)
        server.write_config(alice.home, person.address)
        alice.knows(BOB)
        manifest = alice.home / "m.jsonl"
        rows = [{"id": str(i), "to": BOB.address, "subject": "x", "body": f"{i}"} for i in range(40)]
        manifest.write_text("\n".join(map(json.dumps, rows)))
        assert alice.send("--batch", manifest, "--queue").exit == 0
        done = flush(alice)
        assert done.exit == 0, done
        assert {one["status"] for one in done.objects if one["type"] == "recipient"} == {"accepted"}
        assert not [one for one in done.objects if one["type"] == "note"]
        assert len(server.taken) == 40
        assert not server.too_early
        # further ones were tried, and each refusal cost nothing
        assert 1 <= server.refused <= 3
        assert sum(command.startswith("AUTH") for command in server.commands) == 1


@pytest.mark.parametrize("phase", ["mail", "rcpt", "end"])
def test_a_final_refusal_is_final_and_a_temporary_one_is_not(
    alice: Sender, server: SmtpServer, phase: str
) -> None:
    server.faults = {phase: "451 4.3.0 greylisted\x1b[31m"}
    done = send(alice)
    assert (done.exit, recipients(done)[BOB.address]["code"]) == (75, "recipient-deferred")
    assert "\x1b" not in done.stdout + done.stderr
    # not due yet, so another letter does not take it along; asked for, it goes
    assert alice.run("outbox", "flush", "--due", "--json").objects[-1]["counts"] == {}
    assert flush(alice).exit == 0
    server.faults = {phase: "554 5.7.1 we do not like you"}
    done = send(alice)
    assert (done.exit, done.objects[-1]["error"]["code"]) == (1, "recipient-refused")
    assert "we do not like you" in done.stderr
    assert flush(alice).objects[-1]["counts"] == {}
    assert len(server.taken) == 1


@pytest.mark.parametrize(
    ("said", "exit_status"),
    [
        ("535 5.7.8 Error: authentication failed: (reason unavailable)", 4),
        ("535 5.7.8 no such login; too many connections", 4),
        ("535 authentication failed: (reason unavailable)", 4),
        ("535 5.7.0 Server Unavailable. 15", 75),
        ("454 4.7.0 Temporary authentication failure", 75),
    ],
)
def test_a_wrong_password_is_told_from_a_server_that_cannot_look(
    alice: Sender, server: SmtpServer, said: str, exit_status: int
) -> None:
    server.faults, server.once = {"auth": said}, False
    done = send(alice)
    assert (done.exit, said in done.stdout) == (exit_status, True), done


def test_recipients_the_server_will_not_take_at_once_get_a_transaction_of_their_own(
    alice: Sender, server: SmtpServer
) -> None:
    server.offers = (*CHUNKING, "LIMITS RCPTMAX=1")
    done = send(alice, "--to", letters.person("carol").address)
    assert done.exit == 0
    assert [who for who, _ in server.taken] == [[BOB.address], [letters.person("carol").address]]


def test_a_server_that_is_not_there(alice: Sender) -> None:
    config = alice.home / "config.toml"
    good = config.read_text()
    config.write_text(good.replace(f"port = {good.split('port = ')[1].split()[0].rstrip(',')}", "port = 1"))
    done = send(alice)
    assert done.exit == 75
    assert "outbox flush" in done.stderr
    config.write_text(good)
    assert flush(alice).exit == 0


def test_two_flushes_at_once_send_every_letter_once(alice: Sender, server: SmtpServer) -> None:
    manifest = alice.home / "m.jsonl"
    rows = [{"id": str(i), "to": BOB.address, "subject": "x", "body": f"{i}"} for i in range(40)]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    assert alice.send("--batch", manifest, "--queue").exit == 0
    done: list[Done] = []
    threads = [threading.Thread(target=lambda: done.append(flush(alice))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.exit for one in done] == [0, 0, 0], done
    assert len(server.taken) == 40
    assert len(set(message_ids(server))) == 40


def test_a_full_disk_is_said_and_nothing_is_half_done(alice: Sender, server: SmtpServer) -> None:
    big = alice.home / "big.bin"
    big.write_bytes(bytes(300_000))
    argv = [MEDMAIL, "send", "--json", "--to", BOB.address, "--subject", "x", "--attach", str(big)]
    environment = os.environ | {
        "MEDMAIL_HOME": str(alice.home),
        "MEDMAIL_PASSPHRASE_FILE": str(alice.home.parent / "home.passphrase"),
    }
    limited = f"ulimit -f 200; trap '' XFSZ; exec {' '.join(argv)}"
    done = subprocess.run(["bash", "-c", limited], env=environment, capture_output=True, check=False)
    assert done.returncode == 1, done
    assert json.loads(done.stdout.splitlines()[-1])["code"] == "disk-full"
    assert server.taken == []
    assert alice.run("outbox", "list").stdout == ""
    assert not list((alice.home / "outbox").rglob("*.eml"))


ON_A_SMALL_DISK = r"""
set -e
mkdir "$2"; mount -t tmpfs -o size=12m tmpfs "$2"; cp -a "$1/." "$2"
(until [ -e "$3/fill" ]; do sleep 0.02; done; cat /dev/zero >"$2/filler" 2>/dev/null || :; touch "$3/full") &
shift; export MEDMAIL_HOME="$1"; shift 2
status=0; "$@" || status=$?
rm -f "$MEDMAIL_HOME/filler"; cp -a "$MEDMAIL_HOME/." "$OLD_HOME"; wait; exit $status
"""
"""Runs a command with its home on a disk that fills up when told: home, place for it, folder for signs."""


def run_on_a_small_disk(alice: Sender, server: SmtpServer, tmp_path: Path, *argv: str | Path) -> Done:
    """Run; the disk is full from the time when 12 letters have been taken, before the twelfth's reply."""

    def fill(taken: int) -> None:
        if taken >= 12:
            (tmp_path / "fill").touch()
            assert wait_until((tmp_path / "full").exists)

    server.on_taken = fill
    environment = os.environ | {
        "OLD_HOME": str(alice.home),
        "MEDMAIL_PASSPHRASE_FILE": str(alice.home.parent / "home.passphrase"),
    }
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", ON_A_SMALL_DISK, "bash", alice.home, tmp_path / "disk", tmp_path,
         MEDMAIL, *argv],
        env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    server.on_taken = None
    return Done(done.returncode, done.stdout, done.stderr)


def wait_until(holds: Callable[[], bool]) -> bool:
    """Wait, for a minute at most, until it holds."""
    for _ in range(3000):
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="a disk of one's own needs Linux's namespaces")
@pytest.mark.parametrize("queued", [True, False])
def test_a_disk_that_fills_up_in_a_batch_leaves_no_letter_unrecorded_or_sent_twice(
    alice: Sender, server: SmtpServer, tmp_path: Path, queued: bool
) -> None:
    manifest = tmp_path / "letters.jsonl"
    rows = [{"id": f"r{i}", "to": BOB.address, "subject": f"n {i}", "body": "x" * 9000} for i in range(160)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    if queued:
        assert alice.send("--batch", manifest, "--queue").exit == 0
        argv: tuple[str | Path, ...] = ("outbox", "flush", "--json")
    else:
        argv = ("send", "--json", "--batch", manifest)

    done = run_on_a_small_disk(alice, server, tmp_path, *argv)

    assert (done.exit, done.objects[-1]["error"]["code"]) == (1, "disk-full"), done
    assert 12 <= len(server.taken) < 160
    accepted = [one for one in done.objects if one.get("status") == "accepted"]
    assert len(accepted) == len(server.taken)
    waiting = len(alice.run("outbox", "list").stdout.splitlines())

    again = alice.run(*argv)
    assert again.exit == 0, again
    flushed = flush(alice)
    assert len(server.taken) == len(set(message_ids(server))) == 160, (len(accepted), waiting)
    assert not [one for one in again.objects + flushed.objects if one.get("possible_duplicate")]
    assert alice.run("audit", "verify").exit == 0


@pytest.mark.parametrize("offers", [CHUNKING, PLAIN])
def test_a_kill_at_any_point_loses_nothing_and_doubles_only_what_is_told(
    alice: Sender, server: SmtpServer, tmp_path: Path, offers: tuple[str, ...]
) -> None:
    server.offers = offers
    body = tmp_path / "body"
    body.write_text("hello\n")
    environment = {
        **os.environ,
        "MEDMAIL_HOME": str(alice.home),
        "MEDMAIL_PASSPHRASE_FILE": str(alice.home.parent / "home.passphrase"),
    }

    def argv(key: str) -> list[str]:
        return ["medmail", "send", "--to", BOB.address, "--subject", "x", "--id", key, str(body)]

    total = count_effects(argv("count"), env=environment)
    server.taken.clear()
    for k in kill_points(total, int(os.environ.get("KILL_POINTS", "14"))):
        server.taken.clear()
        killed = run_killed_at(argv(f"k{k}"), k, env=environment)
        assert killed.returncode in (KILLED, 0), killed.stderr.decode()
        again = alice.run("send", "--json", "--to", BOB.address, "--subject", "x", "--id", f"k{k}", body)
        assert again.exit == 0, (k, again)
        said = [one for one in again.objects if one.get("possible_duplicate")]
        assert server.taken, (k, again)
        if len(server.taken) > 1:
            assert said, (k, "sent twice, untold")
            assert len(server.taken) == 2
            assert len(set(message_ids(server))) == 1
        assert alice.run("outbox", "list").stdout == "", k
        assert not list((alice.home / "outbox" / "messages").iterdir()), k
    assert alice.run("audit", "verify").exit == 0
