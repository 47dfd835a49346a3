"""Every example of the help is typed, as two physicians and a registrar would in the course of a year."""

import datetime as dt
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect
import pytest

from medmail_cli.app import command_tree
from medmail_cli.store.trust.contacts import Contacts
from tests.support import pki, tokens
from tests.support.cli import MEDMAIL, Done, medmail, passphrase
from tests.support.letters import person
from tests.support.rosters import environment, roster
from tests.support.rosters import person as on_roster
from tests.support.sandbox import BERNARD, MARTIN, Sandbox, sandbox
from tests.support.tokens import PIN, SOFTHSM

REGISTRAR = "registrar@medecin.test"
EDITOR = "import sys; open(sys.argv[1], 'a').write('Subject: Mme Dupont\\n\\nBonjour\\n')"


def examples() -> list[str]:
    """Every line at the end of a command's help; each command has one, and shows itself."""

    def walk(command: object, words: str) -> Iterator[str]:
        children = getattr(command, "commands", {})
        for name, child in children.items():
            yield from walk(child, f"{words} {name}")
        if not children:
            _heading, *lines = str(getattr(command, "epilog", "")).split("\n")
            assert lines, words
            assert all(line.startswith(words) for line in lines), words
            yield from lines

    return list(walk(command_tree(), "medmail"))


@dataclass
class Day:
    """A folder that somebody works in, with a home beside; ``typed`` is shared and holds what was typed."""

    folder: Path
    home: Path
    typed: set[str]
    env: dict[str, str] = field(default_factory=dict)

    def type(self, line: str, real: Mapping[str, str] = {}) -> None:
        """Run an example's line; ``real`` puts what is true here in the place of what it shows."""
        self.typed.add(line)
        for shown, true in real.items():
            assert shown in line, line
            line = line.replace(shown, true)
        shell = ["sh", "-e", "-c", line]
        done = subprocess.run(
            shell, cwd=self.folder, env=self._around(), capture_output=True, timeout=120, check=False
        )
        said = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert (said.exit, said.stderr) == (0, ""), (line, said)

    def at_the_terminal(self, line: str, real: Mapping[str, str] = {}, *, asked: bool = False) -> None:
        """The same where a person is there: who writes the letter in an editor, and says yes if ``asked``."""
        self.typed.add(line)
        for shown, true in real.items():
            line = line.replace(shown, true)
        around = self._around() | {"EDITOR": shlex.join([sys.executable, "-c", EDITOR]), "TERM": "dumb"}
        child = pexpect.spawn(
            "sh", ["-c", line], cwd=str(self.folder), env=around, encoding="utf-8", timeout=60
        )
        if asked:
            child.expect(re.escape("[y/N]"))
            child.sendline("y")
        said = child.read()
        child.close()
        assert child.exitstatus == 0, (line, said)

    def _around(self) -> dict[str, str]:
        path = f"{Path(MEDMAIL).parent}{os.pathsep}{os.environ['PATH']}"
        return environment(self.home) | {"LC_ALL": "C.UTF-8", "PATH": path} | self.env

    def told(self, kind: str, *argv: str) -> list[dict[str, Any]]:
        """The objects of a kind that a command tells."""
        return [one for one in medmail(self.home, *argv, "--json").objects if one["type"] == kind]

    def keep(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def typed() -> set[str]:
    # the fixture `running` starts one like it, and test_demo.py the other
    return {
        "medmail sandbox --mailbox dr.martin@medecin.test --mailbox dr.bernard@medecin.test",
        "medmail demo --dir tour",
    }


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with sandbox("--mailbox", MARTIN, "--mailbox", BERNARD, "--mailbox", REGISTRAR) as started:
        yield started


def day(running: Sandbox, folder: Path, typed: set[str], address: str) -> Day:
    own = folder / address
    own.mkdir()
    home = running.home(address)
    passphrase(home)
    shutil.copy(Path(running.ready["folder"]) / "order-ca.pem", own / "order-root.pem")
    return Day(own, home, typed)


def test_every_example_does_what_it_says(running: Sandbox, typed: set[str], tmp_path: Path) -> None:
    martin = day(running, tmp_path, typed, MARTIN)
    bernard = day(running, tmp_path, typed, BERNARD)

    # before anything
    stranger = Day(tmp_path, tmp_path / "stranger", typed)
    stranger.type("medmail config init --address dr.martin@medecin.test --server mail.medecin.test")
    stranger.type("medmail config path")
    martin.type("medmail config show --json")
    for line in ("medmail schema decrypt", "medmail schema enrol import", "medmail schema --errors"):
        martin.type(line)

    # the first day
    for who, address in ((martin, MARTIN), (bernard, BERNARD)):
        who.type("medmail trust add order-root.pem")
        passphrase(who.home.with_name("backup"))
        backup = {"MEDMAIL_BACKUP_PASSPHRASE_FILE": str(who.home.with_name("backup.passphrase"))}
        who.env |= backup
        if who is martin:
            who.type("medmail enrol new dr.martin@medecin.test --method csr -o martin.csr")
            assert (who.folder / "martin.csr").read_bytes().startswith(b"-----BEGIN CERTIFICATE REQUEST")
            who.type("medmail enrol new dr.martin@medecin.test --ca order")
        else:
            assert medmail(who.home, "enrol", "new", address, "--ca", "order", env=backup).exit == 0
    martin.type("medmail server check --account work")
    martin.type("medmail enrol status --fail-within 30d")
    martin.type("medmail trust list --json")
    martin.type("medmail trust update")
    martin.type("medmail keys list")
    martin.type("medmail keys show dr.martin@medecin.test")
    martin.type("medmail keys export dr.martin@medecin.test -o martin.pem")
    secret = martin.folder / "password.txt"
    secret.write_text("a password for the file\n")
    martin.env["MEDMAIL_P12_PASSWORD_FILE"] = str(secret)
    martin.type("medmail keys export dr.martin@medecin.test --private --format p12 -o martin.p12")

    # they get to know each other, and write
    martin.type("medmail contacts invite dr.bernard@medecin.test")
    bernard.type("medmail fetch --all-folders && medmail inbox --unopened")
    bernard.type("medmail decrypt --unopened --json")
    bernard.type("medmail contacts find martin")
    bernard.type("medmail contacts list --json")
    bernard.type("medmail contacts list --format csv")
    shutil.copy(martin.folder / "martin.pem", bernard.folder / "dr-martin.pem")
    bernard.type("medmail contacts add dr-martin.pem --address dr.martin@medecin.test")
    bernard.type("medmail contacts set dr.martin@medecin.test --reads legacy")
    one = bernard.told("message", "inbox")[0]["id"]
    bernard.type("medmail contacts remove dr.martin@medecin.test")
    bernard.type("medmail decrypt 3fa9c1", {"3fa9c1": one[:8]})
    bernard.at_the_terminal("medmail reply 3fa9c1", {"3fa9c1": one[:8]})
    bernard.keep("answer.txt", b"Oui.\n")
    bernard.type("medmail reply 3fa9c1 --all answer.txt", {"3fa9c1": one[:8]})
    medmail(martin.home, "fetch")
    assert medmail(martin.home, "decrypt", "--unopened").exit == 0
    martin.keep("letter.txt", b"Subject: Mme Dupont\n\nBonjour\n")
    martin.keep("report.pdf", b"%PDF-1.7\n")
    martin.type("medmail send --to dr.bernard@medecin.test --attach report.pdf letter.txt")
    martin.at_the_terminal("medmail send --to dr.bernard@medecin.test")
    row = {"id": "1", "to": ["dr.bernard@medecin.test"], "subject": "Mme Dupont", "body": "Bonjour\n"}
    martin.keep("results.jsonl", json.dumps(row).encode() + b"\n")
    martin.type("medmail send --batch results.jsonl --json")
    # what is to be read, and what waits
    bernard.type("medmail inbox dupont --since 2026-11-01 --unopened")
    medmail(bernard.home, "fetch")
    newest = bernard.told("message", "inbox")[0]["id"]
    path = next((bernard.home / "mail").rglob(f"*{newest[:16]}*"))
    shutil.copy(path, bernard.folder / "letter.eml")
    bernard.type("medmail decrypt letter.eml --out-dir results")
    assert list((bernard.folder / "results").rglob("*"))
    bernard.type("medmail keys unlock --for 1h")
    bernard.type("medmail keys lock")
    martin.type("medmail outbox list")
    martin.type("medmail outbox flush")
    martin.type("medmail outbox flush --due -q")
    medmail(martin.home, "send", "--queue", "--to", BERNARD, "--subject", "x", "-", stdin=b"Bonjour\n")
    (waiting,) = [one for one in medmail(martin.home, "outbox", "list", "--json").objects if "id" in one]
    martin.at_the_terminal("medmail outbox drop 3fa9c1", {"3fa9c1": waiting["id"][:8]}, asked=True)

    # what was done can be shown
    (martin.folder / "archive").mkdir()
    martin.type("medmail audit log --since 2026-01-01 --action send --last 20")
    martin.type("medmail audit checkpoint -o archive/2026-01.checkpoint")
    martin.type("medmail audit verify --checkpoint archive/2026-01.checkpoint")
    martin.type("medmail audit prove 41 -o entry-41.tlog-proof", {"41": "12"})
    martin.type("medmail audit export -o audit.jsonl")

    # a year later; the authority takes revocations by CMP only
    config = martin.home / "config.toml"
    text = config.read_text().replace("/.well-known/est", "/.well-known/cmp")
    config.write_text(text.replace('method = "est"', 'method = "cmp"'))
    martin.type("medmail enrol renew dr.martin@medecin.test")
    martin.type("medmail enrol renew --all --within 30d")
    martin.type("medmail keys rewrap")
    newest = martin.told("identity", "keys", "list")[-1]
    martin.type("medmail keys rewrap --to 3f9ac1d2 --dry-run", {"3f9ac1d2": newest["sha256"][:8]})
    elsewhere = pki.issue(pki.make_ca("Another Root"), MARTIN, key_type="p256")[0]
    Contacts(bernard.home / "contacts").learn(MARTIN, [elsewhere], now=dt.datetime.now(dt.UTC))
    bernard.type("medmail contacts accept dr.martin@medecin.test")
    martin.at_the_terminal("medmail enrol revoke dr.martin@medecin.test --reason keyCompromise", asked=True)
    martin.type("medmail keys backup -o keystore.medmail")
    new = Day(martin.folder, tmp_path / "new" / "home", typed, martin.env)
    new.home.parent.mkdir()
    passphrase(new.home)
    new.type("medmail keys restore keystore.medmail")
    new.type("medmail enrol import martin.p12 --p12-password-file password.txt")
    first = new.told("identity", "keys", "list")[0]
    new.at_the_terminal("medmail keys delete 3f9ac1d2", {"3f9ac1d2": first["sha256"][:8]}, asked=True)
    new.keep("new.txt", b"another passphrase\n")
    new.type("medmail keys passwd --new-passphrase-file new.txt")
    root = martin.told("trust", "trust", "list")[0]
    martin.type("medmail trust remove 3f9ac1d2", {"3f9ac1d2": root["sha256"][:8]})

    # at the registrar's
    office = day(running, tmp_path, typed, REGISTRAR)
    roster(office.folder / "roster.csv", [on_roster(n, group="pilot" if n < 2 else "") for n in range(4)])
    office.type("medmail enrol batch roster.csv --dry-run")
    office.type("medmail enrol batch roster.csv --only group=pilot --letters letters --report pilot.jsonl")
    office.type("medmail enrol batch roster.csv --shard 0/2 --report 0.jsonl")
    other = office.folder / "1.jsonl"
    words = ("--shard", "1/2", "--report", other, "--out-dir", office.folder / "enrolled")
    assert medmail(office.home, "enrol", "batch", office.folder / "roster.csv", *words).exit == 0
    office.type("medmail enrol merge 0.jsonl 1.jsonl -o all.jsonl")

    # with a card
    reader = tokens.reader(tmp_path / "reader")
    holder = person("dr.martin", key_type="p256")
    reader.insert().put_pair(holder.certificate, holder.raw_key)
    for line in (
        "medmail enrol card",
        "medmail enrol card --token CPS --address dr.martin@medecin.test",
        "medmail enrol card --module /usr/lib/libcps3_pkcs11_lux.so --pin-file pin.txt",
    ):
        (tmp_path / "card").mkdir(exist_ok=True)
        desk = Day(tmp_path / "card", tmp_path / "card" / str(len(typed)), typed, reader.env)
        passphrase(desk.home)
        desk.keep("pin.txt", PIN.encode() + b"\n")
        if "--pin-file" not in line:
            desk.env = desk.env | {"MEDMAIL_PIN_FILE": str(desk.folder / "pin.txt")}
        desk.type(line, {"/usr/lib/libcps3_pkcs11_lux.so": str(SOFTHSM)} if "--module" in line else {})

    assert typed == set(examples())
