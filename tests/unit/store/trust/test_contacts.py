"""Contacts: what is learned, what waits, and which certificate a letter is encrypted to."""

import datetime as dt
import multiprocessing
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.cms import ber, identifiers
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.store.trust.contacts import Contacts, SignedBy
from tests.support import pki

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
CA, RIVAL = pki.make_ca("Order"), pki.make_ca("Rival")
KEY = pki.make_key("p256")


def certificate(
    address: str | None = "dr.b@x.test", ca: pki.Authority = CA, purpose: pki.Purpose = "both", since: int = 0
) -> x509.Certificate:
    return pki.issue(ca, address, purpose, key=KEY, not_before=pki.EPOCH + since * DAY)[0]


def signer(*cas: pki.Authority) -> SignedBy:
    """Finds the key that signed, where these authorities' certificates are at hand."""
    authorities = Authorities([ca.certificate for ca in cas])
    return lambda one: authorities.judge(one, at=NOW).signed_by


@pytest.fixture
def contacts(tmp_path: Path) -> Contacts:
    return Contacts(tmp_path / "contacts")


def test_exact_address_first_then_caseless_if_unique(contacts: Contacts) -> None:
    contacts.add("Dr.B@x.test", [certificate()], now=NOW)
    assert contacts.lookup("dr.b@X.TEST")
    contacts.add("dr.b@x.test", [certificate(since=1)], now=NOW)
    found = contacts.lookup("Dr.B@x.test")
    assert found is not None
    assert found.address == "Dr.B@x.test"
    assert contacts.lookup("DR.B@x.test") is None
    assert contacts.lookup("other@x.test") is None


def test_a_domain_in_either_spelling(contacts: Contacts) -> None:
    contacts.add("a@médecin.test", [certificate(None)], now=NOW)
    assert contacts.lookup("a@xn--mdecin-bva.test")


def test_pinned_where_the_address_is_not_borne(contacts: Contacts) -> None:
    contact = contacts.add("a@x.test", [certificate(None), certificate("a@x.test")], now=NOW)
    assert {known.origin for known in contact.certificates} == {"added", "pinned"}
    assert contact.encryption(NOW)[0].origin == "pinned"


def test_encryption_takes_the_newest_that_fits(contacts: Contacts) -> None:
    expired = pki.issue(CA, "dr.b@x.test", key=KEY, not_after=NOW - DAY)[0]
    future = certificate(since=400)
    signing = certificate(purpose="sign", since=30)
    old, new = certificate(since=1), certificate(since=2)
    contact = contacts.add("dr.b@x.test", [new, expired, future, signing, old], now=NOW)
    assert [known.certificate for known in contact.encryption(NOW)] == [new, old]


def test_what_its_holder_prefers_comes_before_what_was_issued_earlier(contacts: Contacts) -> None:
    """RFC 8551 2.5.3: the newest word counts, none from the future; what is issued later is newer still."""
    old, new, newest = (certificate(since=since) for since in (1, 2, 20))

    def prefers(wanted: x509.Certificate, day: int) -> x509.Certificate:
        named = identifiers.read(ber.parse(identifiers.issuer_and_serial_of(wanted)))
        contacts.learn("dr.b@x.test", (), preferred=named, signed_at=pki.EPOCH + day * DAY, now=NOW)
        contact = contacts.lookup("dr.b@x.test")
        assert contact is not None
        return contact.encryption(NOW)[0].certificate

    contacts.add("dr.b@x.test", [old, new], now=NOW)
    assert prefers(old, 10) == old
    assert prefers(new, 9) == old
    assert prefers(new, 11) == new
    assert prefers(old, 1000) == new
    assert prefers(old, 12) == old
    assert contacts.add("dr.b@x.test", [old, newest], now=NOW).encryption(NOW)[0].certificate == newest
    assert prefers(certificate(since=3), 30) == newest
    contacts.add("dr.b@x.test", [certificate(None)], now=NOW)
    assert prefers(old, 31) not in (old, new, newest)


def test_another_issuer_waits_until_accepted(contacts: Contacts) -> None:
    first, renewed, rival = certificate(), certificate(since=1), certificate(ca=RIVAL, since=2)
    signed_by = signer(CA, RIVAL)
    assert contacts.learn("dr.b@x.test", [first], now=NOW, signed_by=signed_by) == "learned"
    assert contacts.learn("dr.b@x.test", [first], now=NOW, signed_by=signed_by) == "unchanged"
    assert contacts.learn("DR.b@x.test", [renewed], now=NOW, signed_by=signed_by) == "learned"
    assert contacts.learn("dr.b@x.test", [rival], now=NOW, signed_by=signed_by) == "waiting"
    assert contacts.learn("dr.b@x.test", [rival], now=NOW, signed_by=signed_by) == "unchanged"
    contact = contacts.lookup("dr.b@x.test")
    assert contact is not None
    assert [known.certificate for known in contact.encryption(NOW)] == [renewed, first]
    contact = contacts.accept("dr.b@x.test", contact.waiting[0].sha256[:8])
    assert contact.encryption(NOW)[0].certificate == rival
    assert not contact.waiting
    with pytest.raises(MedmailError, match="not-found"):
        contacts.accept("dr.b@x.test")
    later = certificate(ca=RIVAL, since=3)
    assert contacts.learn("dr.b@x.test", [later], now=NOW, signed_by=signed_by) == "learned"


@pytest.mark.parametrize("at_hand", [True, False])
def test_an_issuer_of_the_same_name_and_key_identifier_is_another(contacts: Contacts, at_hand: bool) -> None:
    """Name and key identifier are what a certificate claims; its signature proves the key."""
    other = pki.make_ca("Order", key_identifier_of=CA)
    impostor = certificate(ca=pki.Authority(CA.certificate, other.key, other.chain))
    renewed = certificate(since=1)
    signed_by = signer(CA, other)
    contacts.learn("dr.b@x.test", [certificate()], now=NOW, signed_by=signed_by if at_hand else signer())
    assert contacts.learn("dr.b@x.test", [impostor], now=NOW, signed_by=signed_by) == "waiting"
    assert contacts.learn("dr.b@x.test", [renewed], now=NOW, signed_by=signed_by) == "learned"


def test_beside_certificates_whose_issuer_is_not_at_hand_everything_new_waits(contacts: Contacts) -> None:
    contacts.add("dr.b@x.test", [certificate()], now=NOW)
    assert contacts.learn("dr.b@x.test", [certificate(since=1)], now=NOW, signed_by=signer()) == "waiting"


def test_nothing_joins_a_pinned_certificate_by_itself(contacts: Contacts) -> None:
    contacts.add("dr.b@x.test", [certificate(None)], now=NOW)
    assert contacts.learn("dr.b@x.test", [certificate()], now=NOW) == "waiting"


def test_only_certificates_that_bear_the_address_and_encrypt_are_learned(contacts: Contacts) -> None:
    others = [certificate("else@x.test"), certificate(purpose="sign")]
    assert contacts.learn("dr.b@x.test", others, capabilities=["x"], signed_at=NOW, now=NOW) == "unchanged"
    assert contacts.all() == ()


def test_capabilities_only_move_forward_and_never_from_the_future(contacts: Contacts) -> None:
    def learn(name: str, signed_at: dt.datetime) -> tuple[str, ...]:
        contacts.learn("dr.b@x.test", [certificate()], capabilities=[name], signed_at=signed_at, now=NOW)
        found = contacts.lookup("dr.b@x.test")
        assert found is not None
        return found.capabilities

    assert learn("first", NOW - 3 * DAY) == ("first",)
    assert learn("older", NOW - 4 * DAY) == ("first",)
    assert learn("newer", NOW - DAY) == ("newer",)
    assert learn("future", NOW + DAY) == ("newer",)


def test_nobody_can_fill_a_contact(contacts: Contacts) -> None:
    signed_by = signer(CA)
    for n in range(40):
        contacts.learn("dr.b@x.test", [certificate(since=n)], now=NOW + n * DAY, signed_by=signed_by)
    contact = contacts.lookup("dr.b@x.test")
    assert contact is not None
    assert len(contact.certificates) <= 16
    assert contact.encryption(NOW)[0].certificate.not_valid_before_utc == pki.EPOCH + 39 * DAY


def test_removed_is_gone(contacts: Contacts) -> None:
    contacts.add("dr.b@x.test", [certificate()], now=NOW)
    contacts.remove("dr.b@x.test")
    assert contacts.all() == ()
    with pytest.raises(MedmailError, match="not-found"):
        contacts.remove("dr.b@x.test")


def test_any_changed_byte_names_the_file(contacts: Contacts, tmp_path: Path) -> None:
    contacts.add("dr.b@x.test", [certificate()], now=NOW)
    contacts.set_reads("dr.b@x.test", "legacy")
    (path,) = (tmp_path / "contacts").glob("*.json")
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(MedmailError) as caught:
            contacts.lookup("dr.b@x.test")
        assert caught.value.code == "store-damaged"
        assert caught.value.facts["path"] == str(path)


@given(st.text(min_size=1, max_size=50))
def test_any_address_can_be_a_contact(tmp_path_factory: pytest.TempPathFactory, address: str) -> None:
    contacts = Contacts(tmp_path_factory.mktemp("contacts"))
    contacts.set_reads(address, "legacy")
    found = contacts.lookup(address)
    assert found is not None
    assert found.reads == "legacy"


def _learn_many(folder: str, offset: int) -> None:
    contacts = Contacts(Path(folder))
    for n in range(8):
        contacts.add("dr.b@x.test", [certificate(since=offset + n)], now=NOW)


def test_two_processes_lose_nothing(contacts: Contacts, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [
        spawn.Process(target=_learn_many, args=(str(tmp_path / "contacts"), n * 100)) for n in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    contact = contacts.lookup("dr.b@x.test")
    assert contact is not None
    assert len(contact.certificates) == 16
