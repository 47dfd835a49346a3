"""How far a folder has been fetched, and what of it is stored or owed, in its server's own words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from medmail_cli.store import files
from medmail_cli.store.mail import maildir

if TYPE_CHECKING:
    from medmail_cli.store.mail.indexed import IndexedMaildirs


class FolderProgress:
    """The progress of one folder; every method may raise what :class:`.indexed.IndexedMaildirs` does."""

    def __init__(self, maildirs: "IndexedMaildirs", account: str, folder: str) -> None:
        self._maildirs = maildirs
        self._names = account, folder
        self._directory = maildirs.directory(account, folder)

    @property
    def position(self) -> str | None:
        """Everything before it is dealt with; see :class:`.outer_index.Folder`."""
        return self._maildirs.index().folder(*self._names).position if self._maildirs.exist() else ""

    def stored(self, generation: str, server_ids: Sequence[str]) -> set[str]:
        """Those of ``server_ids`` that an interrupted fetch has left stored."""
        if not self._maildirs.exist():
            return set()
        with self._maildirs.locked():
            maildir.sweep(self._directory)
            index = self._maildirs.index()
            # what an interrupted fetch has left is looked at whole: it is not to be believed to be there
            if not self._agrees() or index.stored(*self._names, generation, server_ids):
                from medmail_cli.store.mail import index_entries

                index_entries.reconcile(index, *self._names, self._directory, whatever=True)
            return index.stored(*self._names, generation, server_ids)

    def advance(self, position: str) -> None:
        """Everything before ``position`` has been dealt with."""
        from medmail_cli.store.mail import outer_index

        with self._maildirs.locked(), files.disk_errors(self._directory):
            agreed = self._agrees()
            maildir.create(self._directory)
            state = outer_index.Folder(position, maildir.stamps(self._directory) if agreed else "")
            with self._maildirs.index().transaction() as database:
                outer_index.set_folder(database, *self._names, state)

    def begin_again(self) -> None:
        """The server's mailbox has been restored: the server ids of what is stored say nothing any more."""
        from medmail_cli.store.mail import outer_index

        with self._maildirs.locked():
            state = outer_index.Folder(None, self._maildirs.index().folder(*self._names).stamps)
            with self._maildirs.index().transaction() as database:
                outer_index.forget_server_ids(database, *self._names)
                outer_index.set_folder(database, *self._names, state)

    def witnesses(self, generation: str) -> Mapping[str, frozenset[str]]:
        """The last server ids that are stored, some of them, and the Message-IDs known under each."""
        return self._maildirs.index().witnesses(*self._names, generation) if self._maildirs.exist() else {}

    def owed(self, generation: str) -> Sequence[str]:
        """The server ids of messages that the server named and has not given, the oldest first."""
        return self._maildirs.index().owed(*self._names, generation) if self._maildirs.exist() else []

    def owe(self, generation: str, server_ids: Iterable[str]) -> None:
        """Note them, in the place of those noted before."""
        from medmail_cli.store.mail import outer_index

        with self._maildirs.locked(), self._maildirs.index().transaction() as database:
            outer_index.set_owed(database, *self._names, generation, sorted(server_ids))

    def _agrees(self) -> bool:
        """Whether nothing was done in the Maildir that the index does not know of."""
        return self._maildirs.index().folder(*self._names).stamps == maildir.stamps(self._directory)
