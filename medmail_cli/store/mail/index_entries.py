"""From files in a Maildir to what the index says of them, and an index that says it all."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medmail_cli.smime.outer import outer
from medmail_cli.store import files
from medmail_cli.store.mail import maildir, outer_index
from medmail_cli.store.mail.outer_index import Folder, Index, Stored

_HEAD = 64 * 1024


def entry(account: str, folder: str, name: maildir.Name, file: str, head: bytes, size: int) -> Stored:
    """What the index says of one message; ``head`` holds its header."""
    seen = outer(head)
    return Stored(
        account=account,
        folder=folder,
        id=name.id,
        generation=name.generation,
        server_id=name.server_id,
        name=file,
        size=size,
        stored_at=name.stored_at,
        from_=seen.from_,
        to=seen.to,
        subject=seen.subject,
        date=seen.date,
        message_id=seen.message_id,
    )


def renamed(old: Stored, name: maildir.Name) -> Stored:
    """The same message under another file name."""
    return replace(old, generation=name.generation, server_id=name.server_id, name=str(name))


def scanned(account: str, folder: str, directory: Path, paths: Mapping[str, Path]) -> list[Stored]:
    """What the index holds of messages on disk; of two files with the same bytes the older one."""
    messages: dict[str, Stored] = {}
    with files.disk_errors(directory):
        for file, path in sorted(paths.items(), reverse=True):
            name = maildir.parse_name(file)
            if name is None:
                continue
            try:
                with path.open("rb") as stream:
                    head, size = stream.read(_HEAD), os.fstat(stream.fileno()).st_size
            except FileNotFoundError:
                # moved or deleted while we looked: the next look finds it
                continue
            messages[name.id] = entry(account, folder, name, file, head, size)
    return list(messages.values())


def rebuild(path: Path) -> int:
    """Make the index at ``path`` anew from the Maildirs beside it; the number of messages it holds then.

    It must not be open. Raises ``disk-full`` and ``not-writable``.
    """
    temporary = path.with_name(f"{path.name}.new")
    count = 0
    with files.disk_errors(path):
        for leaving in (temporary, path.with_name(f"{temporary.name}-journal")):
            leaving.unlink(missing_ok=True)
        fresh = Index.create(temporary)
        try:
            with fresh.transaction() as database:
                for account, folder, directory in maildir.folders(path.parent):
                    here = maildir.latest(maildir.scan(directory))
                    messages = scanned(account, folder, directory, here)
                    outer_index.add(database, messages)
                    # how far it has been fetched is not known from files: the next fetch asks the server
                    state = Folder(stamps=maildir.stamps(directory))
                    outer_index.set_folder(database, account, folder, state)
                    count += len(messages)
        finally:
            fresh.close()
        # the journal of the damaged index must never be played into the new one
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
        temporary.replace(path)
        files.sync_folder(path.parent)
    return count


def reconcile(index: Index, account: str, folder: str, directory: Path, *, whatever: bool = False) -> None:
    """Let the index follow what other programs did in a Maildir; ``whatever`` its time stamps say.

    Raises ``disk-full`` and ``not-writable``.
    """
    with files.disk_errors(directory):
        maildir.create(directory)
        # the stamp first: what changes while we look is looked at next time
        stamps = maildir.stamps(directory)
        # where nothing may be missed not even the clock of the file system is believed
        if not whatever and index.folder(account, folder).stamps == stamps:
            return
        here = maildir.latest(maildir.scan(directory))
    known = index.names(account, folder)
    missing = {name: here[name] for name in here.keys() - known.keys()}
    with index.transaction() as database:
        outer_index.remove(database, account, folder, [known[name] for name in known.keys() - here.keys()])
        outer_index.add(database, scanned(account, folder, directory, missing))
        outer_index.set_stamps(database, account, folder, stamps)
