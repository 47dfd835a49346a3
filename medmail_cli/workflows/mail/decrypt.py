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
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.codes import FAILED, INTEGRITY, UNTRUSTED
from medmail_cli.errors import MedmailError, exit_of, not_readable
from medmail_cli.model import Note, Problem
from medmail_cli.smime import mbox
from medmail_cli.smime.explain import Step, explain
from medmail_cli.smime.filenames import distinct, safe_name
from medmail_cli.store import files

if TYPE_CHECKING:
    from medmail_cli.audit.entry import Ending
    from medmail_cli.smime.open import Opened
    from medmail_cli.smime.verdict import Verdict
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.store.mail.outer_index import Stored
    from medmail_cli.workflows.mail.opening import MessageOpener

GROUP_MESSAGES = 256
GROUP_OCTETS = 16 << 20

STDOUT = "-"


@dataclass(frozen=True)
class Source:
    """A message to open: what to call it, its size, how to read it, and where the mailbox has it."""

    name: str
    size: int
    read: Callable[[], bytes]
    stored: "Stored | None" = None


@dataclass(frozen=True)
class Output:
    """Where content goes: at most one of ``file``, ``folder`` and ``stdout``; none shows it and no more."""

    stdout: bool = False
    file: Path | None = None
    folder: Path | None = None
    format: Literal["text", "eml"] = "text"
    accept_untrusted: bool = False
    force: bool = False

    @property
    def asked(self) -> bool:
        """Whether content is to be written somewhere, and not only shown."""
        return self.stdout or self.file is not None or self.folder is not None


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


def decrypt(
    sources: Iterable[Source],
    *,
    opener: "MessageOpener",
    log: "AuditLog",
    actor: str,
    output: Output = Output(),
    explained: bool = False,
    flush: Callable[[], None] = lambda: None,
    mailbox: "Mailbox | None" = None,
    subkey: Callable[[], bytes] | None = None,
) -> "Generator[Verdict | Explanation | Content | Note, None, None]":
    """Open every message: a verdict each, in order.

    ``flush`` makes durable what was shown; only then is a message of ``mailbox`` marked as opened, what was
    learned of it sealed under ``subkey``. Raises ``exists``, ``disk-full`` and the like for the first output
    that cannot be written: what was done before stays done, and running it again goes on. A fault of ours
    with one message is raised when all others are done: no letter may stand before those of others.
    """
    met: dict[str, str] = {}
    faults: list[Exception] = []
    for place in (output.folder, output.file.parent if output.file else None):
        if place is not None:
            files.sweep(place)  # in any case: what is left there by a kill is plaintext
    for group in _groups(sources):
        yield from _open_group(
            group, opener, log, actor, output, explained, flush, mailbox, subkey, met, faults
        )
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
    group: Sequence[_Loaded],
    opener: "MessageOpener",
    log: "AuditLog",
    actor: str,
    output: Output,
    explained: bool,
    flush: Callable[[], None],
    mailbox: "Mailbox | None",
    subkey: Callable[[], bytes] | None,
    met: dict[str, str],
    faults: list[Exception],
) -> "Iterator[Verdict | Explanation | Content | Note]":
    """``met`` are the Message-IDs that this run has seen, and where first; ``faults`` gets those of ours."""
    intents = log.intents(Intent("decrypt", actor, (loaded.id,)) for loaded in group)
    outcomes: list[Outcome] = []
    seen: list[Opened] = []
    try:
        for intent, loaded in zip(intents, group, strict=True):
            try:
                stored = loaded.source.stored
                opened = opener.open(
                    loaded.raw.pop(),
                    id=loaded.id,
                    source=loaded.source.name,
                    stored_at=stored.stored_at if stored else None,
                )
                opened = _note_replay(opened, stored, mailbox, subkey, met)
                verdict = _write(opened, output)
            except MedmailError as error:
                outcomes.append(Outcome(intent, "failed", exit_of(error.code), facts={"error": error.code}))
                raise
            except Exception as error:  # noqa: BLE001 - it is raised when the others are done
                outcomes.append(Outcome(intent, "failed", FAILED, facts={"error": "internal-error"}))
                faults.append(error)
                continue
            outcomes.append(_outcome(intent, opened, verdict))
            yield verdict
            if explained:
                yield Explanation(verdict.id, explain(opened, opener.validator.authorities))
            may_write = _may_write(opened, output)
            if output.asked and opened.content is not None and not may_write:
                yield Note("not-written", {"source": loaded.source.name})
            if output.stdout and may_write:
                yield Content(_rendered(opened, output.format), text=output.format == "text")
            if stored is not None:
                opener.learn(opened)
                if may_write if output.asked else opened.content is not None:
                    seen.append(replace(opened, verdict=verdict, content=None, parts=()))
            del opened
        flush()
        if mailbox is not None and seen and subkey is not None:
            mailbox.mark_opened([(one.verdict.id, _learned(one.verdict)) for one in seen], subkey())
    finally:
        log.outcomes(outcomes)


def _note_replay(
    opened: "Opened",
    stored: "Stored | None",
    mailbox: "Mailbox | None",
    subkey: Callable[[], bytes] | None,
    met: dict[str, str],
) -> "Opened":
    """Note other bytes under the same Message-ID, in the mailbox or in this run; our own copies aside.

    An old letter sent again may bear any Message-ID outside; the one inside stays what it was.
    """
    from medmail_cli.store.mail.mailbox import SENT

    headers, own = opened.verdict.headers, opened.verdict.id
    named = headers.message_id or ""
    if not named or (stored is not None and stored.folder == SENT):
        return opened
    others = [other for other in (met.setdefault(named, own),) if other != own]
    if mailbox is not None and stored is not None:
        known = list(mailbox.same_message_id(named, own))
        if headers.protected and subkey is not None:
            known += mailbox.same_inner_message_id(named, own, subkey())
        others = [*(other for other in known if not _is_in(mailbox, other, SENT)), *others]
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


def _may_write(opened: "Opened", output: Output) -> bool:
    """Trusted content, or what the person takes upon themselves."""
    if opened.content is None:
        return False
    verdict = opened.verdict
    # a bad signature is only ever released by --show-unverified, which says as much
    return verdict.trusted or output.accept_untrusted or verdict.exit == INTEGRITY


def _write(opened: "Opened", output: Output) -> "Verdict":
    verdict = opened.verdict
    if output.stdout:
        return replace(verdict, output=STDOUT)
    if not output.asked or not _may_write(opened, output):
        return verdict
    if output.file is not None:
        files.write_output(output.file, _rendered(opened, output.format), force=output.force)
        return replace(verdict, output=str(output.file))
    assert output.folder is not None  # noqa: S101 - one of the three was asked for
    folder = output.folder / verdict.id
    main = f"message.{'eml' if output.format == 'eml' else 'txt'}"
    names = distinct((safe_name(a.name, a.type) for a in verdict.attachments), taken=[main])
    files.make_own(folder)
    for name, data in zip(names, opened.parts, strict=True):
        files.write_output(folder / name, data, force=output.force, via=output.folder)
    content = _rendered(opened, output.format)
    files.write_output(folder / main, content, force=output.force, via=output.folder)
    saved = tuple(
        replace(attachment, saved_as=str(folder / name))
        for attachment, name in zip(verdict.attachments, names, strict=True)
    )
    return replace(verdict, attachments=saved, output=str(folder / main))


def _rendered(opened: "Opened", form: str) -> bytes:
    if form == "eml":
        return opened.eml()
    return (opened.verdict.text or "").encode("utf-8", "replace")


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
