"""Bundles as people have them, and certificate requests."""

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance.csr import build_request, matches
from medmail_cli.pki.x509.bundle import read_bundle
from tests.support import pki

CA = pki.make_ca()
OTHER = pki.make_ca("Other")
CRL = pki.make_crl(CA)
BOTH = pki.pem(CA.certificate, OTHER.certificate)


@pytest.mark.parametrize(
    "data",
    [
        BOTH,
        b"Bag Attributes\n  friendlyName: x\n" + BOTH.replace(b"\n", b"\r\n"),
        BOTH + BOTH,
        pkcs7.serialize_certificates([CA.certificate, OTHER.certificate], Encoding.PEM),
        pkcs7.serialize_certificates([CA.certificate, OTHER.certificate], Encoding.DER),
    ],
    ids=["pem", "pem-with-words", "twice", "pkcs7-pem", "pkcs7-der"],
)
def test_certificates_in_every_form(data: bytes) -> None:
    assert set(read_bundle(data, "f").certificates) == {CA.certificate, OTHER.certificate}


def test_der_and_crls() -> None:
    assert read_bundle(CA.certificate.public_bytes(Encoding.DER), "f").certificates == (CA.certificate,)
    assert read_bundle(CRL.public_bytes(Encoding.DER), "f").crls == (CRL,)
    mixed = read_bundle(BOTH + pki.pem(CRL), "f")
    assert len(mixed.certificates) == 2
    assert mixed.crls == (CRL,)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", pki.pem(CA.key)],
)
def test_nothing_in_it_is_malformed(data: bytes) -> None:
    with pytest.raises(MedmailError) as caught:
        read_bundle(data, "f")
    assert caught.value.code == "malformed"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_broken_files_are_malformed_or_read(data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from([BOTH, CRL.public_bytes(Encoding.DER), CA.certificate.public_bytes(Encoding.DER)])
    )
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(MedmailError):
        read_bundle(bytes(broken), "f")


@pytest.mark.parametrize("key_type", ["rsa2048", "p256", "p384", "p521", "ed25519", "ed448"])
def test_a_request_says_who_and_proves_the_key(key_type: pki.KeyType) -> None:
    key = SoftwareKey(pki.make_key(key_type))
    request = x509.load_der_x509_csr(
        build_request(key, address="dr.É@médecin.test", name="Dr Émile B", rpps="10001234567")
    )
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "2.5.4.5=10001234567,CN=Dr Émile B"
    (name,) = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert isinstance(name, x509.OtherName)
    assert name.value.endswith("É@médecin.test".encode())


def test_an_ascii_address_is_an_rfc822_name() -> None:
    key = SoftwareKey(pki.make_key("p256"))
    request = x509.load_der_x509_csr(build_request(key, address="Dr.B@médecin.test"))
    (name,) = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name.value == "Dr.B@xn--mdecin-bva.test"


def test_a_request_of_a_key_that_cannot_sign_or_a_name_too_long() -> None:
    cases: tuple[tuple[pki.KeyType, str, str], ...] = (
        ("x25519", "a", "unsupported-algorithm"),
        ("p256", "a" * 65, "malformed"),
    )
    for key_type, name, code in cases:
        with pytest.raises(MedmailError) as caught:
            build_request(SoftwareKey(pki.make_key(key_type)), address="a@x.test", name=name)
        assert caught.value.code == code


def test_whether_a_certificate_is_for_a_key() -> None:
    certificate, private = pki.issue(CA, "a@x.test", key_type="p256")
    assert matches(certificate, SoftwareKey(private))
    assert not matches(certificate, SoftwareKey(pki.make_key("p256")))
