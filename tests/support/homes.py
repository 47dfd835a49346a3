"""A person's medmail home on disk: keystore and trust, ready for the real command."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keystore import Keystore
from medmail_cli.store.seal import Cost
from medmail_cli.store.trust import Trust
from tests.support.cli import PASSPHRASE, passphrase
from tests.support.letters import NOW, Person, authority

CHEAP = Cost(memory=64, passes=1, lanes=1)
"""Key derivation that takes no time; what it protects here is nobody's."""


def make_home(folder: Path, *people: Person, roots: tuple[str, ...] = ("Health Root",)) -> Path:
    """A home in ``folder`` that holds these people's keys and trusts these roots."""
    home = folder / "home"
    passphrase(home)
    unlocked = Keystore(home / "keystore", CHEAP).create(PASSPHRASE.encode(), NOW)
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
    trust = Trust(home / "trust", home / "cache")
    for root in roots:
        trust.add(authority(root).certificate.public_bytes(Encoding.PEM), root)
    return home


def by_cmp(home: Path, operator: Operator) -> None:
    """Let a home ask by CMP, under the password as shared secret."""
    text = (home / "config.toml").read_text()
    text = text.replace(operator.est_url, operator.cmp_url).replace('method = "est"', 'method = "cmp"')
    (home / "config.toml").write_text(text)
