"""What the log says is believed: anchors, contacts' certificates, and what is never to be forgotten.

The log is read from its beginning, or from where a state was kept, and each entry that changes belief is
applied. Such an entry carries ``vouched``, an HMAC-SHA-256 under a key of the log key's over its number,
action, objects and facts: a line that somebody appended to the file by hand, or copied to another place,
changes nothing. A state is a set of lines::

    anchor SHA256                  a trust anchor
    contact MARK                   a certificate taken for an address by hand (:func:`contact_mark`)
    dropped LIST OCTETS SHA256     so much of what is remembered of a list, at the least
    revoked SHA256                 an identity of one's own that was revoked
    gone anchor|contact NAME INTENT   what a run that died may have left behind of a removal
    adopted                        what an older home believed has been taken over

An intent is enough to believe what it names: its user wanted it, and no other file has that digest. What a
removal names is not believed from its intent on.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from medmail_cli.audit.entry import FORMAT, Entry, Intent, parse
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from medmail_cli.audit.entry import Fact

VOUCHED = "vouched"

ADD, REMOVE, KEEP, ADOPT = "trust-add", "trust-remove", "revocation-keep", "trust-adopt"
_CONTACT_ADDS = ("contact-add", "contact-accept")
_REMOVES = (REMOVE, "contact-remove")
ACTIONS = frozenset({ADD, KEEP, ADOPT, *_CONTACT_ADDS, *_REMOVES})
_NAMED = re.compile(b'"action":"(?:' + "|".join(sorted(ACTIONS)).encode() + b')"')


def relevant(block: bytes) -> list[bytes]:
    """The lines of a block of whole lines that may change belief; a hundredth of the time of reading them."""
    lines: list[bytes] = []
    position = 0
    while match := _NAMED.search(block, position):
        position = block.find(b"\n", match.end())
        position = len(block) if position < 0 else position
        lines.append(block[block.rfind(b"\n", 0, match.start()) + 1 : position])
    return lines


_HEADER = b"medmail-believed 1"
_STATE = re.compile(
    rb"\n(?:(?:adopted|(?:anchor|contact|revoked) [0-9a-f]{1,128}"
    rb"|dropped [0-9a-f-]{1,128} [0-9]{1,18} [0-9a-f]{64}"
    rb"|gone (?:anchor|contact) [0-9a-f]{1,128} [0-9]{1,18})\n)*+"
)


@dataclass(frozen=True)
class Belief:
    """What is believed after ``size`` entries, which end at octet ``end``, of the log ``origin``.

    ``base`` are the lines of a state, sorted, each ended by a newline, after a first one; ``changes`` what
    became of them since: by what a line is about its new text, or None. So neither a look-up nor a change
    costs more where there are many. ``first`` is the format of the log.
    """

    origin: str = ""
    size: int = 0
    end: int = 0
    first: int = FORMAT
    base: bytes = b"\n"
    changes: Mapping[str, str | None] = field(default_factory=dict)

    def has(self, *about: str) -> bool:
        """Whether the state has a line about that."""
        return self.line(" ".join(about)) is not None

    def line(self, about: str) -> str | None:
        """The state's line about that."""
        if about in self.changes:
            return self.changes[about]
        start, end = self._place(about.encode())
        return self.base[start:end].decode() if end > start else None

    def all(self, kind: str) -> list[list[str]]:
        """The words after ``kind`` of each line of that kind."""
        start, _ = _first(self.base, f"{kind} ".encode())
        end, _ = _first(self.base, f"{kind}!".encode())  # the character after the blank
        lines = self.base[start:end].decode().splitlines()
        believed: dict[str, str | None] = {_about(line): line for line in lines}
        believed |= {about: line for about, line in self.changes.items() if about.startswith(f"{kind} ")}
        return [line.split(" ")[1:] for line in believed.values() if line]

    @cached_property
    def lines(self) -> bytes:
        """The state: its lines, sorted, each ended by a newline, after a first one."""
        if not self.changes:
            return self.base
        pieces, done = [], 0
        for about in sorted(self.changes):
            start, end = self._place(about.encode())
            line = self.changes[about]
            pieces += [self.base[done:start], f"{line}\n".encode() if line else b""]
            done = end + 1 if end > start else start
        return b"".join([*pieces, self.base[done:]])

    def _place(self, about: bytes) -> tuple[int, int]:
        """Where the line about that begins and ends; twice the place where it would begin."""
        start, end = _first(self.base, about)
        line = self.base[start:end]
        return (start, end) if line == about or line.startswith(about + b" ") else (start, start)

    @property
    def is_sound(self) -> bool:
        """Whether the lines are such as a state has: what a stranger may have written is looked at first."""
        return _STATE.fullmatch(self.lines) is not None

    def head(self) -> bytes:
        """A line that says of which log they are, and as of when."""
        return b"%s %s %d %d %d\n" % (_HEADER, self.origin.encode() or b"-", self.size, self.end, self.first)


def _first(lines: bytes, least: bytes) -> tuple[int, int]:
    """Where the first of sorted lines that is no less begins and ends, found by halving."""
    low, high = 1, len(lines)
    while low < high:
        start = lines.rfind(b"\n", low - 1, (low + high) // 2) + 1
        end = lines.find(b"\n", start)
        if lines[start:end] < least:
            low = end + 1
        else:
            high = start
    return low, max(lines.find(b"\n", low), low)


def _about(line: str) -> str:
    words = line.split(" ")
    return " ".join(words[: {"gone": 3}.get(words[0], 2)])


def load(head: bytes, lines: bytes) -> Belief | None:
    """From what :meth:`Belief.head` and :attr:`Belief.lines` gave; None where it is something else.

    Who wrote it is the caller's matter.
    """
    match = re.fullmatch(rb"%s ([^ \n]+) ([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,3})\n" % _HEADER, head)
    if match is None or lines[:1] != b"\n" or lines[-1:] != b"\n":
        return None
    origin = match[1].decode("utf-8", "replace")
    return Belief("" if origin == "-" else origin, int(match[2]), int(match[3]), int(match[4]), lines)


def belief_key(seed: bytes) -> bytes:
    """The key, of a log key's seed, under which entries are vouched for and states are kept."""
    return hmac.digest(seed, b"medmail belief", "sha256")


def contact_mark(address: str, sha256: str) -> str:
    """The name of a certificate taken for an address; ``address`` is as ``pki.x509.address.exact`` has it."""
    said = address.encode("utf-8", "surrogateescape") + b"\0" + sha256.encode()
    return hashlib.sha256(said).hexdigest()[:32]  # there may be very many


def voucher(key: bytes, index: int, intent: Intent) -> str:
    """What the entry that says this at that place carries."""
    facts = {name: value for name, value in intent.facts.items() if name != VOUCHED}
    said = json.dumps([index, intent.action, list(intent.objects), facts], sort_keys=True)
    return hmac.digest(key, said.encode(), "sha256").hex()


def advance(
    belief: Belief, lines: Iterable[bytes], key: bytes, exact: Callable[[str], str]
) -> tuple[dict[str, str | None], list[int]]:
    """The changes to the state after those lines of the log too, and the entries that nobody vouched for.

    ``exact`` gives an address in the form by which addresses are the same.
    """
    state = _State(belief)
    strange: list[int] = []
    for line in lines:
        try:
            entry = parse(line)
        except MedmailError:
            continue  # verifying the log names it
        if entry.action not in ACTIONS:
            continue
        if entry.kind == "outcome":
            if entry.action in _REMOVES and entry.outcome == "done":
                state.ended(entry.of)
        elif _is_vouched(entry, key):
            state.apply(entry, exact)
        elif belief.first >= FORMAT or VOUCHED in entry.facts:
            strange.append(entry.index)
    return state.changes, strange


class _State:
    """A state under change, and the removals that have not ended with their intents."""

    def __init__(self, belief: Belief) -> None:
        self.changes = dict(belief.changes)
        self._going = {f"gone {kind} {name}": int(intent) for kind, name, intent in belief.all("gone")}

    def ended(self, intent: int | None) -> None:
        """Nothing is left of the removal that this intent began."""
        for about in [about for about, begun in self._going.items() if begun == intent]:
            self._settled(about)

    def _settled(self, about: str) -> None:
        if self._going.pop(about, None) is not None:
            self.changes[about] = None

    def apply(self, entry: Entry, exact: Callable[[str], str]) -> None:
        """Believe what an entry says."""
        facts: Mapping[str, Fact] = entry.facts
        kind = str(facts.get("kind") or "contact")
        if entry.action == KEEP and "list" in facts:
            about = f"dropped {facts['list']}"
            keeps = facts.get("octets") and entry.objects
            self.changes[about] = f"{about} {facts['octets']} {entry.objects[0]}" if keeps else None
            return
        if entry.action == ADOPT and kind == "end":
            self.changes["adopted"] = "adopted"
            return
        names: Iterable[str] = entry.objects
        if kind == "contact":
            address = exact(str(facts.get("address")))
            names = [contact_mark(address, sha256) for sha256 in entry.objects]
        elif kind == "marks":
            kind, names = "contact", str(facts.get("marks")).split()
        elif kind not in ("anchor", "revoked"):
            return
        for name in names:
            about, gone = f"{kind} {name}", f"gone {kind} {name}"
            self._settled(gone)
            if entry.action in _REMOVES:
                self.changes[about] = None
                self.changes[gone] = f"{gone} {entry.index}"
                self._going[gone] = entry.index
            else:
                self.changes[about] = about


def _is_vouched(entry: Entry, key: bytes) -> bool:
    said = voucher(key, entry.index, Intent(entry.action, entry.actor, entry.objects, entry.facts))
    return hmac.compare_digest(said, str(entry.facts.get(VOUCHED)))
