"""Keeping the keystore open for a while in the kernel's keyring (keyrings(7)), and the desktop's secrets.

The master key goes into the user's own keyring as a key of type ``user``, readable by its possessor and
this user alone, with a timeout after which the kernel forgets it. It is never written to a file. The
description names the keystore's folder. Linux only; containers often forbid the calls.
"""

import ctypes
import errno
import hashlib
import importlib.util
import os
import sys
from pathlib import Path

from medmail_cli.errors import MedmailError

_ADD_KEY, _KEYCTL = {
    "x86_64": (248, 250),
    "aarch64": (217, 219),
    "riscv64": (217, 219),
    "loongarch64": (217, 219),
    "i686": (286, 288),
    "armv7l": (309, 311),
    "armv6l": (309, 311),
    "ppc64le": (269, 271),
    "s390x": (278, 280),
}.get(os.uname().machine, (0, 0))
_USER_KEYRING = -4  # KEY_SPEC_USER_KEYRING: outlives the login session that unlocked, until the timeout
_GET_KEYRING_ID, _SETPERM, _LINK, _UNLINK, _SEARCH, _READ, _SET_TIMEOUT = 0, 5, 8, 9, 10, 11, 15
_PROCESS_KEYRING = -2
_OWNER_AND_POSSESSOR = 0x3F3F0000
_GONE = {errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EACCES}
_SIZE = 32


def kept_master_key(folder: Path) -> bytes | None:
    """The master key kept for the keystore in ``folder``; None where none is, or there is no keyring."""
    try:
        key = _find(folder)
        return None if key is None else _read(key)
    except OSError:
        return None  # no keyring here: the passphrase is asked for as ever


def keep_master_key(folder: Path, master: bytes, seconds: int) -> None:
    """Keep the master key for so long, in place of what was kept. Raises ``no-kernel-keyring``."""
    try:
        # first where it ends with this process: a kill never leaves a key without its timeout
        key = _call(_ADD_KEY, b"user", _description(folder), master, len(master), _PROCESS_KEYRING)
        _call(_KEYCTL, _SETPERM, key, _OWNER_AND_POSSESSOR)
        _call(_KEYCTL, _SET_TIMEOUT, key, seconds)
        _call(_KEYCTL, _LINK, key, _USER_KEYRING)
    except OSError as error:
        raise MedmailError("no-kernel-keyring", reason=error.strerror or str(error)) from None


def require_keyring() -> None:
    """Raises ``no-kernel-keyring`` where :func:`keep_master_key` would, before a passphrase is asked for."""
    try:
        _call(_KEYCTL, _GET_KEYRING_ID, _USER_KEYRING, 1)
    except OSError as error:
        raise MedmailError("no-kernel-keyring", reason=error.strerror or str(error)) from None


def forget_master_key(folder: Path) -> bool:
    """Forget the master key now; False where none was kept."""
    try:
        key = _find(folder)
        if key is None:
            return False
        _call(_KEYCTL, _UNLINK, key, _USER_KEYRING)
    except OSError:
        return False  # where there is no keyring nothing is kept
    return True


def desktop_secret(name: str, owner: str) -> bytes | None:
    """The secret that the desktop's keyring holds for service ``medmail NAME``; None where there is none.

    Needs the optional package ``keyring``; without it this costs a look-up of its name.
    """
    if importlib.util.find_spec("keyring") is None:
        return None
    import keyring
    from keyring.errors import KeyringError

    try:
        secret = keyring.get_password(f"medmail {name}", owner or "medmail")
    except KeyringError:
        return None  # locked or absent: the next way to give the secret is tried
    return None if secret is None else secret.encode()


def _description(folder: Path) -> bytes:
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return b"medmail:" + digest.encode()


def _find(folder: Path) -> int | None:
    try:
        return _call(_KEYCTL, _SEARCH, _USER_KEYRING, b"user", _description(folder), 0)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def _read(key: int) -> bytes | None:
    buffer = ctypes.create_string_buffer(_SIZE)
    size = _call(_KEYCTL, _READ, key, buffer, _SIZE)
    return buffer.raw if size == _SIZE else None


def _call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """A system call. Raises OSError."""
    if sys.platform != "linux" or not number:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    converted = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(syscall(ctypes.c_long(number), *converted))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
