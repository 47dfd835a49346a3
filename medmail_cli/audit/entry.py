"""Entries of the audit log: one JSON object a line, fields in one fixed order.

An *intent* stands before an effect, an *outcome* after it and names its intent in ``of``; an *event* is
something that happened without one (a repair, the start of a log). Entries say who did what to which
objects and how it ended, never what a letter says. Each has a random nonce, so that its hash, which others
may see in a proof, reveals nothing.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar, cast

from medmail_cli.errors import MedmailError

Fact = str | int | bool | None
Kind = Literal["intent", "outcome", "event"]
Ending = Literal["done", "unchanged", "queued", "partial", "failed", "refused", "interrupted"]

REPLY_LIMIT = 500
"""Characters kept of what a server said: enough for its words, too few for a letter bounced back whole."""

FORMAT = 2
"""What the first entry of a log names as ``format``; since 2 trust stands in it (``audit.belief``)."""

_NEVER = frozenset({"subject", "text", "body", "content", "passphrase", "password", "pin", "secret", "token"})
_DIGEST = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
HEADS = re.compile(
    rb'^\{"index":(0|[1-9][0-9]{0,17}),"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"'
    rb',"run":"([0-9a-f]{16})","kind":"(intent|outcome|event)"(?:,"of":(0|[1-9][0-9]{0,17}))?,',
    re.MULTILINE,
)
"""Finds (index, time, run, kind, of) at the head of each line of a block; ``of`` only of outcomes."""


@dataclass(frozen=True)
class Intent:
    """What is about to be done; ``objects`` are SHA-256 digests in hex."""

    action: str
    actor: str
    objects: tuple[str, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How the intent with index ``of`` ended, with the process exit that item earns and a server's reply."""

    of: int
    outcome: Ending
    exit: int
    reply: str | None = None
    objects: tuple[str, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """An entry as it stands in the log; ``index`` counts from 0, ``time`` is UTC."""

    index: int
    time: datetime
    run: str
    kind: Kind
    actor: str
    action: str
    objects: tuple[str, ...]
    of: int | None
    outcome: Ending | None
    exit: int | None
    reply: str | None
    facts: Mapping[str, Fact]
    nonce: str


def new_run() -> str:
    """A fresh name for a run: 16 hex digits."""
    return secrets.token_hex(8)


def check(objects: tuple[str, ...], facts: Mapping[str, Fact]) -> None:
    """Raise ValueError where something would enter the log that must never stand in it."""
    if not all(_DIGEST.fullmatch(digest) for digest in objects):
        raise ValueError("objects are named by their SHA-256 in hex")
    if names := _NEVER & facts.keys():
        raise ValueError(f"never in the audit log: {', '.join(sorted(names))}")


def intent_line(index: int, time: datetime, run: str, intent: Intent, *, kind: Kind = "intent") -> bytes:
    """The line, without newline, of an intent (or, without an effect to come, an event)."""
    check(intent.objects, intent.facts)
    return _line(
        {
            "index": index,
            "time": time.astimezone(UTC).strftime(_TIME),
            "run": run,
            "kind": kind,
            "actor": intent.actor,
            "action": intent.action,
            "objects": intent.objects,
            "facts": dict(intent.facts),
            **({"format": FORMAT} if index == 0 else {}),
        }
    )


def format_of(line: bytes) -> int:
    """The format of the log whose first entry's line that is; 1 where it names none. Raises ``malformed``."""
    parse(line)
    number: int = json.loads(line).get("format", 1)
    return number


def outcome_line(index: int, time: datetime, run: str, outcome: Outcome, intent: Intent) -> bytes:
    """The line, without newline, of an outcome; actor and action are repeated from its intent."""
    check(outcome.objects, outcome.facts)
    return _line(
        {
            "index": index,
            "time": time.astimezone(UTC).strftime(_TIME),
            "run": run,
            "kind": "outcome",
            "of": outcome.of,
            "exit": outcome.exit,
            "outcome": outcome.outcome,
            "actor": intent.actor,
            "action": intent.action,
            "objects": outcome.objects,
            "reply": outcome.reply[:REPLY_LIMIT] if outcome.reply is not None else None,
            "facts": dict(outcome.facts),
        }
    )


def _line(fields: dict[str, object]) -> bytes:
    fields["nonce"] = secrets.token_hex(16)
    # ASCII only: no newline, control or direction mark can stand raw in a line
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def parse(line: bytes) -> Entry:
    """Read an entry's line, with or without its newline. Raises ``malformed``."""
    try:
        fields = json.loads(line)
        if "format" in fields:
            _typed(fields["format"], int)
        return Entry(
            index=_typed(fields["index"], int),
            time=_time(_typed(fields["time"], str)),
            run=_typed(fields["run"], str),
            kind=cast("Kind", _typed(fields["kind"], str)),
            actor=_typed(fields["actor"], str),
            action=_typed(fields["action"], str),
            objects=tuple(_typed(digest, str) for digest in _typed(fields["objects"], list)),
            of=_optional(fields.get("of"), int),
            outcome=cast("Ending | None", _optional(fields.get("outcome"), str)),
            exit=_optional(fields.get("exit"), int),
            reply=_optional(fields.get("reply"), str),
            facts=_typed(fields["facts"], dict),
            nonce=_typed(fields["nonce"], str),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        raise MedmailError("malformed", what="audit entry") from None


def index_of(line: bytes) -> int | None:
    """The index a line claims, or None where it is not the line of an entry."""
    match = HEADS.match(line)
    return int(match[1]) if match else None


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.strftime(_TIME) != text:
        raise ValueError(text)
    return moment


def _typed(value: object, kind: type[_T]) -> _T:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def _optional(value: object, kind: type[_T]) -> _T | None:
    return None if value is None else _typed(value, kind)
