"""Signing and checking signatures: round trips, changed octets, and attributes that do not agree."""

import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.cms import algorithms, ber, der, identifiers, signed, verify
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.model import SignatureScheme
from tests.support import pki
from tests.support.ber import restyle
from tests.support.people import AT, LETTER, Person, authority, person

pytestmark = pytest.mark.thorough

SCHEMES: list[tuple[pki.KeyType, SignatureScheme | None]] = [
    ("rsa2048", None), ("rsa2048", "rsa-pkcs1v15-sha384"), ("rsa2048", "rsa-pkcs1v15-sha512"),
    ("rsa2048", "rsa-pss-sha256"), ("rsa2048", "rsa-pss-sha384"), ("rsa2048", "rsa-pss-sha512"),
    ("p256", None), ("p256", "ecdsa-sha512"), ("p384", None), ("p521", None),
    ("brainpoolp256r1", None), ("brainpoolp384r1", None), ("brainpoolp512r1", "ecdsa-sha256"),
    ("ed25519", None), ("ed448", None), ("ml-dsa-44", None), ("ml-dsa-65", None), ("ml-dsa-87", None),
]  # fmt: skip


def check(encoded: bytes, certificate: x509.Certificate, content: bytes | None = None) -> tuple[str, ...]:
    """What is wrong with the only signature in a message."""
    read = signed.parse_signed(ber.parse(encoded))
    (signer,) = read.signers
    return verify.check_signer(read, signer, certificate, content)


def attributes_of(encoded: bytes) -> bytes:
    """The signed attributes as they stand in a message."""
    node = signed.parse_signed(ber.parse(encoded)).signers[0].signed_node
    assert node is not None
    return bytes(node.raw)


def sign(who: Person, content: bytes = LETTER, **options: Any) -> bytes:
    """A signed message with everything left as it is by default."""
    return signed.sign(content, key=who.key, certificate=who.certificate, signed_at=AT, **options)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(SCHEMES), st.binary(max_size=3000), st.booleans(), st.integers(0, 2**32))
def test_round_trip(
    kind: tuple[pki.KeyType, SignatureScheme | None], content: bytes, detached: bool, seed: int
) -> None:
    signer, reader = person(kind[0]), person("p256", "reader")
    encoded = sign(
        signer, content, scheme=kind[1], chain=authority().chain, detached=detached,
        encryption_certificate=reader.certificate,
    )  # fmt: skip
    # the same in BER, signed attributes included; certificates stay as their issuer signed them
    included = {*authority().chain, signer.certificate, reader.certificate}
    certificates = {each.public_bytes(Encoding.DER) for each in included}
    other = restyle(ber.parse(encoded), Random(seed), keep=lambda node: bytes(node.raw) in certificates)
    for form in (encoded, other):
        read = signed.parse_signed(ber.parse(form))
        (info,) = read.signers
        assert read.content == (None if detached else content)
        assert set(read.certificates) == included
        assert pki.named(info, read.certificates) == signer.certificate
        assert verify.check_signer(read, info, signer.certificate, content) == ()
        assert verify.check_signer(read, info, signer.certificate, content + b"!") == ("bad-signature",)
        assert info.signed_at == AT
        assert info.capabilities == algorithms.DEFAULT_CAPABILITIES
        preference = info.encryption_key_preference
        assert preference is not None
        assert preference.names(reader.certificate)
        assert not preference.names(signer.certificate)


@pytest.mark.parametrize(("kind", "step"), [("p256", 1), ("ed25519", 1), ("rsa2048", 7), ("ml-dsa-44", 19)])
def test_no_changed_bit_is_believed(kind: pki.KeyType, step: int) -> None:
    who = person(kind)
    encoded = bytearray(sign(who))
    attributes = attributes_of(bytes(encoded))
    for bit in range(0, len(encoded) * 8, step):
        encoded[bit // 8] ^= 1 << bit % 8
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of certificates that are none any more
                read = signed.parse_signed(ber.parse(bytes(encoded)))
            (info,) = read.signers
            found = pki.named(info, (*read.certificates, who.certificate))
            if found and verify.check_signer(read, info, found) == ():
                assert bytes(read.content or b"") == LETTER
                assert read.content_type == algorithms.DATA
                assert der.canonical(info.signed_node) == attributes  # type: ignore[arg-type]
                assert found == who.certificate
        except MedmailError as error:
            assert error.code == "malformed"  # noqa: PT017 - either outcome is right
        encoded[bit // 8] ^= 1 << bit % 8


def test_truncated_is_malformed() -> None:
    encoded = sign(person("ed25519"))
    for size in range(len(encoded)):
        with pytest.raises(MedmailError):
            signed.parse_signed(ber.parse(encoded[:size]))


def forge(
    who: Person,
    attributes: Callable[[dict[str, bytes]], None] | None,
    *,
    content: bytes = LETTER,
    content_type: str = algorithms.DATA,
    digest: str = "sha256",
    order: Callable[[list[bytes]], list[bytes]] = sorted,
    sign_as: int = 0x31,
    identifier: bytes | None = None,
) -> bytes:
    """A message put together by hand: attributes (identifier → value) changed, or none at all."""
    hasher = hashes.Hash(algorithms.hash_of(digest))
    hasher.update(content)
    algorithm = algorithms.identifier(algorithms.DIGESTS[digest])
    values = {
        algorithms.CONTENT_TYPE: der.oid(content_type),
        algorithms.MESSAGE_DIGEST: der.octet_string(hasher.finalize()),
    }
    encoded = b""
    signed_octets = content
    if attributes:
        attributes(values)
        listed = [der.sequence(der.oid(oid), der.tlv(0x31, value)) for oid, value in values.items()]
        encoded = der.tlv(0xA0, *order(listed))
        signed_octets = bytes([sign_as]) + encoded[1:]
    assert isinstance(who.private, rsa.RSAPrivateKey)
    signature = who.private.sign(signed_octets, padding.PKCS1v15(), algorithms.hash_of(digest))
    signer = der.sequence(
        der.integer(1),
        identifier or identifiers.issuer_and_serial_of(who.certificate),
        algorithm,
        encoded,
        algorithms.identifier(algorithms.RSA, der.NULL),
        der.octet_string(signature),
    )
    inner = der.sequence(der.oid(content_type), der.tlv(0xA0, der.octet_string(content)))
    data = der.sequence(der.integer(1), der.set_of([algorithm]), inner, der.set_of([signer]))
    return der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, data))


def keep(_: dict[str, bytes]) -> None:
    """Leave the attributes alone."""


def put(oid: str, value: bytes) -> Callable[[dict[str, bytes]], None]:
    """Set one attribute."""
    return lambda values: values.update({oid: value})


def drop(oid: str) -> Callable[[dict[str, bytes]], None]:
    """Leave one attribute out."""

    def change(values: dict[str, bytes]) -> None:
        del values[oid]

    return change


SHA256, SHA512 = (algorithms.identifier(algorithms.DIGESTS[name]) for name in ("sha256", "sha512"))
RSA_NULL = algorithms.identifier(algorithms.RSA, der.NULL)[2:]


def ess(certificate: x509.Certificate, *, v2: bool = True, serial: int | None = None) -> bytes:
    """A signing-certificate attribute."""
    digest = der.octet_string(certificate.fingerprint(hashes.SHA256() if v2 else hashes.SHA1()))  # noqa: S303
    issuer = der.sequence(der.tlv(0xA4, identifiers.issuer_octets(certificate)))
    named = [der.sequence(issuer, der.integer(serial))] if serial is not None else []
    return der.sequence(der.sequence(der.sequence(digest, *named)))


def test_attributes_must_agree() -> None:
    who, other = person("rsa2048"), person("rsa2048", "other")
    right = [
        keep,
        put(algorithms.SIGNING_CERTIFICATE_V2, ess(who.certificate)),
        put(algorithms.SIGNING_CERTIFICATE_V2, ess(who.certificate, serial=who.certificate.serial_number)),
        put(algorithms.SIGNING_CERTIFICATE, ess(who.certificate, v2=False)),
        put(algorithms.ALGORITHM_PROTECTION, der.sequence(SHA256, der.tlv(0xA1, RSA_NULL))),
        put("1.2.3.4", der.NULL),
    ]
    wrong = [
        drop(algorithms.CONTENT_TYPE),
        drop(algorithms.MESSAGE_DIGEST),
        put(algorithms.CONTENT_TYPE, der.oid(algorithms.SIGNED_DATA)),
        put(algorithms.CONTENT_TYPE, der.oid(algorithms.DATA) * 2),
        put(algorithms.CONTENT_TYPE, der.NULL),
        put(algorithms.MESSAGE_DIGEST, der.octet_string(bytes(32))),
        put(algorithms.MESSAGE_DIGEST, b""),
        put(algorithms.SIGNING_CERTIFICATE_V2, ess(other.certificate)),
        put(algorithms.SIGNING_CERTIFICATE_V2, ess(who.certificate, serial=5)),
        put(algorithms.SIGNING_CERTIFICATE_V2, der.sequence(der.sequence())),
        put(algorithms.SIGNING_CERTIFICATE, ess(other.certificate, v2=False)),
        put(algorithms.ALGORITHM_PROTECTION, der.sequence(SHA512, der.tlv(0xA1, RSA_NULL))),
        put(algorithms.ALGORITHM_PROTECTION, der.sequence(SHA256, der.tlv(0xA1, SHA256[2:]))),
        put(algorithms.ALGORITHM_PROTECTION, der.sequence(SHA256)),
    ]
    assert {check(forge(who, change), who.certificate) for change in right} == {()}
    assert {check(forge(who, change), who.certificate) for change in wrong} == {("bad-signature",)}


def test_attributes_that_are_not_der() -> None:
    """RFC 5652 5.4: signed in DER, sent in another order; or signed and sent as they are."""
    who = person("rsa2048")
    backwards = forge(who, keep, order=lambda listed: sorted(listed, reverse=True))
    assert check(backwards, who.certificate) == ()
    in_order = forge(who, keep)
    assert check(in_order.replace(attributes_of(in_order), attributes_of(backwards)), who.certificate) == ()
    assert check(forge(who, keep, sign_as=0xA0), who.certificate) == ("bad-signature",)


def test_without_attributes_only_data_and_never_somebodys_attributes() -> None:
    who = person("rsa2048")
    assert check(forge(who, None), who.certificate) == ()
    assert check(forge(who, None, content_type=algorithms.SIGNED_DATA), who.certificate) == ("bad-signature",)
    assert check(forge(who, None, content=b"1 letter that begins like a SET"), who.certificate) == ()
    attributes = b"\x31" + attributes_of(forge(who, keep))[1:]
    assert check(forge(who, None, content=attributes), who.certificate) == ("bad-signature",)


def test_weak_and_unknown() -> None:
    who = person("rsa2048")
    assert check(forge(who, keep, digest="sha1"), who.certificate) == ("weak-algorithm",)
    assert check(forge(who, keep, digest="md5"), who.certificate) == ("weak-algorithm",)
    unknown = forge(who, keep).replace(der.oid(algorithms.RSA), der.oid("1.2.840.113549.1.1.99"))
    assert check(unknown, who.certificate) == ("unsupported-algorithm",)
    small = person("rsa1024")
    assert check(sign(small), small.certificate) == ("weak-key",)
    assert check(sign(who, b"other"), small.certificate, LETTER) == ("bad-signature", "weak-key")


def test_key_of_another_kind() -> None:
    kinds: tuple[pki.KeyType, ...] = ("rsa2048", "p256", "ed25519", "ed448")
    for kind in kinds:
        for other in kinds:
            if other != kind:
                assert check(sign(person(other)), person(kind).certificate) == ("bad-signature",)


def test_signer_by_key_identifier() -> None:
    with_identifier = person("rsa2048")
    certificate, private = pki.issue(authority(), "x@a.test", "sign", subject_key_identifier=False)
    without = Person(certificate, SoftwareKey(private), private)
    for who in (with_identifier, without):
        identifier = der.octet_string(identifiers.key_identifier(who.certificate), 0x80)
        read = signed.parse_signed(ber.parse(forge(who, keep, identifier=identifier)))
        candidates = (authority().certificate, with_identifier.certificate, certificate)
        assert pki.named(read.signers[0], candidates) == who.certificate


def test_same_issuer_and_serial_in_another_encoding() -> None:
    who = person("rsa2048")
    identifier = restyle(ber.parse(identifiers.issuer_and_serial_of(who.certificate)), Random(3))
    read = signed.parse_signed(ber.parse(forge(who, keep, identifier=identifier)))
    assert pki.named(read.signers[0], [who.certificate]) == who.certificate


@pytest.mark.parametrize(
    ("tag", "text", "same"),
    [
        (0x0C, "People's Root", True),
        (0x13, "people's  ROOT ", True),
        (0x16, "People's Root", True),
        (0x1E, "People's Root", True),
        (0x0C, "People's Roof", False),
        (0x04, "People's Root", False),
        (0x1E, "odd", False),
    ],
)
def test_issuers_are_one_by_what_they_say(tag: int, text: str, same: bool) -> None:
    """RFC 5280 7.1: some software writes names out anew, with its own kind of strings."""
    certificate = person("rsa2048").certificate
    assert b"\x0c\x0dPeople's Root" in identifiers.issuer_octets(certificate)
    written = b"odd" if text == "odd" else text.encode("utf-16-be" if tag == 0x1E else "ascii")
    name = der.sequence(der.tlv(0x31, der.sequence(der.oid("2.5.4.3"), der.tlv(tag, written))))
    serial = identifiers.serial_number(certificate)
    assert identifiers.CertificateId(name, serial).names(certificate) == same
    assert not identifiers.CertificateId(name, serial + 1).names(certificate)


def test_an_issuer_that_is_no_name_names_nobody() -> None:
    certificate = person("p256").certificate
    identifier = identifiers.CertificateId(issuer=b"\x30\x80", serial=certificate.serial_number)
    assert not identifier.names(certificate)


def test_unreadable_certificates_are_left_out_and_signers_counted() -> None:
    who = person("p256")
    encoded = sign(who)
    ecdsa_sha256 = algorithms.identifier(algorithms.ECDSA_WITH["sha256"])
    broken = encoded.replace(ecdsa_sha256, b"\x31" + ecdsa_sha256[1:], 1)
    assert signed.parse_signed(ber.parse(broken)).certificates == ()
    many = der.sequence(
        der.integer(1),
        der.set_of([]),
        der.sequence(der.oid(algorithms.DATA)),
        der.tlv(0x31, bytes(_last_set(encoded).content) * 40),
    )
    many = der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, many))
    with pytest.raises(MedmailError):
        signed.parse_signed(ber.parse(many))


def _last_set(encoded: bytes) -> ber.Node:
    fields = ber.parse(encoded).fields()
    fields.take()
    return list(fields.take().explicit(0x80).elements())[-1]


def test_every_capability_is_read_as_it_was_written() -> None:
    names = tuple(algorithms.CAPABILITY_BYTES)
    assert {"chacha20-poly1305", "cek-hkdf-sha256", "ml-kem-768", "ml-kem-1024"} <= set(names)
    read = signed.parse_signed(ber.parse(sign(person("p256"), capabilities=names)))
    assert read.signers[0].capabilities == names


def test_capabilities_of_digests_without_null_are_the_same() -> None:
    """RFC 4055 2.1: both forms are to be accepted."""
    digests = "a00d300b0609608648016503040201a11a301806092a864886f70d010108300b0609608648016503040201"
    oaep = "303806092a864886f70d010107302b" + digests
    pss = "303d06092a864886f70d01010a3030" + digests + "a203020120"
    said = put(algorithms.CAPABILITIES, der.sequence(*map(bytes.fromhex, (oaep, pss))))
    (signer,) = signed.parse_signed(ber.parse(forge(person("rsa2048"), said))).signers
    assert signer.capabilities == ("rsa-oaep-sha256", "rsa-pss-sha256")


def test_oaep_is_read_as_the_rfc_prints_it() -> None:
    """RFC 3560 5 demands these octets of a capability, though they lack the tags of RSAES-OAEP-params."""
    digest = "300d06096086480165030402010500"
    printed = "303806092a864886f70d010107302b" + digest + "301a06092a864886f70d010108" + digest
    said = put(algorithms.CAPABILITIES, der.sequence(bytes.fromhex(printed)))
    (signer,) = signed.parse_signed(ber.parse(forge(person("rsa2048"), said))).signers
    assert signer.capabilities == ("rsa-oaep-sha256",)


def test_nothing_secret_is_shown() -> None:
    assert repr(person("p256").key) == "SoftwareKey(ECPrivateKey)"
    with pytest.raises(MedmailError) as error:
        person("p256").key.sign(b"", "ed25519")
    assert error.value.code == "unsupported-algorithm"
