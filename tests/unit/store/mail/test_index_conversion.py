"""An index that an older version made: read as it was, whatever interrupts its conversion."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.store.mail.mailbox import Mailbox
from tests.support.servers import sample

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST = """
CREATE TABLE messages (
  account TEXT NOT NULL, folder TEXT NOT NULL, id TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL, uid INTEGER NOT NULL,
  name TEXT NOT NULL, size INTEGER NOT NULL, stored_at REAL NOT NULL,
  sender TEXT NOT NULL, recipients TEXT NOT NULL, subject TEXT NOT NULL, date REAL, message_id TEXT NOT NULL,
  PRIMARY KEY (account, folder, id)) WITHOUT ROWID;
CREATE INDEX messages_id ON messages (id);
CREATE INDEX messages_uid ON messages (account, folder, uidvalidity, uid);
CREATE INDEX messages_message_id ON messages (message_id);
CREATE TABLE folders (
  account TEXT NOT NULL, folder TEXT NOT NULL, uidvalidity INTEGER NOT NULL, uidnext INTEGER NOT NULL,
  stamps TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (account, folder)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
OWED = """
CREATE TABLE owed (account TEXT NOT NULL, folder TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL, uid INTEGER NOT NULL,
  PRIMARY KEY (account, folder, uidvalidity, uid)) WITHOUT ROWID;
INSERT INTO owed VALUES ('work', 'INBOX', 7, 12), ('work', 'INBOX', 7, 9);
"""
POSITIONS = {"INBOX": "7/13", "Restored": None, "Sent": ""}


def as_first(path: Path, owed: str = OWED) -> None:
    """Bring today's index back into the first form."""
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "SELECT account, folder, id, generation, server_id, name, size, stored_at, sender, recipients,"
            " subject, date, message_id FROM messages"
        ).fetchall()
        stamps = database.execute("SELECT account, folder, stamps FROM folders").fetchall()
    path.unlink()
    with sqlite3.connect(path) as database:
        database.executescript(FIRST + owed)
        database.executemany("INSERT INTO messages VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        numbers = {"INBOX": (7, 13), "Restored": (7, 0), "Sent": (0, 1)}
        database.executemany(
            "INSERT INTO folders VALUES (?,?,?,?,?)",
            [(account, folder, *numbers[folder], known) for account, folder, known in stamps],
        )
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    box = Mailbox(tmp_path / "mail")
    box.store("work", "INBOX", "7", [(str(n), sample(n)) for n in (2, 8, 10, 11)], NOW)
    box.store("work", "Restored", "7", [("3", sample(20))], NOW)
    box.keep_sent("work", [sample(30)], NOW)
    box.progress("work", "Restored").begin_again()
    box.progress("work", "INBOX").advance("7/13")
    box.progress("work", "INBOX").owe("7", ["12", "9"])
    box.close()
    return box.folder


def held(folder: Path) -> object:
    """All that is known of letters and of how far each folder has got."""
    box = Mailbox(folder)
    assert {name: box.progress("work", name).position for name in POSITIONS} == POSITIONS
    seen = (
        box.list(),
        box.progress("work", "INBOX").owed("7"),
        box.progress("work", "INBOX").witnesses("7"),
        box.progress("work", "INBOX").stored("7", ["2", "3", "8", "11"]),
    )
    box.close()
    return seen


def test_all_that_an_older_index_knew_is_known(folder: Path) -> None:
    before = held(folder)
    as_first(folder / "index.db")
    assert held(folder) == before
    assert held(folder) == before


def test_one_that_never_owed_anything_owes_nothing(folder: Path) -> None:
    as_first(folder / "index.db", owed="")
    box = Mailbox(folder)
    assert box.progress("work", "INBOX").owed("7") == []
    assert len(box.list()) == 6
    box.close()


def test_two_that_convert_at_once_convert_once(folder: Path) -> None:
    before = held(folder)
    as_first(folder / "index.db")
    with ThreadPoolExecutor(8) as pool:
        assert all(seen == before for seen in pool.map(held, [folder] * 8))


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from medmail_cli.store.mail.mailbox import Mailbox

connect, left = sqlite3.connect, [int(sys.argv[2])]

def count(statement):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(*args, **kwargs):
    database = connect(*args, **kwargs)
    database.set_trace_callback(count)
    return database

sqlite3.connect = counted
Mailbox(Path(sys.argv[1])).progress("work", "INBOX").position
"""


@pytest.mark.thorough
def test_a_kill_at_any_statement_loses_nothing(folder: Path) -> None:
    before = held(folder)
    as_first(folder / "index.db")
    first = folder.with_name("first")
    shutil.copytree(folder, first)
    kills = 0
    while True:
        shutil.rmtree(folder)
        shutil.copytree(first, folder)
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(kills + 1)], check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        kills += 1
        assert held(folder) == before, kills
    assert kills > 20


def test_an_index_from_the_future_is_left_alone(folder: Path) -> None:
    path = folder / "index.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 3")
    database.close()
    before = path.read_bytes()
    with pytest.raises(MedmailError) as caught:
        Mailbox(folder).list()
    assert caught.value.code == "newer-store"
    assert path.read_bytes() == before
