"""What an authority issued is judged against what was asked: the key, every name, the root."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance.csr import build_request
from medmail_cli.pki.issuance.issued import checked

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
KEY, ROOT_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
ROOT_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Root")])


def request(address: str) -> x509.CertificateSigningRequest:
    return x509.load_der_x509_csr(build_request(SoftwareKey(KEY), address=address, name="Dr M"))


def certificate(asked: x509.CertificateSigningRequest | None) -> x509.Certificate:
    """The root, or what it issues for a request."""
    key = KEY if asked else ROOT_KEY
    names = (
        asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if asked
        else x509.BasicConstraints(ca=True, path_length=None)
    )
    return (
        x509.CertificateBuilder()
        .subject_name(asked.subject if asked else ROOT_NAME)
        .issuer_name(ROOT_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(1))
        .not_valid_after(NOW + dt.timedelta(1))
        .add_extension(names, critical=False)
        .sign(ROOT_KEY, hashes.SHA256())
    )


ROOT = certificate(None)


@pytest.mark.parametrize("address", ["dr.martin@medecin.test", "éloïse@medecin.test"])
def test_the_name_asked_for_is_the_name_got(address: str) -> None:
    own = certificate(request(address))
    assert checked(request(address), [own], anchors=[ROOT], at=NOW, url="https://ca.test") == (own, ROOT)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("dr.martin@medecin.test", "dr.marten@medecin.test"),
        ("éloïse@medecin.test", "eloise@medecin.test"),
        ("éloïse@medecin.test", "élodie@medecin.test"),
    ],
)
def test_another_name_is_refused_whatever_letters_it_is_written_in(asked: str, got: str) -> None:
    with pytest.raises(MedmailError) as caught:
        checked(request(asked), [certificate(request(got))], anchors=[ROOT], at=NOW, url="https://ca.test")
    assert caught.value.facts["reason"] == "wrong-name"
