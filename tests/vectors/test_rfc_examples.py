"""The examples of RFC 4134, 8410, 8591, 9216 and 9882, and signatures of others: found is what each RFC says.

RFC 4134 is of its time: SHA-1, DSA and RSA of 1,024 bits are called weak, Triple-DES and RC2 read when asked.
"""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from medmail_cli.cms import ber, enveloped, signed, verify
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import Authorities, Judgement
from medmail_cli.pki.x509.keyfile import read_keys
from medmail_cli.smime.open import open_message
from medmail_cli.smime.policy import Policy
from tests.support.letters import OUTER, codes, entity, opened
from tests.vectors import samples

WEAK = ("weak-algorithm", "weak-key")
CONTENT = b"This is some sample content."


# -- RFC 4134


def certificate(name: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(samples.rfc4134()[f"{name}.cer"])


def bob() -> tuple[x509.Certificate, SoftwareKey]:
    key = load_der_private_key(samples.rfc4134()["BobPrivRSAEncrypt.pri"], None)
    return certificate("BobRSASignByCarl"), SoftwareKey(key)


@pytest.mark.parametrize(
    ("name", "signer"),
    [
        ("4.1", "AliceDSSSignByCarlNoInherit"),
        ("4.2", "AliceRSASignByCarl"),
        ("4.3", "AliceDSSSignByCarlNoInherit"),  # detached
        ("4.4", "AliceDSSSignByCarlNoInherit"),  # signed attributes, a counter-signature
        ("4.5", "AliceRSASignByCarl"),  # indefinite lengths
        ("4.6", "AliceDSSSignByCarlNoInherit"),  # Diane signs too
        ("4.7", "AliceDSSSignByCarlNoInherit"),  # by key identifier
        ("4.10", "AliceDSSSignByCarlNoInherit"),  # every attribute of RFC 2634
    ],
)
def test_signatures_of_1999_hold_and_are_weak(name: str, signer: str) -> None:
    read = signed.parse_signed(ber.parse(samples.rfc4134()[f"{name}.bin"]))
    assert len(read.signers) == (2 if name == "4.6" else 1)
    alice = certificate(signer)
    info = next(info for info in read.signers if info.id.names(alice))
    assert (read.content is None) == (name == "4.3")
    over = CONTENT if read.content is None else bytes(read.content)
    assert over == CONTENT
    assert verify.check_signer(read, info, alice, over) == WEAK
    assert verify.check_signer(read, info, alice, over + b"!") == ("bad-signature", *WEAK)


def test_certificates_only() -> None:
    read = signed.parse_signed(ber.parse(samples.rfc4134()["4.11.bin"]))
    assert set(read.certificates) == {certificate("AliceDSSSignByCarlNoInherit"), certificate("CarlDSSSelf")}
    assert (len(read.crls), read.signers) == (1, ())


@pytest.mark.parametrize(("name", "cipher"), [("5.1", "3des-cbc"), ("5.2", "rc2-cbc")])
def test_old_ciphers_are_read_when_that_is_asked(name: str, cipher: str) -> None:
    envelope = enveloped.parse_enveloped(ber.parse(samples.rfc4134()[f"{name}.bin"]))
    with pytest.raises(MedmailError) as refused:
        enveloped.decrypt(envelope, [bob()])
    assert refused.value.code == "weak-algorithm"
    found = enveloped.decrypt(envelope, [bob()], allow_weak=True)
    assert (found.content, found.algorithm, found.weak) == (CONTENT, cipher, True)


@pytest.mark.parametrize(
    ("name", "allow_weak", "layers", "problems", "text"),
    [
        ("4.8", False, ("signed",), {*WEAK, "signer-is-not-sender"}, CONTENT.decode()),
        ("4.9", False, ("signed",), {*WEAK, "signer-is-not-sender"}, CONTENT.decode()),
        ("5.3", False, ("encrypted",), {"weak-algorithm"}, None),
        ("5.3", True, ("encrypted",), {"weak-algorithm", "no-signature"}, CONTENT.decode()),
    ],
)
def test_messages(
    name: str, allow_weak: bool, layers: tuple[str, ...], problems: set[str], text: str | None
) -> None:
    """The senders are at examples.com, their certificates at example.com; an empty header ends at once."""
    at = dt.datetime(2002, 12, 21, tzinfo=dt.UTC)
    authorities = Authorities([certificate("CarlDSSSelf"), certificate("CarlRSASelf")])
    verdict = open_message(
        samples.rfc4134()[f"{name}.eml"], id="0" * 64, source=name, keys=[bob()], at=at,
        judge=lambda one, enclosed: authorities.judge(one, enclosed=enclosed, at=at, revocation="soft"),
        policy=Policy(allow_weak=allow_weak, show_unverified=True),
    ).verdict  # fmt: skip
    assert (verdict.layers, {problem.code for problem in verdict.problems}) == (layers, problems)
    assert verdict.text == text


# -- RFC 8591, 9882, and the samples of others


def test_a_signer_whose_certificate_is_not_enclosed() -> None:
    bodies = [signed.parse_signed(ber.parse(body)) for body in samples.hexadecimal("rfc8591.txt").values()]
    (alice,) = bodies[0].certificates
    assert bodies[1].certificates == ()
    for body in bodies:
        assert bytes(body.content or b"").endswith(b"\r\n\r\nWatson, come here - I want to see you.\r\n")
        (info,) = body.signers
        assert info.id.names(alice)
        assert verify.check_signer(body, info, alice) == ()


def test_ml_dsa() -> None:
    """The key is that of RFC 9881, C.1, whose seed counts from 0 to 31."""
    key = mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(range(32))).public_key()
    signer = samples.certified(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    (pem,) = next(iter(samples.pems("rfc9882.pem").values()))
    read = signed.parse_signed(ber.parse(samples.der_of(pem)))
    assert bytes(read.content or b"") == b"ML-DSA-44 signed-data example with signed attributes"
    assert verify.check_signer(read, read.signers[0], signer) == ()
    assert verify.check_signer(read, read.signers[0], signer, b"another") == ("bad-signature",)


@pytest.mark.parametrize("heading", [name for name in samples.pems("housley.pem") if "3274" not in name])
def test_signatures_of_others(heading: str) -> None:
    """Receipts, labels, PSS, several signers, revocation, secure header fields: each holds, DSA is weak."""
    (pem,) = samples.pems("housley.pem")[heading]
    read = signed.parse_signed(ber.parse(samples.der_of(pem)))
    assert len(read.signers) == (2 if "5752" in heading else 1)
    assert bool(read.ocsp) == ("5940" in heading)
    for info in read.signers:
        signer = next(one for one in read.certificates if info.id.names(one))
        expected = WEAK if info.signature_scheme == "dsa" else ()
        assert verify.check_signer(read, info, signer) == expected
        assert verify.check_signer(read, info, signer, b"another") == ("bad-signature", *expected)


def test_compressed_data() -> None:
    (pem,) = samples.pems("housley.pem")["RFC 3274: compressed data"]
    result = opened(OUTER + entity(samples.der_of(pem), "compressed-data"), None)
    assert (result.verdict.layers, codes(result)) == (("compressed",), ["no-signature"])
    text = result.verdict.text or ""
    assert text.startswith("RFC 3274, published in June 2002, defines a format for using compressed\n")
    assert text.endswith("intermixing MIME and CMS).\n")


# -- RFC 9216

FILE = "rfc9216.pem"
AT = dt.datetime(2022, 6, 1, tzinfo=dt.UTC)
PEOPLE = {"4": "alice", "5": "bob", "7": "carlos", "8": "dana"}


def judged(section: str, root: str, *helpers: str) -> Judgement:
    authorities = Authorities([samples.certificate(FILE, root)])
    enclosed = Enclosed(certificates=tuple(samples.certificate(FILE, helper) for helper in helpers))
    return authorities.judge(
        samples.certificate(FILE, section), enclosed=enclosed, at=AT, known_now=AT,
        revocation="soft", purpose="sign" if section.endswith(".1") else "encrypt",
    )  # fmt: skip


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("end", [".1", ".3"], ids=["signing", "encryption"])
def test_chains(person: str, end: str) -> None:
    """Alice and Bob are under the RSA authority, Carlos and Dana under Ed25519; each certifies the other."""
    own, cross, other = ("3.1", "3.3", "6.1") if person in "45" else ("6.1", "6.3", "3.1")
    assert judged(person + end, own).problems == ()
    assert judged(person + end, other, cross).problems == ()
    assert [problem.code for problem in judged(person + end, other).problems] == ["untrusted-issuer"]


@pytest.mark.parametrize("person", PEOPLE)
def test_keys_fit_their_certificates(person: str) -> None:
    """RSA, and Ed25519 with X25519: what is signed and encrypted with the published keys comes back."""
    signer, reader = (samples.certificate(FILE, person + end) for end in (".1", ".3"))
    key, reading = (SoftwareKey(samples.key(FILE, person + end)) for end in (".2", ".4"))
    read = signed.parse_signed(ber.parse(signed.sign(CONTENT, key=key, certificate=signer, signed_at=AT)))
    assert verify.check_signer(read, read.signers[0], signer) == ()
    sealed = enveloped.encrypt(CONTENT, [reader], cipher="aes-256-gcm")
    found = enveloped.decrypt(enveloped.parse_enveloped(ber.parse(sealed)), [(reader, reading)])
    assert found.content == CONTENT
    assert found.key_management == ("rsa-pkcs1v15" if person in "45" else "ecdh-es-x25519")


@pytest.mark.parametrize(("section", "person"), [("5", "bob"), ("7", "carlos")])
def test_pkcs12_with_a_key_to_sign_and_one_to_decrypt(section: str, person: str) -> None:
    """The password is the name (2.6); each key has its certificate there, and the authority's is along."""
    octets = samples.der_of(samples.one(FILE, f"{section}.5"))
    found = read_keys(octets, "person.p12", person.encode)
    signer, reader = (samples.certificate(FILE, section + end) for end in (".1", ".3"))
    assert {signer, reader} < set(found.certificates)
    assert len(found.certificates) == 3
    assert len(found.keys) == 2
    for one in (signer, reader):
        assert one.public_key() in [key.public_key() for key in found.keys]
    with pytest.raises(MedmailError, match="wrong-p12-password"):
        read_keys(octets, "person.p12", lambda: b"mallory")


# -- RFC 8410


@pytest.mark.parametrize("heading", samples.pems("rfc8410.pem"))
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_private_keys(heading: str, form: str) -> None:
    """What is valid is the same key, its public key along or not, in BER as well; the rest is malformed."""
    pem = samples.one("rfc8410.pem", heading)
    octets = pem if form == "PEM" else samples.der_of(pem)
    if "wrongly" in heading or "missing" in heading:
        with pytest.raises(MedmailError, match="malformed"):
            read_keys(octets, "key", bytes)
    else:
        (key,) = read_keys(octets, "key", bytes).keys
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        assert key.private_bytes_raw().hex().startswith("d4ee72dbf913584ad5b6d8f1f769f8ad3a")


def test_a_private_key_with_the_public_key_of_another_is_refused() -> None:
    pem = samples.one("rfc8410.pem", "10.3: with an attribute")
    octets = samples.der_of(pem)
    with pytest.raises(MedmailError, match="malformed"):
        read_keys(octets[:-1] + bytes([octets[-1] ^ 1]), "key", bytes)
