"""What became of each row of a batch, as an event and as a line of its report; joining shards' reports.

A report is JSON Lines: a head that says which roster and which part of it, a row for each person, and at the
end a summary without which it is not whole.
"""

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from cryptography import x509

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, NothingAttemptedError, combine, not_readable
from medmail_cli.pki.x509.address import canonical
from medmail_cli.pki.x509.usage import Purpose, key_type
from medmail_cli.store import files
from medmail_cli.store.batch_journal import State
from medmail_cli.workflows.batch.roster import Columns, Fault, Professional
from medmail_cli.workflows.enrol.certified import serves_for

if TYPE_CHECKING:
    from medmail_cli.model import Note, Progress

Status = Literal["ready", "enrolled", "unchanged", "possible-duplicate", "waiting", "failed", "not-attempted"]
VERSION = 1
MOST_SHARDS = 999_999
_TEXTS = ("status", "address", "name", "rpps", "profession", "organisation", "group", "role")
_MOST_TOLD = 20


@dataclass(frozen=True)
class Issued:
    """A certificate that a person has been given, and where its key lies."""

    purpose: Purpose
    key: str
    sha256: str
    serial: str
    not_after: dt.datetime
    saved_as: Path


@dataclass(frozen=True)
class BatchRow:
    """A row of the roster and what has become of it.

    ``possible-duplicate``: enrolled, but ``unanswered`` earlier requests may each have brought a certificate
    that nobody uses. ``others`` are the roster's own columns. ``certificates`` are all that the person has;
    ``key`` to ``not_after`` and ``saved_as`` are those of the first, which signs.
    """

    type: ClassVar[str] = "enrolment"
    status: Status
    line: int
    address: str
    name: str
    rpps: str
    profession: str
    organisation: str
    group: str
    role: str
    others: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    sha256: str | None = None
    serial: str | None = None
    not_after: dt.datetime | None = None
    requests: int = 0
    unanswered: int = 0
    saved_as: Path | None = None
    password_file: Path | None = None
    certificates: tuple[Issued, ...] = ()
    code: str | None = None
    detail: str | None = None
    exit: int = OK


def of_row(row: Professional, status: Status, **values: Any) -> BatchRow:
    """The event for a row of the roster."""
    shown = {each.name: getattr(row, each.name) for each in fields(Professional)}
    return BatchRow(status, **shown, **values)


def given_out(certificate: x509.Certificate, path: Path) -> Issued:
    """What the report tells of a certificate. Raises ``wrong-key-usage`` for one that serves nothing."""
    return Issued(
        serves_for(certificate),
        key_type(certificate.public_key()),
        fingerprint(certificate),
        f"{certificate.serial_number:x}",
        certificate.not_valid_after_utc,
        path,
    )


def plain(certificate: Issued) -> dict[str, str]:
    """A certificate as a line of JSON has it."""
    return asdict(certificate) | {
        "not_after": certificate.not_after.isoformat(),
        "saved_as": str(certificate.saved_as),
    }


def issued(values: Mapping[str, Any]) -> Issued:
    """A certificate as :func:`plain` has written it. Raises ValueError, KeyError or TypeError for others."""
    texts = {name: values[name] for name in ("purpose", "key", "sha256", "serial", "not_after", "saved_as")}
    if len(values) != len(texts) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(values)
    if texts["purpose"] not in get_args(Purpose):
        raise ValueError(values)
    until, path = dt.datetime.fromisoformat(texts["not_after"]), Path(texts["saved_as"])
    return Issued(**texts | {"not_after": until, "saved_as": path})


def of_done(row: Professional, status: Status, state: State) -> BatchRow:
    """What the journal knows of a row that is done; a doubt stays."""
    assert state.done is not None  # noqa: S101 - the callers' condition
    certificates = tuple(map(issued, state.done["certificates"]))
    first = certificates[0]
    return of_row(
        row,
        "possible-duplicate" if state.done["status"] == "possible-duplicate" else status,
        key=first.key,
        sha256=first.sha256,
        serial=first.serial,
        not_after=first.not_after,
        saved_as=first.saved_as,
        password_file=Path(state.done["password_file"]),
        certificates=certificates,
        requests=state.asked,
        unanswered=state.unanswered,
    )


@dataclass(frozen=True)
class Part:
    """Which roster (by its SHA-256), and which part of it, a report is about."""

    roster: str
    shard: tuple[int, int] = (0, 1)
    only: tuple[tuple[str, str], ...] = ()
    skip_faulty: bool = False
    dry_run: bool = False


def digest(roster: bytes) -> str:
    """The name of a roster's bytes."""
    return hashlib.sha256(roster).hexdigest()


def reported(
    events: "Iterable[BatchRow | Columns | Fault | Note | Progress]",
    path: Path | None,
    part: Part,
    *,
    force: bool,
) -> "Iterator[BatchRow | Columns | Fault | Note | Progress]":
    """Pass events on and, at their end or when nothing was attempted, write the report.

    Raises ``exists``, ``disk-full``, ``not-writable``.
    """
    rows: list[BatchRow | Fault] = []

    def write() -> None:
        if path is not None:
            write_report(path, part, rows, force=force)

    try:
        for event in events:
            if path is not None and isinstance(event, BatchRow | Fault):
                rows.append(event)
            yield event
    except NothingAttemptedError:
        write()
        raise
    write()


def write_report(path: Path, part: Part, rows: Sequence[BatchRow | Fault], *, force: bool) -> None:
    """Put a report in place whole; one of the same part is replaced, for a run that went on.

    Raises ``exists``, ``disk-full``, ``not-writable``.
    """
    head = _head(part)
    counts = Counter(row.status if isinstance(row, BatchRow) else row.type for row in rows)
    ended = combine([row.exit for row in rows])
    summary = {"type": "summary", "rows": len(rows), "counts": dict(counts), "exit": ended}
    lines = [head, *({"type": row.type, **asdict(row)} for row in rows), summary]
    data = "".join(json.dumps(line, ensure_ascii=False, default=_plain) + "\n" for line in lines).encode()
    files.write_output(path, data, force=force or _may_replace(path, part))


def merge(
    paths: Sequence[Path], output: Path | None, *, force: bool, stdin: Callable[[str], bytes] | None = None
) -> Iterator[BatchRow | Fault]:
    """Join the reports of all shards of one batch; ``stdin`` reads the one that is ``-``.

    Raises, before anything is told, ``not-readable``, ``report-incomplete``, ``other-roster``,
    ``shards-missing``, ``shard-twice`` and ``row-twice``; ``exists`` for the output.
    """
    reports = [_read(path, stdin) for path in paths]
    (first, _), *others = reports
    for path, (part, _) in zip(paths[1:], others, strict=True):
        if replace(part, shard=first.shard) != first:
            raise MedmailError("other-roster", path=str(path))
    seen: dict[tuple[int, int], Path] = {}
    for path, (part, _) in zip(paths, reports, strict=True):
        if part.shard in seen:
            raise MedmailError("shard-twice", path=str(path), other=str(seen[part.shard]))
        seen[part.shard] = path
    count = first.shard[1]
    missing = [index for index in range(count) if (index, count) not in seen]
    if missing or len(seen) != count:
        shards = [f"{index}/{count}" for index in missing[:_MOST_TOLD]]
        raise MedmailError("shards-missing", shards=shards + ["…"] * (len(missing) > _MOST_TOLD))
    # every shard tells of all faults; a person is in one alone
    faults = dict.fromkeys(row for _, rows in reports for row in rows if isinstance(row, Fault))
    people: dict[str, BatchRow] = {}
    for _, rows in reports:
        for row in rows:
            if isinstance(row, BatchRow) and people.setdefault(canonical(row.address), row) is not row:
                raise MedmailError("row-twice", address=row.address)
    joined: list[BatchRow | Fault] = [*faults, *people.values()]
    joined.sort(key=lambda row: row.line)
    if output is not None:
        write_report(output, replace(first, shard=(0, 1)), joined, force=force)
    yield from joined


def _read(path: Path, stdin: Callable[[str], bytes] | None) -> tuple[Part, list[BatchRow | Fault]]:
    try:
        data = stdin("REPORT") if stdin and str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise not_readable(path, error) from None
    try:
        head, *rows, summary = map(json.loads, data.splitlines())
        if (head.pop("type"), head.pop("version"), summary["type"]) != ("report", VERSION, "summary"):
            raise ValueError(head)
        read = [_row(row) for row in rows]
        if summary["rows"] != len(read):
            raise ValueError(summary)
        only = tuple((str(name), str(value)) for name, value in head.pop("only"))
        index, count = map(int, head.pop("shard"))
        if not 0 <= index < count <= MOST_SHARDS:
            raise ValueError(index)
        return Part(shard=(index, count), only=only, **head), read
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MedmailError("report-incomplete", path=str(path)) from None


def _row(values: dict[str, Any]) -> BatchRow | Fault:
    """Raises ValueError, KeyError or TypeError for what no batch has written."""
    json.dumps(values, ensure_ascii=False).encode()  # lone surrogates
    kind = Fault if values.pop("type") == Fault.type else BatchRow
    texts = _TEXTS if kind is BatchRow else ("reason",)
    numbers = ("line", "exit", "requests", "unanswered") if kind is BatchRow else ("line", "exit")
    right = all(isinstance(values[name], str) for name in texts)
    right = right and all(type(values[name]) is int for name in numbers)
    certificates = tuple(map(issued, values.pop("certificates", ())))
    others = {name: value for name, value in values.items() if name not in (*texts, *numbers, "others")}
    right = right and all(value is None or isinstance(value, str) for value in others.values())
    if not right:
        raise ValueError(values)
    if kind is Fault:
        return Fault(**values)
    values["certificates"] = certificates
    if values["status"] not in get_args(Status) or not isinstance(values["others"], dict):
        raise ValueError(values)
    for name in ("saved_as", "password_file"):
        values[name] = None if values[name] is None else Path(values[name])
    if values["not_after"] is not None:
        values["not_after"] = dt.datetime.fromisoformat(values["not_after"])
    return BatchRow(**values)


def check_report(path: Path, part: Part, *, force: bool) -> None:
    """Raise ``exists`` where the report could not be put in place, before anything is done."""
    if path.exists() and not force and not _may_replace(path, part):
        raise MedmailError("exists", path=str(path))


def _may_replace(path: Path, part: Part) -> bool:
    """Whether a report of the same part stands there; a dry run's is no match for that of a real one."""
    try:
        with path.open("rb") as stream:
            head = dict(json.loads(stream.readline(1 << 16)))
    except (OSError, ValueError, TypeError, RecursionError):
        return False
    wanted = _head(part)
    was_dry, is_dry = head.pop("dry_run", False), wanted.pop("dry_run")
    return head == wanted and (was_dry is True or not is_dry)


def _head(part: Part) -> dict[str, Any]:
    """A report's first line, as JSON has it."""
    return dict(json.loads(json.dumps({"type": "report", "version": VERSION, **asdict(part)})))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)
