"""The state kept of what the log says, and the seal over it."""

import hashlib
import time
from pathlib import Path

import pytest

from medmail_cli.audit.belief import ADOPT
from medmail_cli.audit.entry import Intent
from medmail_cli.errors import MedmailError
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.store.trust.believed import SEAL, STATE, Believed
from tests.support.letters import NOW

pytestmark = pytest.mark.thorough

ROOT = hashlib.sha256(b"root").hexdigest()
KEY = b"k" * 32


def opened(folder: Path) -> Believed:
    """As another run has it."""
    return Believed(AuditLog(folder / "audit", lambda: NOW), folder / "cache")


def test_the_state_is_read_on_and_believed_only_under_the_log_key(tmp_path: Path) -> None:
    """A log of thousands: a run reads the end of it; a state made by anybody else counts for nothing."""
    with AuditLog(tmp_path / "audit", lambda: NOW) as log:
        log.intent("trust-add", actor="me", objects=(ROOT,), kind="anchor")
        log.intents([Intent("decrypt", "me", ("ab" * 32,))] * 3000)
        first = Believed(log, tmp_path / "cache")
        assert (first.anchor(ROOT), first.anchor("ab" * 32)) == ("believed", "unknown")
    state = tmp_path / "cache" / STATE
    whole = state.read_bytes()
    for forged in (
        whole.replace(ROOT.encode(), b"ab" * 32),
        whole.replace(b"\nanchor", b"\nanchor %s\nanchor" % (b"ab" * 32)),
        whole[:-10],
        whole[:20],
        b"",
    ):
        state.write_bytes(forged)
        again = opened(tmp_path)
        assert (again.anchor(ROOT), again.anchor("ab" * 32)) == ("believed", "unknown")


def test_an_old_state_put_back_brings_nobody_back(tmp_path: Path) -> None:
    state = tmp_path / "cache" / STATE
    with AuditLog(tmp_path / "audit", lambda: NOW) as log:
        log.intent("trust-add", actor="me", objects=(ROOT,), kind="anchor")
        log.intents([Intent("decrypt", "me", ("ab" * 32,))] * 3000)
        assert Believed(log, tmp_path / "cache").anchor(ROOT) == "believed"
        old = state.read_bytes()
        log.outcome(log.intent("trust-remove", actor="me", objects=(ROOT,), kind="anchor"), "done", exit=0)
        log.intents([Intent("decrypt", "me", ("ab" * 32,))] * 3000)
        assert opened(tmp_path).anchor(ROOT) == "unknown"
    assert state.read_bytes() != old
    state.write_bytes(old)
    assert opened(tmp_path).anchor(ROOT) == "unknown"


def test_a_seal_that_was_changed_or_is_anothers_is_broken(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", lambda: NOW) as log:
        log.intent("trust-add", actor="me", objects=(ROOT,), kind="anchor")
    seal = tmp_path / SEAL
    opened(tmp_path).check_seal(tmp_path, KEY)
    whole = seal.read_bytes()
    for data in (
        whole[:-1] + bytes([whole[-1] ^ 1]),
        whole.replace(b" 1 ", b" 2 ", 1),
        whole[: whole.index(b"\n") + 5],
        whole.partition(b"\n")[0],
        b"",
    ):
        seal.write_bytes(data)
        with pytest.raises(MedmailError, match="trust-seal-broken"):
            opened(tmp_path).check_seal(tmp_path, KEY)
    seal.write_bytes(whole)
    with pytest.raises(MedmailError, match="trust-seal-broken"):
        opened(tmp_path).check_seal(tmp_path, b"another" * 4 + b"keys")
    opened(tmp_path).check_seal(tmp_path, KEY)


def spent(folder: Path, contacts: int, others: int) -> float:
    """Processor time of a run's questions of a log with so many contacts and so many other entries."""
    digests = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(contacts)]
    facts = {"kind": "contact", "address": "a@x.test"}
    with AuditLog(folder / "audit", lambda: NOW) as log:
        log.events([Intent(ADOPT, "me", tuple(digests[i : i + 500]), facts) for i in range(0, contacts, 500)])
        log.events([Intent("decrypt", "me", ("ab" * 32,))] * others)
    opened(folder).check_seal(folder, KEY)

    def once() -> float:
        start = time.process_time()
        found = opened(folder)
        found.check_seal(folder, KEY)
        assert [found.contact("a@x.test", one) for one in (digests[0], ROOT)] == ["believed", "unknown"]
        return time.process_time() - start

    return min(once() for _ in range(7))


def test_a_look_up_costs_no_more_with_many_contacts_or_a_long_log(tmp_path: Path) -> None:
    """Beside the third of a second that the shortest command takes."""
    few, long, many = (
        spent(tmp_path / name, *size)
        for name, size in {"few": (10, 10), "long": (10, 50_000), "many": (50_000, 10)}.items()
    )
    command = 0.3
    assert command + long < 1.1 * (command + few)
    assert command + many < 1.1 * (command + few)
