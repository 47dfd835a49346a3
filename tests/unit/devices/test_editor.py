"""The editor hears what the terminal says, whenever it says it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from medmail_cli.devices.editor import edit, paper


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_while_the_editor_is_being_started_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The terminal may close between the start of the editor and its being known to us."""
    script, ready = tmp_path / "editor", tmp_path / "ready"
    script.write_text(
        f"#!/bin/sh\ntrap 'echo typed > \"$1\"; exit 1' HUP TERM\n: > {ready}\nwhile :; do sleep 0.05; done\n"
    )
    script.chmod(0o700)
    started = subprocess.Popen

    def popen(*args: object, **kwargs: object) -> "subprocess.Popen[bytes]":
        child = started(*args, **kwargs)  # type: ignore[call-overload]  # handed on as given
        while not ready.exists():
            os.sched_yield()
        os.kill(os.getpid(), number)
        return child  # type: ignore[no-any-return]  # as above

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("VISUAL", str(script))
    monkeypatch.setattr(subprocess, "Popen", popen)
    sheet = paper(b"template")
    with pytest.raises(KeyboardInterrupt):
        edit(sheet)
    assert sheet.read() == b"typed\n"
    assert sheet.touched
