"""``medmail audit`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.ui.formats.text import plain
from medmail_cli.ui.i18n import _, hint
from medmail_cli.ui.messages import N_
from medmail_cli.ui.render import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.audit import (
        AuditEntry,
        AuditFile,
        DamagedFile,
        Fault,
        LogState,
        Salt,
        SignedCheckpoint,
        SignedProof,
    )

PROBLEMS = {
    "changed": N_("was changed"),
    "removed": N_("is missing"),
    "moved": N_("was moved"),
    "repeated": N_("stands there twice"),
    "unvouched": N_("changes whom you trust and was not written by medmail"),
    "no-such-intent": N_("is the outcome of nothing that was begun"),
    "stored-hash": N_("has another hash in the file of hashes"),
    "rewritten": N_("is not what the checkpoint was signed for"),
}


def _ended(event: "AuditEntry") -> str:
    if event.kind == "outcome":
        return f"{event.of} {event.outcome}"
    return event.kind


def _details(event: "AuditEntry") -> str:
    facts = [f"{name}={plain(value)}" for name, value in event.facts.items() if value is not None]
    return " ".join([*facts, *([event.reply] if event.reply else [])])


TABLES = {
    "entry": (
        Column(N_("Entry"), lambda event: event.index),
        Column(N_("Time"), lambda event: event.time),
        Column(N_("Action"), lambda event: event.action),
        Column(N_("Outcome"), _ended),
        Column(N_("Actor"), lambda event: event.actor),
        Column(N_("Details"), _details),
    )
}


def fault(event: "Fault", console: "Console") -> "Iterable[Line]":
    problem = _(PROBLEMS[event.problem])
    if event.problem == "stored-hash":
        console.say(
            _("the entries themselves are right: delete {path}, the next run builds it again").format(
                path=event.file
            )
        )
    if event.entry == event.last:
        yield [("red", _("entry {entry} {problem}").format(entry=event.entry, problem=problem))]
    else:
        sentence = _("entries {entry} to {last}: each {problem}")
        if event.problem in {"rewritten", "changed", "stored-hash"}:
            sentence = _("entries {entry} to {last}: at least one {problem}")
        yield [("red", sentence.format(entry=event.entry, last=event.last, problem=problem))]


def damaged_file(event: "DamagedFile", _console: "Console") -> "Iterable[Line]":
    yield [("red", _("{path} is damaged").format(path=event.path))]
    if event.code != "store-damaged":  # what can be restored of a log, and how, no general word says
        yield [hint(MedmailError(event.code, path=str(event.path), folder=str(event.path.parent)))]


def log(event: "LogState", _console: "Console") -> "Iterable[Line]":
    if event.status == "damaged":
        yield [("bold red", _("the log is damaged")), f" ({event.entries})"]
        return
    if event.status == "contradicted":
        yield [("bold red", _("the log is whole, but what stands beside it is not what it says"))]
        return
    yield [
        ("bold green", _("intact")),
        _(": {entries} entries, {signed} under the checkpoint of {origin}").format(
            entries=event.entries, signed=event.signed, origin=event.origin or "-"
        ),
    ]
    if event.kept is None:
        yield _("checked against this installation's own key; a checkpoint kept elsewhere proves more")
    else:
        yield _("it continues the checkpoint kept elsewhere, over {kept} entries").format(kept=event.kept)
    if event.unfinished:
        yield _("{count} actions have no outcome yet").format(count=event.unfinished)


def checkpoint(event: "SignedCheckpoint", _console: "Console") -> "Iterable[Line]":
    yield event.note.removesuffix("\n")


def proof(event: "SignedProof", _console: "Console") -> "Iterable[Line]":
    yield event.proof.removesuffix("\n")


def salt(event: "Salt", _console: "Console") -> "Iterable[Line]":
    yield f"salt {event.salt}"


def file(event: "AuditFile", console: "Console") -> "Iterable[Line]":
    console.say(_("{path} written").format(path=event.path))
    return ()
