"""What is found among the contacts without their address: by how it looks, or but for ASCII case.

A SQLite file, ``.index/addresses.sqlite`` in the contacts' folder: the name and address of each contact's
file, and the address's skeleton. The files are what counts; the index says for which state of the folder it
holds (the time of its last change, which every file that appears, goes or is renamed moves on), and is
brought up to any other by looking at what is new. So cost does not grow with the contacts, whoever edits
them and whatever a kill leaves.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medmail_cli.pki.x509.address import skeleton
from medmail_cli.store import files

_FILE = "addresses.sqlite"
_VERSION = 1
_SETTLED = 100_000_000
"""Nanoseconds after which a file system gives a further change another time."""
_TABLES = """
CREATE TABLE contact (name TEXT PRIMARY KEY, address TEXT, skeleton TEXT) WITHOUT ROWID;
CREATE INDEX by_skeleton ON contact (skeleton);
CREATE TABLE held (changed INTEGER);
INSERT INTO held VALUES (0);
"""


class AddressIndex:
    """The index of the contacts in ``folder``; ``address_of`` reads the address in a file.

    ``lock`` is the file there that writers hold. What killed writers left is swept. Where the index cannot be
    written, what is asked is found out anew each time. Raises what ``address_of`` raises.
    """

    def __init__(self, folder: Path, lock: Path, address_of: Callable[[Path], str]) -> None:
        self._folder, self._lock, self._address_of = folder, lock, address_of

    def alike(self, address: str) -> list[str]:
        """The contacts' addresses that look like this one, itself among them, sorted."""
        return self._found("skeleton = ? ORDER BY address", skeleton(address), "address")

    def named(self, stem: str) -> list[str]:
        """The names of the files that begin with ``stem`` and a dot, sorted."""
        # / is the character after the dot
        return self._found("name > ? || '.' AND name < ?1 || '/' ORDER BY name", stem, "name")

    @contextlib.contextmanager
    def changing(self, name: str, address: str | None) -> Iterator[None]:
        """Keep up with a file written, or removed (no ``address``), inside; the caller has the lock."""
        index = self._open()
        try:
            self._catch_up(index)
            held = _held(index) == self._changed()
            yield
            if held:  # else the next who asks looks
                row = (name, address, skeleton(address)) if address is not None else None
                index.execute("BEGIN IMMEDIATE")
                index.execute("DELETE FROM contact WHERE name = ?", (name,))
                index.executemany("INSERT INTO contact VALUES (?, ?, ?)", [row] if row else [])
                index.execute("UPDATE held SET changed = ?", (self._changed(),))
                index.execute("COMMIT")
        except sqlite3.OperationalError:
            pass  # full or busy: the files are what counts, and the next who asks looks
        finally:
            index.close()

    def _found(self, where: str, value: str, column: str) -> list[str]:
        if self._changed() is None:
            return []
        index = self._open()
        try:
            self._catch_up(index)
            # the names come from this module alone
            asked = f"SELECT {column} FROM contact WHERE {where}"  # noqa: S608
            return [row[0] for row in index.execute(asked, (value,))]
        finally:
            index.close()

    def _changed(self) -> int | None:
        try:
            return self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _open(self) -> sqlite3.Connection:
        path = self._folder / ".index" / _FILE
        for _attempt in range(2):
            try:
                if not path.parent.is_dir():
                    path.parent.mkdir(mode=0o700, exist_ok=True)
                index = sqlite3.connect(path, timeout=10, isolation_level=None)
                index.execute("BEGIN IMMEDIATE")
                if index.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                    index.execute("ROLLBACK")
                    _create(index)
                else:
                    index.execute("ROLLBACK")
                path.chmod(0o600)
            except sqlite3.OperationalError:
                break  # read-only, full, or busy for long
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)  # damaged: made anew
            except OSError:
                break
            else:
                return index
        index = sqlite3.connect(":memory:", isolation_level=None)
        _create(index)
        return index

    def _catch_up(self, index: sqlite3.Connection) -> None:
        if _held(index) == self._changed():
            return
        # before the folder's state is noted: by the first writer made, the lock would change it
        with contextlib.suppress(OSError):  # read-only: nobody will make it
            self._lock.touch(mode=0o600)
        files.sweep(self._folder)
        changed = self._changed() or 0
        settled = time.time_ns() - changed > _SETTLED
        names = (path.name for path in self._folder.iterdir())
        present = {name for name in names if name.endswith(".json") and name[0] != "."}
        known = {row[0] for row in index.execute("SELECT name FROM contact")}
        new = []
        for name in sorted(present - known):
            try:
                address = self._address_of(self._folder / name)
            except FileNotFoundError:  # taken away since
                continue
            new.append((name, address, skeleton(address)))
        index.execute("BEGIN IMMEDIATE")
        index.executemany("DELETE FROM contact WHERE name = ?", [(name,) for name in known - present])
        index.executemany("INSERT OR REPLACE INTO contact VALUES (?, ?, ?)", new)
        # a change that falls into the same tick would not be seen: the next who asks looks again
        index.execute("UPDATE held SET changed = ?", (changed if settled else 0,))
        index.execute("COMMIT")


def _held(index: sqlite3.Connection) -> int:
    return int(index.execute("SELECT changed FROM held").fetchone()[0])


def _create(index: sqlite3.Connection) -> None:
    index.executescript(
        "BEGIN IMMEDIATE; DROP TABLE IF EXISTS contact; DROP TABLE IF EXISTS held;"
        f"{_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;"
    )
