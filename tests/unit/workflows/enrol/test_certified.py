"""Whom a certificate speaks for, what it serves for, and which identities are about to end."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.errors import MedmailError
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.unlocked import Unlocked
from medmail_cli.workflows.enrol.certified import covers, serves_for, speaks_for, warnings, whom
from medmail_cli.workflows.enrol.status import status
from tests.support.homes import keystore
from tests.support.letters import NOW, Person, person

NO_USE = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
DAY = dt.timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Unlocked:
    return keystore(tmp_path / "home")


def identity(store: Unlocked, who: Person, address: str | None = None) -> Identity:
    """What the keystore makes of somebody's certificate."""
    bears, pinned = whom(who.certificate, address)
    purpose = serves_for(who.certificate)
    return store.add(
        who.raw_key, who.certificate, (), addresses=bears, pinned=pinned, name="", purpose=purpose,
        method="imported", now=NOW,
    )  # fmt: skip


def test_a_certificate_speaks_for_the_addresses_it_bears_and_for_one_it_is_pinned_to() -> None:
    bob, nobody = person("bob").certificate, person("nobody", address=None).certificate
    assert whom(bob, None) == (("bob@medecin.test",), False)
    assert whom(bob, "BOB@medecin.test") == (("bob@medecin.test",), False)
    assert whom(bob, "office@medecin.test") == (("office@medecin.test", "bob@medecin.test"), True)
    assert whom(nobody, "bob@medecin.test") == (("bob@medecin.test",), True)
    with pytest.raises(MedmailError) as caught:
        whom(nobody, None)
    assert caught.value.code == "needs-address"


@pytest.mark.parametrize("serves", ["sign", "encrypt", "both"])
def test_what_a_certificate_serves_for(serves: str) -> None:
    assert serves_for(person("bob", purpose=serves).certificate) == serves


def test_a_certificate_that_serves_nothing_here_is_no_identity() -> None:
    usage = dict.fromkeys(NO_USE, False) | {"crl_sign": True}
    signs_lists = ((x509.KeyUsage(**usage), True),)
    with pytest.raises(MedmailError) as caught:
        serves_for(person("bob", purpose="none", extensions=signs_lists).certificate)
    assert caught.value.code == "wrong-key-usage"


def test_one_identity_covers_another_where_it_does_all_its_work(store: Unlocked) -> None:
    both = identity(store, person("bob"))
    signs = identity(store, person("bob", purpose="sign"))
    office = identity(store, person("bob", key_type="rsa2048"), "office@medecin.test")
    carol = identity(store, person("carol"))
    assert covers(both, signs)
    assert not covers(signs, both)
    assert covers(office, both)
    assert not covers(both, office)
    assert not covers(carol, both)
    assert speaks_for(office, "Office@medecin.test")
    assert not speaks_for(office, "carol@medecin.test")


def test_what_troubles_those_it_writes_to_is_told(store: Unlocked) -> None:
    past = identity(store, person("bob", not_after=NOW - DAY), "office@medecin.test")
    assert [note.code for note in warnings(past, NOW)] == ["identity-expired", "address-pinned"]
    future = identity(store, person("carol", not_before=NOW + DAY, purpose="sign"))
    assert [note.code for note in warnings(future, NOW, "both")] == ["identity-not-yet-valid", "signs-only"]
    assert list(warnings(identity(store, person("dan")), NOW, "both")) == []


def test_what_a_later_identity_does_is_not_told_of_as_ending(store: Unlocked) -> None:
    identity(store, person("bob", not_after=NOW + 5 * DAY))
    assert [
        (expiry.status, expiry.days_left) for expiry in status(store.keystore, now=NOW, within=30 * DAY)
    ] == [("expires-soon", 5)]
    identity(store, person("bob", key_type="rsa2048", not_after=NOW + 400 * DAY))
    identity(store, person("carol", not_after=NOW - 2 * DAY))
    told = [(expiry.address, expiry.status) for expiry in status(store.keystore, now=NOW, within=30 * DAY)]
    assert told == [("carol@medecin.test", "expired"), ("bob@medecin.test", "valid")]
