"""How fast long work goes lately, and so how long the rest will take."""

from collections import deque

_LATELY = 30.0
"""Seconds: what was done before tells nothing of what an authority does now."""


class Pace:
    """What was done by when, for as long as it matters."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def rate(self, now: float, done: int) -> float | None:
        """Note what is done now; how much of it a second, None where it is too early to say."""
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()  # other work has begun
        if not self._marks or now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, done))
        while len(self._marks) > 1 and now - self._marks[1][0] >= _LATELY:
            self._marks.popleft()
        since, before = self._marks[0]
        return (done - before) / (now - since) if now - since >= 2.0 and done > before else None


def clock(seconds: float) -> str:
    """A duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def speed(rate: float) -> str:
    """A rate as so many a second or, where that is little, a minute."""
    return f"{rate:.0f}/s" if rate >= 2 else f"{60 * rate:.0f}/min"
