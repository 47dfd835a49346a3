"""Names of old software: Latin-1 in a TeletexString, which openssl wrote until 2010 and others after it."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import ber, der
from medmail_cli.pki.path.validation import judge
from medmail_cli.pki.x509.address import addresses
from medmail_cli.pki.x509.bundle import read_bundle
from medmail_cli.pki.x509.certificate import issuer_text, subject_text
from medmail_cli.pki.x509.names import name_key
from tests.support import pki
from tests.support.cli import medmail

pytestmark = pytest.mark.thorough

AT = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
TELETEX, UTF8, IA5 = 0x14, 0x0C, 0x16
COMMON_NAME, EMAIL = "2.5.4.3", "1.2.840.113549.1.9.1"
SIGNER, HOLDER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def name(*attributes: tuple[str, int, bytes]) -> bytes:
    return der.sequence(
        *(der.tlv(0x31, der.sequence(der.oid(oid), der.tlv(tag, text))) for oid, tag, text in attributes)
    )


HOSPITAL = name((COMMON_NAME, TELETEX, "Hôpital Édouard".encode("latin-1")))


def signed(body: bytes, algorithm: bytes) -> bytes:
    return der.sequence(body, algorithm, der.bit_string(SIGNER.sign(body, ec.ECDSA(hashes.SHA256()))))


def certify(
    subject: bytes,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPublicKey,
    *,
    ca: bool,
    issuer: bytes = HOSPITAL,
) -> bytes:
    """A certificate with names as given, which cryptography would not write."""
    rights = [(x509.BasicConstraints(ca=ca, path_length=None), True)]
    model = pki._certify(None, SIGNER, x509.Name([]), pki.EPOCH, pki.FAR, rights)
    fields = [bytes(field.raw) for field in ber.parse(model.tbs_certificate_bytes).elements()]
    fields[3], fields[5] = issuer, subject
    public = key if isinstance(key, rsa.RSAPublicKey) else key.public_key()
    fields[6] = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return signed(der.sequence(*fields), fields[2])


def listing(*revoked: x509.Certificate) -> bytes:
    model = pki.make_crl(pki.Authority(pki.make_ca("Any").certificate, SIGNER, ()), revoked)
    fields = [bytes(field.raw) for field in ber.parse(model.tbs_certlist_bytes).elements()]
    fields[2] = HOSPITAL
    return signed(der.sequence(*fields), fields[1])


@pytest.fixture(scope="module")
def root() -> x509.Certificate:
    return x509.load_der_x509_certificate(certify(HOSPITAL, SIGNER, ca=True))


@pytest.fixture(scope="module")
def leaf() -> x509.Certificate:
    subject = name((COMMON_NAME, TELETEX, "Élise".encode("latin-1")), (EMAIL, IA5, b"elise@hopital.test"))
    return x509.load_der_x509_certificate(certify(subject, HOLDER, ca=False))


def test_a_chain_of_latin_1_names_is_judged_like_any_other(
    root: x509.Certificate, leaf: x509.Certificate
) -> None:
    clear, revoking = (x509.load_der_x509_crl(der_) for der_ in (listing(), listing(leaf)))
    assert judge(leaf, anchors=[root], crls=[clear], at=AT).problems == ()
    revoked = judge(leaf, anchors=[root], crls=[revoking], at=AT)
    assert [problem.code for problem in revoked.problems] == ["revoked"]
    assert revoked.anchor == issuer_text(leaf) == "CN=Hôpital Édouard"
    assert subject_text(leaf).endswith("CN=Élise")
    assert addresses(leaf) == ("elise@hopital.test",)


def test_the_same_name_in_utf_8_is_the_same_name(root: x509.Certificate) -> None:
    written = name((COMMON_NAME, UTF8, "hôpital  édouard".encode()))
    below = certify(name((COMMON_NAME, UTF8, b"A")), HOLDER, ca=False, issuer=written)
    judged = judge(x509.load_der_x509_certificate(below), anchors=[root], at=AT, revocation="soft")
    assert judged.problems == ()
    other = certify(name(), HOLDER, ca=False, issuer=name((COMMON_NAME, UTF8, b"Hopital Edouard")))
    judged = judge(x509.load_der_x509_certificate(other), anchors=[root], at=AT, revocation="soft")
    assert [problem.code for problem in judged.problems] == ["untrusted-issuer"]


@pytest.mark.parametrize(
    "unseen",
    ["Or\u00addre", "\u200bOrdre", "Ordre\ufe0f", "Ord\u2060re", "O\u0001rdre", "\U000e0041ordre\ufeff"],
)
def test_what_nobody_sees_makes_no_other_name(unseen: str) -> None:
    """RFC 5280 §7.1 with RFC 4518 §2.2: nor does it lead out of what an authority is denied."""
    seen, other = (
        x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, one)]) for one in ("Ordre", unseen)
    )
    assert name_key(seen) == name_key(other)
    denied = x509.NameConstraints(None, [x509.DirectoryName(seen)])
    ca = pki.make_ca("Bound", extensions=[(denied, True)])
    names = x509.SubjectAlternativeName([x509.DirectoryName(other)])
    below, _ = pki.issue(ca, None, "sign", "p256", extensions=[(names, False)])
    judged = judge(below, anchors=[ca.certificate], at=AT, revocation="soft")
    assert [problem.code for problem in judged.problems] == ["untrusted-issuer"]


def test_constraints_see_what_was_written(root: x509.Certificate) -> None:
    hospital = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Élise")])
    constraint = x509.NameConstraints(None, [x509.DirectoryName(hospital)])
    ca = pki.make_ca("Order", extensions=[(constraint, True)])
    fields = [bytes(f.raw) for f in ber.parse(certify(name(), HOLDER, ca=False)).elements()]
    body = [bytes(field.raw) for field in ber.parse(fields[0]).elements()]
    body[3] = ca.certificate.subject.public_bytes()
    body[5] = name((COMMON_NAME, TELETEX, "Élise".encode("latin-1")))
    assert isinstance(ca.key, ec.EllipticCurvePrivateKey)
    made = ca.key.sign(der.sequence(*body), ec.ECDSA(hashes.SHA256()))
    below = x509.load_der_x509_certificate(der.sequence(der.sequence(*body), fields[1], der.bit_string(made)))
    judged = judge(below, anchors=[ca.certificate], at=AT, revocation="soft")
    assert [problem.code for problem in judged.problems] == ["untrusted-issuer"]


def test_such_an_authority_can_be_trusted_and_shown(root: x509.Certificate, tmp_path: Path) -> None:
    for what in (root.public_bytes(Encoding.DER), listing()):
        (tmp_path / "file").write_bytes(what)
        assert medmail(tmp_path / "home", "trust", "add", tmp_path / "file").exit == 0
    shown = medmail(tmp_path / "home", "trust", "list", "--json").objects[:-1]
    assert [(one["kind"], one["subject"]) for one in shown] == [
        ("anchor", "CN=Hôpital Édouard"), ("crl", "CN=Hôpital Édouard"),
    ]  # fmt: skip
    assert read_bundle(pki.pem(root), "file").certificates == (root,)


def test_such_a_certificate_is_taken_in_with_its_key(
    root: x509.Certificate, leaf: x509.Certificate, tmp_path: Path
) -> None:
    (tmp_path / "elise.pem").write_bytes(pki.pem(leaf, HOLDER, root))
    (tmp_path / "passphrase").write_text("a passphrase\n")
    given = ("--passphrase-file", tmp_path / "passphrase")
    taken = medmail(tmp_path / "home", "enrol", "import", tmp_path / "elise.pem", *given, "--json")
    assert taken.exit == 0, taken.stderr
    (shown, _) = medmail(tmp_path / "home", "keys", "show", "elise@hopital.test", "--json").objects
    assert (shown["issuer"], shown["chain"]) == ("CN=Hôpital Édouard", ["CN=Hôpital Édouard"])


def test_such_a_certificate_with_another_address_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("a passphrase\n")
    given = ("--passphrase-file", tmp_path / "passphrase")
    home, request = tmp_path / "home", tmp_path / "request"
    assert (
        medmail(home, "enrol", "new", "anne@hopital.test", "--method", "csr", "-o", request, *given).exit == 0
    )
    asked = x509.load_pem_x509_csr(request.read_bytes()).public_key()
    assert isinstance(asked, rsa.RSAPublicKey)
    (tmp_path / "other").write_bytes(certify(name((EMAIL, IA5, b"elise@hopital.test")), asked, ca=False))
    refused = medmail(home, "enrol", "import", tmp_path / "other", *given, "--json").objects[-1]
    assert refused["code"] == "certificate-not-as-requested"
    assert "CN=Hôpital Édouard" in refused["message"]
