"""Every cipher for every kind of recipient, in every form peers write; all that is changed is refused."""

import itertools
import secrets
import time
from collections.abc import Callable
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import mlkem, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding

from medmail_cli.cms import agreement, algorithms, ber, der, enveloped, identifiers, keywrap
from medmail_cli.errors import MedmailError
from medmail_cli.model import ContentCipher
from tests.support import pki
from tests.support.people import LETTER, Person, person

pytestmark = pytest.mark.thorough

KINDS: tuple[pki.KeyType, ...] = (
    "rsa2048", "p256", "p384", "p521", "brainpoolp256r1", "brainpoolp384r1", "brainpoolp512r1",
    "x25519", "x448", "ml-kem-768", "ml-kem-1024",
)  # fmt: skip
CIPHERS: tuple[ContentCipher, ...] = get_args(ContentCipher)


def opened(encoded: bytes, reader: Person) -> enveloped.Decrypted:
    """Open a message with the reader's key."""
    return enveloped.decrypt(
        enveloped.parse_enveloped(ber.parse(encoded)), [(reader.certificate, reader.key)]
    )


def failure(encoded: bytes, reader: Person) -> str:
    """The code that opening ends with."""
    with pytest.raises(MedmailError) as error:
        opened(encoded, reader)
    assert error.value.code != "bad-tag" or error.value.facts == {}
    return error.value.code


def rebuilt(node: ber.Node, change: Callable[[ber.Node], bytes | None]) -> bytes:
    """An element in DER where ``change`` replaces some of the elements inside."""
    replaced = change(node)
    if replaced is not None:
        return replaced
    if not node.constructed:
        return der.tlv(node.raw[0], node.content)
    return der.tlv(node.raw[0], *(rebuilt(child, change) for child in node.elements()))


def by_key_identifier(encoded: bytes, reader: Person) -> bytes:
    """The same message, whose entry names the reader's key instead of the certificate."""
    name = identifiers.issuer_and_serial_of(reader.certificate)
    octets = identifiers.key_identifier(reader.certificate)
    agreed = not isinstance(reader.key.public_key, rsa.RSAPublicKey) and not algorithms.ml_name(
        reader.key.public_key
    )
    other = der.tlv(0xA0, der.octet_string(octets)) if agreed else der.octet_string(octets, 0x80)
    return rebuilt(ber.parse(encoded), lambda node: other if bytes(node.raw) == name else None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_cipher_and_name_for_every_recipient(kind: pki.KeyType) -> None:
    reader = person(kind)
    for cipher, derive_key in itertools.product(CIPHERS, (False, True)):
        encoded = enveloped.encrypt(LETTER, [reader.certificate], cipher=cipher, derive_key=derive_key)
        for form in (encoded, by_key_identifier(encoded, reader)):
            found = opened(form, reader)
            assert (found.content, found.algorithm) == (LETTER, cipher)
            assert found.authenticated == (not cipher.endswith("cbc"))
            assert found.key_management.endswith(kind if kind != "rsa2048" else "rsa-pkcs1v15")
            assert failure(form, person(kind, "other")) == "no-key"


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("p256", "1.3.132.1.11.1"), ("p384", "1.3.132.1.11.2"), ("p521", "1.3.132.1.11.3"),
     ("brainpoolp384r1", "1.3.132.1.11.2"), ("brainpoolp512r1", "1.3.132.1.11.3"),
     ("x25519", "1.2.840.113549.1.9.16.3.19"), ("x448", "1.2.840.113549.1.9.16.3.21")],
)  # fmt: skip
def test_keys_are_agreed_with_a_digest_as_strong_as_the_curve(kind: pki.KeyType, scheme: str) -> None:
    encoded = enveloped.encrypt(LETTER, [person(kind).certificate])
    (entry,) = enveloped.parse_enveloped(ber.parse(encoded)).recipients
    assert entry.algorithm.oid == scheme


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "brainpoolp256r1", "x25519", "x448"])
def test_an_agreed_key_is_wrapped_as_strongly_as_it_encrypts(kind: pki.KeyType) -> None:
    """RFC 8551 2.3: AES-128 key wrap with AES-128, AES-256 with AES-256, and no mixture of them."""
    for cipher in CIPHERS:
        encoded = enveloped.encrypt(LETTER, [person(kind).certificate], cipher=cipher)
        envelope = enveloped.parse_enveloped(ber.parse(encoded))
        (wrap,) = (entry.algorithm.parameters for entry in envelope.recipients)
        assert wrap is not None
        assert envelope.cipher is not None
        assert algorithms.KEY_WRAPS[algorithms.read(wrap).oid] == envelope.cipher.key_size


@pytest.mark.parametrize("kind", ["ml-kem-768", "ml-kem-1024"])
def test_an_encapsulated_key_is_wrapped_by_what_every_reader_has(kind: pki.KeyType) -> None:
    """RFC 9936 2.1: AES-256 key wrap, whatever the cipher."""
    for cipher in CIPHERS:
        encoded = enveloped.encrypt(LETTER, [person(kind).certificate], cipher=cipher)
        (entry,) = enveloped.parse_enveloped(ber.parse(encoded)).recipients
        assert entry.kem is not None
        assert (entry.kem.wrap.oid, entry.kem.kek_size) == (algorithms.AES256_WRAP, 32)


@pytest.mark.parametrize(("kind", "derive_key"), [(kind, at % 2 == 1) for at, kind in enumerate(KINDS)])
def test_no_changed_bit_and_no_cut_is_opened(kind: pki.KeyType, derive_key: bool) -> None:
    reader = person(kind)
    cipher: ContentCipher = "chacha20-poly1305" if kind in ("p384", "x448") else "aes-256-gcm"
    encoded = bytearray(enveloped.encrypt(LETTER, [reader.certificate], cipher=cipher, derive_key=derive_key))
    codes = set()
    for bit in range(len(encoded) * 8):
        encoded[bit // 8] ^= 1 << bit % 8
        try:
            assert opened(bytes(encoded), reader).content == LETTER  # a version, a tag that nobody looks at
        except MedmailError as error:
            codes.add(error.code)
            assert error.code != "bad-tag" or not error.facts  # noqa: PT017 - either outcome is right
        encoded[bit // 8] ^= 1 << bit % 8
    assert codes == {"malformed", "no-key", "bad-tag", "unsupported-algorithm"}
    for size in range(len(encoded)):
        assert failure(bytes(encoded[:size]), reader) == "malformed"


def test_what_is_wrong_after_our_entry_looks_like_any_failure() -> None:
    """In another's entry or after all of them; where only the other is spoiled, ours opens the letter."""
    reader, other = person("rsa2048"), person("p256", "other")
    encoded = bytearray(enveloped.encrypt(LETTER, [reader.certificate, other.certificate]))
    ours, theirs = enveloped.parse_enveloped(ber.parse(bytes(encoded))).recipients
    begins = encoded.index(ours.encrypted_key) + len(ours.encrypted_key)
    ends = encoded.index(theirs.encrypted_key) + len(theirs.encrypted_key)
    codes: dict[bool, set[str]] = {True: set(), False: set()}
    for bit in range(begins * 8, len(encoded) * 8):
        encoded[bit // 8] ^= 1 << bit % 8
        try:
            assert opened(bytes(encoded), reader).content == LETTER
        except MedmailError as error:
            codes[bit < ends * 8].add(error.code)
        encoded[bit // 8] ^= 1 << bit % 8
    assert codes == {True: set(), False: {"bad-tag", "unsupported-algorithm"}}


def test_another_s_entry_that_cannot_be_read_is_passed_over() -> None:
    """Beside ours in one key agreement, or alone: then nothing can be said of whom the letter is for."""
    reader = person("p256")
    name = identifiers.issuer_and_serial_of(reader.certificate)
    encoded = enveloped.encrypt(LETTER, [reader.certificate])
    for spoiled in (der.sequence(), der.NULL, der.sequence(der.tlv(0x80, b"key"), der.NULL)):

        def with_spoiled(node: ber.Node, spoiled: bytes = spoiled) -> bytes | None:
            if node.constructed and next(node.elements()).raw == name:
                return spoiled + bytes(node.raw) + spoiled
            return None

        assert opened(rebuilt(ber.parse(encoded), with_spoiled), reader).content == LETTER
        alone = rebuilt(
            ber.parse(encoded),
            lambda node, s=spoiled: s if node.constructed and next(node.elements()).raw == name else None,  # type: ignore[misc]
        )
        assert failure(alone, reader) == "malformed"


def encapsulated(
    reader: Person,
    key: bytes,
    *,
    derivation: bytes,
    wrap: str = algorithms.AES256_WRAP,
    size: int | None = None,
    ukm: bytes | None = None,
    kem: str = "",
    change: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """A KEMRecipientInfo as a peer might write it, around AES-256-GCM."""
    public = reader.certificate.public_key()
    assert isinstance(public, mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey)
    secret, ciphertext = public.encapsulate()
    algorithm = algorithms.identifier(wrap)
    length = keywrap.kek_size(wrap) or 32
    kind = algorithms.key_derivation(algorithms.read(ber.parse(derivation)))
    kek = agreement.derive_kem(kind, secret, algorithm, length, ukm)
    wrapped = (aes_key_wrap if wrap in algorithms.KEY_WRAPS else aes_key_wrap_with_padding)(kek, key)
    oid = next(oid for oid, name in algorithms.ML_KEM.items() if name == (kem or algorithms.ml_name(public)))
    entry = der.sequence(
        der.integer(0),
        identifiers.issuer_and_serial_of(reader.certificate),
        algorithms.identifier(oid),
        der.octet_string(change(ciphertext)),
        derivation,
        der.integer(length if size is None else size),
        der.tlv(0xA0, der.octet_string(ukm)) if ukm is not None else b"",
        algorithm,
        der.octet_string(wrapped),
    )
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(key).encrypt(nonce, LETTER, None)
    parameters = der.sequence(der.octet_string(nonce), der.integer(16))
    cipher = algorithms.identifier(algorithms.CIPHER_OIDS["aes-256-gcm"], parameters)
    content = der.sequence(der.oid(algorithms.DATA), cipher, der.octet_string(sealed[:-16], 0x80))
    entries = der.tlv(0x31, der.tlv(0xA4, der.oid(algorithms.ORI_KEM), entry))
    data = der.sequence(der.integer(0), entries, content, der.octet_string(sealed[-16:]))
    return der.sequence(der.oid(algorithms.AUTH_ENVELOPED_DATA), der.tlv(0xA0, data))


HKDF_SHA256 = algorithms.identifier(algorithms.HKDF_SHA256)
DERIVATIONS = [
    *(algorithms.identifier(f"1.2.840.113549.1.9.16.3.{number}") for number in (28, 29, 30, 32, 33, 34, 35)),
    *(
        algorithms.identifier(
            f"1.3.133.16.840.9.44.1.{number}", algorithms.identifier(algorithms.DIGESTS[name])
        )
        for number in (1, 2)
        for name in ("sha256", "sha512", "sha3-256")
    ),
]


@pytest.mark.parametrize("kind", ["ml-kem-768", "ml-kem-1024"])
def test_encapsulation_as_peers_write_it(kind: pki.KeyType) -> None:
    reader, key = person(kind), secrets.token_bytes(32)
    wraps = (*algorithms.KEY_WRAPS, *algorithms.PADDED_KEY_WRAPS)
    for derivation, wrap, ukm in itertools.product(DERIVATIONS, wraps, (None, b"", b"material")):
        encoded = encapsulated(reader, key, derivation=derivation, wrap=wrap, ukm=ukm)
        found = opened(encoded, reader)
        assert (found.content, found.key_management) == (LETTER, kind)


def test_encapsulation_that_does_not_fit_looks_like_any_failure() -> None:
    reader, key = person("ml-kem-768"), secrets.token_bytes(32)
    wrong: list[dict[str, Any]] = [
        {"size": 16},
        {"size": 0},
        {"size": -1},
        {"size": 1 << 64},
        {"kem": "ml-kem-1024"},
        {"change": lambda ciphertext: bytes([ciphertext[0] ^ 1]) + ciphertext[1:]},
        {"change": lambda ciphertext: ciphertext[:-1]},
        {"change": lambda ciphertext: ciphertext + b"\0"},
        {"change": lambda _: b""},
    ]
    for each in wrong:
        assert failure(encapsulated(reader, key, derivation=HKDF_SHA256, **each), reader) == "bad-tag"
    good = encapsulated(reader, key, derivation=HKDF_SHA256)
    for other in ("1.3.133.16.840.9.44.1.2", "1.2.3.4"):
        changed = good.replace(der.oid(algorithms.HKDF_SHA256), der.oid(other))
        same_length = len(der.oid(other)) == len(der.oid(algorithms.HKDF_SHA256))
        assert failure(changed, reader) == ("bad-tag" if same_length else "malformed")


def test_encapsulated_keys_as_published() -> None:
    """RFC 9936 appendix C: from the shared secret to the content-encryption key."""
    wrap = "2.16.840.1.101.3.4.1.5"
    secret = bytes.fromhex("7df12d412ae299a24fde6d7c3bb8e3194c80ad3c733dcf2775e09fe8bedb86d8")
    kek = agreement.derive_kem(("hkdf", "sha256"), secret, algorithms.identifier(wrap), 16, None)
    assert kek.hex() == "cf453a3e2bae0a78701b8206c185a008"
    wrapped = bytes.fromhex("c050e4392f9c14dd0ac2220203f317d701f94f9dd92778f5")
    assert keywrap.unwrap_key(wrap, kek, wrapped).hex() == "c5153005588269a0a59f3c01943fdd56"


def test_derived_keys_as_published() -> None:
    """RFC 9709 appendix A.2 and B.2: one key, two ciphers, two derived keys."""
    key = bytes.fromhex("c702e7d0a9e064b09ba55245fb733cf3")
    gcm = bytes.fromhex("301b0609608648016503040106300e040c5c79058ba2f43447639d29e2")
    cbc = bytes.fromhex("301d06096086480165030401020410651f722ffd512c52fe072e507d72b377")
    assert agreement.derive_content_key(key, gcm).hex() == "2124ffb29fac4e0fbbc7d5d87492bff3"
    assert agreement.derive_content_key(key, cbc).hex() == "9cd102c52f1e19ece8729b35bfeceb50"


def test_a_derived_key_serves_only_the_cipher_it_was_derived_for() -> None:
    """RFC 9709 1: GCM's key stream is of no use under CBC; nor may the derivation be taken away or added."""
    reader = person("p256")
    for derive_key in (True, False):
        encoded = enveloped.encrypt(LETTER, [reader.certificate], derive_key=derive_key)
        _, wrapped = ber.parse(encoded).elements()
        version, entries, content, tag = (bytes(each.raw) for each in wrapped.explicit(0x80).elements())
        kind, algorithm, octets = (bytes(each.raw) for each in ber.parse(content).elements())
        oid, inner = ber.parse(algorithm).elements()
        other = (
            bytes(inner.raw) if derive_key else der.sequence(der.oid(algorithms.CEK_HKDF_SHA256), algorithm)
        )
        data = der.sequence(version, entries, der.sequence(kind, other, octets), tag)
        form = der.sequence(der.oid(algorithms.AUTH_ENVELOPED_DATA), der.tlv(0xA0, data))
        assert failure(form, reader) == "bad-tag"
        assert oid.oid() in (algorithms.CEK_HKDF_SHA256, algorithms.CIPHER_OIDS["aes-256-gcm"])
        twice = der.sequence(der.oid(algorithms.CEK_HKDF_SHA256), der.sequence(
            der.oid(algorithms.CEK_HKDF_SHA256), algorithm))  # fmt: skip
        data = der.sequence(version, entries, der.sequence(kind, twice, octets), tag)
        form = der.sequence(der.oid(algorithms.AUTH_ENVELOPED_DATA), der.tlv(0xA0, data))
        assert failure(form, reader) == "unsupported-algorithm"


def test_key_wraps_as_published() -> None:
    """RFC 3217 4.1, RFC 5649 6."""
    triple_des = keywrap.unwrap_key(
        algorithms.TRIPLE_DES_WRAP,
        bytes.fromhex("255e0d1c07b646dfb3134cc843ba8aa71f025b7c0838251f"),
        bytes.fromhex("690107618ef092b3b48ca1796b234ae9fa33ebb4159604037db5d6a84eb3aac2768c632775a467d4"),
    )
    assert triple_des.hex() == "2923bf85e06dd6ae529149f1f1bae9eab3a7da3d860d3e98"
    padded = keywrap.unwrap_key(
        "2.16.840.1.101.3.4.1.28",
        bytes.fromhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"),
        bytes.fromhex("138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"),
    )
    assert padded.hex() == "c37b7e6492584340bed12207808941155068f738"


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "ml-kem-768"])
def test_failures_take_the_same_work(kind: pki.KeyType) -> None:
    """The content is decrypted whether or not the entry unwrapped, and a tag is looked at only afterwards."""
    reader = person(kind)
    encoded = enveloped.encrypt(bytes(24_000_000), [reader.certificate])
    envelope = enveloped.parse_enveloped(ber.parse(encoded))
    (entry,) = envelope.recipients
    spoiled = entry.encrypted_key[:-1] + bytes([entry.encrypted_key[-1] ^ 1])

    def seconds(**changes: Any) -> float:
        damaged = enveloped.EnvelopedData(**{**vars(envelope), **changes})
        best = 60.0
        for _ in range(5):
            started = time.process_time()
            with pytest.raises(MedmailError, match="bad-tag"):
                enveloped.decrypt(damaged, [(reader.certificate, reader.key)])
            best = min(best, time.process_time() - started)
        return best

    tag = seconds(tag=bytes(16))
    unwrapped = seconds(recipients=(type(entry)(**{**vars(entry), "encrypted_key": spoiled}),))
    assert tag / 2 < unwrapped < tag * 2
