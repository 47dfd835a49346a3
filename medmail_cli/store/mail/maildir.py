"""A Maildir whose file names say all that an index would have to know of a message's coming.

``SECONDS.MmicrosecondsVgenerationUserveridIsha256.medmail``, in ``new/`` until another program moves it to
``cur/`` and adds its flags (``:2,S``). The time is when the message was first stored here, the SHA-256 that
of its bytes then: its id for good. Where `keys rewrap` has put other bytes in their place, ``Rsha256`` of
those follows the id.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from medmail_cli.errors import MedmailError
from medmail_cli.store import files
from medmail_cli.store.mail.incoming import Incoming

if TYPE_CHECKING:
    from concurrent.futures import Executor

_NAME = re.compile(
    r"(\d{1,12})\.M(\d{6})V([0-9a-z]{1,20})U([0-9A-Za-z_-]{1,43})I([0-9a-f]{64})(?:R([0-9a-f]{64}))?\.medmail"
)
NONE = "0"
"""Generation and server id of a message that no server gave."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 253_402_300_799
"""The last second of the year 9999."""
_LONGEST = 240
"""Octets of a folder's name on disk; file systems take 255."""


@dataclass(frozen=True)
class Name:
    """What a file name says; ``stored_at`` is in UTC.

    ``server_id`` is what the server calls the message within a ``generation`` of its folder, as text that
    only the adapter to its protocol reads; both are ``NONE`` where it came from no server.
    ``rewrapped`` is the SHA-256 of the file's bytes where they are not those that came.
    """

    stored_at: datetime
    generation: str
    server_id: str
    id: str
    rewrapped: str | None = None

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file's bytes."""
        return self.rewrapped or self.id

    def __str__(self) -> str:
        since = self.stored_at - _EPOCH
        seconds = since // timedelta(seconds=1)
        micro = since.microseconds
        mark = f"R{self.rewrapped}" if self.rewrapped else ""
        return f"{seconds}.M{micro:06d}V{self.generation}U{self.server_id}I{self.id}{mark}.medmail"


def parse_name(name: str) -> Name | None:
    """What a file name says, with or without flags; None for the names of other programs."""
    match = _NAME.fullmatch(name.partition(":2,")[0])
    if match is None or int(match[1]) > _LATEST:
        return None
    at = _EPOCH + timedelta(seconds=int(match[1]), microseconds=int(match[2]))
    return Name(at, match[3], match[4], match[5], match[6])


def named(name: str) -> Name:
    """What the file name of a message of ours says. Raises ValueError for any other."""
    parsed = parse_name(name)
    if parsed is None:
        raise ValueError(name)
    return parsed


def encode_folder(name: str) -> str:
    """A folder's or account's name as that of a directory: nothing in it leaves the place it belongs to.

    Raises ``malformed`` for a name that is empty or too long.
    """
    encoded = quote(name, safe=" @+,=", errors="surrogatepass")
    encoded = re.sub(r"^\.|~", lambda match: f"%{ord(match[0]):02X}", encoded)
    if not name or len(encoded) > _LONGEST:
        raise MedmailError("malformed", what=f"folder name {name[:80]!r}")
    return encoded


def decode_folder(encoded: str) -> str:
    """The name that :func:`encode_folder` encoded."""
    return unquote(encoded, errors="surrogatepass")


def create(folder: Path) -> None:
    """Make the three directories of a Maildir."""
    for part in ("tmp", "new", "cur"):
        files.make_private(folder / part)


def write(folder: Path, messages: Sequence[tuple[str, bytes | Incoming]], pool: "Executor") -> None:
    """Deliver messages as (file name, bytes): each whole and durable before it shows up in ``new/``.

    The system is asked to make several durable at a time, which it does together; the directory follows
    once, at the end. Raises ``disk-full`` or ``not-writable``; what was delivered before stays.
    """

    def deliver(message: tuple[str, bytes | Incoming]) -> None:
        name, data = message
        if isinstance(data, Incoming):
            data.deliver(folder / "new" / name)
        else:
            _deliver(folder / "tmp" / name, folder / "new" / name, data)

    with files.disk_errors(folder):
        create(folder)
        deliveries = [pool.submit(deliver, message) for message in messages]
        failures = [failure for delivery in deliveries if (failure := delivery.exception())]
        files.sync_folder(folder / "new")
        if failures:
            raise failures[0]


def _deliver(temporary: Path, path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def replace(
    folder: Path, messages: Sequence[tuple[str, str, bytes]], pool: "Executor"
) -> tuple[set[str], MedmailError | None]:
    """Put messages, as (old name, new name, bytes), in the place of others.

    Flags stay. A new file is whole and durable under its name before the old one goes: a kill or a full disk
    leaves one of them or both, never neither. Gives the new names that stand there, without those of what
    other programs had deleted, and ``disk-full`` or ``not-writable`` where some could not be written.
    """

    def deliver(message: tuple[str, str, bytes]) -> tuple[str, str] | None:
        old, new, data = message
        path = paths.get(old)
        if path is None:
            return None
        _deliver(folder / "tmp" / new, path.with_name(new + path.name[len(old) :]), data)
        return old, new

    with files.disk_errors(folder):
        create(folder)
        paths = located(folder, [old for old, _new, _data in messages])
        deliveries = [pool.submit(deliver, message) for message in messages]
        failures = [failure for delivery in deliveries if (failure := delivery.exception())]
        placed = [
            names for delivery in deliveries if not delivery.exception() and (names := delivery.result())
        ]
        for part in ("new", "cur"):
            files.sync_folder(folder / part)
        # they may have got other flags meanwhile
        for path in located(folder, [old for old, _new in placed]).values():
            path.unlink(missing_ok=True)
        for part in ("new", "cur"):
            files.sync_folder(folder / part)
    failure = None
    try:
        with files.disk_errors(folder):
            for each in failures:
                raise each
    except MedmailError as error:
        failure = error
    return {new for _old, new in placed}, failure


def latest(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Of a scan's messages those that nothing supersedes: a killed :func:`replace` may have left both."""
    rewrapped: dict[str, tuple[int, str]] = {}
    for name, path in paths.items():
        parsed = parse_name(name) if "R" in name else None
        if parsed is not None and parsed.rewrapped:
            with contextlib.suppress(FileNotFoundError):
                age = path.stat().st_mtime_ns, name
                rewrapped[parsed.id] = max(age, rewrapped.get(parsed.id, age))
    if not rewrapped:
        return dict(paths)
    newest = {id_: name for id_, (_, name) in rewrapped.items()}
    return {
        name: path
        for name, path in paths.items()
        if (parsed := parse_name(name)) is None or newest.get(parsed.id, name) == name
    }


def sweep(folder: Path) -> None:
    """Remove what killed runs left in ``tmp/``; only while nobody else can be delivering."""
    files.sweep(folder / "tmp")
    with contextlib.suppress(FileNotFoundError):
        for path in (folder / "tmp").iterdir():
            if parse_name(path.name):
                path.unlink(missing_ok=True)


def scan(folder: Path) -> dict[str, Path]:
    """Every message of ours in a Maildir: its name without flags, and where it is now."""
    paths = {}
    for part in ("new", "cur"):
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(folder / part):
                name = entry.name.partition(":2,")[0]
                if _NAME.fullmatch(name):
                    paths[name] = Path(entry.path)
    return paths


def locate(folder: Path, name: str) -> Path | None:
    """Where a message is now, whatever flags it has got; None if it is gone."""
    return located(folder, [name]).get(name)


def located(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Where messages are now, without those that are gone; one look at all files is the most it takes."""
    paths = {}
    for name in names:
        for path in (folder / "new" / name, folder / "cur" / f"{name}:2,", folder / "cur" / f"{name}:2,S"):
            if path.is_file():
                paths[name] = path
                break
    if len(paths) < len(names):
        everything = scan(folder)
        paths |= {name: everything[name] for name in names if name not in paths and name in everything}
    return paths


def rename(folder: Path, names: Mapping[str, str]) -> None:
    """Give messages other names (old to new); their flags stay. Durable once the directory is synced."""
    for old, path in located(folder, list(names)).items():
        path.rename(path.with_name(names[old] + path.name[len(old) :]))


def stamps(folder: Path) -> str:
    """What changes whenever a message comes to, moves in or leaves a Maildir; empty where there is none."""
    try:
        return " ".join(str((folder / part).stat().st_mtime_ns) for part in ("new", "cur"))
    except FileNotFoundError:
        return ""


def folders(mail: Path) -> Iterator[tuple[str, str, Path]]:
    """Every Maildir below ``mail``: account, folder, directory."""
    if not mail.is_dir():
        return
    for account in sorted(mail.iterdir()):
        if account.is_dir():
            for folder in sorted(account.iterdir()):
                if (folder / "cur").is_dir() and (folder / "new").is_dir():
                    yield decode_folder(account.name), decode_folder(folder.name), folder
