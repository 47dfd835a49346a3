"""Accounts whose server has refused the password: each refusal counts towards a lock, so they are few."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Refusals:
    """Who was refused how often in a row, and may be tried again when; ``pause`` in seconds by ``clock``.

    ``forget`` is told of each: whoever has corrected the password meanwhile shall have it read anew.
    """

    forget: Callable[[str], None] = lambda _account: None
    pause: float = 15 * 60.0
    most: int = 3
    clock: Callable[[], float] = time.monotonic
    _found: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)

    def add(self, service: str, account: str) -> None:
        """An account's server for mailbox or submission has refused the password."""
        times, _ = self._found.get((service, account), (0, 0.0))
        self._found[service, account] = times + 1, self.clock() + self.pause
        self.forget(account)

    def clear(self, service: str, account: str) -> None:
        """It has let us in."""
        self._found.pop((service, account), None)

    def spent(self, service: str, account: str) -> bool:
        """Has it refused so often that it is not to be tried any more?"""
        return self._found.get((service, account), (0, 0.0))[0] >= self.most

    def holds(self, account: str) -> bool:
        """Is the password of an account not to be said now, to any of its servers?"""
        return any(
            times >= self.most or self.clock() < again
            for (_, name), (times, again) in self._found.items()
            if name == account
        )
