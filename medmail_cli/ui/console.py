"""The three streams, and the only place that writes to them.

stdout is data; what is for people (errors, progress, prompts) goes to stderr. Nothing animates and no
colour is used off a terminal, under ``NO_COLOR`` or with ``TERM=dumb``.
"""

import contextlib
import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from medmail_cli.errors import MedmailError
from medmail_cli.ui import sanitize
from medmail_cli.ui.i18n import _
from medmail_cli.ui.progress import Pace, clock, speed

Line = str | Sequence[str | tuple[str, str]]
"""A line: plain text, or pieces of which ``(style, text)`` are styled."""

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class OutputGoneError(Exception):
    """Data cannot be written any more; ``unread`` if only because its reader went away."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.unread = isinstance(reason, BrokenPipeError)
        full = reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        self.error = MedmailError(
            "disk-full" if full else "not-writable", path="stdout", reason=reason.strerror or ""
        )


@contextlib.contextmanager
def data_stream() -> Iterator[TextIO]:
    """The stream for data. Raises :class:`OutputGoneError`, and what is written from then on goes nowhere."""
    try:
        yield sys.stdout
    except OSError as error:
        # not even the interpreter's last flush may complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise OutputGoneError(error) from None


class Console:
    """What one run writes; ``quiet`` and ``verbose`` as asked for on the command line."""

    def __init__(self, *, quiet: bool, verbose: int, color: bool) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._color = color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._bar_drawn_at = 0.0
        self._pace = Pace()
        self.stdout_taken = False
        """Is stdout for raw data alone? What people read goes to stderr then."""

    @property
    def interactive_out(self) -> bool:
        return sys.stdout.isatty()

    @property
    def interactive(self) -> bool:
        """Is a person looking at stderr?"""
        return sys.stderr.isatty()

    @property
    def width(self) -> int:
        return shutil.get_terminal_size((80, 24)).columns

    def _paint(self, line: Line, *, terminal: bool) -> str:
        if isinstance(line, str):
            return sanitize.text(line)
        pieces = []
        for piece in line:
            style, plain = ("", piece) if isinstance(piece, str) else piece
            shown = sanitize.text(plain)
            if style and terminal and self._color:
                codes = ";".join(_STYLES[name] for name in style.split())
                shown = f"\x1b[{codes}m{shown}\x1b[0m"
            pieces.append(shown)
        return "".join(pieces)

    def out(self, line: Line) -> None:
        """Write one line of data."""
        if self.stdout_taken and not self.interactive_out:
            self.err(line)
            return
        self.clear_progress()
        with data_stream() as stdout:
            stdout.write(self._paint(line, terminal=self.interactive_out) + "\n")

    def out_json(self, encoded: str) -> None:
        """Write one object of JSON Lines, at once, so that a reader can follow; UTF-8 in any locale."""
        with data_stream() as stdout:
            stdout.buffer.write(sanitize.json_text(encoded).encode() + b"\n")
            stdout.buffer.flush()

    def out_line(self, line: str) -> None:
        """Write one line of data as it is, its end included; UTF-8 in any locale."""
        with data_stream() as stdout:
            stdout.buffer.write(line.encode())

    def flush(self) -> None:
        """Let a reader at the other end of a pipe see what was written so far."""
        with data_stream() as stdout:
            stdout.flush()

    def out_bytes(self, data: bytes | memoryview) -> None:
        """Write raw data. Raises ``binary-to-terminal`` where a person would see it."""
        if self.interactive_out:
            raise MedmailError("binary-to-terminal")
        with data_stream() as stdout:
            stdout.flush()
            stdout.buffer.write(data)
            stdout.buffer.flush()

    def sync(self) -> None:
        """Make durable what was written to stdout, where it is a file."""
        with data_stream() as stdout:
            stdout.flush()
            if stat.S_ISREG(os.fstat(stdout.fileno()).st_mode):
                os.fsync(stdout.fileno())

    def err(self, line: Line) -> None:
        """Write one line for people, whatever the settings (errors)."""
        self.clear_progress()
        self.flush()
        with contextlib.suppress(OSError):  # nobody is left to hear of it
            sys.stderr.write(self._paint(line, terminal=self.interactive) + "\n")

    def say(self, line: Line) -> None:
        """Tell a person at the terminal; silent off it and with ``--quiet``."""
        if (self.interactive or self.verbose) and not self.quiet:
            self.err(line)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Redraw the one line of progress, on a terminal only and ten times a second at most.

        After two seconds it tells the rate too and, where the total is known, the time left.
        """
        if not self.interactive or self.quiet or os.environ.get("TERM") == "dumb":
            return
        now = time.monotonic()
        rate = self._pace.rate(now, done)
        if now - self._bar_drawn_at < 0.1 and done != total:
            return
        self._bar_drawn_at = now
        words = _("{done} of {total} {unit}") if total else _("{done} {unit}")
        shown = words.format(done=done, total=total, unit=_(unit))
        if rate is not None:
            shown += ", " + speed(rate)
            if total > done:
                shown += ", " + _("{time} left").format(time=clock((total - done) / rate))
        sys.stderr.write("\r\x1b[K" + shown)
        sys.stderr.flush()

    def clear_progress(self) -> None:
        """Take the line of progress away before something else is written."""
        if self._bar_drawn_at:
            self._bar_drawn_at = 0.0
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table: for people on a terminal, tab-separated without titles off it."""
        if not self.interactive_out:
            for row in rows:
                self.out("\t".join(sanitize.line(cell) for cell in row))
            return
        if not rows:
            return
        import rich.box
        import rich.console
        import rich.table
        import rich.text

        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for position, title in enumerate(titles):
            # the first column says which one it is, and is typed or copied
            table.add_column(title, overflow="fold", no_wrap=not position)
        for row in rows:
            table.add_row(*(rich.text.Text(sanitize.line(cell)) for cell in row))
        rich.console.Console(no_color=not self._color, highlight=False, markup=False).print(table)
