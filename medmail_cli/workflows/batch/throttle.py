"""How fast an authority may be asked: within its limit, and not while it wants rest."""

import time
from dataclasses import dataclass

from medmail_cli.errors import MedmailError

_LONGEST_PAUSE = 60.0
"""Seconds between two tries, where an authority that is busy does not say when to come again."""
_PATIENCE = 600.0
"""Seconds to wait in all, without any success, for an authority that is busy."""


@dataclass
class Throttle:
    """When the next request may leave; ``interval`` is the least time between two, in seconds."""

    interval: float = 0.0
    _next_at: float = 0.0
    _patience: float = _PATIENCE

    @property
    def pause(self) -> float:
        """Seconds until a request may leave."""
        return max(0.0, self._next_at - time.monotonic())

    def asked(self) -> None:
        """A request leaves now. What was not asked for within the last second is not made up for."""
        if self.interval:
            self._next_at = max(self._next_at, time.monotonic() - 1.0) + self.interval

    def answered(self) -> None:
        """The authority has done what it was asked for."""
        self._patience = _PATIENCE

    def rest(self, error: MedmailError, tries: int) -> bool:
        """Ask nothing as long as a busy authority wants; False if that is too long in all."""
        wanted, now = error.facts.get("seconds"), time.monotonic()
        until = now + (
            wanted if isinstance(wanted, int) and wanted else min(2.0 ** (tries - 1), _LONGEST_PAUSE)
        )
        longer = until - max(self._next_at, now)
        if longer > self._patience:
            return False
        if longer > 0:
            # several workers hear the same; they wait once
            self._patience -= longer
            self._next_at = until
        return True
