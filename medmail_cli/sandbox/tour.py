"""``medmail demo``: two physicians do the main job on the sandbox, with the real commands only."""

import contextlib
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.codes import FAILED, OK
from medmail_cli.errors import MedmailError
from medmail_cli.store.files import make_private, write_atomic

if TYPE_CHECKING:
    from medmail_cli.sandbox.operator import Operator

Part = Literal["operator", "enrol", "meet", "send", "receive", "reply", "prove", "tamper", "end"]

MARTIN, BERNARD = "dr.martin@medecin.test", "dr.bernard@medecin.test"
_TIMEOUT = 60


@dataclass(frozen=True)
class Chapter:
    """A part of the tour begins; its words are the view's."""

    type: ClassVar[str] = "chapter"
    part: Part
    folder: Path


@dataclass(frozen=True)
class Person:
    """Who sits at the keyboard from here on; where that person's things are, below the tour's folder."""

    type: ClassVar[str] = "person"
    name: str
    home: str
    passphrase_file: str


@dataclass(frozen=True)
class Step:
    """A command as typed, and what it gave; ``exit`` is 0 where ``returned`` is what the tour expects."""

    type: ClassVar[str] = "step"
    command: str
    stdout: str
    stderr: str
    returned: int
    expected: int
    seconds: float
    exit: int


@dataclass(frozen=True)
class Physician:
    """One person of the tour."""

    name: str
    address: str
    home: str
    passphrase_file: str
    folder: Path

    def sits_down(self) -> Person:
        """The event that says so."""
        return Person(self.name, self.home, self.passphrase_file)

    def types(self, *argv: str, expect: int = OK) -> Generator[Step, None, str]:
        """Run ``medmail`` with ``argv``; gives its stdout. Raises ``step-failed`` if it ends otherwise."""
        around = {name: value for name, value in os.environ.items() if not name.startswith("MEDMAIL_")}
        around |= {
            "MEDMAIL_HOME": self.home,
            "MEDMAIL_PASSPHRASE_FILE": self.passphrase_file,
            "MEDMAIL_LANG": os.environ.get("LANGUAGE", "en"),
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", "from medmail_cli.app import main; main()", *argv],
            cwd=self.folder,
            env=around,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
        step = Step(
            command=shlex.join(["medmail", *argv]),
            stdout=done.stdout.decode("utf-8", "replace"),
            stderr=done.stderr.decode("utf-8", "replace"),
            returned=done.returncode,
            expected=expect,
            seconds=round(time.monotonic() - began, 2),
            exit=OK if done.returncode == expect else FAILED,
        )
        yield step
        if step.exit:
            raise MedmailError("step-failed", command=step.command, exit=step.returned, expected=expect)
        return step.stdout


def tour(folder: Path | None) -> Iterator[Chapter | Person | Step]:
    """The whole tour in ``folder``, or in one that is removed at the end.

    Raises ``step-failed`` at the first command that ends otherwise than it should, and ``folder-not-empty``.
    """
    from medmail_cli.sandbox.operator import Operator

    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medmail-demo-")))
        elif folder.is_dir() and any(folder.iterdir()):
            raise MedmailError("folder-not-empty", path=str(folder))
        folder = make_private(folder.absolute())
        yield Chapter("operator", folder)
        operator = stack.enter_context(Operator(folder / "sandbox"))
        martin = _physician("Dr Claire Martin", MARTIN, operator, folder)
        bernard = _physician("Dr Émile Bernard", BERNARD, operator, folder)
        yield from _enrol((martin, bernard), operator, folder)
        yield from _meet(martin, bernard, folder)
        letter = yield from _send_and_receive(martin, bernard, folder)
        yield from _reply(martin, bernard, letter, folder)
        yield from _prove((martin, bernard), folder)
        yield from _tamper(martin, bernard, folder)
        yield Chapter("end", folder)


def _physician(name: str, address: str, operator: "Operator", folder: Path) -> Physician:
    short = address.partition("@")[0].removeprefix("dr.")
    operator.home(address, folder / short)
    passphrase_file = f"{short}.passphrase"
    write_atomic(folder / passphrase_file, secrets.token_urlsafe(12).encode() + b"\n")
    return Physician(name, address, short, passphrase_file, folder)


Events = Iterator[Chapter | Person | Step]


def _enrol(both: tuple[Physician, ...], operator: "Operator", folder: Path) -> Events:
    yield Chapter("enrol", folder)
    for physician in both:
        yield physician.sits_down()
        authority = ("--ca", "order", "--ca-fingerprint", operator.authority.fingerprint)
        yield from physician.types("enrol", "new", physician.address, "--name", physician.name, *authority)
        # the list of revoked certificates is on this very machine
        yield from physician.types("trust", "update", "--allow-private")


def _meet(martin: Physician, bernard: Physician, folder: Path) -> Events:
    yield Chapter("meet", folder)
    yield from bernard.types("contacts", "invite", martin.address)
    yield martin.sits_down()
    yield from martin.types("fetch")
    yield from martin.types("decrypt", "--unopened")
    yield from martin.types("contacts", "list")


def _send_and_receive(
    martin: Physician, bernard: Physician, folder: Path
) -> Generator[Chapter | Person | Step, None, str]:
    yield Chapter("send", folder)
    write_atomic(folder / "letter.txt", LETTER.encode())
    write_atomic(folder / "scanner.pdf", pdf(("Scanner thoracique", "Madame Dupont", "Pas d'embolie.")))
    yield from martin.types("send", "--to", bernard.address, "--attach", "scanner.pdf", "letter.txt")
    yield Chapter("receive", folder)
    yield bernard.sits_down()
    yield from bernard.types("fetch")
    listed = yield from bernard.types("inbox", "--unopened", "--folder", "INBOX")
    letter = listed.split("\t")[0]
    yield from bernard.types("decrypt", letter)
    yield from bernard.types("decrypt", letter, "--out-dir", "opened")
    return letter


def _reply(martin: Physician, bernard: Physician, letter: str, folder: Path) -> Events:
    yield Chapter("reply", folder)
    write_atomic(folder / "answer.txt", ANSWER.encode())
    yield from bernard.types("reply", letter, "answer.txt")
    yield martin.sits_down()
    yield from martin.types("fetch")
    yield from martin.types("decrypt", "--unopened")


def _prove(both: tuple[Physician, ...], folder: Path) -> Events:
    yield Chapter("prove", folder)
    for physician in both:
        yield physician.sits_down()
        yield from physician.types("audit", "checkpoint", "-o", f"{physician.home}.checkpoint")
        yield from physician.types("audit", "verify", "--checkpoint", f"{physician.home}.checkpoint")
        log = yield from physician.types("audit", "log", "--action", "send")
        entry = log.splitlines()[-1].split("\t")[0]
        yield from physician.types("audit", "prove", entry, "-o", f"{physician.home}.tlog-proof")


def _tamper(martin: Physician, bernard: Physician, folder: Path) -> Events:
    yield Chapter("tamper", folder)
    yield martin.sits_down()
    yield from martin.types("send", "--to", bernard.address, "--output", "letter.eml", "letter.txt")
    sealed = (folder / "letter.eml").read_bytes()
    write_atomic(folder / "tampered.eml", one_changed(sealed))
    yield bernard.sits_down()
    yield from bernard.types("decrypt", "./letter.eml")
    yield from bernard.types("decrypt", "./tampered.eml", expect=6)


LETTER = """\
Subject: Mme Dupont, scanner du 12 novembre

Cher confrère,

Voici le compte rendu du scanner de Madame Dupont. Pas d'embolie ;
je propose de la revoir dans un mois.

Bien confraternellement,
Claire Martin
"""
ANSWER = """\
Chère consœur,

Bien reçu, merci. Je la revois le 15 décembre.

Émile Bernard
"""
"""What they write, to each other and in their language."""


def one_changed(message: bytes) -> bytes:
    """The message with one character in the middle of its base64 body replaced by another of base64's."""
    at = (message.index(b"\r\n\r\n") + len(message)) // 2
    while not message[at : at + 1].isalnum():
        at += 1
    other = b"A" if message[at : at + 1] != b"A" else b"B"
    return message[:at] + other + message[at + 1 :]


def pdf(lines: tuple[str, ...]) -> bytes:
    """A PDF of one page with ``lines`` (Latin-1, no brackets) on it."""
    shown = b" T* ".join(b"(" + line.encode("latin-1") + b") Tj" for line in lines)
    content = b"BT /F1 18 Tf 24 TL 72 760 Td " + shown + b" ET"
    fonts = b"/Resources << /Font << /F1 5 0 R >> >>"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R %s >>" % fonts,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    octets, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(octets))
        octets += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    count, at = len(objects) + 1, len(octets)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % count
    table += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, at)
    return octets + table + trailer
