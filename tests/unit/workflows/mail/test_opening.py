"""Reading: what a trusted letter teaches of its signer."""

from pathlib import Path

from medmail_cli.cms import signed
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.profile import Profile
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.mail.opening import MessageOpener
from medmail_cli.workflows.trust.validator import Validator
from tests.support import pki
from tests.support.letters import NOW, OUTER, TEXT, authority, encrypt, entity, person

ALICE = "alice@medecin.test"


def test_a_certificate_that_another_key_signed_waits_whatever_it_says_of_its_issuer(tmp_path: Path) -> None:
    """Both authorities are trusted, have one name, and the second claims the key identifier of the first."""
    order, bob = authority("Health Root"), person("bob")
    other = pki.make_ca("Health Root", key_identifier_of=order)
    claimed = pki.Authority(order.certificate, other.key, other.chain)
    impostor, key = pki.issue(claimed, ALICE, key_type="p256")
    contacts, profile = Contacts(tmp_path / "contacts"), Profile()
    contacts.add(ALICE, [person("alice").certificate], now=NOW)
    trusted = Authorities([order.certificate, other.certificate])
    opener = MessageOpener(
        [(bob.certificate, bob.key)], [bob.address], Validator(trusted, profile), contacts, profile, NOW
    )

    def learned(raw: bytes) -> list[int]:
        opened = opener.open(raw, id="0" * 64, source="test")
        assert opened.verdict.trusted, opened.verdict.problems
        opener.learn(opened)
        contact = contacts.lookup(ALICE)
        assert contact is not None
        return [len(contact.certificates), len(contact.waiting)]

    data = signed.sign(TEXT, key=SoftwareKey(key), certificate=impostor, signed_at=NOW, detached=False)
    assert learned(OUTER + encrypt(entity(data, "signed-data"))) == [1, 1]
    contact = contacts.lookup(ALICE)
    assert contact is not None
    assert [known.certificate for known in contact.waiting] == [impostor]
