"""Revocations that later issues of a list leave out, since the certificates have ended (RFC 5280 §3.3).

The store keeps one issue of a list. Without these a letter whose signer was revoked would be believed again
as soon as an authority cleans up. One text file a list: the SHA-256 of the rest, then a line for each, with
its serial number and reason, a digest of its issuer's name, when it was revoked, and the first issue without.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.crl import LeftOut, Revocation
from medmail_cli.pki.x509.names import NameKey
from medmail_cli.store import files


def remember(
    path: Path, left_out: Iterable[tuple[NameKey, int, Revocation]], since: dt.datetime
) -> tuple[int, str]:
    """Add to the file, durably, what an issue of ``since`` leaves out; how much it holds then.

    Lines are only ever added at its end. Raises ``store-damaged``.
    """
    known = _read(path)
    lines = dict.fromkeys(known.decode().splitlines(keepends=True))
    lines |= dict.fromkeys(
        f"{_name(issuer, serial)} {revoked.date.isoformat()} {since.isoformat()} {revoked.reason.name}\n"
        for issuer, serial, revoked in left_out
    )
    text = "".join(lines).encode()
    if text != known:
        files.write_atomic(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    return len(text), hashlib.sha256(text).hexdigest()


def size(path: Path) -> tuple[int, str]:
    """How many octets of lines the file holds, and their SHA-256. Raises ``store-damaged``."""
    text = _read(path)
    return len(text), hashlib.sha256(text).hexdigest()


def look_up(path: Path, least: tuple[int, str] = (0, "")) -> LeftOut:
    """Finds what the file has about a certificate; reads it when first asked. Raises ``store-damaged``.

    ``least`` is how much was written down to be there, octets and their SHA-256; where it is not, the
    error is ``revocations-missing``.
    """
    text: list[bytes] = []
    if least[0] and not path.exists():
        raise MedmailError("revocations-missing", path=str(path))

    def left_out(serial: int, issuer: NameKey) -> tuple[Revocation, dt.datetime] | None:
        if not text:
            read = _read(path)
            check(path, read, least)
            text.append(b"\n" + read)
        _, there, rest = text[0].rpartition(b"\n" + _name(issuer, serial).encode() + b" ")
        if not there:
            return None
        date, since, reason = rest[: rest.index(b"\n")].decode().split()
        revoked = Revocation(dt.datetime.fromisoformat(date), x509.ReasonFlags[reason])
        return revoked, dt.datetime.fromisoformat(since)

    return left_out


def check(path: Path, text: bytes, least: tuple[int, str]) -> None:
    """Raises ``revocations-missing`` where ``text`` does not begin with ``least``."""
    if least[0] and hashlib.sha256(text[: least[0]]).hexdigest() != least[1]:
        raise MedmailError("revocations-missing", path=str(path))


def verify(path: Path, least: tuple[int, str]) -> None:
    """Likewise for what stands in the file. Raises ``store-damaged``, ``revocations-missing``."""
    check(path, _read(path), least)


def _name(issuer: NameKey, serial: int) -> str:
    digest = hashlib.sha256(repr([sorted(map(repr, rdn)) for rdn in issuer]).encode())
    return f"{serial:x} {digest.hexdigest()[:32]}"


def _read(path: Path) -> bytes:
    try:
        digest, _, text = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise MedmailError("store-damaged", path=str(path)) from error
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise MedmailError("store-damaged", path=str(path))
    return text
