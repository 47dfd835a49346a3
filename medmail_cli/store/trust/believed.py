"""Whom the audit log says one trusts, without reading all of it at each run.

``believed`` in the cache holds the state of :mod:`medmail_cli.audit.belief` as far as the log had been read
when it was written, with an HMAC-SHA-256 (hex) under a key of the log key's as its second line: it can be
lost, or be an old one, and the log is read on from there; made by anybody else it counts for nothing.

``trust.seal`` in the keystore's folder holds the same state, sealed (AES-256-GCM) under a key of the
keystore: its first line, which is the associated data, a nonce of 12 octets, the ciphertext of the rest.
Where it is open, the log from there on, replayed upon it, must give what the log gives from its beginning:
whoever has the log key, which is not sealed, can add to the log but rewrite nothing of what it said of trust.

A home that an older version made has a log whose first entry names no format, or no log and no seal. What is
in its folders is taken over once, as entries, and told of.
"""

import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medmail_cli.audit import belief as beliefs
from medmail_cli.audit import entry as entries
from medmail_cli.audit.belief import ADOPT, KEEP, Belief, contact_mark
from medmail_cli.audit.entry import FORMAT, Intent
from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.model import Note
from medmail_cli.pki.x509.address import exact
from medmail_cli.store import files
from medmail_cli.store.log import reader

if TYPE_CHECKING:
    from typing import BinaryIO

    from medmail_cli.store.log.writer import AuditLog

Standing = Literal["believed", "going", "unknown"]
"""``going``: its removal was begun, and a kill may have left its file."""

STATE, SEAL = "believed", "trust.seal"
SEAL_LABEL = "trust set"
_NONCE = 12
_LAG = 256 * 1024
"""Octets of the log that are rather read again than kept at the cost of a write."""
_BLOCK = 1 << 17
_LONGEST = 512
_AT_ONCE = 500
"""Digests in one entry."""


@dataclass(frozen=True)
class Home:
    """What a log speaks about, as far as it was there before trust stood in logs.

    ``keystore`` is its folder; ``held`` gives what is to be taken over of a home of an older version.
    """

    keystore: Path
    held: "Callable[[], TakenOver]"


class Believed:
    """What the log in ``log`` says of trust; ``cache`` is where a state is kept.

    Where ``home`` is of an older version, what stands in it is taken over. Methods raise ``audit-damaged``,
    ``log-key-damaged``, ``store-damaged``, ``store-busy``, and then what appending to the log raises.
    """

    def __init__(self, log: "AuditLog", cache: Path, home: Home | None = None) -> None:
        self.log = log
        self._path, self._home = cache / STATE, home
        self._belief: Belief | None = None
        self._kept_end = 0

    # --- what is believed ------------------------------------------------------------------------------

    def anchor(self, sha256: str) -> Standing:
        """How an anchor stands."""
        return self._standing("anchor", sha256)

    def contact(self, address: str, sha256: str) -> Standing:
        """How a certificate that was taken for an address stands."""
        return self._standing("contact", contact_mark(exact(address), sha256))

    def dropped(self) -> dict[str, tuple[int, str]]:
        """By list how many octets of what is remembered of it are known, and their SHA-256."""
        return {name: (int(octets), sha256) for name, octets, sha256 in self.belief.all("dropped")}

    def revoked(self) -> frozenset[str]:
        """The digests of one's own certificates that were revoked."""
        return frozenset(words[0] for words in self.belief.all("revoked"))

    def remember_revoked(self, sha256: str) -> None:
        """Write into the log that a certificate of one's own is revoked."""
        if sha256 not in self.revoked():
            self.log.event(KEEP, objects=(sha256,), kind="revoked")
            self.refresh()

    def remember(self, name: str, octets: int, sha256: str) -> None:
        """Write into the log how much is remembered of a list; 0 octets: it is to be forgotten."""
        if self.dropped().get(name, (0, sha256)) != (octets, sha256):
            self.log.event(KEEP, objects=(sha256,) if octets else (), list=name, octets=octets)
            self.refresh()

    def _standing(self, kind: str, name: str) -> Standing:
        if self.belief.has(kind, name):
            return "believed"
        current = self.refresh()
        if current.has(kind, name):
            return "believed"
        return "going" if current.has("gone", kind, name) else "unknown"

    @property
    def belief(self) -> Belief:
        """The state, as of the first look; :meth:`refresh` reads on."""
        return self.refresh() if self._belief is None else self._belief

    # --- reading ---------------------------------------------------------------------------------------

    def refresh(self) -> Belief:
        """The state as the log has it now."""
        belief = self._read()
        if self._home is not None and self._is_older(belief):
            held = self._home.held()
            if belief.size or held.said:
                adopt(self.log, held)
                belief = self._read()
        self._belief = belief
        return belief

    @property
    def is_older(self) -> bool:
        """Whether this home will be taken over."""
        return self._is_older(self._read())

    def _is_older(self, belief: Belief) -> bool:
        # sealed it was by a version that has a log of its trust, whatever stands there in its place
        if self._home is None or belief.has("adopted") or (self._home.keystore / SEAL).exists():
            return False
        from medmail_cli.store.keys.keystore import Keystore

        return belief.first < FORMAT if belief.size else Keystore(self._home.keystore).exists

    def _read(self) -> Belief:
        signer = self.log.signer()
        if signer is None:
            return Belief()
        key = beliefs.belief_key(signer.seed)
        base = self._belief
        if base is None or base.origin != signer.name:
            base = self._kept(key, signer.name)
        belief, _ = read_on(self.log.folder, base, key)
        if belief.end - self._kept_end > _LAG:
            with suppress(MedmailError):  # whoever cannot keep it reads it again
                head, lines = belief.head(), belief.lines
                files.write_atomic(self._path, b"".join((head, _mac(key, head, lines), lines)))
                self._kept_end = belief.end
        return belief

    def _kept(self, key: bytes, origin: str) -> Belief:
        nothing = Belief(origin, first=0)
        try:
            (head, mac), lines = _parts(self._path, 2)
        except (OSError, MedmailError, ValueError):
            return nothing
        kept = beliefs.load(head, lines) if hmac.compare_digest(_mac(key, head, lines), mac) else None
        if kept is None or kept.origin != origin:
            return nothing
        self._kept_end = kept.end
        return kept

    # --- the keystore's seal ---------------------------------------------------------------------------

    def check_seal(self, folder: Path, key: bytes) -> None:
        """Hold the keystore's seal against the log, and renew it. Raises ``trust-seal-broken``."""
        path = folder / SEAL
        sealed = self._sealed(path, key)
        current = self.refresh()
        if sealed is not None:
            if sealed.origin not in ("", current.origin) or sealed.end > current.end:
                raise MedmailError("trust-seal-broken", path=str(path))
            signer = self.log.signer()
            if signer is not None and sealed.end != current.end:
                base = sealed if sealed.origin else Belief(signer.name, first=0)
                try:
                    replayed, _ = read_on(self.log.folder, base, beliefs.belief_key(signer.seed))
                except MedmailError as error:
                    if error.code == "audit-damaged":  # whole as it has just been read, but another
                        raise MedmailError("trust-seal-broken", path=str(path)) from None
                    raise
                current = current if replayed.end == current.end else self.refresh()
            else:
                replayed = sealed
            # where another process has just appended there is a next time
            if replayed.end == current.end and replayed.lines != current.lines:
                raise MedmailError("trust-seal-broken", path=str(path))
            same = sealed.lines == current.lines and sealed.origin == current.origin
            if same and current.end - sealed.end <= _LAG:
                return
        with suppress(MedmailError):  # an older one serves as well: the log is replayed upon it
            self.seal(folder, key, current)

    def seal(self, folder: Path, key: bytes, belief: Belief | None = None) -> None:
        """Seal the state as it is."""
        files.write_atomic(folder / SEAL, _seal(self.refresh() if belief is None else belief, key))

    def _sealed(self, path: Path, key: bytes) -> Belief | None:
        try:
            (head,), body = _parts(path, 1)
            sealed = _opened(head, body, key)
        except FileNotFoundError:
            return None
        except (OSError, MedmailError, ValueError):
            sealed = None
        if sealed is None:
            raise MedmailError("trust-seal-broken", path=str(path))
        return sealed

    def resealed(self, seal: bytes | None, key: bytes) -> bytes:
        """The seal that a keystore from a backup shall have here, once the log names what it vouched for.

        Without one what stands in the home's folders is taken over, as from an older version; a log that
        goes on where the seal's was knows better than a backup. Raises ``trust-seal-broken``.
        """
        signer = self.log.signer()
        if seal is None:
            adopt(self.log, self._home.held() if self._home is not None else TakenOver())
        elif (sealed := open_seal(seal, key)) is None:
            raise MedmailError("trust-seal-broken", path=SEAL)
        elif signer is None or sealed.origin != signer.name:
            adopt(self.log, _vouched_for(sealed))
        return _seal(self.refresh(), key)


def open_seal(data: bytes, key: bytes) -> Belief | None:
    """What a seal holds; None where it does not open, or holds something else."""
    head, newline, body = data.partition(b"\n")
    return _opened(head + newline, body, key)


def _seal(belief: Belief, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head, nonce = belief.head(), os.urandom(_NONCE)
    return b"".join((head, nonce, AESGCM(key).encrypt(nonce, belief.lines, head)))


def _opened(head: bytes, body: bytes, key: bytes) -> Belief | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        lines = AESGCM(key).decrypt(body[:_NONCE], memoryview(body)[_NONCE:], head)
    except (InvalidTag, ValueError):
        return None
    return beliefs.load(head, lines)


@dataclass
class TakenOver:
    """What is to be taken over, as entries, and what a person is told of it."""

    said: list[Intent] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def adopt(self, kind: str, digests: Sequence[str], **facts: str) -> None:
        """Add digests of a kind."""
        for i in range(0, len(digests), _AT_ONCE):
            chosen = tuple(digests[i : i + _AT_ONCE])
            self.said.append(Intent(ADOPT, "medmail", chosen, {"kind": kind, **facts}))


def adopt(log: "AuditLog", taken_over: TakenOver) -> None:
    """Write into the log what is taken over and, last, that it has been: after a kill it begins anew."""
    log.events([*taken_over.said, Intent(ADOPT, "medmail", (), {"kind": "end"})])
    log.notes += taken_over.notes


def _vouched_for(sealed: Belief) -> TakenOver:
    """What a seal says, but for what is remembered of lists: those files are in no backup."""
    taken_over = TakenOver()
    for kind in ("anchor", "revoked"):
        taken_over.adopt(kind, [words[0] for words in sealed.all(kind)])
    marks = [words[0] for words in sealed.all("contact")]
    for i in range(0, len(marks), _AT_ONCE):
        facts = {"kind": "marks", "marks": " ".join(marks[i : i + _AT_ONCE])}
        taken_over.said.append(Intent(ADOPT, "medmail", (), facts))
    return taken_over


def read_on(folder: Path, base: Belief, key: bytes) -> tuple[Belief, list[int]]:
    """The state after what the log in ``folder`` has beyond ``base``, and the entries nobody vouched for.

    Raises ``audit-damaged`` where the log does not go on there.
    """
    path = folder / reader.ENTRIES
    try:
        descriptor = files.open_own(path)
    except FileNotFoundError:
        raise MedmailError("audit-damaged", path=str(path), entry=0) from None
    except OSError as error:
        raise not_readable(path, error) from None
    with os.fdopen(descriptor, "rb") as file:
        with reader.locked(descriptor, path, exclusive=False):
            _, end = reader.last_line(descriptor, os.fstat(descriptor).st_size)
        if end == base.end:
            return base, []
        damaged = MedmailError("audit-damaged", path=str(path), entry=base.size)
        if end < base.end or (base.end and os.pread(descriptor, 1, base.end - 1) != b"\n"):
            raise damaged
        file.seek(base.end)
        size, first = base.size, base.first
        lines: list[bytes] = []
        for block in _blocks(file, end - base.end):
            if size == base.size:
                line = block[: block.index(b"\n")]
                if entries.index_of(line) != size:
                    raise damaged
                first = first or entries.format_of(line)
            lines += beliefs.relevant(block)
            size += block.count(b"\n")
    strange: list[int] = []
    belief = replace(base, size=size, end=end, first=first)
    if lines:
        changes, strange = beliefs.advance(belief, lines, key, exact)
        belief = replace(belief, changes=changes)
    return belief, strange


def _blocks(file: "BinaryIO", left: int) -> Iterator[bytes]:
    """So many octets of whole lines, in blocks of whole lines."""
    while left > 0:
        block = file.read(min(_BLOCK, left))
        if block and block[-1:] != b"\n":
            block += file.readline(left - len(block))
        if not block:
            return  # cut off meanwhile: what is missing is told of by whoever appends
        left -= len(block)
        yield block


def _mac(key: bytes, head: bytes, lines: bytes) -> bytes:
    mac = hmac.new(key, head, "sha256")
    mac.update(lines)
    return mac.hexdigest().encode() + b"\n"


def _parts(path: Path, count: int) -> tuple[list[bytes], bytes]:
    """So many lines of a file of ours and, never copied, what comes after. Raises ValueError, OSError."""
    with os.fdopen(files.open_own(path), "rb") as file:
        head = [file.readline(_LONGEST) for _ in range(count)]
        start = sum(map(len, head))
        rest = os.pread(file.fileno(), os.fstat(file.fileno()).st_size - start, start)
    if not all(line.endswith(b"\n") for line in head):
        raise ValueError(head)
    return head, rest
