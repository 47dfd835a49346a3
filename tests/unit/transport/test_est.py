"""Reading what an EST server sends: garbage never gets through as anything but ``malformed``."""

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import csrattrs
from medmail_cli.transport import est
from medmail_cli.transport.exchange import Answer
from tests.support.pki import make_ca

CAS = [make_ca("First").certificate, make_ca("Second").certificate]
CERTS_ONLY = pkcs7.serialize_certificates(CAS, Encoding.DER)


def outcome(reader: Callable[[bytes], object], body: bytes) -> str:
    """What reading ended with; anything but an answer or our own error fails the test."""
    try:
        reader(body)
    except MedmailError as error:
        return error.code
    return "read"


@pytest.mark.parametrize(
    "body",
    [
        CERTS_ONLY,
        base64.b64encode(CERTS_ONLY),
        base64.encodebytes(CERTS_ONLY),
        base64.encodebytes(CERTS_ONLY).replace(b"\n", b"\r\n") + b"\r\n\r\n",
    ],
    ids=["der", "one line", "lines", "crlf"],
)
def test_certificates_in_every_usual_transfer_form(body: bytes) -> None:
    assert list(est.certificates(body)) == CAS


def test_no_certificate_is_malformed() -> None:
    with pytest.raises(MedmailError) as caught:
        est.certificates(base64.b64encode(pkcs7.serialize_certificates(CAS[:1], Encoding.DER)[:40]))
    assert caught.value.code == "malformed"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(0, len(CERTS_ONLY) - 1), st.integers(1, 255), st.booleans())
def test_a_changed_octet_gives_certificates_or_malformed(at: int, change: int, truncate: bool) -> None:
    changed = bytearray(CERTS_ONLY)
    changed[at] ^= change
    if truncate:
        del changed[at:]
    assert outcome(est.certificates, base64.b64encode(bytes(changed))) in ("read", "malformed")


@given(st.binary(max_size=200))
def test_garbage_is_malformed(body: bytes) -> None:
    for reader in (est.certificates, est.csr_attributes):
        assert outcome(reader, body) in ("read", "malformed")


def test_csr_attributes_of_the_rfc() -> None:
    # the example of RFC 7030 §4.5.2
    body = b"MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw=="
    assert est.csr_attributes(body) == (
        csrattrs.CsrAttribute("1.2.840.113549.1.9.7"),
        csrattrs.CsrAttribute("1.2.840.10045.2.1", (bytes.fromhex("06052b81040022"),)),
        csrattrs.CsrAttribute(
            "1.2.840.113549.1.9.14", (bytes.fromhex("06072b0601010101 16".replace(" ", "")),)
        ),
        csrattrs.CsrAttribute("1.2.840.10045.4.3.3"),
    )
    assert est.csr_attributes(b"") == ()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://ca.example", "https://ca.example/.well-known/est"),
        ("https://ca.example/", "https://ca.example/.well-known/est"),
        ("https://ca.example:8443/.well-known/est/", "https://ca.example:8443/.well-known/est"),
        ("https://ca.example/.well-known/est/doctors", "https://ca.example/.well-known/est/doctors"),
    ],
)
def test_endpoint(url: str, base: str) -> None:
    assert est.endpoint(url) == base


@pytest.mark.parametrize(
    "url",
    ["http://ca.example", "ca.example", "https://", "https://u:p@ca.example", "https://ca.example/?a", "https://[",
     "https://ca.example:99999"],
)  # fmt: skip
def test_only_https_is_spoken(url: str) -> None:
    with pytest.raises(MedmailError) as caught:
        est.endpoint(url)
    assert caught.value.code == "insecure-url"


def test_fingerprints_as_people_write_them() -> None:
    plain = "0123456789abcdef" * 4
    colons = ":".join(plain[i : i + 2] for i in range(0, 64, 2)).upper()
    for text in (plain, colons, f"sha256:{plain}", f"SHA256 Fingerprint={colons}", f" {plain} "):
        assert est.read_fingerprint(text) == plain
    for text in ("", plain[:-1], plain + "0", "g" * 64, "sha1:" + plain[:40]):
        with pytest.raises(MedmailError):
            est.read_fingerprint(text)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("120", 120, 120),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, 1e12),
    ],
)
def test_retry_after(value: str, least: float, most: float) -> None:
    pause = Answer(202, b"", {"retry-after": value}).retry_after
    assert pause is not None
    assert least <= pause <= most


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "9" * 20])
def test_retry_after_that_says_nothing(value: str) -> None:
    assert Answer(202, b"", {"retry-after": value}).retry_after is None
