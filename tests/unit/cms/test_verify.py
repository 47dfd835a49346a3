"""Checking signers whose keys, digests and parameters are unusual, restricted or too weak."""

import hashlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import algorithms, ber, der, enveloped, identifiers, signed, verify
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.cms.verify import check_plain
from medmail_cli.errors import MedmailError
from tests.support import pki
from tests.support.people import AT, LETTER, Person, authority, person

SHA1, SHA256, SHA512, SHAKE256 = (
    algorithms.identifier(algorithms.DIGESTS[name]) for name in ("sha1", "sha256", "sha512", "shake256")
)
UNKNOWN = algorithms.identifier("1.2.3.4")


def message(
    certificate: x509.Certificate,
    make: Callable[[bytes], bytes],
    signature_algorithm: bytes,
    *,
    digest: bytes = SHA256,
    hashed: bytes | None = None,
    further: bytes = b"",
) -> bytes:
    """A SignedData put together by hand; ``hashed`` is the messageDigest, None for no signed attributes.

    ``further`` is one more of these.
    """
    attributes, octets = b"", LETTER
    if hashed is not None:
        listed = [
            der.sequence(der.oid(algorithms.CONTENT_TYPE), der.tlv(0x31, der.oid(algorithms.DATA))),
            der.sequence(der.oid(algorithms.MESSAGE_DIGEST), der.tlv(0x31, der.octet_string(hashed))),
            *([further] if further else []),
        ]
        attributes, octets = der.set_of(listed, 0xA0), der.set_of(listed)
    signer = der.sequence(
        der.integer(1),
        identifiers.issuer_and_serial_of(certificate),
        digest,
        attributes,
        signature_algorithm,
        der.octet_string(make(octets)),
    )
    inner = der.sequence(der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(LETTER)))
    data = der.sequence(der.integer(1), der.set_of([digest]), inner, der.set_of([signer]))
    return der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, data))


def check(encoded: bytes, certificate: x509.Certificate) -> tuple[str, ...]:
    """What is wrong with the only signature in a message."""
    read = signed.parse_signed(ber.parse(encoded))
    return verify.check_signer(read, read.signers[0], certificate)


def with_key(certificate: x509.Certificate, algorithm: bytes, octets: bytes) -> x509.Certificate:
    """The same certificate around another public key; its issuer's signature does not matter here."""
    tbs, *rest = ber.parse(certificate.public_bytes(Encoding.DER)).elements()
    fields = [bytes(field.raw) for field in tbs.elements()]
    fields[6] = der.sequence(algorithm, der.bit_string(octets))
    encoded = der.sequence(der.sequence(*fields), *(bytes(each.raw) for each in rest))
    return x509.load_der_x509_certificate(encoded)


def for_pss(who: Person, *parameters: bytes) -> x509.Certificate:
    """A person's RSA certificate, which says that the key signs with PSS alone."""
    octets = identifiers.public_key_octets(who.certificate)
    return with_key(who.certificate, algorithms.identifier(algorithms.RSA_PSS, *parameters), octets)


def pss(who: Person, digest: str, mgf: str, salt: int) -> bytes:
    """A message signed with PSS and just these parameters."""
    hashed, generator = (algorithms.identifier(algorithms.DIGESTS[name], der.NULL) for name in (digest, mgf))
    parameters = der.sequence(
        der.tlv(0xA0, hashed),
        der.tlv(0xA1, algorithms.identifier(algorithms.MGF1, generator)),
        der.tlv(0xA2, der.integer(salt)),
    )
    private = who.private
    assert isinstance(private, rsa.RSAPrivateKey)
    padded = padding.PSS(padding.MGF1(algorithms.hash_of(mgf)), salt)
    return message(
        who.certificate,
        lambda octets: private.sign(octets, padded, algorithms.hash_of(digest)),
        algorithms.identifier(algorithms.RSA_PSS, parameters),
    )


def test_pss_with_any_parameters() -> None:
    who = person("rsa2048")
    for digest, mgf, salt in (("sha256", "sha512", 0), ("sha512", "sha256", 190), ("sha384", "sha384", 48)):
        assert check(pss(who, digest, mgf, salt), who.certificate) == ()
    assert check(pss(who, "sha256", "sha1", 32), who.certificate) == ("weak-algorithm",)


def test_protected_parameters_left_to_their_default_are_those_written_out() -> None:
    """RFC 6211 3, and RFC 4055 2.1 for digests with NULL and without."""
    who, with_null = person("rsa2048"), algorithms.identifier(algorithms.DIGESTS["sha256"], der.NULL)
    digest, padded = hashlib.sha256(LETTER).digest(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    private = who.private
    assert isinstance(private, rsa.RSAPrivateKey)

    def algorithm(hashed: bytes, salt: int, *more: bytes) -> bytes:
        generator = algorithms.identifier(algorithms.MGF1, hashed)
        stated = der.tlv(0xA0, hashed), der.tlv(0xA1, generator), der.tlv(0xA2, der.integer(salt))
        return algorithms.identifier(algorithms.RSA_PSS, der.sequence(*stated, *more))

    def protected(stated: bytes) -> tuple[str, ...]:
        value = der.sequence(SHA256, der.tlv(0xA1, ber.parse(stated).content))
        made = message(
            who.certificate,
            lambda octets: private.sign(octets, padded, hashes.SHA256()),
            algorithm(with_null, 32),
            hashed=digest,
            further=signed.attribute(algorithms.ALGORITHM_PROTECTION, value),
        )
        return check(made, who.certificate)

    trailer = der.tlv(0xA3, der.integer(1))
    for same in (algorithm(with_null, 32), algorithm(with_null, 32, trailer), algorithm(SHA256, 32)):
        assert protected(same) == ()
    for other in (algorithm(with_null, 20), algorithm(SHA512, 32), algorithms.identifier(algorithms.RSA)):
        assert protected(other) == ("bad-signature",)


def test_a_key_for_pss_alone_signs_with_pss_and_its_parameters() -> None:
    who = person("rsa2048")
    free, bound = for_pss(who), for_pss(who, algorithms.pss_parameters("sha256"))
    for certificate in (free, bound):
        assert check(pss(who, "sha256", "sha256", 32), certificate) == ()
        assert check(pss(who, "sha256", "sha256", 64), certificate) == ()
        v15 = signed.sign(LETTER, key=who.key, certificate=who.certificate, signed_at=AT)
        assert check(v15, certificate) == ("bad-signature",)
        # by itself it signs as its certificate allows, and nobody encrypts for it
        assert (
            check(signed.sign(LETTER, key=who.key, certificate=certificate, signed_at=AT), certificate) == ()
        )
        with pytest.raises(MedmailError, match="unsupported-algorithm"):
            enveloped.encrypt(LETTER, [certificate])
    # whatever everybody else would be sent
    longer = for_pss(who, algorithms.pss_parameters("sha384"))
    wanted = signed.sign(LETTER, key=who.key, certificate=longer, signed_at=AT, scheme="rsa-pss-sha256")
    assert check(wanted, longer) == ()
    for others in (("sha512", "sha256", 32), ("sha256", "sha512", 32), ("sha256", "sha256", 20)):
        assert check(pss(who, *others), free) == ()
        assert check(pss(who, *others), bound) == ("bad-signature",)


def test_keys_too_weak_to_be_believed() -> None:
    small = person("p192")
    assert check(signed.sign(LETTER, key=small.key, certificate=small.certificate, signed_at=AT),
                 small.certificate) == ("weak-key",)  # fmt: skip
    who = person("rsa2048")
    encoded = signed.sign(LETTER, key=who.key, certificate=who.certificate, signed_at=AT)
    brainpool_p160 = algorithms.identifier(algorithms.EC_PUBLIC_KEY, der.oid("1.3.36.3.3.2.8.1.1.1"))
    unread = with_key(who.certificate, brainpool_p160, b"\4" + bytes(40))
    assert check(encoded, unread) == ("unsupported-algorithm", "weak-key")
    unknown = with_key(who.certificate, algorithms.identifier("1.2.3.4"), b"key")
    assert check(encoded, unknown) == ("unsupported-algorithm",)
    for certificate in (unread, unknown):
        with pytest.raises(MedmailError, match="unsupported-algorithm"):
            enveloped.encrypt(LETTER, [certificate])
    assert isinstance(who.private, rsa.RSAPrivateKey)
    modulus = der.integer(who.private.private_numbers().public_numbers.n)
    for exponent in (1, 65536):
        key = der.sequence(modulus, der.integer(exponent))
        forged = with_key(who.certificate, algorithms.identifier(algorithms.RSA, der.NULL), key)
        assert check(encoded, forged) == ("bad-signature", "weak-key")


def test_dsa_is_checked_but_weak() -> None:
    key = dsa.generate_private_key(2048)
    encoded = ber.parse(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    algorithm, bits = encoded.elements()
    certificate = with_key(person("p256").certificate, bytes(algorithm.raw), bytes(bits.bits()))
    for oid in ("2.16.840.1.101.3.4.3.2", "1.2.840.10040.4.1"):
        by_dsa = message(
            certificate, lambda octets: key.sign(octets, hashes.SHA256()), algorithms.identifier(oid)
        )
        assert check(by_dsa, certificate) == ("weak-algorithm", "weak-key")
        forged = message(certificate, lambda _: key.sign(b"", hashes.SHA256()), algorithms.identifier(oid))
        assert "bad-signature" in check(forged, certificate)


@pytest.mark.parametrize("digest", algorithms.DIGESTS)
def test_any_digest_with_any_signature_ends_in_a_verdict(digest: str) -> None:
    hashed = algorithms.identifier(algorithms.DIGESTS[digest])
    rsa_key, ec_key = person("rsa2048").certificate, person("p256").certificate
    for mgf in algorithms.DIGESTS:
        generator = algorithms.identifier(algorithms.DIGESTS[mgf])
        parameters = der.sequence(
            der.tlv(0xA0, hashed), der.tlv(0xA1, algorithms.identifier(algorithms.MGF1, generator))
        )
        encoded = message(
            rsa_key, lambda _: bytes(256), algorithms.identifier(algorithms.RSA_PSS, parameters)
        )
        unknown = "shake" in mgf  # MGF1 has no use for it
        assert check(encoded, rsa_key)[0] == ("unsupported-algorithm" if unknown else "bad-signature")
    for certificate, oid in ((rsa_key, algorithms.RSA), (ec_key, algorithms.EC_PUBLIC_KEY)):
        encoded = message(certificate, lambda _: bytes(256), algorithms.identifier(oid), digest=hashed)
        assert check(encoded, certificate)[0] in ("unsupported-algorithm", "bad-signature")


@pytest.mark.parametrize(
    ("oid", "kind", "digest"),
    [
        ("1.2.840.113549.1.1.15", "rsa2048", "sha512-224"),
        ("1.2.840.113549.1.1.16", "rsa2048", "sha512-256"),
        ("2.16.840.1.101.3.4.3.13", "rsa2048", "sha3-224"),
        ("2.16.840.1.101.3.4.3.9", "p256", "sha3-224"),
    ],
)
def test_identifiers_that_fix_a_rare_digest(oid: str, kind: pki.KeyType, digest: str) -> None:
    """RFC 8017 appendix A.2.4, NIST's registry for SHA-3."""
    who, hashed = person(kind), algorithms.hash_of(digest)

    def make(octets: bytes) -> bytes:
        if isinstance(who.private, rsa.RSAPrivateKey):
            return who.private.sign(octets, padding.PKCS1v15(), hashed)
        assert isinstance(who.private, ec.EllipticCurvePrivateKey)
        return who.private.sign(octets, ec.ECDSA(hashed))

    assert check(message(who.certificate, make, algorithms.identifier(oid)), who.certificate) == ()
    other = message(who.certificate, lambda octets: make(octets + b"!"), algorithms.identifier(oid))
    assert check(other, who.certificate) == ("bad-signature",)


@pytest.mark.parametrize(
    ("oid", "digest"),
    [
        ("1.2.840.113549.1.1.13", "sha512"),
        ("1.2.840.10045.4.3.3", "sha384"),
        ("1.2.840.113549.1.1.5", "sha1"),
    ],
)
def test_a_signature_s_identifier_where_the_digest_belongs(oid: str, digest: str) -> None:
    """As software of old has it; what is weak stays so."""
    who = person("rsa2048")
    assert isinstance(who.private, rsa.RSAPrivateKey)
    hashed, private = algorithms.hash_of(digest), who.private
    content = hashlib.new(digest, LETTER, usedforsecurity=False).digest()
    encoded = message(
        who.certificate,
        lambda octets: private.sign(octets, padding.PKCS1v15(), hashed),
        algorithms.identifier(algorithms.RSA),
        digest=algorithms.identifier(oid),
        hashed=content,
    )
    assert check(encoded, who.certificate) == (("weak-algorithm",) if digest == "sha1" else ())


def test_ecdsa_with_shake() -> None:
    who = person("p256")
    private = who.private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    for oid, hashed in (
        ("1.3.6.1.5.5.7.6.32", hashes.SHAKE128(32)),
        ("1.3.6.1.5.5.7.6.33", hashes.SHAKE256(64)),
    ):
        encoded = message(
            who.certificate,
            lambda octets, hashed=hashed: private.sign(octets, ec.ECDSA(hashed)),  # type: ignore[misc]
            algorithms.identifier(oid),
            digest=SHAKE256,
            hashed=hashlib.shake_256(LETTER).digest(64),
        )
        assert check(encoded, who.certificate) == ()


def test_ed448_says_how_long_its_digest_is() -> None:
    """RFC 8419 3.1: id-shake256-len with 512; peers also write id-shake256, whose length is fixed."""
    who = person("ed448")
    ours = signed.sign(LETTER, key=who.key, certificate=who.certificate, signed_at=AT)
    written = signed.parse_signed(ber.parse(ours)).signers[0]
    assert bytes(written.digest_algorithm.node.raw).hex() == "300f060960864801650304021202020200"
    assert written.digest == "shake256"
    for digest, octets, problems in (
        (algorithms.identifier(algorithms.SHAKE256_LEN, der.integer(512)), 64, ()),
        (SHAKE256, 64, ()),
        (algorithms.identifier(algorithms.SHAKE256_LEN, der.integer(256)), 32, ("unsupported-algorithm",)),
        (algorithms.identifier(algorithms.SHAKE256_LEN, der.integer(512)), 32, ("bad-signature",)),
        (algorithms.identifier(algorithms.SHAKE256_LEN), 64, ("unsupported-algorithm",)),
    ):
        encoded = message(
            who.certificate,
            lambda octets: who.key.sign(octets, "ed448"),
            algorithms.identifier(algorithms.ED448),
            digest=digest,
            hashed=hashlib.shake_256(LETTER).digest(octets),
        )
        assert check(encoded, who.certificate) == problems


@pytest.mark.parametrize("kind", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ed25519"])
def test_pure_signatures_need_a_digest_for_attributes_only(kind: pki.KeyType) -> None:
    """RFC 9882 3.3: digestAlgorithm is ignored where there are no signed attributes."""
    who = person(kind)
    oid = next(oid for oid, (name, _) in algorithms.SIGNATURES.items() if name == kind)

    def signs(octets: bytes) -> bytes:
        return who.key.sign(octets, kind)  # type: ignore[arg-type]

    def made(digest: bytes, hashed: bytes | None, *parameters: bytes) -> tuple[str, ...]:
        algorithm = algorithms.identifier(oid, *parameters)
        return check(
            message(who.certificate, signs, algorithm, digest=digest, hashed=hashed), who.certificate
        )

    for digest in (SHA512, SHA1, UNKNOWN):
        assert made(digest, None) == ()
    assert made(SHA512, hashlib.sha512(LETTER).digest()) == ()
    assert made(SHAKE256, hashlib.shake_256(LETTER).digest(64)) == ()
    assert made(SHA1, hashlib.sha1(LETTER).digest()) == ("weak-algorithm",)
    assert made(UNKNOWN, b"") == ("unsupported-algorithm",)
    if kind != "ed25519":
        assert made(SHA512, None, der.NULL) == ("bad-signature",)


def test_a_pure_signature_over_attributes_is_not_one_over_content() -> None:
    who = person("ml-dsa-44")
    ours = signed.sign(LETTER, key=who.key, certificate=who.certificate, signed_at=AT)
    info = signed.parse_signed(ber.parse(ours)).signers[0]
    assert info.signed_node is not None
    attributes = b"\x31" + bytes(info.signed_node.raw[1:])
    moved = message(
        who.certificate, lambda _: info.signature, algorithms.identifier(info.signature_algorithm.oid)
    )
    read = signed.parse_signed(ber.parse(moved))
    assert verify.check_signer(read, read.signers[0], who.certificate, attributes) == ("bad-signature",)


def test_software_keys_sign_only_as_they_are() -> None:
    certificate, private = pki.issue(authority(), "v@a.test", "sign", "ml-dsa-65")
    key = SoftwareKey(private)
    assert check(signed.sign(LETTER, key=key, certificate=certificate, signed_at=AT), certificate) == ()
    with pytest.raises(MedmailError, match="unsupported-algorithm"):
        signed.sign(LETTER, key=key, certificate=certificate, signed_at=AT, scheme="ml-dsa-87")


def test_a_plain_signature_with_mgf1_over_shake_is_not_believed_and_raises_nothing() -> None:
    """OCSP answers and CMP messages bear such; a server, or whoever put one into a letter, chooses."""
    written = algorithms.pss_parameters("sha256")
    sha256, shake256 = (der.oid(algorithms.DIGESTS[name]) for name in ("sha256", "shake256"))
    assert written.count(sha256) == 2
    first, second, rest = written.split(sha256)
    parameters = first + sha256 + second + shake256 + rest
    algorithm = algorithms.read(ber.parse(algorithms.identifier(algorithms.RSA_PSS, parameters)))
    somebody = person("rsa2048")
    assert check_plain(algorithm, somebody.certificate, bytes(255) + b"\1", b"octets") is False
