"""Reading keys and certificates out of the files people have."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.bundle import read_bundle
from medmail_cli.pki.x509.keyfile import read_keys
from medmail_cli.pki.x509.usage import for_mail, key_type, purpose
from tests.support import pki
from tests.support.measured import processor_time

ROOT = pki.make_ca("Root")
MIDDLE = pki.make_ca("Middle", parent=ROOT)
CERTIFICATE, KEY = pki.issue(MIDDLE, "a@x.test", "both", "p256")
SAMPLES = [
    pki.p12(CERTIFICATE, KEY, MIDDLE.chain, b"pw"),
    pki.p12(CERTIFICATE, KEY, MIDDLE.chain, b"pw", legacy=True),
    pki.pem(CERTIFICATE, KEY, *MIDDLE.chain),
    CERTIFICATE.public_bytes(serialization.Encoding.DER),
    KEY.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pw"),
    ),
]
CODES = {"malformed", "wrong-p12-password", "unsupported-algorithm", "too-many-rounds"}


def password() -> bytes:
    return b"pw"


def outcome(data: bytes) -> str:
    try:
        read_keys(data, "file", password)
    except MedmailError as error:
        return error.code
    return "read"


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: b"\x30\x82\x01\x00\x02\x01\x03" + b))
def test_garbage_is_refused_in_words(data: bytes) -> None:
    assert outcome(data) in CODES


@given(st.sampled_from(SAMPLES), st.data())
def test_a_truncated_or_flipped_sample_never_ends_in_another_error(
    sample: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(sample) - 1))
    for changed in (sample[:place], sample[:place] + bytes([sample[place] ^ 1]) + sample[place + 1 :]):
        assert outcome(changed) in CODES | {"read"}


@pytest.mark.parametrize("begin", [b"-----BEGIN CERTIFICATE-----", b"-----BEGIN A-----"])
def test_ten_times_as_many_beginnings_take_ten_times_as_long(begin: bytes) -> None:
    def read(count: int) -> None:
        with pytest.raises(MedmailError) as caught:
            read_bundle(begin * count, "file")
        assert caught.value.code == "malformed"

    assert processor_time(lambda: read(10_000)) < 40 * processor_time(lambda: read(1000)) + 0.01


def test_ten_times_as_many_beginnings_of_keys_take_ten_times_as_long() -> None:
    def read(count: int) -> None:
        with pytest.raises(MedmailError) as caught:
            read_keys(b"-----BEGIN PRIVATE KEY-----\n" * count, "file", lambda: b"")
        assert caught.value.code == "malformed"

    assert processor_time(lambda: read(10_000)) < 40 * processor_time(lambda: read(1000)) + 0.01


def test_a_password_is_asked_for_only_where_it_is_needed() -> None:
    def never() -> bytes:
        raise AssertionError("asked")

    found = read_keys(SAMPLES[2], "file", never)
    assert found.certificates == (CERTIFICATE, *MIDDLE.chain)
    assert [key.public_key() for key in found.keys] == [KEY.public_key()]
    assert "key" not in repr(found).replace("KeyFile", "")


@pytest.mark.parametrize("kind", ["ml-kem-768", "ml-kem-1024", "ml-dsa-44", "ml-dsa-87", "brainpoolp384r1"])
def test_keys_of_every_kind_that_letters_use(kind: pki.KeyType) -> None:
    certificate, key = pki.issue(ROOT, "a@x.test", "both", kind)
    found = read_keys(pki.pem(certificate, key), "file", password)
    assert [each.public_key() for each in found.keys] == [key.public_key()]
    assert found.certificates == (certificate,)


def test_a_key_for_no_letter_is_refused() -> None:
    key = dsa.generate_private_key(2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(MedmailError) as caught:
        read_keys(key, "file", password)
    assert caught.value.code == "unsupported-algorithm"


@pytest.mark.parametrize(
    ("what", "kind", "expected"),
    [
        ("both", "rsa2048", "both"),
        ("sign", "rsa2048", "sign"),
        ("encrypt", "rsa2048", "encrypt"),
        ("encrypt", "p384", "encrypt"),
        ("both", "ed25519", "sign"),
        ("none", "p256", "both"),
        ("none", "x25519", "encrypt"),
        ("both", "ml-kem-768", "encrypt"),
        ("none", "ml-kem-1024", "encrypt"),
        ("both", "ml-dsa-65", "sign"),
        ("none", "ml-dsa-87", "sign"),
    ],
)
def test_what_a_certificate_is_for(what: pki.Purpose, kind: pki.KeyType, expected: str) -> None:
    certificate, key = pki.issue(ROOT, "a@x.test", what, kind)
    assert purpose(certificate) == expected
    assert key_type(key.public_key()) == kind
    assert for_mail(certificate)
    assert not for_mail(pki.issue(ROOT, "a.test", "server", "p256")[0])
