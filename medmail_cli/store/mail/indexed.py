"""The Maildirs and the index over them: opened on first use, kept in step, changed by one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.store import files
from medmail_cli.store.mail import maildir

if TYPE_CHECKING:
    from medmail_cli.store.mail.outer_index import Index


class IndexedMaildirs:
    """What lies in ``folder``; usable from several threads and by several processes.

    Every method may raise ``index-damaged``, ``store-busy``, ``disk-full`` and ``not-writable``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index: Index | None = None

    def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def rebuild(self) -> int:
        """Make the index anew from the Maildirs; the number of messages it holds then."""
        with self.locked():
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

    def refresh(self) -> None:
        """Follow what other programs did in the Maildirs: moved, deleted or put back messages."""
        known = self.index().stamps()
        stale = [
            names
            for *names, directory in maildir.folders(self.folder)
            if known.get((names[0], names[1])) != maildir.stamps(directory)
        ]
        if stale:
            from medmail_cli.store.mail import index_entries

            with self.locked():
                for account, folder in stale:
                    index_entries.reconcile(self.index(), account, folder, self.directory(account, folder))

    def begin(self, account: str, folder: str, directory: Path) -> bool:
        """Note that files are about to come: who is killed before the index knows of them leaves the note.

        Whether the index agreed with the Maildir before; what other programs did is not to be overlooked.
        """
        from medmail_cli.store.mail import outer_index

        index = self.index()
        with files.disk_errors(directory):
            agreed = index.folder(account, folder).stamps == maildir.stamps(directory)
        with index.transaction() as database:
            outer_index.set_stamps(database, account, folder, "")
        return agreed

    def exist(self) -> bool:
        """Whether there is a mailbox yet."""
        return self._index is not None or self.folder.is_dir()

    def index(self) -> "Index":
        """The index, opened, and made where it is missing."""
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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the mailbox meanwhile."""
        with files.lock(self.folder / "lock"):
            if self._index is None and not (self.folder / "index.db").exists():
                self._rebuild()
            yield

    def directory(self, account: str, folder: str) -> Path:
        """The Maildir of a folder."""
        return self.folder / maildir.encode_folder(account) / maildir.encode_folder(folder)
