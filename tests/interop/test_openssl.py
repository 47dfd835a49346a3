"""CMS against OpenSSL's command line, both ways."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from medmail_cli.cms import ber, enveloped, signed, verify
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.cms.rewrap import rewrap
from medmail_cli.errors import MedmailError
from medmail_cli.model import ContentCipher, SignatureScheme
from tests.support import pki
from tests.support.tools import require, run

AT = dt.datetime(2026, 6, 1, 12, 0, tzinfo=dt.UTC)
LETTER = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "Compte rendu opératoire\r\n".encode() * 300
# OpenSSL 3.0 knows neither Ed25519 signers nor X25519 recipients in CMS
KINDS: tuple[pki.KeyType, ...] = (
    "rsa2048", "p256", "p384", "p521", "brainpoolp256r1", "brainpoolp384r1", "brainpoolp512r1",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A certificate and its key, in memory and as files for OpenSSL."""

    certificate: x509.Certificate
    key: SoftwareKey
    cert_file: Path
    key_file: Path


People = tuple[dict[str, Person], Path, pki.Authority]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    require("openssl")
    folder = tmp_path_factory.mktemp("openssl")
    ca = pki.make_ca()
    (folder / "ca.pem").write_bytes(pki.pem(ca.certificate))
    made: dict[str, Person] = {}
    for kind in KINDS:
        certificate, key = pki.issue(ca, f"{kind}@a.test", "both", kind)
        (folder / f"{kind}.pem").write_bytes(pki.pem(certificate))
        (folder / f"{kind}.key").write_bytes(pki.pem(key))
        made[kind] = Person(certificate, SoftwareKey(key), folder / f"{kind}.pem", folder / f"{kind}.key")
    return made, folder / "ca.pem", ca


def cms(*arguments: str | Path, stdin: bytes = LETTER) -> bytes:
    return run("openssl", "cms", *arguments, stdin=stdin).stdout


@pytest.mark.parametrize("detached", [False, True], ids=["opaque", "detached"])
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(kind, None) for kind in KINDS]
    + [("rsa2048", f"rsa-pss-sha{bits}") for bits in (256, 384, 512)]
    + [("rsa2048", "rsa-pkcs1v15-sha512"), ("p256", "ecdsa-sha512")],
)
def test_openssl_verifies_what_we_sign(
    people: People, tmp_path: Path, kind: str, scheme: SignatureScheme | None, detached: bool
) -> None:
    made, ca_file, ca = people
    person = made[kind]
    ours = signed.sign(
        LETTER,
        key=person.key,
        certificate=person.certificate,
        chain=ca.chain,
        signed_at=AT,
        scheme=scheme,
        encryption_certificate=made["rsa2048"].certificate,
        detached=detached,
    )
    (tmp_path / "letter").write_bytes(LETTER)
    content = ("-content", tmp_path / "letter") if detached else ()
    check = ("-verify", "-inform", "DER", "-CAfile", ca_file, "-binary", *content)
    assert cms(*check, stdin=ours) == LETTER


@pytest.mark.parametrize("options", [[], ["-nodetach"], ["-nodetach", "-stream"], ["-nodetach", "-noattr"],
                                     ["-nodetach", "-keyid", "-md", "sha384"], ["-nodetach", "-cades"]],
                         ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_we_verify_what_openssl_signs(people: People, kind: str, options: list[str]) -> None:
    made, _, ca = people
    person = made[kind]
    names = ("-signer", person.cert_file, "-inkey", person.key_file)
    theirs = cms("-sign", "-outform", "DER", "-binary", *names, *options)
    read = signed.parse_signed(ber.parse(theirs))
    (signer,) = read.signers
    found = pki.named(signer, (ca.certificate, *read.certificates))
    assert found is not None
    assert found == person.certificate
    assert (read.content is None) == (options == [])
    assert verify.check_signer(read, signer, found, LETTER) == ()
    assert verify.check_signer(read, signer, found, LETTER + b" ") == ("bad-signature",)
    assert (signer.signed_at is None) == ("-noattr" in options)


@pytest.mark.parametrize("digest", ["sha224", "sha512-224", "sha512-256", "sha3-224", "sha3-512"])
def test_we_verify_any_digest(people: People, digest: str) -> None:
    made, _, _ = people
    person = made["rsa2048"]
    names = ("-signer", person.cert_file, "-inkey", person.key_file)
    theirs = cms("-sign", "-outform", "DER", "-binary", "-nodetach", *names, "-md", digest)
    read = signed.parse_signed(ber.parse(theirs))
    assert read.signers[0].digest == digest
    assert verify.check_signer(read, read.signers[0], person.certificate) == ()


@pytest.mark.parametrize("salt", ["digest", "0", "20", "max"])
@pytest.mark.parametrize("mgf", ["sha256", "sha512"])
def test_we_verify_pss_with_any_parameters(people: People, salt: str, mgf: str) -> None:
    made, _, _ = people
    person = made["rsa2048"]
    options = ("rsa_padding_mode:pss", f"rsa_pss_saltlen:{salt}", f"rsa_mgf1_md:{mgf}")
    keyopts = [word for option in options for word in ("-keyopt", option)]
    theirs = cms(
        "-sign", "-outform", "DER", "-binary", "-nodetach", "-signer", person.cert_file,
        "-inkey", person.key_file, *keyopts,
    )  # fmt: skip
    read = signed.parse_signed(ber.parse(theirs))
    assert read.signers[0].signature_scheme == "rsa-pss"
    assert verify.check_signer(read, read.signers[0], person.certificate) == ()


def test_keys_for_pss_alone_sign_for_each_other(people: People, tmp_path: Path) -> None:
    """A key whose certificate says id-RSASSA-PSS with SHA-384: what either side signs, the other believes."""
    bound = ("rsa_pss_keygen_md:sha384", "rsa_pss_keygen_mgf1_md:sha384", "rsa_pss_keygen_saltlen:48")
    options = [word for option in ("rsa_keygen_bits:2048", *bound) for word in ("-pkeyopt", option)]
    key_file, cert_file, letter = tmp_path / "pss.key", tmp_path / "pss.pem", tmp_path / "letter"
    run("openssl", "genpkey", "-algorithm", "RSA-PSS", *options, "-out", key_file)
    run("openssl", "req", "-x509", "-new", "-key", key_file, "-subj", "/CN=pss", "-days", "3650",
        "-addext", "extendedKeyUsage=emailProtection", "-out", cert_file)  # fmt: skip
    certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    # without the option OpenSSL 3.0 writes rsaEncryption beside a PSS signature
    names = ("-signer", cert_file, "-inkey", key_file, "-keyopt", "rsa_padding_mode:pss", "-md", "sha384")
    read = signed.parse_signed(ber.parse(cms("-sign", "-outform", "DER", "-binary", "-nodetach", *names)))
    assert read.signers[0].signature_scheme == "rsa-pss"
    assert verify.check_signer(read, read.signers[0], certificate) == ()
    ours = signed.sign(LETTER, key=SoftwareKey(key), certificate=certificate, signed_at=AT)
    letter.write_bytes(ours)
    check = ("-verify", "-inform", "DER", "-CAfile", cert_file, "-partial_chain", "-binary", "-in", letter)
    assert cms(*check) == LETTER
    assert "sha384" in str(signed.parse_signed(ber.parse(ours)).signers[0].digest)


def test_several_signers_are_each_checked(people: People) -> None:
    made, _, _ = people
    two = (made["rsa2048"], made["p256"])
    names = [word for each in two for word in ("-signer", each.cert_file, "-inkey", each.key_file)]
    read = signed.parse_signed(ber.parse(cms("-sign", "-outform", "DER", "-binary", "-nodetach", *names)))
    found = {pki.named(signer, read.certificates): signer for signer in read.signers}
    assert set(found) == {each.certificate for each in two}
    for each in two:
        assert verify.check_signer(read, found[each.certificate], each.certificate) == ()


def test_sha1_is_weak_whoever_signed(people: People) -> None:
    made, _, _ = people
    person = made["rsa2048"]
    names = ("-signer", person.cert_file, "-inkey", person.key_file)
    theirs = cms("-sign", "-outform", "DER", "-binary", "-nodetach", "-md", "sha1", *names)
    read = signed.parse_signed(ber.parse(theirs))
    assert verify.check_signer(read, read.signers[0], person.certificate) == ("weak-algorithm",)


@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"])
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_opens_what_we_encrypt(people: People, kind: str, cipher: ContentCipher) -> None:
    made, _, _ = people
    person = made[kind]
    everybody = [made[each].certificate for each in KINDS]
    oaep: set[str] = {person.certificate.fingerprint(hashes.SHA256()).hex()}
    for oaep_for in (set(), oaep) if kind == "rsa2048" else (set(),):
        ours = enveloped.encrypt(LETTER, everybody, cipher=cipher, oaep_for=oaep_for)
        reader = ("-recip", person.cert_file, "-inkey", person.key_file)
        assert cms("-decrypt", "-inform", "DER", "-binary", *reader, stdin=ours) == LETTER


RECIPIENT_OPTIONS = {
    "rsa2048": {
        "rsa-pkcs1v15": "",
        "rsa-oaep-sha1": "rsa_padding_mode:oaep",
        "rsa-oaep-sha256": "rsa_padding_mode:oaep rsa_oaep_md:sha256",
        "rsa-oaep-sha384": "rsa_padding_mode:oaep rsa_oaep_md:sha384 rsa_mgf1_md:sha384",
        "rsa-oaep-sha3-256": "rsa_padding_mode:oaep rsa_oaep_md:sha3-256 rsa_mgf1_md:sha3-512",
        "rsa-oaep-sha512-256": "rsa_padding_mode:oaep rsa_oaep_md:sha512-256 rsa_mgf1_md:sha512-224",
        "rsa-oaep-sha512": "rsa_padding_mode:oaep rsa_oaep_md:sha512 rsa_mgf1_md:sha1 rsa_oaep_label:0a0b",
    },
    "p256": {"ecdh-es-p256": "", "ecdh-es-p256 ": "ecdh_kdf_md:sha256 ecdh_cofactor_mode:1"},
    "p384": {"ecdh-es-p384": "ecdh_kdf_md:sha384"},
    "p521": {"ecdh-es-p521": "ecdh_kdf_md:sha512"},
    "brainpoolp256r1": {"ecdh-es-brainpoolp256r1": "ecdh_kdf_md:sha224"},
    "brainpoolp384r1": {"ecdh-es-brainpoolp384r1": "ecdh_kdf_md:sha384 ecdh_cofactor_mode:1"},
    "brainpoolp512r1": {"ecdh-es-brainpoolp512r1": "ecdh_kdf_md:sha512"},
}


@pytest.mark.parametrize("layout", [[], ["-keyid"], ["-stream"]], ids=["issuer", "keyid", "stream"])
@pytest.mark.parametrize(
    ("kind", "management"), [(kind, name) for kind, names in RECIPIENT_OPTIONS.items() for name in names]
)
def test_we_open_what_openssl_encrypts(people: People, kind: str, management: str, layout: list[str]) -> None:
    made, _, _ = people
    person, other = made[kind], made["p256" if kind != "p256" else "p384"]
    keyopts = [word for option in RECIPIENT_OPTIONS[kind][management].split() for word in ("-keyopt", option)]
    for cipher in ("aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "aes-128-gcm", "aes-192-gcm", "aes-256-gcm"):
        theirs = cms(
            "-encrypt", "-outform", "DER", "-binary", f"-{cipher}", *layout,
            "-recip", other.cert_file, "-recip", person.cert_file, *keyopts,
        )  # fmt: skip
        envelope = enveloped.parse_enveloped(ber.parse(theirs))
        opened = enveloped.decrypt(envelope, [(person.certificate, person.key)])
        assert opened.content == LETTER
        assert opened.algorithm == cipher
        assert opened.authenticated == cipher.endswith("gcm")
        assert opened.key_management == management.strip()
        assert opened.certificate == person.certificate


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_triple_des_key_wrap_is_opened_only_when_asked(people: People, kind: str) -> None:
    made, _, _ = people
    person = made[kind]
    theirs = cms(
        "-encrypt", "-outform", "DER", "-binary", "-des3", "-recip", person.cert_file,
        "-keyopt", "ecdh_kdf_md:sha1",
    )  # fmt: skip
    envelope = enveloped.parse_enveloped(ber.parse(theirs))
    (recipient,) = envelope.recipients
    assert recipient.weak
    keys = [(person.certificate, person.key)]
    with pytest.raises(MedmailError) as refused:
        enveloped.decrypt(envelope, keys)
    assert refused.value.code == "weak-algorithm"
    opened = enveloped.decrypt(envelope, keys, allow_weak=True)
    assert (opened.content, opened.weak) == (LETTER, True)


@pytest.mark.parametrize("cipher", ["des3", "rc2-40", "rc2-64", "rc2-128"])
def test_old_ciphers_are_opened_only_when_asked(people: People, cipher: str) -> None:
    made, _, _ = people
    person = made["rsa2048"]
    theirs = cms(
        "-encrypt", "-outform", "DER", "-binary", f"-{cipher}", "-provider", "legacy", "-provider", "default",
        person.cert_file,
    )  # fmt: skip
    envelope = enveloped.parse_enveloped(ber.parse(theirs))
    keys = [(person.certificate, person.key)]
    with pytest.raises(MedmailError) as refused:
        enveloped.decrypt(envelope, keys)
    assert refused.value.code == "weak-algorithm"
    assert enveloped.decrypt(envelope, keys, allow_weak=True).content == LETTER


@pytest.mark.parametrize("cipher", ["des3", "rc2-40", "rc2-64", "rc2-128"])
def test_old_letters_are_given_to_keys_of_another_kind(people: People, cipher: str) -> None:
    """A key of five octets, too: it is wrapped with padding (RFC 5649)."""
    made, _, _ = people
    person = made["rsa2048"]
    legacy = ("-provider", "legacy", "-provider", "default")
    theirs = cms("-encrypt", "-outform", "DER", "-binary", f"-{cipher}", *legacy, person.cert_file)
    kinds: tuple[pki.KeyType, ...] = ("p256", "x25519", "ml-kem-768")
    for kind in kinds:
        heir, key = pki.issue(people[2], "heir@a.test", "both", kind)
        given = rewrap(ber.parse(theirs), [(person.certificate, person.key)], heir)
        envelope = enveloped.parse_enveloped(ber.parse(given))
        opened = enveloped.decrypt(envelope, [(heir, SoftwareKey(key))], allow_weak=True)
        assert (opened.content, opened.weak) == (LETTER, True)
    heir_too = made["p521"]
    given = rewrap(ber.parse(theirs), [(person.certificate, person.key)], heir_too.certificate)
    reader = ("-recip", heir_too.cert_file, "-inkey", heir_too.key_file)
    assert cms("-decrypt", "-inform", "DER", "-binary", *legacy, *reader, stdin=given) == LETTER
