"""Signers of letters whose chain ended at no anchor, kept for ``trust update`` to complete.

``decrypt`` asks nobody about them. One PEM file per certificate in a folder of the cache, named by its
SHA-256: the certificate, then those above it that came along. Losing one costs opening its letter again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import UNREADABLE, fingerprint, load_pems
from medmail_cli.store import files

_MOST = 64
"""Signers remembered, the newest: strangers can fill neither the disk nor the next update."""


class Incomplete:
    """The signers remembered in ``folder``, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, chain: Sequence[x509.Certificate]) -> None:
        """Remember a certificate and what is above it. Raises ``disk-full``, ``not-writable``."""
        path = self._path(chain[0])
        if path.exists():
            return
        files.write_atomic(path, b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain))
        newest = sorted(self._folder.glob("*.pem"), key=_written, reverse=True)
        for old in newest[_MOST:]:
            old.unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[x509.Certificate, Sequence[x509.Certificate]]]:
        """Every certificate with what came along above it; what cannot be read is forgotten."""
        for path in sorted(self._folder.glob("*.pem")):
            try:
                certificate, *above = load_pems(path.read_bytes())
            except (OSError, *UNREADABLE):
                path.unlink(missing_ok=True)
                continue
            yield certificate, above

    def remove(self, certificate: x509.Certificate) -> None:
        """Forget a certificate, whether it was remembered or not."""
        self._path(certificate).unlink(missing_ok=True)

    def _path(self, certificate: x509.Certificate) -> Path:
        digest = fingerprint(certificate)
        return self._folder / f"{digest}.pem"


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has completed it
        return 0.0
