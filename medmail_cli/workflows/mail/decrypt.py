"""``medmail decrypt``: open messages, judge them, release what may be released, and leave a trace.

Messages go in groups: one fsync for all their intents before anything is opened, one for their outcomes
after everything is written. Memory stays that of one group, however many messages there are.
"""

import hashlib
import mmap
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.codes import FAILED, UNTRUSTED
from medmail_cli.errors import MedmailError, exit_of, not_readable
from medmail_cli.model import Note, Problem
from medmail_cli.smime import mbox
from medmail_cli.smime.explain import Step, explain
from medmail_cli.store import files
from medmail_cli.workflows.mail.output import SHOWN, Output, may_write, rendered, write

if TYPE_CHECKING:
    from medmail_cli.audit.entry import Ending
    from medmail_cli.smime.open import Opened
    from medmail_cli.smime.verdict import Verdict
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.store.mail.outer_index import Stored
    from medmail_cli.workflows.mail.opening import MessageOpener

GROUP_MESSAGES = 256
GROUP_OCTETS = 16 << 20


@dataclass(frozen=True)
class Source:
    """A message to open: what to call it, its size, how to read it, and where the mailbox has it."""

    name: str
    size: int
    read: Callable[[], bytes]
    stored: "Stored | None" = None


@dataclass(frozen=True)
class Explanation:
    """Every check of one message in order, with its evidence (``--explain``)."""

    type: ClassVar[str] = "explanation"
    id: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Content:
    """A message's content for stdout, as the chosen format has it."""

    type: ClassVar[str] = "content"
    data: bytes
    text: bool


def from_file(path: Path) -> tuple[Source, ...]:
    """The message in a file, or those of an mbox that holds several. Raises ``not-readable``."""

    def read(start: int = 0, end: int | None = None) -> bytes:
        with _readable(path), path.open("rb") as file:
            if start:  # a pipe has one message, and no place to go to
                file.seek(start)
            return file.read(-1 if end is None else end - start)

    with _readable(path), path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size and file.read(5) == b"From ":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                if several := _several(str(path), whole, read):
                    return several
    return (Source(str(path), size, read),)


def from_bytes(data: bytes) -> tuple[Source, ...]:
    """The message that came on stdin, or those of an mbox that holds several."""
    return _several("-", data, lambda start, end: data[start:end]) or (Source("-", len(data), lambda: data),)


def _several(
    name: str, whole: bytes | mmap.mmap, read: Callable[[int, int], bytes]
) -> tuple[Source, ...] | None:
    spans = list(mbox.spans(whole))
    if len(spans) < 2:
        return None

    def message(start: int, end: int) -> bytes:
        return mbox.unquoted(read(start, end))

    return tuple(
        Source(f"{name}:{number}", span[1] - span[0], partial(message, *span))
        for number, span in enumerate(spans, 1)
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise not_readable(path, error) from None


def from_mailbox(mailbox: "Mailbox", stored: "Stored") -> Source:
    """A message of the mailbox; its time of judgement is when it was first stored."""
    return Source(stored.id, stored.size, lambda: mailbox.read(stored.id), stored)


@dataclass(frozen=True)
class DecryptionContext:
    """What opening letters needs: what opens them, where content goes, where it is written down.

    ``flush`` makes durable what was shown; only then is a message of ``mailbox`` marked as opened, what was
    learned of it sealed under ``subkey``.
    """

    opener: "MessageOpener"
    run: "RunContext"
    output: Output = SHOWN
    explained: bool = False
    flush: Callable[[], None] = lambda: None
    mailbox: "Mailbox | None" = None
    subkey: Callable[[], bytes] | None = None


Event: TypeAlias = "Verdict | Explanation | Content | Note"


def decrypt(sources: Iterable[Source], context: DecryptionContext) -> "Generator[Event, None, None]":
    """Open every message: a verdict each, in order.

    Raises ``exists``, ``disk-full`` and the like for the first output that cannot be written: what was done
    before stays done, and running it again goes on. A fault of ours with one message is raised when all
    others are done: no letter may stand before those of others.
    """
    replays = _Replays(context)
    faults: list[Exception] = []
    output = context.output
    for folder in (output.folder, output.file.parent if output.file else None):
        if folder is not None:
            files.sweep(folder)  # in any case: what is left there by a kill is plaintext
    for group in _groups(sources):
        faults += yield from _open_group(group, context, replays)
    if faults:
        raise faults[0]


@dataclass
class _Loaded:
    """A message read into memory; its octets are given away once."""

    source: Source
    id: str
    raw: list[bytes]


def _groups(sources: Iterable[Source]) -> Iterator[list[_Loaded]]:
    group: list[_Loaded] = []
    octets = 0
    for source in sources:
        if group and (len(group) >= GROUP_MESSAGES or octets + source.size > GROUP_OCTETS):
            yield group
            group, octets = [], 0
        raw = source.read()
        octets += len(raw)
        # the mailbox has verified the bytes, which `keys rewrap` may have changed since the id was theirs
        id_ = source.stored.id if source.stored else hashlib.sha256(raw).hexdigest()
        group.append(_Loaded(source, id_, [raw]))
        del raw
    if group:
        yield group


def _open_group(
    group: Sequence[_Loaded], context: DecryptionContext, replays: "_Replays"
) -> "Generator[Event, None, list[Exception]]":
    """Open messages between their intents and their outcomes; the faults of ours that there were."""
    log, output = context.run.log, context.output
    intents = log.intents(Intent("decrypt", context.run.actor, (loaded.id,)) for loaded in group)
    outcomes: list[Outcome] = []
    opened_here: list[Verdict] = []
    faults: list[Exception] = []
    try:
        for intent, loaded in zip(intents, group, strict=True):
            try:
                opened = replays.noted(_opened(loaded, context.opener), loaded.source.stored)
                verdict = write(opened, output)
            except MedmailError as error:
                outcomes.append(Outcome(intent, "failed", exit_of(error.code), facts={"error": error.code}))
                raise
            except Exception as error:  # noqa: BLE001 - it is raised when the others are done
                outcomes.append(Outcome(intent, "failed", FAILED, facts={"error": "internal-error"}))
                faults.append(error)
                continue
            outcomes.append(_outcome(intent, opened, verdict))
            yield verdict
            if context.explained:
                yield Explanation(verdict.id, explain(opened, context.opener.validator.authorities))
            released = may_write(opened, output)
            if output.asked and opened.content is not None and not released:
                yield Note("not-written", {"source": loaded.source.name})
            if output.stdout and released:
                yield Content(rendered(opened, output.format), text=output.format == "text")
            if loaded.source.stored is not None:
                context.opener.learn(opened)
                if released if output.asked else opened.content is not None:
                    opened_here.append(verdict)
            del opened
        context.flush()
        if context.mailbox is not None and opened_here and context.subkey is not None:
            letters = [(verdict.id, _learned(verdict)) for verdict in opened_here]
            context.mailbox.mark_opened(letters, context.subkey())
    finally:
        log.outcomes(outcomes)
    return faults


def _opened(loaded: _Loaded, opener: "MessageOpener") -> "Opened":
    stored = loaded.source.stored
    return opener.open(
        loaded.raw.pop(),
        id=loaded.id,
        source=loaded.source.name,
        stored_at=stored.stored_at if stored else None,
    )


class _Replays:
    """The Message-IDs that this run has seen, and in which message first."""

    def __init__(self, context: DecryptionContext) -> None:
        self._mailbox, self._subkey = context.mailbox, context.subkey
        self._met: dict[str, str] = {}

    def noted(self, opened: "Opened", stored: "Stored | None") -> "Opened":
        """Note other bytes under the same Message-ID, in the mailbox or in this run; our own copies aside.

        An old letter sent again may bear any Message-ID outside; the one inside stays what it was.
        """
        from medmail_cli.store.mail.mailbox import SENT

        headers, own = opened.verdict.headers, opened.verdict.id
        message_id = headers.message_id or ""
        if not message_id or (stored is not None and stored.folder == SENT):
            return opened
        others = [other for other in (self._met.setdefault(message_id, own),) if other != own]
        if self._mailbox is not None and stored is not None:
            known = list(self._mailbox.same_message_id(message_id, own))
            if headers.protected and self._subkey is not None:
                known += self._mailbox.same_inner_message_id(message_id, own, self._subkey())
            others = [*(other for other in known if not _is_in(self._mailbox, other, SENT)), *others]
        if not others:
            return opened
        notes = (*opened.verdict.notes, Problem("replayed", others[0]))
        return replace(opened, verdict=replace(opened.verdict, notes=notes))


def _is_in(mailbox: "Mailbox", id_: str, folder: str) -> bool:
    try:
        return mailbox.find(id_).folder == folder
    except MedmailError as error:
        if error.code != "not-found":
            raise
        return False  # it was here once


def _outcome(intent: int, opened: "Opened", verdict: "Verdict") -> Outcome:
    endings: dict[int, Ending] = {0: "done", UNTRUSTED: "refused" if verdict.withheld else "done"}
    signers = verdict.signature.vouching
    return Outcome(
        intent,
        endings.get(verdict.exit, "failed"),
        verdict.exit,
        facts={
            "trusted": verdict.trusted,
            "released": opened.content is not None,
            **({"problems": ",".join(p.code for p in verdict.problems)} if verdict.problems else {}),
            **({"signer": signers[0].sha256} if signers else {}),
        },
    )


def _learned(verdict: "Verdict") -> dict[str, object]:
    """What the sealed index keeps of a letter, for searching."""
    return {
        "from": verdict.headers.from_,
        "to": list(verdict.headers.to),
        "cc": list(verdict.headers.cc),
        "subject": verdict.headers.subject,
        "message_id": verdict.headers.message_id,
        "attachments": [attachment.name for attachment in verdict.attachments],
        "text": verdict.text,
        "trusted": verdict.trusted,
    }
