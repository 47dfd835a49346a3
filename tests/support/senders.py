"""Somebody with an account at the test operator's, keys, trust and contacts: ready to send."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmail_cli.smime.open import Opened, open_message
from medmail_cli.smime.policy import Policy
from tests.support import letters
from tests.support.cli import Done, medmail
from tests.support.homes import knowing, make_home
from tests.support.letters import Person
from tests.support.servers import MailServers


@dataclass(frozen=True)
class Sender:
    """A home whose account ``work`` is at the operator's; ``run`` gives it the command line."""

    home: Path
    person: Person

    def run(self, *argv: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        return medmail(self.home, *argv, stdin=stdin, env=env)

    def send(self, *argv: str | Path, stdin: bytes = b"") -> Done:
        return self.run("send", "--json", *argv, stdin=stdin)

    def knows(self, *people: Person) -> None:
        """Put them into the contacts."""
        for one in people:
            knowing(self.home, one.address, one.certificate)


def somebody(servers: MailServers, name: str, **options: Any) -> Person:
    """A person with a mailbox of their own at the operator's."""
    return letters.person(name, address=servers.new_mailbox(name), **options)


def sender(
    servers: MailServers,
    folder: Path,
    *known: Person,
    name: str = "alice",
    implicit: bool = False,
    **account: object,
) -> Sender:
    """A new sender who knows these people."""
    person = somebody(servers, name)
    folder.mkdir(exist_ok=True)
    home = make_home(folder, person)
    servers.write_config(
        home,
        person.address,
        implicit=implicit,
        **{key.replace("_", "-"): value for key, value in account.items()},
    )
    made = Sender(home, person)
    made.knows(*known)
    return made


def opened_by(person: Person, raw: bytes) -> Opened:
    """What a person makes of a message that came for them."""
    return open_message(
        raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        id="0" * 64,
        source="test",
        keys=[(person.certificate, person.key)],
        own_addresses=[person.address],
        judge=letters.judge,
        at=dt.datetime.now(dt.UTC),
        policy=Policy(),
    )


def recipients(done: Done) -> dict[str, dict[str, Any]]:
    """The recipient objects of a run, by address."""
    return {one["address"]: one for one in done.objects if one["type"] == "recipient"}
