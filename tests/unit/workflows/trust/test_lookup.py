"""Which certificate a recipient is written to by, whatever directories there are."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from medmail_cli.pki.path.validation import Authorities
from medmail_cli.profile import Profile
from medmail_cli.smime.fields import Mailbox
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.trust.lookup import (
    Addressee,
    Directory,
    KnownContacts,
    Listing,
    OwnAddresses,
    RecipientResolver,
)
from medmail_cli.workflows.trust.validator import Validator
from tests.support.letters import NOW, Person, authority, person


@dataclass
class Hospital:
    """A directory of another kind: it lists what it was given, and remembers whom it was asked for."""

    listed: dict[str, Listing]
    asked: list[str] = field(default_factory=list)

    def listing(self, address: str, at: dt.datetime) -> Listing | None:
        assert at == NOW
        self.asked.append(address)
        return self.listed.get(address)


def listing(*people: Person) -> Listing:
    return Listing(tuple(one.certificate for one in people), ((),) * len(people))


def looked_up(who: Person, *directories: Directory, post_quantum: bool = False) -> Addressee:
    profile = Profile()
    validator = Validator(Authorities([authority("Health Root").certificate]), profile)
    resolver = RecipientResolver(directories, validator, profile, NOW, post_quantum)
    # the name that stands beside an address is nothing to go by
    assert resolver.find(Mailbox(who.address, "Somebody else")) == resolver.find(who.box)
    return resolver.find(who.box)


@pytest.fixture
def contacts(tmp_path: Path) -> KnownContacts:
    return KnownContacts(Contacts(tmp_path))


def test_the_first_directory_that_knows_an_address_counts(contacts: KnownContacts) -> None:
    bob, renewed = person("bob"), person("bob", key_type="rsa2048")
    hospital = Hospital({bob.address: listing(renewed)})
    found = looked_up(bob, contacts, hospital)
    assert (found.certificate, found.contact) == (renewed.certificate, None)
    assert hospital.asked == [bob.address]  # once, however often the address is written to
    contacts.contacts.add(bob.address, [bob.certificate], now=NOW)
    found = looked_up(bob, contacts, hospital)
    assert found.certificate == bob.certificate
    assert found.contact is not None
    assert hospital.asked == [bob.address]


@pytest.mark.parametrize(
    ("stranger", "reason"),
    [
        (person("bob", root="Strange Root"), "untrusted-issuer"),
        (person("bob", not_after=NOW - dt.timedelta(days=1)), "expired"),
        (person("bob", purpose="sign"), "wrong-key-usage"),
    ],
)
def test_what_a_directory_lists_is_judged_before_it_is_used(stranger: Person, reason: str) -> None:
    found = looked_up(stranger, Hospital({stranger.address: listing(stranger)}))
    assert (found.certificate, found.reason) == (None, reason)
    bob = person("bob")
    assert looked_up(bob, Hospital({bob.address: listing(stranger, bob)})).certificate == bob.certificate


def test_who_is_in_no_directory_is_unknown_and_who_has_nothing_of_use_is_not(contacts: KnownContacts) -> None:
    bob = person("bob")
    nobody = OwnAddresses([])
    assert looked_up(bob, contacts, nobody, Hospital({})) == Addressee(bob.address, None, reason="unknown")
    hospital = Hospital({bob.address: Listing(reason="waiting")})
    assert looked_up(bob, hospital, Hospital({bob.address: listing(bob)})).reason == "waiting"
    assert (
        looked_up(bob, Hospital({bob.address: listing(bob)}), post_quantum=True).reason == "not-post-quantum"
    )


def test_of_ones_own_certificates_what_is_on_disk_decides() -> None:
    mine = person("bob", root="Root that nobody trusts")
    assert looked_up(mine, OwnAddresses([(mine.address, mine.certificate)])).certificate == mine.certificate
    past = person("bob", not_after=NOW - dt.timedelta(days=1))
    assert looked_up(past, OwnAddresses([(past.address, past.certificate)])).reason == "expired"
