"""From files in a Maildir to what the index says of them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medmail_cli.smime.outer import outer
from medmail_cli.store import files, maildir
from medmail_cli.store.index import Folder, Stored

_HEAD = 64 * 1024


def entry(account: str, folder: str, name: maildir.Name, file: str, head: bytes, size: int) -> Stored:
    """What the index says of one message; ``head`` holds its header."""
    seen = outer(head)
    return Stored(
        account=account,
        folder=folder,
        id=name.id,
        uidvalidity=name.uidvalidity,
        uid=name.uid,
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
    return replace(old, uidvalidity=name.uidvalidity, uid=name.uid, name=str(name))


def scanned(account: str, folder: str, directory: Path, found: Mapping[str, Path]) -> list[Stored]:
    """What the index holds of messages on disk; of two files with the same bytes the older one."""
    messages: dict[str, Stored] = {}
    with files.disk_errors(directory):
        for file, path in sorted(found.items(), reverse=True):
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


def reached(messages: Sequence[Stored], directory: Path) -> Folder:
    """How far a folder has been fetched, as far as its files tell."""
    # which UIDs below the last are still to come is not known from files: the next fetch asks the server
    return Folder(max((one.uidvalidity for one in messages), default=0), 1, maildir.stamps(directory))
