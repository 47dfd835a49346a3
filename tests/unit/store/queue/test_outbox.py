"""The outbox: nothing lost, nothing sent twice, nothing readable that should not be."""

import datetime as dt
import hashlib
import multiprocessing.queues
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.store.queue.outbox import Fate, Outbox, QueuedMessage, next_attempt, retry_after

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
A, B = "a@hosp.test", "b@hosp.test"


def queued(
    text: bytes = b"message", *recipients: str, key: str | None = None, digest: bytes | None = None
) -> QueuedMessage:
    return QueuedMessage(
        id=hashlib.sha256(text).hexdigest(),
        message=text,
        account="work",
        sender="me@hosp.test",
        recipients=recipients or (A, B),
        message_id="<1@hosp.test>",
        key=key,
        digest=digest,
    )


def test_what_is_to_be_proved_later_stays_with_the_letter(outbox: Outbox) -> None:
    proof = replace(queued(), commitment="c" * 64, sealed_salt="sealed", certificates={A: "a" * 64})
    (one,) = outbox.enqueue([proof], NOW, claim=True)
    outbox.record([Fate(one.number, B, "accepted", "250 ok", "mail.test:587", "5" * 64)], NOW)
    (one,) = outbox.open()
    assert (one.commitment, one.sealed_salt, one.certificates) == ("c" * 64, "sealed", {A: "a" * 64})
    assert [(each.server, each.server_certificate) for each in one.recipients] == [
        (None, None),
        ("mail.test:587", "5" * 64),
    ]


def test_an_outbox_of_an_earlier_version_goes_on(outbox: Outbox) -> None:
    outbox.enqueue([queued()], NOW, claim=False)
    outbox.close()
    with sqlite3.connect(outbox.folder / "outbox.db") as database:
        for table, names in (
            ("submissions", ("commitment", "sealed_salt")),
            ("recipients", ("certificate", "server", "server_certificate")),
        ):
            for name in names:
                database.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        database.execute("PRAGMA user_version = 1")
    database.close()
    (one,) = outbox.open()
    assert (one.pending, one.commitment, one.certificates) == ((A, B), None, {})
    outbox.enqueue([replace(queued(b"next"), commitment="c" * 64)], NOW, claim=False)
    assert [each.commitment for each in outbox.open()] == [None, "c" * 64]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "outbox")
    yield made
    made.close()


def test_what_was_enqueued_is_there_for_the_next_process(outbox: Outbox) -> None:
    (entered,) = outbox.enqueue([queued()], NOW, claim=False)
    again = Outbox(outbox.folder)
    assert again.open() == (entered,)
    assert again.read(entered) == b"message"
    assert entered.pending == (A, B)
    again.close()


def test_files_are_for_the_owner_alone(outbox: Outbox) -> None:
    outbox.enqueue([queued()], NOW, claim=True)
    for path in [outbox.folder, *outbox.folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_letters_digest_says_nothing_without_the_outboxs_key(outbox: Outbox, tmp_path: Path) -> None:
    other = Outbox(tmp_path / "other")
    assert outbox.digest(b"short") != other.digest(b"short")
    assert outbox.digest(b"ab", b"c") != outbox.digest(b"a", b"bc")
    other.close()


def test_a_key_is_taken_once_and_for_one_content(outbox: Outbox) -> None:
    digest = outbox.digest(b"text")
    assert not outbox.known("K", digest)
    outbox.enqueue(
        [queued(b"1", A, key="K", digest=digest), queued(b"2", B, key="K", digest=digest)], NOW, claim=False
    )
    assert outbox.known("K", digest)
    assert len(outbox.open()) == 2
    with pytest.raises(MedmailError) as error:
        outbox.known("K", outbox.digest(b"other"))
    assert error.value.code == "id-reused"
    assert outbox.enqueue([queued(b"3", A, key="K", digest=digest)], NOW, claim=False) == ()


def test_a_key_whose_letter_everybody_refused_is_free_again(outbox: Outbox) -> None:
    digest = outbox.digest(b"text")
    (one,) = outbox.enqueue([queued(b"1", A, key="K", digest=digest)], NOW, claim=True)
    outbox.record([Fate(one.number, A, "refused", "550 no")], NOW)
    outbox.finish([one.number])
    assert not outbox.known("K", outbox.digest(b"corrected"))


def test_each_recipients_fate_is_recorded_and_the_rest_is_tried_later(outbox: Outbox) -> None:
    (one,) = outbox.enqueue([queued()], NOW, claim=True)
    outbox.mark([(one.number, A), (one.number, B)])
    outbox.record(
        [Fate(one.number, A, "accepted", "250 ok"), Fate(one.number, B, "queued", "451 later")], NOW
    )
    (left,) = outbox.open()
    assert left.pending == (B,)
    assert not left.doubtful
    assert [r.reply for r in left.recipients] == ["250 ok", "451 later"]
    assert left.due_at == NOW + dt.timedelta(minutes=1)
    assert left.attempts == 1


@pytest.mark.parametrize("ahead", [dt.timedelta(minutes=30), dt.timedelta(hours=3), dt.timedelta(days=10)])
@pytest.mark.parametrize("attempts", [0, 1, 12])
def test_a_clock_that_was_ahead_delays_nothing(outbox: Outbox, ahead: dt.timedelta, attempts: int) -> None:
    (one,) = outbox.enqueue([queued()], NOW + ahead, claim=True)
    for _ in range(attempts):
        outbox.record([Fate(one.number, A, "queued", "451 later")], NOW + ahead)
    (waiting,) = outbox.open()
    assert NOW <= next_attempt(waiting, NOW) <= NOW + dt.timedelta(hours=4)
    assert [each.id for each in outbox.ripe(NOW)] == [one.id]


def test_what_is_due_and_what_is_not(outbox: Outbox) -> None:
    (one,) = outbox.enqueue([queued()], NOW, claim=True)
    assert outbox.ripe(NOW)
    outbox.record([Fate(one.number, A, "queued", "451 later")], NOW)
    assert outbox.ripe(NOW + dt.timedelta(seconds=59)) == ()
    assert outbox.ripe(NOW + dt.timedelta(seconds=60))
    # nobody is left: it only wants tidying up
    outbox.record([Fate(one.number, each, "accepted", "250 ok") for each in (A, B)], NOW)
    assert outbox.ripe(NOW)


def test_an_attempt_without_an_end_leaves_a_doubt_that_stays(outbox: Outbox) -> None:
    (one,) = outbox.enqueue([queued()], NOW, claim=True)
    outbox.mark([(one.number, A)])
    outbox.close()
    (again,) = outbox.claim(outbox.open())
    assert again.doubtful == {A}
    # a later attempt that surely failed does not take the first one's doubt away
    outbox.mark([(one.number, A)])
    outbox.record([Fate(one.number, A, "queued", "451 later")], NOW)
    (again,) = outbox.open()
    assert again.doubtful == {A}


def test_an_unknown_end_is_a_doubt(outbox: Outbox) -> None:
    (one,) = outbox.enqueue([queued(b"x", A)], NOW, claim=True)
    outbox.mark([(one.number, A)])
    outbox.record([Fate(one.number, A, "unknown")], NOW)
    (again,) = outbox.open()
    assert again.pending == (A,)
    assert again.doubtful == {A}


def test_finishing_deletes_the_message_only_when_nobody_waits(outbox: Outbox) -> None:
    (one,) = outbox.enqueue([queued()], NOW, claim=True)
    outbox.record([Fate(one.number, A, "accepted")], NOW)
    outbox.finish([one.number])
    (left,) = outbox.open()
    assert left.path.exists()
    outbox.record([Fate(one.number, B, "accepted")], NOW)
    outbox.finish([one.number])
    assert outbox.open() == ()
    assert not left.path.exists()


def _claim_elsewhere(folder: Path, queue: "multiprocessing.queues.SimpleQueue[int]") -> None:
    other = Outbox(folder)
    queue.put(len(other.claim(other.open())))
    os._exit(0)  # dies without letting go of anything


def test_a_claim_excludes_other_processes_and_dies_with_its_own(outbox: Outbox) -> None:
    outbox.enqueue([queued(b"1"), queued(b"2")], NOW, claim=False)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()

    def elsewhere() -> int:
        process = context.Process(target=_claim_elsewhere, args=(outbox.folder, queue))
        process.start()
        process.join()
        return int(queue.get())

    first = outbox.open()[0]
    assert outbox.claim([first])
    assert elsewhere() == 1
    assert len(outbox.claim(outbox.open())) == 2
    assert elsewhere() == 0
    outbox.release(one.number for one in outbox.open())
    assert elsewhere() == 2


def test_what_another_process_has_finished_is_not_claimed(outbox: Outbox) -> None:
    (one,) = outbox.enqueue([queued(b"x", A)], NOW, claim=False)
    other = Outbox(outbox.folder)
    other.claim([one])
    other.record([Fate(one.number, A, "accepted")], NOW)
    other.finish([one.number])
    assert outbox.claim([one]) == ()
    other.close()


def test_the_sweep_takes_only_what_no_submission_needs(outbox: Outbox) -> None:
    (one,) = outbox.enqueue([queued()], NOW, claim=False)
    leaving = outbox.folder / "messages" / ("0" * 64 + ".eml")
    leaving.write_bytes(b"killed before its commit")
    outbox.sweep()
    assert one.path.exists()
    assert not leaving.exists()


@pytest.mark.parametrize("damage", ["message", "missing", "database"])
def test_damage_is_seen_and_named(outbox: Outbox, damage: str) -> None:
    (one,) = outbox.enqueue([queued()], NOW, claim=False)
    outbox.close()
    named = one.path
    if damage == "message":
        one.path.write_bytes(b"messagf")
    elif damage == "missing":
        one.path.unlink()
    else:
        named = outbox.folder / "outbox.db"
        for extra in outbox.folder.glob("outbox.db-*"):
            extra.unlink()
        named.write_bytes(b"\xff" * 4096)
    with pytest.raises(MedmailError) as error:
        outbox.read(outbox.open()[0])
    assert error.value.code == "store-damaged"
    assert error.value.facts == {"path": str(named)}


def test_commits_are_durable(outbox: Outbox) -> None:
    outbox.enqueue([queued()], NOW, claim=False)
    with outbox._connected() as database:
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert isinstance(database, sqlite3.Connection)


def test_retries_back_off() -> None:
    waits = [retry_after(attempts).total_seconds() / 60 for attempts in range(12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 240, 240, 240, 240]


def test_reading_an_outbox_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "none")
    assert outbox.open() == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("lost", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_lost_database_loses_no_letter_in_silence(tmp_path: Path, lost: Callable[[Path], object]) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.enqueue([queued()], NOW, claim=False)
    outbox.close()
    for path in (tmp_path / "outbox").glob("outbox.db-*"):
        path.unlink()
    lost(tmp_path / "outbox" / "outbox.db")
    with pytest.raises(MedmailError) as raised:
        Outbox(tmp_path / "outbox").open()
    assert raised.value.code == "store-damaged"
