"""Addresses: one mailbox or two, and which a certificate speaks for."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.pki.x509.address import (
    addresses,
    ascii_domain,
    binds,
    canonical,
    decode_mailbox,
    exact,
    looks_mixed,
    resemble,
    same_address,
)
from tests.support import pki

CA = pki.make_ca()
KEY = pki.make_key("p256")
UTF8_MAILBOX = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")


def bearing(*names: x509.GeneralName, email: str | None = None) -> x509.Certificate:
    extensions = [(x509.SubjectAlternativeName(names), False)] if names else []
    return pki.issue(CA, email, key=KEY, email_in_subject=bool(email), extensions=extensions)[0]


def mailbox(text: str) -> x509.OtherName:
    data = text.encode()
    return x509.OtherName(UTF8_MAILBOX, bytes([0x0C, len(data)]) + data)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Dr.Martin@Medecin.test", "dr.martin@medecin.TEST", True),
        ("dr@bücher.test", "dr@xn--bcher-kva.test", True),
        ("dr@BÜCHER.test", "dr@bücher.test", False),  # no Unicode folding
        ("é@x.test", "É@x.test", False),
        ("é@x.test", "e\u0301@x.test", False),  # composed and decomposed differ
        ("K@x.test", "\u212a@x.test", False),  # the Kelvin sign is no K
        ("i@x.test", "İ@x.test", False),
        ("straße@x.test", "strasse@x.test", False),
        ("а@x.test", "a@x.test", False),  # Cyrillic
        ("a@x.test", "a@x.test.evil.test", False),
        ("", "", False),
        ('"a@b"@x.test', '"a@b"@X.test', True),
    ],
)
def test_same_address(first: str, second: str, same: bool) -> None:
    assert same_address(first, second) is same
    assert same_address(second, first) is same


@given(st.text(max_size=40), st.text(max_size=40))
def test_equality_is_an_equivalence_that_never_raises(first: str, second: str) -> None:
    assert same_address(first, second) == same_address(second, first)
    assert same_address(first, first) or not first.strip()
    exact(first)
    resemble(first, second)
    looks_mixed(first)


@given(st.text(max_size=20), st.text(max_size=20))
def test_only_ascii_case_is_folded(local: str, domain: str) -> None:
    """What compares equal is equal but for ASCII case and the spelling of the domain's labels."""
    address = f"{local}@{domain}"
    assert same_address(address, address.translate({i: i + 32 for i in range(65, 91)})) or not address.strip()
    assert canonical(canonical(address)) == canonical(address)


@given(st.text(alphabet="abcxyzéüñжд中0123456789", min_size=1, max_size=20))
def test_a_domain_is_one_in_both_spellings(label: str) -> None:
    assert ascii_domain(f"{label}.test").isascii()
    assert same_address(f"a@{label}.test", f"a@{ascii_domain(label)}.test")


def test_a_certificate_names_all_its_mailboxes_once() -> None:
    certificate = bearing(
        x509.RFC822Name("a@x.test"), mailbox("é@x.test"), x509.DNSName("x.test"), email="A@X.test"
    )
    assert addresses(certificate) == ("a@x.test", "é@x.test")
    assert addresses(bearing(email="b@x.test")) == ("b@x.test",)
    assert addresses(bearing()) == ()


def test_binding_by_domain_is_a_switch_and_only_without_mailboxes() -> None:
    domain = bearing(x509.DNSName("direct.clinic.test"))
    assert not binds(domain, "a@direct.clinic.test")
    assert binds(domain, "a@Direct.clinic.test", domain_bound=True)
    assert not binds(domain, "a@clinic.test", domain_bound=True)
    assert not binds(domain, "a@sub.direct.clinic.test", domain_bound=True)
    both = bearing(x509.DNSName("x.test"), x509.RFC822Name("b@x.test"))
    assert not binds(both, "a@x.test", domain_bound=True)
    assert not binds(bearing(x509.DNSName("*.test")), "a@x.test", domain_bound=True)


def test_look_alikes() -> None:
    assert looks_mixed("pаul@x.test")  # a Cyrillic a
    assert looks_mixed("dr.а@x.test")  # nothing but a Cyrillic a after the dot
    assert looks_mixed("paul@medесin.test")
    assert looks_mixed("paul@" + ascii_domain("medесin.test"))
    assert not looks_mixed("dr.émile-2@médecin.test")
    assert not looks_mixed("иван@почта.test")
    assert resemble("раul@x.test", "paul@x.test")
    assert resemble("a@apple.test", "a@xn--80ak6aa92e.test")  # аррӏе, all of it Cyrillic
    assert not resemble("paul@x.test", "PAUL@x.test")


@given(st.binary(max_size=200))
def test_any_bytes_as_a_mailbox(value: bytes) -> None:
    decode_mailbox(value)


@given(st.text(min_size=1, max_size=300).filter(lambda s: len(s.encode("utf-8", "ignore")) < 200))
def test_a_mailbox_is_read_back(text: str) -> None:
    data = text.encode("utf-8", "ignore")
    header = bytes([0x0C, len(data)]) if len(data) < 128 else bytes([0x0C, 0x81, len(data)])
    assert decode_mailbox(header + data) == data.decode()
