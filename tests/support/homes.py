"""A person's medmail home on disk: keystore and trust, ready for the real command."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.seal import Cost
from medmail_cli.store.keys.unlocked import Unlocked, create_keystore, unlock
from medmail_cli.store.log.run import RunContext
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.store.trust.believed import SEAL_LABEL, Believed
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.audited import logged
from tests.support.cli import PASSPHRASE, passphrase
from tests.support.letters import NOW, Person, authority

CHEAP = Cost(memory=64, passes=1, lanes=1)
"""Key derivation that takes no time; what it protects here is nobody's."""


def keystore(home: Path) -> Unlocked:
    """Give a home an empty keystore, under the passphrase beside it."""
    passphrase(home)
    return create_keystore(Keystore(home / "keystore", CHEAP), PASSPHRASE.encode(), NOW)


def make_home(folder: Path, *people: Person, roots: tuple[str, ...] = ("Health Root",)) -> Path:
    """A home in ``folder`` that holds these people's keys and trusts these roots."""
    home = folder / "home"
    unlocked = keystore(home)
    for person in people:
        unlocked.add(
            person.raw_key,
            person.certificate,
            addresses=[person.address],
            purpose="both",
            method="import",
            now=NOW,
            name=person.address,
        )
    trusting(home, *(authority(root).certificate for root in roots))
    return home


def trusting(home: Path, *roots: x509.Certificate) -> None:
    """Let a home trust these roots, as the log then says."""
    trust = Trust(home / "trust", home / "cache")
    with AuditLog(home / "audit", lambda: NOW) as log:
        for root in roots:
            with logged(RunContext(log, "a test", NOW), "trust-add", (fingerprint(root),), kind="anchor"):
                trust.add(root.public_bytes(Encoding.PEM), "root")


def sealing(home: Path) -> None:
    """Let the keystore seal whom the home trusts, as it is when it is first opened."""
    store = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    believed = Believed(AuditLog(home / "audit", lambda: NOW), home / "cache")
    believed.seal(home / "keystore", store.subkey(SEAL_LABEL))


def knowing(home: Path, address: str, *certificates: x509.Certificate) -> None:
    """Let a home know somebody's certificates, as the log then says."""
    objects = [fingerprint(one) for one in certificates]
    with (
        AuditLog(home / "audit", lambda: NOW) as log,
        logged(RunContext(log, "a test", NOW), "contact-add", objects, address=address),
    ):
        Contacts(home / "contacts").add(address, certificates, now=NOW)


def by_cmp(home: Path, operator: Operator) -> None:
    """Let a home ask by CMP, under the password as shared secret."""
    text = (home / "config.toml").read_text()
    text = text.replace(operator.est_url, operator.cmp_url).replace('method = "est"', 'method = "cmp"')
    (home / "config.toml").write_text(text)
