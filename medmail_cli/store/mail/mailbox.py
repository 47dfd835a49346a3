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
from medmail_cli.store.mail.indexed import IndexedMaildirs
from medmail_cli.store.mail.progress import FolderProgress
from medmail_cli.store.mail.search import matches

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from medmail_cli.store.mail.outer_index import Stored
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
        self._maildirs = IndexedMaildirs(folder)
        self._learned: Learned | None = None
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Let go of every file."""
        self._maildirs.close()
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

        directory = self._maildirs.directory(account, folder)
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
        directory = self._maildirs.directory(account, folder)
        with self._maildirs.locked(), _let_go(message for _, message in batch):
            index = self._maildirs.index()
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
            agreed = self._maildirs.begin(account, folder, directory)
            maildir.write(directory, [(letter.name, raw) for letter, raw in fresh.values()], self._writers())
            with files.disk_errors(directory):
                if moved:
                    maildir.rename(directory, {old_name: letter.name for letter, old_name in moved.values()})
                    files.sync_folder(directory / "new")
                    files.sync_folder(directory / "cur")
            with index.transaction() as database:
                outer_index.add(database, [letter for letter, _ in (*fresh.values(), *moved.values())])
                outer_index.set_stamps(database, account, folder, maildir.stamps(directory) if agreed else "")
        result, seen = [], set()
        for id_ in ids:
            result.append((fresh[id_][0] if id_ in fresh else known[id_], id_ in fresh and id_ not in seen))
            seen.add(id_)
        return result

    def keep_sent(self, account: str, messages: Sequence[bytes], now: datetime) -> "Sequence[Stored]":
        """Keep the sender's copies of what was sent, durably."""
        return [
            stored
            for stored, _ in self.store(
                account, SENT, maildir.NONE, [(maildir.NONE, message) for message in messages], now
            )
        ]

    def progress(self, account: str, folder: str) -> FolderProgress:
        """How far a folder has been fetched."""
        return FolderProgress(self._maildirs, account, folder)

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
        if not self._maildirs.exist():
            return []
        self._maildirs.refresh()
        letters = self._maildirs.index().all(account, folder)
        if since is not None:
            letters = [letter for letter in letters if (letter.date or letter.stored_at) >= since]
        if unopened:
            opened = self.opened()
            letters = [
                letter for letter in letters if letter.id not in opened and (folder or letter.folder != SENT)
            ]
        if query or sender:
            learned = dict(self.learned(subkey)) if subkey is not None else {}
            letters = [
                letter for letter in letters if matches(letter, learned.get(letter.id, {}), query, sender)
            ]
        return letters

    def find(self, prefix: str, others: Iterable[str] = ()) -> "Stored":
        """The message whose id begins with ``prefix``, six hex digits or more.

        ``others`` are ids that share the space (the outbox's). Raises ``not-found`` and ``ambiguous``.
        """
        prefix = prefix.lower()
        if not re.fullmatch(r"[0-9a-f]{6,64}", prefix) or not self._maildirs.exist():
            raise MedmailError("not-found", what="message", name=prefix)
        self._maildirs.refresh()
        letters = self._maildirs.index().with_prefix(prefix)
        ids = {letter.id for letter in letters} | {other for other in others if other.startswith(prefix)}
        if len(ids) > 1:
            raise MedmailError("ambiguous", prefix=prefix)
        if not letters:
            raise MedmailError("not-found", what="message", name=prefix)
        return letters[0]

    def read(self, id: str) -> bytes:  # noqa: A002 - the word of the JSON
        """The bytes of a message as it is stored. Raises ``message-damaged`` where they have changed."""
        for again in (True, True, False) if self._maildirs.exist() else ():
            for stored in self._maildirs.index().with_prefix(id):
                if (raw := self.read_stored(stored)) is not None:
                    return raw
            if again:  # another process may just be giving it another name
                self._maildirs.refresh()
        raise MedmailError("not-found", what="message", name=id)

    def read_stored(self, stored: "Stored") -> bytes | None:
        """Likewise of a message in its folder; None where it has gone from there."""
        path = maildir.locate(self._maildirs.directory(stored.account, stored.folder), stored.name)
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
        if not message_id or not self._maildirs.exist():
            return ()
        letters = self._maildirs.index().with_message_id(message_id)
        return tuple(dict.fromkeys(letter.id for letter in letters if letter.id != but))

    # -- other bytes for a message

    @contextmanager
    def rewrapping(self) -> Iterator[None]:
        """Only one process at a time gives messages other bytes; sweeps what a killed one left.

        Raises ``store-busy`` while another does.
        """
        with files.lock(self.folder / "rewrapping", wait=5):
            with self._maildirs.locked():
                for _account, _folder, directory in maildir.folders(self.folder):
                    maildir.sweep(directory)
                    paths = maildir.scan(directory)
                    with files.disk_errors(directory):
                        for name in paths.keys() - maildir.latest(paths).keys():
                            paths[name].unlink(missing_ok=True)
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
        directory = self._maildirs.directory(account, folder)
        fresh: dict[str, tuple[Stored, Stored]] = {}
        files_: list[tuple[str, str, bytes]] = []
        for old, raw in messages:
            name = replace(maildir.named(old.name), rewrapped=hashlib.sha256(raw).hexdigest())
            fresh[str(name)] = old, index_entries.entry(account, folder, name, str(name), raw, len(raw))
            files_.append((old.name, str(name), raw))
        with self._maildirs.locked():
            agreed = self._maildirs.begin(account, folder, directory)
            placed, failure = maildir.replace(directory, files_, self._writers())
            with self._maildirs.index().transaction() as database:
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
        return tuple(other for other in self._sealed().with_message_id(message_id, subkey) if other != but)

    def learned(
        self, subkey: bytes, ids: Iterable[str] | None = None
    ) -> "Iterator[tuple[str, dict[str, Any]]]":
        """What opened letters said: id, and the values given to :meth:`mark_opened`."""
        return self._sealed().read(subkey, ids)

    def rebuild(self) -> int:
        """Make the index anew from the Maildirs; the number of messages it holds then."""
        return self._maildirs.rebuild()

    def _sealed(self) -> "Learned":
        if self._learned is None:
            from medmail_cli.store.mail.sealed_index import Learned

            self._learned = Learned(self.folder / "learned.db")
        return self._learned

    def _writers(self) -> "ThreadPoolExecutor":
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(_WRITERS, "mailbox")
        return self._pool


@contextmanager
def _let_go(messages: Iterable[bytes | Incoming]) -> Iterator[None]:
    """Whatever happens, leave no message half-way that came to disk."""
    try:
        yield
    finally:
        for message in messages:
            if isinstance(message, Incoming):
                message.discard()
