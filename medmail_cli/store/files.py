"""Writing so that a kill, a full disk or a second process never leaves half a file."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from medmail_cli.errors import MedmailError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp", re.DOTALL)
_NOT_A_FILE = {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR}  # EMLINK is FreeBSD's word for a link


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write ``path`` into ``disk-full`` or ``not-writable``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise MedmailError("disk-full", path=str(path)) from error
        raise MedmailError("not-writable", path=str(path), reason=error.strerror or str(error)) from error


def make_private(folder: Path) -> Path:
    """Make ``folder`` and what is missing above it, for the owner alone (0700). Raises ``not-writable``."""
    with disk_errors(folder):
        # Path.mkdir(parents=True) would make the parents with the default mode
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def open_own(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a file that is ours alone, made 0600 with O_CREAT: never through a link, never a pipe or device.

    Raises ``store-damaged`` where something else stands in its place, and what ``os.open`` raises.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise MedmailError("store-damaged", path=str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MedmailError("store-damaged", path=str(path))
    return descriptor


def read_own(path: Path) -> bytes:
    """All of a file that is ours alone; see :func:`open_own`."""
    with os.fdopen(open_own(path), "rb") as file:
        return file.read()


def check_place(folder: Path) -> None:
    """Refuse a folder, if it is there, in which everybody may rename and replace what is private.

    ``/tmp`` and its like are none: the sticky bit leaves each file to its owner. Raises ``unsafe-folder``.
    """
    try:
        mode = folder.stat().st_mode
    except OSError:
        return  # it is made, or the writing tells what is wrong
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise MedmailError("unsafe-folder", path=str(folder), reason="world-writable")


def make_own(folder: Path) -> Path:
    """Make ``folder`` for the owner alone, where nobody else can have prepared it.

    Raises ``unsafe-folder`` where it is a link or another's, or everybody may write to it or to the one it is
    in, and ``not-writable``.
    """
    check_place(folder.parent)
    make_private(folder)
    with disk_errors(folder):
        status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise MedmailError("unsafe-folder", path=str(folder), reason="link")
    if status.st_uid != os.geteuid():
        raise MedmailError("unsafe-folder", path=str(folder), reason="another-owner")
    check_place(folder)
    return folder


def others_can_read(path: Path) -> bool:
    """Whether any user of this machine can read the file: by its mode, and by those of the folders above."""
    try:
        real = path.resolve(strict=True)
        above = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
        return above and bool(real.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def sync_folder(folder: Path) -> None:
    """Make renames, links and removals in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(folder: Path, name: str, data: bytes | memoryview, mode: int) -> Iterator[Path]:
    """The data durable in a file of ``folder``, to be renamed or linked to ``name`` inside; none is left.

    It is locked until then, by which :func:`sweep` tells it from what a kill left.
    """
    temporary, descriptor = locked_temporary(folder, os.fsdecode(os.fsencode(name)[:200]), mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        yield temporary
    finally:
        try:
            temporary.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def locked_temporary(folder: Path, name: str, mode: int) -> tuple[Path, int]:
    """A new file in ``folder`` and its descriptor; :func:`sweep` leaves it as long as that is open."""
    while True:
        temporary = folder / f".{name}.{secrets.token_hex(6)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        # where a file system has no locks, nobody can lock it to sweep it either
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # swept before it was locked


def is_temporary(name: str) -> bool:
    """Whether a file is named as those are that are written before they get their name."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove what killed runs left half-written in ``folder``; nothing that is still being written.

    What cannot be listed or removed stays: whoever writes there hears of it.
    """
    try:
        with os.scandir(folder) as there:
            names = [entry.name for entry in there if is_temporary(entry.name)]
    except OSError:
        return
    for name in names:
        sweep_file(folder / name)


def sweep_file(temporary: Path) -> None:
    """Remove one such file, if it is ours and no process writes it; see :func:`sweep`."""
    try:
        descriptor = open_own(temporary, os.O_RDWR)
    except (OSError, MedmailError):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_uid == os.geteuid():
            temporary.unlink(missing_ok=True)
    except OSError:
        return  # being written, or in a folder where we may remove nothing
    finally:
        os.close(descriptor)


_sweep_once = lru_cache(maxsize=256)(sweep)
"""A run looks once for what earlier ones left."""


def write_atomic(path: Path, data: bytes | memoryview, mode: int = 0o600, *, swept: bool = False) -> None:
    """Put ``data`` at ``path``, replacing what is there: temporary file, fsync, rename, fsync of the folder.

    What killed runs left in the folder is removed, unless the caller sees to that (``swept``). Raises
    ``disk-full`` or ``not-writable``; the old content then still stands.
    """
    make_private(path.parent)
    if not swept:
        _sweep_once(path.parent)
    with disk_errors(path), _temporary(path.parent, path.name, data, mode) as temporary:
        temporary.replace(path)
        sync_folder(path.parent)


def check_no_input(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is one of the files read. Raises ``output-is-input``."""
    if path.is_file() and any(input_path.is_file() and input_path.samefile(path) for input_path in inputs):
        raise MedmailError("output-is-input", path=str(path))


def check_output(path: Path, *, force: bool) -> None:
    """Refuse early what :func:`write_output` would refuse for its place alone.

    Raises ``not-writable`` where the folder is missing or ``path`` is one, and nothing for an existing
    file, whose content may yet turn out identical.
    """
    if path.is_dir():
        raise MedmailError("not-writable", path=str(path), reason=os.strerror(errno.EISDIR))
    if not path.parent.is_dir():
        raise MedmailError("not-writable", path=str(path), reason=os.strerror(errno.ENOENT))
    if path.exists() and not (force or path.is_file()):
        raise MedmailError("exists", path=str(path))


def write_output(
    path: Path, data: bytes | memoryview, *, force: bool, mode: int = 0o600, via: Path | None = None
) -> bool:
    """Put an output file in place whole and durable; False where an identical one was there already.

    It is written in ``via`` first (a folder above, which outlives the one of ``path``), and what killed runs
    left there and beside it is removed. Raises ``exists`` where another file stands there and ``force`` is
    not set, ``disk-full``, ``not-writable``.
    """
    folder = path.parent if via is None else via
    for directory in {folder, path.parent}:
        _sweep_once(directory)
    check_output(path, force=force)
    with disk_errors(path):
        if path.is_file() and _same(path, data):
            return False
        with _temporary(folder, path.name, data, mode) as temporary:
            if force:
                temporary.replace(path)
            else:
                try:
                    # link, unlike rename, never replaces a file that appeared meanwhile
                    os.link(temporary, path)
                except FileExistsError:
                    raise MedmailError("exists", path=str(path)) from None
        sync_folder(path.parent)
    return True


def _same(path: Path, data: bytes | memoryview) -> bool:
    return path.stat().st_size == len(memoryview(data).cast("B")) and path.read_bytes() == data


def wait_for_lock(descriptor: int, path: Path, *, exclusive: bool, wait: float, pause: float) -> None:
    """Lock an open file, asking every ``pause`` for ``wait`` seconds; raises ``store-busy`` after that."""
    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    give_up = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, operation)
            return
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise MedmailError("store-busy", path=str(path)) from None
            time.sleep(pause)


@contextlib.contextmanager
def lock(path: Path, *, exclusive: bool = True, wait: float = 10.0) -> Iterator[None]:
    """Hold an advisory lock on ``path`` (made if missing); it ends with the process, however that ends.

    Raises ``store-busy`` where another process holds it for longer than ``wait`` seconds.
    """
    make_private(path.parent)
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait_for_lock(descriptor, path, exclusive=exclusive, wait=wait, pause=0.02)
        yield
    finally:
        os.close(descriptor)
