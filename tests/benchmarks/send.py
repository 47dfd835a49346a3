"""Sending 500 letters to Postfix, signed and encrypted here, against msmtp once a message with ready ones.

Both submit over STARTTLS with AUTH PLAIN to the same server; ours makes the letters, enters them into the
outbox, logs every recipient twice and keeps every copy, all of it fsynced. Argon2id runs as in real life.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from medmail_cli.smime.protect import protect
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from tests.benchmarks import _measure
from tests.support import letters, senders, servers
from tests.support.cli import PASSPHRASE
from tests.support.letters import Person, letter

LETTERS = 500
TEXT = "Chère consœur,\n\n" + "Glycémie à jeun 5,1 mmol/l ; créatinine 68 µmol/l.\n" * 250
ROUNDS = 3


def main() -> None:
    """Run both in turn and print the medians and their ratio."""
    running = servers.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _compare(running, Path(folder))
    finally:
        running.stop()


def _compare(running: servers.MailServers, folder: Path) -> None:
    bob = senders.somebody(running, "bob")
    alice = senders.sender(running, folder, bob, auth="plain")
    # the real price of a passphrase, not the tests'
    unlock(Keystore(alice.home / "keystore"), PASSPHRASE.encode()).change_passphrase(PASSPHRASE.encode())
    ready = _ready(alice.person, bob)
    configuration = folder / "msmtprc"
    configuration.write_text(
        f"account default\nhost {servers.HOST}\nport {running.submission_port}\nfrom {alice.person.address}\n"
        f"auth plain\nuser {alice.person.address}\npassword {running.password(alice.person.address)}\n"
        f"tls on\ntls_starttls on\ntls_trust_file {running.anchors}\n"
    )
    configuration.chmod(0o600)
    rounds = iter(range(ROUNDS + 1))

    def ours() -> None:
        number = next(rounds)
        manifest = folder / f"{number}.jsonl"
        rows = [
            {"id": f"{number}-{i}", "to": bob.address, "subject": f"Résultat {i}", "body": TEXT}
            for i in range(LETTERS)
        ]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = alice.send("--batch", manifest)
        assert done.exit == 0, done.stdout[-500:]

    def msmtp() -> None:
        command = ["msmtp", "-C", str(configuration), bob.address]
        for message in ready:
            subprocess.run(command, input=message, check=True)

    pairs = []
    for _ in range(ROUNDS):
        mine = _measure.seconds(ours)
        _settle(running)
        pairs.append((mine, _measure.seconds(msmtp)))
        _settle(running)
    mine, theirs = (sorted(times)[ROUNDS // 2] for times in zip(*pairs, strict=True))
    _measure.report(f"send {LETTERS} letters of 20 kB, msmtp", mine, theirs, 1 / 8)
    print(f"{'':<58} {theirs / mine:.1f} times as fast (at least 8, aim 15)")


def _ready(alice: Person, bob: Person) -> list[bytes]:
    made = []
    for i in range(LETTERS):
        one = letter(from_=alice.box, to=(bob.box,), body=TEXT, message_id=f"<{i}@hosp.test>")
        recipients = {bob.address: bob.certificate}
        made.append(
            protect(one, signer=alice.signer, recipients=recipients, signed_at=letters.NOW)[0].message
        )
    return made


def _settle(running: servers.MailServers) -> None:
    """Let Postfix deliver what it has, so that neither side pays for the other's mail."""
    queue = running.folder / "postfix-queue"
    servers.until(
        lambda: not any(p.is_file() for name in ("incoming", "active") for p in (queue / name).rglob("*")),
        "Postfix to deliver",
        60,
    )
    time.sleep(0.5)


if __name__ == "__main__":
    main()
