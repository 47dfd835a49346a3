"""``medmail enrol`` by ACME: new, again, renewed, refused, and killed anywhere."""

import contextlib
import email
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli_w

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.store.keys.keystore import Keystore
from tests.support import pki
from tests.support.acme_server import KID, MAC_KEY, SENDER, AcmeServer, Signer
from tests.support.cli import MEDMAIL, medmail, passphrase
from tests.support.homes import trusting
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.rosters import environment, person, roster
from tests.support.servers import MailServers

POINTS = 16


@dataclass
class Place:
    """A server, and who vouches for its mail."""

    server: AcmeServer
    signer: Signer
    mail_ca: pki.Authority

    def home(self, folder: Path, address: str, **settings: object) -> Path:
        """A new home with an account for ``address`` and the authority ``order``."""
        mail = self.server.mail
        (folder / "mac-key").write_text(MAC_KEY + "\n")
        authority = {
            "url": self.server.url,
            "method": "acme",
            "tls-anchors": str(mail.anchors),
            "login": KID,
            "password-file": str(folder / "mac-key"),
        }
        home = folder / "home"
        mail.write_config(home, address)
        with (home / "config.toml").open("a") as config:
            config.write("\n" + tomli_w.dumps({"authorities": {"order": authority | settings}}))
        passphrase(home)
        trusting(home, self.mail_ca.certificate)
        return home

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.server.ca.certificate)


@pytest.fixture(scope="module")
def place(mail_servers: MailServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    mail_ca = pki.make_ca("Mail Root")
    signer = Signer(tmp_path_factory.mktemp("signer"), mail_ca)
    folder = tmp_path_factory.mktemp("acme")
    with AcmeServer(folder, mail_servers, signer, terms="https://ca.test/terms", binding=True) as server:
        yield Place(server, signer, mail_ca)


@pytest.fixture
def address(mail_servers: MailServers) -> str:
    return mail_servers.new_mailbox("martin")


def answers(place: Place, address: str) -> int:
    return sum(address.encode() in raw for raw in place.server.mail.messages(SENDER))


def test_enrolled_unchanged_and_renewed(place: Place, address: str, tmp_path: Path) -> None:
    home = place.home(tmp_path, address)
    argv = ("enrol", "new", address, "--key", "p256", "--ca-fingerprint", place.fingerprint, "--json")
    done = medmail(home, *argv)
    assert (done.exit, done.objects[-1]["code"]) == (2, "needs-confirmation")
    assert "--agree-terms" in done.stderr
    assert "https://ca.test/terms" in done.stderr
    done = medmail(home, *argv, "--agree-terms")
    assert done.exit == 0, done.stderr
    told, anchor = done.objects[:2]
    assert (told["status"], told["method"], told["address"]) == ("enrolled", "acme", address)
    assert anchor["type"] == "anchor"
    assert medmail(home, *argv).objects[0]["status"] == "unchanged"
    renewed = medmail(home, "enrol", "renew", address, "--json")
    assert (renewed.exit, renewed.objects[0]["status"]) == (0, "renewed"), renewed.stderr
    assert sorted(one.state for one in Keystore(home / "keystore").identities()) == ["active", "retired"]
    assert list((home / "keystore").glob("*.transaction")) == []
    assert answers(place, address) == 2
    # nothing was fetched into the mailbox, and nothing waits to be sent
    assert medmail(home, "inbox", "--json").objects[-1]["counts"] in ({}, {"message": 0})
    assert medmail(home, "outbox", "list", "--json").objects[:-1] == []
    logged = [one for one in medmail(home, "audit", "log", "--json").objects if one["type"] == "entry"]
    assert {"enrol-request", "enrol", "send", "enrol-renew"} <= {one["action"] for one in logged}
    assert MAC_KEY not in "".join(path.read_text("latin-1") for path in home.rglob("*") if path.is_file())


def test_a_challenge_that_nothing_proves_needs_leave_in_the_configuration(
    place: Place, address: str, tmp_path: Path
) -> None:
    home = place.home(tmp_path, address, **{"unsigned-challenges": True})
    place.server.sign = lambda message: b"Auto-Submitted: auto-generated\r\n" + message
    try:
        done = medmail(home, "enrol", "new", address, "--key", "p256", "--agree-terms", "--json")
    finally:
        place.server.sign = place.signer
    assert done.exit == 0, done.stderr


def test_what_acme_cannot_certify_is_wrong_usage(place: Place, address: str, tmp_path: Path) -> None:
    home = place.home(tmp_path, address)
    assert medmail(home, "enrol", "new", address, "--name", "Dr Martin").exit == 2
    done = medmail(home, "enrol", "new", "someone.else@hosp.test", "--agree-terms", "--json")
    assert (done.exit, done.objects[-1]["code"]) == (78, "no-account")
    assert not (home / "keystore" / "keystore.json").exists()


def test_killed_anywhere_the_next_run_completes_it(place: Place, tmp_path: Path) -> None:
    mail = place.server.mail
    first = mail.new_mailbox("killed")
    home = place.home(tmp_path, first)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MEDMAIL_")},
        "MEDMAIL_HOME": str(home),
        "MEDMAIL_PASSPHRASE_FILE": str(home.parent / f"{home.name}.passphrase"),
    }

    def argv(address: str) -> list[str]:
        return [
            "medmail", "enrol", "new", address, "--key", "p256", "--agree-terms",
            "--ca-fingerprint", place.fingerprint,
        ]  # fmt: skip

    total = count_effects(argv(first), env=env)
    kills = 0
    for k in kill_points(total, POINTS):
        shutil.rmtree(home)
        address = mail.new_mailbox("killed")
        place.home(tmp_path, address)
        issued = place.server.issued
        # how many pieces an answer comes in differs a little, and so does the last effect
        kills += run_killed_at(argv(address), k, env=env).returncode == KILLED
        again = medmail(home, *argv(address)[1:], "--json")
        if again.exit:  # the challenge of an order whose URL was lost lies beside that of the next
            assert again.objects[-1]["code"] == "challenge-not-genuine", (k, again.stderr)
            again = medmail(home, *argv(address)[1:], "--json")
        assert again.exit == 0, (k, again.stderr)
        assert [one.state for one in Keystore(home / "keystore").identities()] == ["active"], k
        assert place.server.issued == issued + 1, k
        # where a kill leaves unknown whether the server had it, the same answer goes again
        ours = [raw for raw in mail.messages(SENDER) if address.encode() in raw]
        ids = {email.message_from_bytes(raw)["Message-ID"] for raw in ours}
        assert len(ids) == 1, k
        verified = medmail(home, "audit", "verify", "--json")
        assert verified.exit == 0, (k, verified.stderr)
    assert kills >= POINTS - 2


# --- a roster, through the mailbox that gets everybody's challenge mails -----------------------------------


@pytest.fixture
def office(place: Place, address: str, tmp_path: Path) -> Iterator[Path]:
    """The home of somebody who enrols everybody of the domain."""
    place.server.catch_all = address
    yield place.home(tmp_path, address, **{"challenge-account": "work"})
    place.server.catch_all = ""


def people(place: Place, count: int) -> list[str]:
    return [place.server.mail.new_mailbox("person") for _ in range(count)]


def batch(place: Place, home: Path, addresses: list[str]) -> tuple[str, ...]:
    path = roster(home.parent / "roster.csv", [person(n, address=a) for n, a in enumerate(addresses)])
    words = ("enrol", "batch", str(path), "--key", "p256", "--out-dir", str(home.parent / "out"))
    return (*words, "--jobs", "4", "--ca-fingerprint", place.fingerprint, "--agree-terms", "--json")


def test_a_roster_by_acme_needs_a_mailbox_that_gets_everybodys_mails(
    place: Place, office: Path, tmp_path: Path
) -> None:
    addresses = people(place, 12)
    argv = batch(place, office, addresses)
    refused = medmail(office, *(word for word in argv if word != "--agree-terms"))
    assert (refused.exit, refused.objects[-1]["code"]) == (2, "needs-confirmation")
    issued = place.server.issued
    done = medmail(office, *argv)
    assert (done.exit, done.objects[-1]["counts"]) == (0, {"enrolment": 12, "enrolled": 12}), done.stdout
    assert place.server.issued == issued + 12
    again = medmail(office, *argv)
    assert (again.exit, again.objects[-1]["counts"]) == (0, {"enrolment": 12, "unchanged": 12})
    assert place.server.issued == issued + 12
    assert [answers(place, one) for one in addresses] == [1] * 12
    # else the authority would have hidden answers from itself, and refused whose they are now and then
    assert set(place.server.mail.flags(SENDER)) == {""}
    # what a person takes away stands alone: it signs what it opens and believes
    theirs = tmp_path / "out" / addresses[0]
    (tmp_path / "out" / f"{addresses[0]}.passphrase").write_bytes(
        (tmp_path / "out" / f"{addresses[0]}.password").read_bytes()
    )
    words = ("send", "--to", addresses[0], "--subject", "x", "-o", tmp_path / "l.eml", "-")
    assert medmail(theirs, *words, stdin=b"me\n").exit == 0
    opened = medmail(theirs, "decrypt", "--offline", tmp_path / "l.eml", "--json")
    assert (opened.exit, opened.objects[0]["text"]) == (0, "me\n")
    config = (office / "config.toml").read_text()
    (office / "config.toml").write_text(config.replace('challenge-account = "work"\n', ""))
    assert medmail(office, *argv).exit == 2


def test_a_roster_by_acme_that_is_killed_again_and_again(place: Place, office: Path) -> None:
    addresses = people(place, 24)
    argv = batch(place, office, addresses)
    issued = place.server.issued
    randomly = random.Random(7)
    kills = 0
    for _ in range(8):
        with subprocess.Popen(
            [MEDMAIL, *argv], env=environment(office), stdout=subprocess.DEVNULL
        ) as running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(randomly.uniform(0.8, 3.0))
            running.kill()
            kills += running.wait() == -signal.SIGKILL
    assert kills >= 3
    for _ in range(3):  # an order that a kill took from us may have left a challenge beside the next one's
        done = medmail(office, *argv)
        if done.exit == 0:
            break
        failed = {one["code"] for one in done.objects if one["type"] == "enrolment" and one["code"]}
        assert failed == {"challenge-not-genuine"}, done.stderr
    assert done.exit == 0, done.stdout
    held = {one["address"]: one for one in done.objects if one["type"] == "enrolment"}
    assert set(held) == set(addresses)
    assert {one["status"] for one in held.values()} <= {"enrolled", "unchanged"}
    assert place.server.issued == issued + len(addresses)
    assert medmail(office, "audit", "verify", "--json").exit == 0
