"""The person's editor, and the paper they write on, which is not thrown away before the text is safe."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from medmail_cli.errors import MedmailError


@dataclass(frozen=True)
class Paper:
    """A text file (0600) in a folder for the owner alone, in memory where the platform has such a place."""

    folder: Path
    original: bytes

    @property
    def path(self) -> Path:
        """The file that the person writes in."""
        return self.folder / "letter.txt"

    def read(self) -> bytes:
        """What stands there now; nothing where the person has deleted the file. Raises OSError."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    @property
    def touched(self) -> bool:
        """Whether anything was written: into the file, or into one that an editor left beside it."""
        beside = [entry for entry in self.folder.iterdir() if entry != self.path]
        return self.read() not in (b"", self.original) or any(entry.stat().st_size for entry in beside)

    def discard(self) -> None:
        """Delete it, with whatever the editor left beside it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, parent: Path) -> Path:
        """Move it into ``parent``, which lasts longer than a login; where that fails it stays. Its path."""
        target = parent / self.folder.name
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copytree(self.folder, target)
            target.chmod(0o700)
        except OSError:  # also shutil.Error: the first copy is the one that counts
            shutil.rmtree(target, ignore_errors=True)
            return self.path
        self.discard()
        return target / self.path.name


def paper(content: bytes) -> Paper:
    """A new sheet with ``content`` on it. Raises OSError."""
    runtime_folder = os.environ.get("XDG_RUNTIME_DIR")
    folder = tempfile.mkdtemp(
        prefix="medmail-", dir=runtime_folder if runtime_folder and Path(runtime_folder).is_dir() else None
    )
    sheet = Paper(Path(folder), content)
    try:
        sheet.path.touch(0o600)
        sheet.path.write_bytes(content)
    except OSError:
        sheet.discard()
        raise
    return sheet


def edit(sheet: Paper) -> None:
    """Let the person write on ``sheet`` in their editor (VISUAL, EDITOR, else vi).

    A closed terminal (SIGHUP) and SIGTERM are the editor's to hear, so that it can put away what was typed:
    it is waited for however long it takes. Raises ``editor-failed`` where it cannot be run or ends with an
    error, and KeyboardInterrupt.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    caught: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        for process in running:
            process.send_signal(number)

    # Ctrl-C is the editor's business as long as it runs
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGHUP, signal.SIGTERM)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen([*shlex.split(editor), str(sheet.path)], preexec_fn=_interruptible)
        running.append(child)
        for number in caught:  # what came while it was being started
            child.send_signal(number)
        child.wait()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MedmailError("editor-failed", editor=editor, reason=reason) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught or child.returncode in (-signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    if child.returncode != 0:
        raise MedmailError("editor-failed", editor=editor, reason=f"exit {child.returncode}")


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
