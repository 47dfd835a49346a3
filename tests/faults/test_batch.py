"""``enrol batch`` against authorities that fail, and under SIGKILL: one certificate in use a person."""

import base64
import contextlib
import datetime as dt
import random
import socket
import threading
import time
from collections import Counter
from itertools import repeat
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.sandbox.operator import Operator
from tests.support.cli import Done, passphrase
from tests.support.hammer import METHODS, STEPS, Batch, at_random, at_step, hammer, strokes
from tests.support.homes import by_cmp
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.openssl_est import Handler, OpenSslCa, OpenSslEst, Reply
from tests.support.rosters import enrol, environment, person, registrar, roster, rows, use_profile


@pytest.fixture
def home(server: OpenSslEst, tmp_path: Path) -> Path:
    home = tmp_path / "registrar"
    home.mkdir()
    passphrase(home)
    settings(home, server)
    return home


def settings(home: Path, server: OpenSslEst, more: str = "") -> None:
    (home / "password").write_text("registrar's\n")
    (home / "config.toml").write_text(
        f'[authorities.order]\nurl = "{server.url}"\ntls-anchors = "{server.ca.root}"\nlogin = "registrar"\n'
        f'password-file = "password"\n{more}\n'
    )


def batch(home: Path, count: int, *options: str | Path) -> Done:
    path = roster(home.parent / "roster.csv", map(person, range(count)))
    return enrol(home, path, "--out-dir", home.parent / "out", *options)


def counts(done: Done) -> dict[str, int]:
    found = dict(done.objects[-1]["counts"])
    found.pop("enrolment", None)
    return found


def asked(server: OpenSslEst) -> int:
    return sum(operation == "simpleenroll" for _, operation, _ in server.seen)


def test_a_busy_authority_is_given_time(home: Path, server: OpenSslEst) -> None:
    refusals = iter([True, False, True, True])

    def busy(_handler: Handler, body: bytes) -> Reply:
        if next(refusals, False):
            return 429, {"Retry-After": "1"}, b""
        return 200, {}, server.issue(body)

    server.replies["simpleenroll"] = busy
    begun = time.monotonic()
    done = batch(home, 4, "--jobs", "1")
    assert (done.exit, counts(done)) == (0, {"enrolled": 4})
    assert time.monotonic() - begun > 3
    assert [one["unanswered"] for one in rows(done).values()] == [0] * 4
    assert asked(server) == 7


def test_all_workers_wait_as_long_as_one_was_told(home: Path, server: OpenSslEst) -> None:
    times: list[float] = []
    told: list[float] = []

    def busy(_handler: Handler, body: bytes) -> Reply:
        times.append(time.monotonic())
        if len(times) in (5, 6):
            told.append(times[-1])
            return 503, {"Retry-After": "1" if len(times) == 5 else "3"}, b""
        return 200, {}, server.issue(body)

    server.replies["simpleenroll"] = busy
    assert batch(home, 16, "--jobs", "4").exit == 0
    # what was on its way already may still arrive
    assert [one for one in times if told[-1] + 0.5 < one < told[-1] + 2.9] == []


def test_an_authority_that_wants_an_hour_s_rest_has_it(home: Path, server: OpenSslEst) -> None:
    server.replies["simpleenroll"] = lambda _handler, _body: (503, {"Retry-After": "3600"}, b"")
    done = batch(home, 30, "--jobs", "1")
    assert done.exit == 75
    assert asked(server) == 1
    assert counts(done) == {"failed": 1, "not-attempted": 29}


def test_no_more_is_asked_than_the_authority_s_limit(home: Path, server: OpenSslEst) -> None:
    settings(home, server, "requests-per-minute = 120")
    times: list[float] = []

    def noted(_handler: Handler, body: bytes) -> Reply:
        times.append(time.monotonic())
        return 200, {}, server.issue(body)

    server.replies["simpleenroll"] = noted
    assert batch(home, 7, "--jobs", "4").exit == 0
    # two a second, and what a second of silence has saved
    assert times[-1] - times[0] >= (7 - 3) * 0.5 - 0.2


def test_what_is_decided_later_is_asked_for_again_with_the_same_key(home: Path, server: OpenSslEst) -> None:
    bodies: list[bytes] = []

    def later(_handler: Handler, body: bytes) -> Reply:
        bodies.append(body)
        return 202, {"Retry-After": "3600"}, b""

    server.replies["simpleenroll"] = later
    waiting = batch(home, 2)
    assert (waiting.exit, counts(waiting)) == (75, {"waiting": 2})
    assert {one["code"] for one in rows(waiting).values()} == {"ca-pending"}

    def now(_handler: Handler, body: bytes) -> Reply:
        assert body in bodies
        return 200, {}, server.issue(body)

    server.replies["simpleenroll"] = now
    done = batch(home, 2)
    assert (done.exit, counts(done)) == (0, {"enrolled": 2})


@pytest.mark.parametrize("how", ["cut", "garbage", "another's key"])
def test_an_answer_that_is_lost_may_have_been_a_certificate(home: Path, server: OpenSslEst, how: str) -> None:
    """The row says so from then on, and only where the authority does not promise the same answer."""
    issued: list[bytes] = []

    def lost(_handler: Handler, body: bytes) -> Reply | None:
        issued.append(server.issue(body))
        if len(issued) > 1:
            return 200, {}, issued[-1]
        if how == "cut":
            return None
        return 200, {}, b"MAo=" if how == "garbage" else server.ca.certs_only(server.ca.root.read_bytes())

    server.replies["simpleenroll"] = lost
    first = batch(home, 3, "--jobs", "1")
    assert (first.exit, counts(first)) == (3, {"failed": 1, "enrolled": 2})
    for expected in ("possible-duplicate", "possible-duplicate"):
        again = batch(home, 3, "--jobs", "1")
        assert (again.exit, counts(again)) == (0, {expected: 1, "unchanged": 2})
        (doubtful,) = (one for one in rows(again).values() if one["status"] == expected)
        assert (doubtful["requests"], doubtful["unanswered"]) == (2, 1)
    assert len(issued) == 4


def test_a_request_that_never_left_leaves_no_doubt(home: Path, server: OpenSslEst) -> None:
    """The authority goes away between two connections."""
    ways = Relay(int(server.url.rpartition(":")[2]), connections=2)
    text = (home / "config.toml").read_text()
    (home / "config.toml").write_text(text.replace(server.url, f"https://localhost:{ways.port}"))

    def once(handler: Handler, _body: bytes) -> Reply:
        handler.close_connection = True
        return 200, {"Connection": "close"}, server.ca.certs_only(server.ca.root.read_bytes())

    server.replies["cacerts"] = once
    first = batch(home, 2, "--jobs", "1")
    assert (first.exit, counts(first)) == (75, {"failed": 2})
    assert {(one["code"], one["unanswered"]) for one in rows(first).values()} == {("server-unreachable", 0)}
    assert asked(server) == 0
    (home / "config.toml").write_text(text)
    assert counts(batch(home, 2)) == {"enrolled": 2}


class Relay:
    """A way to a port of this machine that is closed after so many connections."""

    def __init__(self, target: int, connections: int) -> None:
        self._listening, self._target = socket.create_server(("127.0.0.1", 0)), target
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, args=(connections,), daemon=True).start()

    def _serve(self, connections: int) -> None:
        with self._listening:
            for _ in range(connections):
                one, _address = self._listening.accept()
                threading.Thread(target=self._join, args=(one,), daemon=True).start()

    def _join(self, one: socket.socket) -> None:
        with one, socket.create_connection(("127.0.0.1", self._target)) as other:
            back = threading.Thread(target=self._pass_on, args=(other, one))
            back.start()
            self._pass_on(one, other)
            back.join()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_an_authority_that_gives_the_same_answer_leaves_no_doubt(home: Path, server: OpenSslEst) -> None:
    settings(home, server, "same-answer = true")
    given: dict[bytes, bytes] = {}

    def same(_handler: Handler, body: bytes) -> Reply | None:
        cut = body not in given
        given.setdefault(body, server.issue(body))
        return None if cut else (200, {}, given[body])

    server.replies["simpleenroll"] = same
    assert batch(home, 2).exit == 75
    done = batch(home, 2)
    assert (done.exit, counts(done)) == (0, {"enrolled": 2})


@pytest.mark.parametrize("when", ["lost", "received"])
def test_a_certificate_for_a_key_that_is_not_used_is_told_of(
    home: Path, server: OpenSslEst, when: str
) -> None:
    """A name corrected between two runs makes a new key; no authority answers the same to that."""
    settings(home, server, "same-answer = true")
    issued: list[bytes] = []

    def once_lost(_handler: Handler, body: bytes) -> Reply | None:
        issued.append(server.issue(body))
        return None if when == "lost" and len(issued) == 1 else (200, {}, issued[-1])

    server.replies["simpleenroll"] = once_lost
    letters = home.parent / "letters"
    if when == "received":
        letters.write_bytes(b"no folder")
    first = batch(home, 1, "--letters", letters)
    assert first.exit != 0
    letters.unlink(missing_ok=True)
    path = roster(home.parent / "roster.csv", [person(0, name="Dr Elise Renamed")])
    done = enrol(home, path, "--out-dir", home.parent / "out", "--letters", letters)
    assert (done.exit, counts(done)) == (0, {"possible-duplicate": 1})
    (row,) = rows(done).values()
    assert (row["requests"], row["unanswered"], len(issued)) == (2, 1, 2)


def test_certificates_for_the_wrong_use_are_not_kept_for_ever(home: Path, server: OpenSslEst) -> None:
    """Once the authority has mended it, the next run asks for other keys'; the useless are in the report."""
    use_profile(home, 'certificates = "two"\n')

    def signs(_handler: Handler, body: bytes) -> Reply:
        return 200, {}, server.ca.certs_only(server.ca.sign(base64.b64decode(body), "DER", "signs"))

    server.replies["simpleenroll"] = signs
    first = batch(home, 1)
    assert (first.exit, next(iter(rows(first).values()))["code"]) == (5, "wrong-key-usage")
    del server.replies["simpleenroll"]
    done = batch(home, 1)
    assert (done.exit, counts(done)) == (0, {"possible-duplicate": 1})
    (row,) = rows(done).values()
    assert (row["requests"], row["unanswered"]) == (4, 2)


def test_one_refusal_is_one_person_s(home: Path, server: OpenSslEst) -> None:
    def strict(_handler: Handler, body: bytes) -> Reply:
        certificate = server.issue(body)
        if len(certificate) and asked(server) == 2:
            return 400, {"Content-Type": "text/plain"}, b"not on our list"
        return 200, {}, certificate

    server.replies["simpleenroll"] = strict
    done = batch(home, 5, "--jobs", "1")
    assert (done.exit, counts(done)) == (3, {"enrolled": 4, "failed": 1})
    (failed,) = (one for one in rows(done).values() if one["exit"])
    assert (failed["code"], failed["detail"]) == ("ca-rejected", "not on our list")
    # only that one is tried again
    before = asked(server)
    again = batch(home, 5)
    assert counts(again) == {"unchanged": 4, "enrolled": 1}
    assert asked(server) == before + 1


@pytest.mark.parametrize("why", ["login", "away"])
def test_where_the_authority_itself_fails_the_rest_is_left_alone(
    home: Path, server: OpenSslEst, why: str
) -> None:
    def fails(_handler: Handler, _body: bytes) -> Reply | None:
        return (401, {"WWW-Authenticate": "Basic"}, b"") if why == "login" else None

    server.replies["simpleenroll"] = fails
    done = batch(home, 30, "--jobs", "2")
    code = 4 if why == "login" else 75
    assert done.exit == code
    assert len(rows(done)) == 30
    assert counts(done)["not-attempted"] > 20
    assert {one["exit"] for one in rows(done).values()} == {code}
    del server.replies["simpleenroll"]
    assert batch(home, 30).exit == 0


@pytest.mark.parametrize("why", ["down", "stranger", "fingerprint"])
def test_nothing_is_begun_with_an_authority_that_cannot_be_reached(
    home: Path, server: OpenSslEst, ca: OpenSslCa, tmp_path: Path, why: str
) -> None:
    options: tuple[str, ...] = ()
    if why == "fingerprint":
        options = ("--ca-fingerprint", "00" * 32)
    elif why == "down":
        text = (home / "config.toml").read_text()
        (home / "config.toml").write_text(text.replace(server.url, "https://localhost:1"))
    else:
        other = OpenSslCa.create(tmp_path / "other", "Other Root")
        text = (home / "config.toml").read_text()
        (home / "config.toml").write_text(text.replace(str(ca.root), str(other.root)))
    done = batch(home, 3, *options)
    assert done.exit == (75 if why == "down" else 5)
    assert done.objects[-1]["type"] == "error"
    assert not (tmp_path / "out").exists()


# -- kills


@pytest.mark.parametrize("method", ["est", "cmp", "two certificates"])
def test_killed_at_any_step_the_next_run_completes_it(
    operator: Operator, tmp_path: Path, method: str
) -> None:
    home = registrar(tmp_path, operator)
    if method == "cmp":
        by_cmp(home, operator)
    each = 1
    if method == "two certificates":
        each = 2
        use_profile(home, 'certificates = "two"\n')
    path = roster(tmp_path / "r.csv", map(person, range(3)))
    words = ["medmail", "enrol", "batch", str(path), "--key", "p256", "--jobs", "2", "--out-dir"]
    total = count_effects([*words, str(tmp_path / "all")], env=environment(home))
    for k in kill_points(total, 24 if method == "est" else 12):
        out = tmp_path / f"out{k}"
        before = len(operator.authority.issued)
        killed = run_killed_at([*words, str(out)], k, env=environment(home))
        assert killed.returncode in (KILLED, 0)
        done = enrol(home, path, "--out-dir", out)
        assert done.exit == 0, (k, done.stderr)
        found = rows(done)
        issued = [
            one
            for one in operator.authority.issued[before:]
            if one.serial_number not in operator.authority.revoked
        ]
        assert len(found) == 3
        assert len(issued) <= 3 * each + sum(row["unanswered"] for row in found.values()), k
        given = [one["serial"] for row in found.values() for one in row["certificates"]]
        assert len(given) == 3 * each
        assert set(given) <= {f"{one.serial_number:x}" for one in issued}
        assert list((out / ".pending").iterdir()) == [], k


def test_killed_over_and_over_a_batch_ends_well(operator: Operator, tmp_path: Path) -> None:
    chance = random.Random(7)
    kills = hammer(Batch.create(operator, tmp_path, 300), repeat(("at random", at_random(chance, 0.6))))
    assert kills.total() > 3


def test_killed_in_each_named_step_a_batch_ends_well(operator: Operator, tmp_path: Path) -> None:
    each = ((step, at_step(step, 1)) for step in STEPS)
    kills = hammer(Batch.create(operator, tmp_path, 40), each)
    assert kills == Counter(STEPS.keys())


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("method", METHODS)
def test_a_thousand_people_and_hundreds_of_kills(
    tmp_path: Path,
    method: str,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Operator(tmp_path / "sandbox") as operator:
        if method == "same-answer":
            answer_alike(operator, monkeypatch)
        batch = Batch.create(operator, tmp_path, 1000, method)
        begun = time.monotonic()
        kills = hammer(batch, strokes(random.Random(seed), most=4))
        issued, revoked = len(operator.authority.issued), len(operator.authority.revoked)
    with capsys.disabled():
        told = f"{kills.total()} kills, {kills['at random']} at random; {issued} issued, {revoked} revoked"
        print(f"{method}, seed {seed}: {told}; {time.monotonic() - begun:.0f} s")  # noqa: T201 - the soak's figures
    assert kills.total() >= 100
    assert kills.keys() == STEPS.keys() | {"at random"}


def answer_alike(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the authority answer a request that comes again with the certificate it has brought."""
    issue, given = operator.authority.issue, dict[bytes, x509.Certificate]()
    lock = threading.Lock()

    def same(der: bytes, holder: str, now: dt.datetime, *, proven: bool = False) -> x509.Certificate:
        with lock:
            if der not in given:
                given[der] = issue(der, holder, now, proven=proven)
            return given[der]

    monkeypatch.setattr(operator.authority, "issue", same)
