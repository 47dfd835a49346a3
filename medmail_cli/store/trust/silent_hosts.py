"""Which servers did not help lately, so that every run does not wait for them again.

A small JSON file in the cache folder: names (a host, a URL) to when it was. Losing it costs some seconds.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

from medmail_cli.store import files

REST = timedelta(minutes=10)
"""How long a server that failed is left alone."""
_MOST = 1000


class Unanswered:
    """What failed in the last ten minutes before ``now``, as the file at ``path`` remembers it."""

    def __init__(self, path: Path, now: datetime) -> None:
        self._path, self._now = path, now.timestamp()
        self._failed = self._read()

    def __contains__(self, name: str) -> bool:
        return name in self._failed

    def add(self, name: str) -> None:
        """Remember that ``name`` failed now. Raises ``disk-full``, ``not-writable``."""
        # what another process has noted meanwhile stays
        self._failed = self._read() | self._failed | {name: self._now}
        newest = sorted(self._failed.items(), key=lambda failure: failure[1])[-_MOST:]
        files.write_atomic(self._path, json.dumps(dict(newest)).encode())

    def _read(self) -> dict[str, float]:
        try:
            failures = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}  # it is made again
        if not isinstance(failures, dict):
            return {}
        rest = REST.total_seconds()
        # what lies ahead was written under a clock that was wrong
        return {
            str(name): at
            for name, at in failures.items()
            if isinstance(at, int | float) and 0 <= self._now - at < rest
        }
