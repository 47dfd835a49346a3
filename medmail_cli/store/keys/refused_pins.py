"""The PINs that cards have refused, so that none is tried on the same card twice, from run to run.

``refused-pins`` in the keystore's folder has a line for each: 16 bytes in hex of the token's name under
HMAC-SHA-256, a space, and as many of its name and the PIN. The key is the keystore's, so that without the
passphrase nobody can try the few PINs there are on what stands here.
"""

import contextlib
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

from medmail_cli.errors import not_readable
from medmail_cli.store import files

_NAME = "refused-pins"
_PATIENCE = 60.0
"""Seconds: cards are slow, and several runs may come before us."""


class RefusedPins:
    """The refused PINs of the keystore in ``folder``; ``key`` is a subkey of it."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.path = folder / _NAME
        self._key = key

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While a PIN is tried, so that runs side by side do not try the same one. Raises ``store-busy``."""
        with files.lock(self.path.with_suffix(".lock"), wait=_PATIENCE):
            yield

    def knows(self, token: str, pin: bytes) -> bool:
        """Whether the token has refused this PIN, and no other was right since."""
        return self._line(token, pin) in self._lines()

    def remember(self, token: str, pin: bytes) -> None:
        """The token has refused this PIN; on disk when this returns."""
        files.write_atomic(self.path, "".join([*self._lines(), self._line(token, pin)]).encode())

    def forget(self, token: str) -> None:
        """The token has taken a PIN: those it refused may be right one day."""
        lines = self._lines()
        kept = [line for line in lines if not line.startswith(self._digest(token))]
        if kept != lines:
            files.write_atomic(self.path, "".join(kept).encode())

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text("ascii").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise not_readable(self.path, error) from None
        except ValueError:
            return []  # nothing that was written here; what it said is lost

    def _line(self, token: str, pin: bytes) -> str:
        return f"{self._digest(token)} {self._digest(token, pin)}\n"

    def _digest(self, token: str, pin: bytes | None = None) -> str:
        name = hashlib.sha256(token.encode()).digest()
        return hmac.digest(self._key, name + (pin or b""), "sha256")[:16].hex()
