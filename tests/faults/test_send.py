"""Sending when things break: the server in each phase, the disk, the process itself, two at once."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

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
