"""The mailbox: every message as it came, in Maildirs other programs can read, with an index over them.

``mail/<account>/<folder>/{tmp,new,cur}`` is the truth; ``index.db`` holds outer headers and is made again
from the Maildirs where it is missing, and brought up to date where another program has moved or deleted
messages. ``learned.db`` holds what was found inside opened letters, sealed under the keystore.

Opening the mailbox touches nothing; an empty one needs no database at all.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.store import files
from medmail_cli.store.mail import maildir
from medmail_cli.store.mail.incoming import Incoming
from medmail_cli.store.mail.search import matches

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from medmail_cli.store.mail.outer_index import Folder, Index, Stored
    from medmail_cli.store.mail.sealed_index import Learned

SENT = "Sent"
"""The folder for the sender's own copies, under the name most servers give theirs."""
_WRITERS = 8
"""Files made durable at a time; more gained nothing."""


class Mailbox:
    """The mailbox in ``folder``; usable from several threads and by several processes.

    Every method may raise ``index-damaged``, ``store-busy``, ``disk-full`` and ``not-writable``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index: Index | None = None
        self._learned: Learned | None = None
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Let go of every file."""
        if self._index is not None:
            self._index.close()
            self._index = None
        if self._learned is not None:
            self._learned.close()
            self._learned = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    # -- storing

    def incoming(self, account: str, folder: str) -> Incoming:
        """What takes a message of a folder while it comes, to be given to :meth:`store`."""
        from medmail_cli.smime.outer import LONGEST_HEADER

        directory = self._directory(account, folder)
        maildir.create(directory)
        return Incoming(directory, LONGEST_HEADER)

    def store(
        self,
        account: str,
        folder: str,
        generation: str,
        batch: Sequence[tuple[str, bytes | Incoming]],
        now: datetime,
    ) -> "Sequence[tuple[Stored, bool]]":
        """Make a batch of (server id, message) durable; each with whether it was new to the folder.

        Bytes the folder holds already are not stored again; in another generation they take their new server
        id. What was stored before a failure stays stored.
        """
        from medmail_cli.store.mail import index_entries, outer_index

        ids = [
            message.sha256 if isinstance(message, Incoming) else hashlib.sha256(message).hexdigest()
            for _, message in batch
        ]
        directory = self._directory(account, folder)
        with self._locked(), _let_go(message for _, message in batch):
            index = self._opened()
            known = index.among(account, folder, ids)
            fresh: dict[str, tuple[Stored, bytes | Incoming]] = {}
            moved: dict[str, tuple[Stored, str]] = {}
            for id_, (server_id, message) in zip(ids, batch, strict=True):
                if id_ not in known and id_ not in fresh:
                    name = maildir.Name(now, generation, server_id, id_)
                    head = message.head if isinstance(message, Incoming) else message
                    size = message.size if isinstance(message, Incoming) else len(message)
                    fresh[id_] = index_entries.entry(account, folder, name, str(name), head, size), message
                elif id_ in known and known[id_].generation != generation:
                    old = known[id_]
                    name = replace(maildir.named(old.name), generation=generation, server_id=server_id)
                    known[id_] = index_entries.renamed(old, name)
                    moved[id_] = known[id_], old.name
            agreed = self._begin(account, folder, directory)
            maildir.write(directory, [(one.name, raw) for one, raw in fresh.values()], self._writers())
            with files.disk_errors(directory):
                if moved:
                    maildir.rename(directory, {old_name: one.name for one, old_name in moved.values()})
                    files.sync_folder(directory / "new")
                    files.sync_folder(directory / "cur")
            with index.transaction() as database:
                outer_index.add(database, [one for one, _ in (*fresh.values(), *moved.values())])
                outer_index.set_stamps(database, account, folder, maildir.stamps(directory) if agreed else "")
        result, told = [], set()
        for id_ in ids:
            result.append((fresh[id_][0] if id_ in fresh else known[id_], id_ in fresh and id_ not in told))
            told.add(id_)
        return result

    def keep_sent(self, account: str, messages: Sequence[bytes], now: datetime) -> "Sequence[Stored]":
        """Keep the sender's copies of what was sent, durably."""
        return [
            stored
            for stored, _ in self.store(
                account, SENT, maildir.NONE, [(maildir.NONE, message) for message in messages], now
            )
        ]

    def progress(self, account: str, folder: str) -> "Folder":
        """How far a folder has been fetched."""
        from medmail_cli.store.mail.outer_index import Folder

        return self._opened().folder(account, folder) if self._exists() else Folder()

    def stored(self, account: str, folder: str, generation: str, server_ids: Sequence[str]) -> set[str]:
        """Those of ``server_ids`` that an interrupted fetch has left stored."""
        if not self._exists():
            return set()
        with self._locked():
            directory = self._directory(account, folder)
            maildir.sweep(directory)
            index = self._opened()
            agreed = index.folder(account, folder).stamps == maildir.stamps(directory)
            # what an interrupted fetch has left is looked at whole: it is not to be believed to be there
            if not agreed or index.stored(account, folder, generation, server_ids):
                from medmail_cli.store.mail import index_entries

                index_entries.reconcile(index, account, folder, directory, whatever=True)
            return index.stored(account, folder, generation, server_ids)

    def advance(self, account: str, folder: str, position: str) -> None:
        """Everything before ``position`` has been dealt with."""
        from medmail_cli.store.mail import outer_index

        directory = self._directory(account, folder)
        with self._locked(), files.disk_errors(directory):
            agreed = self._opened().folder(account, folder).stamps == maildir.stamps(directory)
            maildir.create(directory)
            with self._opened().transaction() as database:
                state = outer_index.Folder(position, maildir.stamps(directory) if agreed else "")
                outer_index.set_folder(database, account, folder, state)

    def begin_again(self, account: str, folder: str) -> None:
        """The server's mailbox has been restored: the server ids of what is stored say nothing any more."""
        from medmail_cli.store.mail import outer_index

        with self._locked():
            stamps = self._opened().folder(account, folder).stamps
            with self._opened().transaction() as database:
                outer_index.forget_server_ids(database, account, folder)
                outer_index.set_folder(database, account, folder, outer_index.Folder(None, stamps))

    def witnesses(self, account: str, folder: str, generation: str) -> Mapping[str, frozenset[str]]:
        """The last server ids that are stored, some of them, and the Message-IDs known under each."""
        return self._opened().witnesses(account, folder, generation) if self._exists() else {}

    def owed(self, account: str, folder: str, generation: str) -> Sequence[str]:
        """The server ids of messages that the server named and has not given, the oldest first."""
        return self._opened().owed(account, folder, generation) if self._exists() else []

    def owe(self, account: str, folder: str, generation: str, server_ids: Iterable[str]) -> None:
        """Note them, in the place of those noted before."""
        from medmail_cli.store.mail import outer_index

        with self._locked(), self._opened().transaction() as database:
            outer_index.set_owed(database, account, folder, generation, sorted(server_ids))

    @contextmanager
    def fetching(self, account: str) -> Iterator[None]:
        """Only one process at a time fetches an account. Raises ``store-busy`` while another does."""
        directory = self.folder / maildir.encode_folder(account)
        with files.lock(directory / ".fetching", wait=5):
            yield

    # -- reading

    def list(
        self,
        query: str = "",
        *,
        account: str | None = None,
        folder: str | None = None,
        sender: str = "",
        since: datetime | None = None,
        unopened: bool = False,
        subkey: bytes | None = None,
    ) -> "Sequence[Stored]":
        """The messages that match everything asked for, oldest first.

        ``query`` and ``sender`` are words that must all occur, without regard to case: in sender,
        recipients, subject, Message-ID and, with the keystore's ``subkey``, in what was learned inside.
        ``since`` compares the Date field, and the time of storing where there is none. What one sent oneself
        counts as ``unopened`` only where its folder is asked for.
        """
        if not self._exists():
            return []
        self._refresh()
        found = self._opened().all(account, folder)
        if since is not None:
            found = [one for one in found if (one.date or one.stored_at) >= since]
        if unopened:
            opened = self.opened()
            found = [one for one in found if one.id not in opened and (folder or one.folder != SENT)]
        if query or sender:
            learned = dict(self.learned(subkey)) if subkey is not None else {}
            found = [one for one in found if matches(one, learned.get(one.id, {}), query, sender)]
        return found

    def find(self, prefix: str, others: Iterable[str] = ()) -> "Stored":
        """The message whose id begins with ``prefix``, six hex digits or more.

        ``others`` are ids that share the space (the outbox's). Raises ``not-found`` and ``ambiguous``.
        """
        prefix = prefix.lower()
        if not re.fullmatch(r"[0-9a-f]{6,64}", prefix) or not self._exists():
            raise MedmailError("not-found", what="message", name=prefix)
        self._refresh()
        found = self._opened().with_prefix(prefix)
        ids = {one.id for one in found} | {other for other in others if other.startswith(prefix)}
        if len(ids) > 1:
            raise MedmailError("ambiguous", prefix=prefix)
        if not found:
            raise MedmailError("not-found", what="message", name=prefix)
        return found[0]

    def read(self, id: str) -> bytes:  # noqa: A002 - the word of the JSON
        """The bytes of a message as it is stored. Raises ``message-damaged`` where they have changed."""
        for again in (True, True, False) if self._exists() else ():
            for stored in self._opened().with_prefix(id):
                if (raw := self.read_stored(stored)) is not None:
                    return raw
            if again:  # another process may just be giving it another name
                self._refresh()
        raise MedmailError("not-found", what="message", name=id)

    def read_stored(self, stored: "Stored") -> bytes | None:
        """Likewise of a message in its folder; None where it has gone from there."""
        path = maildir.locate(self._directory(stored.account, stored.folder), stored.name)
        if path is None:
            return None
        try:
            raw = path.read_bytes()
        except FileNotFoundError:  # gone since it was looked for
            return None
        except OSError as error:
            raise not_readable(path, error) from None
        if hashlib.sha256(raw).hexdigest() != maildir.named(stored.name).sha256:
            raise MedmailError("message-damaged", path=str(path))
        return raw

    def same_message_id(self, message_id: str, but: str) -> "tuple[str, ...]":
        """The ids of other messages that bear this Message-ID on the outside (a replay, perhaps)."""
        if not message_id or not self._exists():
            return ()
        found = self._opened().with_message_id(message_id)
        return tuple(dict.fromkeys(one.id for one in found if one.id != but))

    # -- other bytes for a message

    @contextmanager
    def rewrapping(self) -> Iterator[None]:
        """Only one process at a time gives messages other bytes; sweeps what a killed one left.

        Raises ``store-busy`` while another does.
        """
        with files.lock(self.folder / "rewrapping", wait=5):
            with self._locked():
                for _account, _folder, directory in maildir.folders(self.folder):
                    maildir.sweep(directory)
                    found = maildir.scan(directory)
                    with files.disk_errors(directory):
                        for name in found.keys() - maildir.latest(found).keys():
                            found[name].unlink(missing_ok=True)
            yield

    def replace(
        self, messages: "Sequence[tuple[Stored, bytes]]"
    ) -> "tuple[set[Stored], MedmailError | None]":
        """Put other bytes in the place of messages of one folder; which have got theirs, and what went wrong.

        Their ids stay, and with them what is known of each: that it was opened, that the server's copy is
        here. Those that another program deleted meanwhile get none.
        """
        from medmail_cli.store.mail import index_entries, outer_index

        first = messages[0][0]
        account, folder = first.account, first.folder
        directory = self._directory(account, folder)
        fresh: dict[str, tuple[Stored, Stored]] = {}
        files_: list[tuple[str, str, bytes]] = []
        for old, raw in messages:
            name = replace(maildir.named(old.name), rewrapped=hashlib.sha256(raw).hexdigest())
            fresh[str(name)] = old, index_entries.entry(account, folder, name, str(name), raw, len(raw))
            files_.append((old.name, str(name), raw))
        with self._locked():
            agreed = self._begin(account, folder, directory)
            placed, failure = maildir.replace(directory, files_, self._writers())
            with self._opened().transaction() as database:
                outer_index.add(database, [fresh[name][1] for name in placed])
                outer_index.set_stamps(database, account, folder, maildir.stamps(directory) if agreed else "")
        return {fresh[name][0] for name in placed}, failure

    # -- what was learned inside

    def opened(self) -> frozenset[str]:
        """The ids of the letters that have been opened."""
        # an empty mailbox is listed without SQLite
        return self._sealed().opened() if (self.folder / "learned.db").exists() else frozenset()

    def mark_opened(self, letters: Sequence[tuple[str, Mapping[str, Any]]], subkey: bytes) -> None:
        """Note, sealed under ``subkey``, what opened letters (id, JSON values) said."""
        self._sealed().add(letters, subkey)

    def same_inner_message_id(self, message_id: str, but: str, subkey: bytes) -> tuple[str, ...]:
        """The ids of other letters, opened before, that bore this Message-ID inside."""
        if not (self.folder / "learned.db").exists():
            return ()
        return tuple(one for one in self._sealed().with_message_id(message_id, subkey) if one != but)

    def learned(
        self, subkey: bytes, ids: Iterable[str] | None = None
    ) -> "Iterator[tuple[str, dict[str, Any]]]":
        """What opened letters said: id, and the values given to :meth:`mark_opened`."""
        return self._sealed().read(subkey, ids)

    # -- the index

    def rebuild(self) -> int:
        """Make the index anew from the Maildirs; the number of messages it holds then."""
        with self._locked():
            return self._rebuild()

    def _rebuild(self) -> int:
        from medmail_cli.store.mail import index_entries
        from medmail_cli.store.mail.outer_index import Index

        if self._index is not None:
            self._index.close()
            self._index = None
        path = self.folder / "index.db"
        count = index_entries.rebuild(path)
        self._index = Index(path)
        return count

    def _refresh(self) -> None:
        """Follow what other programs did in the Maildirs: moved, deleted or put back messages."""
        known = self._opened().stamps()
        stale = [
            place
            for *place, directory in maildir.folders(self.folder)
            if known.get((place[0], place[1])) != maildir.stamps(directory)
        ]
        if stale:
            from medmail_cli.store.mail import index_entries

            with self._locked():
                for account, folder in stale:
                    index_entries.reconcile(self._opened(), account, folder, self._directory(account, folder))

    # -- inside

    def _begin(self, account: str, folder: str, directory: Path) -> bool:
        """Note that files are about to come: who is killed before the index knows of them leaves the note.

        Whether the index agreed with the Maildir before; what other programs did is not to be overlooked.
        """
        from medmail_cli.store.mail import outer_index

        index = self._opened()
        with files.disk_errors(directory):
            agreed = index.folder(account, folder).stamps == maildir.stamps(directory)
        with index.transaction() as database:
            outer_index.set_stamps(database, account, folder, "")
        return agreed

    def _exists(self) -> bool:
        return self._index is not None or self.folder.is_dir()

    def _opened(self) -> "Index":
        from medmail_cli.store.mail.outer_index import Index

        if self._index is None:
            path = self.folder / "index.db"
            if path.exists():
                self._index = Index(path)
            else:
                with files.lock(self.folder / "lock"):
                    # another process may have made it while we waited
                    if path.exists():
                        self._index = Index(path)
                    else:
                        self._rebuild()
        assert self._index is not None  # noqa: S101 - either way it is open now
        return self._index

    def _sealed(self) -> "Learned":
        if self._learned is None:
            from medmail_cli.store.mail.sealed_index import Learned

            self._learned = Learned(self.folder / "learned.db")
        return self._learned

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with files.lock(self.folder / "lock"):
            if self._index is None and not (self.folder / "index.db").exists():
                self._rebuild()
            yield

    def _writers(self) -> "ThreadPoolExecutor":
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(_WRITERS, "mailbox")
        return self._pool

    def _directory(self, account: str, folder: str) -> Path:
        return self.folder / maildir.encode_folder(account) / maildir.encode_folder(folder)


@contextmanager
def _let_go(messages: Iterable[bytes | Incoming]) -> Iterator[None]:
    """Whatever happens, leave no message half-way that came to disk."""
    try:
        yield
    finally:
        for message in messages:
            if isinstance(message, Incoming):
                message.discard()
