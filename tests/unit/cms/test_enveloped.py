"""Encrypting and opening: round trips, changed octets, old and odd forms, and one look for every failure."""

import hashlib
import hmac
import secrets
from random import Random
from typing import Any, get_args

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.cms import agreement, algorithms, ber, der, enveloped, identifiers
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.model import ContentCipher, KeyTransport
from tests.support import pki
from tests.support.ber import restyle
from tests.support.people import LETTER, Person, person

pytestmark = pytest.mark.thorough

KINDS: tuple[pki.KeyType, ...] = (
    "rsa2048", "p256", "p384", "p521", "brainpoolp256r1", "brainpoolp384r1", "brainpoolp512r1",
    "x25519", "x448", "ml-kem-768", "ml-kem-1024",
)  # fmt: skip
CIPHERS: tuple[ContentCipher, ...] = get_args(ContentCipher)


def opened(encoded: bytes, *readers: Person, **options: Any) -> enveloped.Decrypted:
    """Open a message with the readers' keys."""
    keys = [(reader.certificate, reader.key) for reader in readers]
    return enveloped.decrypt(enveloped.parse_enveloped(ber.parse(encoded)), keys, **options)


def failure(encoded: bytes, *readers: Person) -> MedmailError:
    """How opening a message fails."""
    with pytest.raises(MedmailError) as error:
        opened(encoded, *readers)
    return error.value


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique=True),
    st.sampled_from(CIPHERS),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=2000),
    st.integers(0, 2**32),
)
def test_round_trip(
    kinds: list[pki.KeyType],
    cipher: ContentCipher,
    oaep: bool,
    derive_key: bool,
    content: bytes,
    seed: int,
) -> None:
    readers = [person(kind) for kind in kinds]
    oaep_for = {each.certificate.fingerprint(hashes.SHA256()).hex() for each in readers if oaep}
    encoded = enveloped.encrypt(
        content,
        [each.certificate for each in readers],
        cipher=cipher,
        oaep_for=oaep_for,
        derive_key=derive_key,
    )
    names: dict[str, str] = {kind: kind for kind in kinds if kind.startswith("ml-")}
    names |= {"rsa2048": "rsa-oaep-sha256" if oaep else "rsa-pkcs1v15"}
    for form in (encoded, restyle(ber.parse(encoded), Random(seed))):
        for kind, reader in zip(kinds, readers, strict=True):
            # somebody else's key before ours is not used
            read = opened(form, person(kind, "other"), reader)
            assert read.content == content
            assert read.certificate == reader.certificate
            assert read.algorithm == cipher
            assert read.authenticated == (not cipher.endswith("cbc"))
            assert not read.weak
            assert read.key_management == names.get(kind, f"ecdh-es-{kind}")
        assert failure(form, *(person(kind, "other") for kind in kinds)).code == "no-key"


def transport(
    reader: Person,
    key: bytes,
    *,
    wrapped: bytes | None = None,
    algorithm: bytes = b"",
    named: Person | None = None,
) -> bytes:
    """A key transport entry; ``wrapped`` replaces what RSA would make of the key, ``named`` whom it names."""
    public = reader.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    return der.sequence(
        der.integer(0),
        identifiers.issuer_and_serial_of((named or reader).certificate),
        algorithm or algorithms.identifier(algorithms.RSA, der.NULL),
        der.octet_string(public.encrypt(key, padding.PKCS1v15()) if wrapped is None else wrapped),
    )


def authenticated(
    entries: list[bytes],
    key: bytes,
    *,
    attributes: bytes = b"",
    aad: bytes = b"",
    tag_length: int = 16,
    stated_length: int | None = 16,
    nonce_length: int = 12,
    content_type: str = algorithms.DATA,
    mode: str = "gcm",
) -> bytes:
    """An AuthEnvelopedData put together by hand."""
    nonce = secrets.token_bytes(nonce_length)
    if mode == "ccm":
        sealed = AESCCM(key, tag_length).encrypt(nonce, LETTER, aad).ljust(len(LETTER) + 16, b"\0")
    else:
        sealed = AESGCM(key).encrypt(nonce.ljust(8, b"\0"), LETTER, aad)
    stated = [der.integer(stated_length)] if stated_length is not None else []
    parameters = der.sequence(der.octet_string(nonce), *stated)
    algorithm = algorithms.identifier(algorithms.CIPHER_OIDS[f"aes-256-{mode}"], parameters)
    inner = der.sequence(der.oid(content_type), algorithm, der.octet_string(sealed[:-16], 0x80))
    tag = der.octet_string(sealed[-16:][:tag_length])
    content = der.sequence(der.integer(0), der.set_of(entries), inner, attributes, tag)
    return der.sequence(der.oid(algorithms.AUTH_ENVELOPED_DATA), der.tlv(0xA0, content))


def test_authenticated_attributes_are_associated_data_in_der() -> None:
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    listed = [
        der.sequence(der.oid(algorithms.CONTENT_TYPE), der.tlv(0x31, der.oid(algorithms.DATA))),
        der.sequence(der.oid("1.2.3.4"), der.tlv(0x31, der.octet_string(b"note"))),
        der.sequence(der.oid("1.2.3"), der.tlv(0x31, der.NULL)),
    ]
    aad = der.set_of(listed)
    entries = [transport(reader, key)]
    for sent in (der.set_of(listed, 0xA1), der.tlv(0xA1, *sorted(listed, reverse=True)),
                 b"\xa1\x80" + b"".join(listed) + b"\0\0"):  # fmt: skip
        assert opened(authenticated(entries, key, attributes=sent, aad=aad), reader).content == LETTER
    assert (
        failure(authenticated(entries, key, attributes=der.set_of(listed[1:], 0xA1), aad=aad), reader).code
        == "bad-tag"
    )
    as_sent = authenticated(entries, key, attributes=der.set_of(listed, 0xA1), aad=der.set_of(listed, 0xA1))
    assert failure(as_sent, reader).code == "bad-tag"


def test_content_type_of_what_is_not_data_must_be_authenticated() -> None:
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    entries = [transport(reader, key)]
    named = der.sequence(der.oid(algorithms.CONTENT_TYPE), der.tlv(0x31, der.oid(algorithms.SIGNED_DATA)))
    attributes, aad = der.tlv(0xA1, named), der.tlv(0x31, named)
    agreed = authenticated(entries, key, attributes=attributes, aad=aad, content_type=algorithms.SIGNED_DATA)
    assert opened(agreed, reader).content == LETTER
    assert enveloped.parse_enveloped(ber.parse(agreed)).content_type == algorithms.SIGNED_DATA
    for wrong in (
        authenticated(entries, key, content_type=algorithms.SIGNED_DATA),
        authenticated(entries, key, attributes=attributes, aad=aad),
        authenticated(
            entries, key, attributes=der.tlv(0xA1, der.sequence()), aad=der.tlv(0x31, der.sequence())
        ),
    ):
        assert failure(wrong, reader).code == "bad-tag"


@pytest.mark.parametrize(
    "form",
    [
        {"tag_length": 16, "stated_length": 12},
        {"tag_length": 12, "stated_length": 16},
        {"tag_length": 16, "stated_length": None},
        {"tag_length": 4, "stated_length": 4},
        {"tag_length": 0, "stated_length": 0},
        {"nonce_length": 0},
        {"nonce_length": 7},
        {"nonce_length": 100},
    ],
    ids=str,
)
def test_tags_and_nonces_of_wrong_length(form: dict[str, Any]) -> None:
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    assert failure(authenticated([transport(reader, key)], key, **form), reader).code == "bad-tag"


@pytest.mark.parametrize(
    "form",
    [
        {"tag_length": 12, "stated_length": None},
        {"tag_length": 13, "stated_length": 13},
        {"nonce_length": 16},
        {"nonce_length": 8},
    ],
    ids=str,
)
def test_shorter_tags_and_other_nonces_the_rfc_allows(form: dict[str, Any]) -> None:
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    assert opened(authenticated([transport(reader, key)], key, **form), reader).content == LETTER


def test_ccm_as_the_rfc_allows_it_and_with_no_shorter_tag() -> None:
    """RFC 5084 1.5, 3.1."""
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    entries = [transport(reader, key)]
    for nonce, tag in ((7, 16), (12, 12), (13, 14)):
        form: dict[str, Any] = {"mode": "ccm", "nonce_length": nonce, "tag_length": tag, "stated_length": tag}
        encoded = authenticated(entries, key, **form)
        found = opened(encoded, reader)
        assert (found.content, found.algorithm, found.authenticated) == (LETTER, "aes-256-ccm", True)
        assert failure(_flip(encoded, -1), reader).code == "bad-tag"
        assert failure(authenticated(entries, key, aad=b"other", **form), reader).code == "bad-tag"
    short = authenticated(entries, key, mode="ccm", tag_length=8, stated_length=8)
    assert failure(short, reader).code == "bad-tag"
    gcm, ccm = (der.oid(algorithms.CIPHER_OIDS[f"aes-256-{mode}"]) for mode in ("gcm", "ccm"))
    wrongs: list[dict[str, Any]] = [{"nonce_length": 16}, {"tag_length": 13, "stated_length": 13}, {}]
    for wrong in wrongs:
        other = authenticated(entries, key, **wrong).replace(gcm, ccm)
        assert failure(other, reader).code == "bad-tag"


@pytest.mark.parametrize("digest", algorithms.DIGESTS)
@pytest.mark.parametrize("mgf", ["sha1", "sha256", "sha3-512", "shake256"])
def test_oaep_with_any_digest_opens_or_fails_like_anything_else(digest: str, mgf: str) -> None:
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    public = reader.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    hashed, generator = (algorithms.identifier(algorithms.DIGESTS[name], der.NULL) for name in (digest, mgf))
    parameters = der.sequence(
        der.tlv(0xA0, hashed),
        der.tlv(0xA1, algorithms.identifier(algorithms.MGF1, generator)),
        der.tlv(0xA2, algorithms.identifier(algorithms.P_SPECIFIED, der.octet_string(b"label"))),
    )
    scheme = padding.OAEP(padding.MGF1(algorithms.hash_of(mgf)), algorithms.hash_of(digest), b"label")
    try:
        wrapped = public.encrypt(key, scheme)
    except (UnsupportedAlgorithm, TypeError):
        wrapped = bytes(256)
    entry = transport(
        reader, key, wrapped=wrapped, algorithm=algorithms.identifier(algorithms.RSA_OAEP, parameters)
    )
    encoded = authenticated([entry], key)
    if wrapped == bytes(256):
        assert failure(encoded, reader).code == "bad-tag"
    else:
        assert opened(encoded, reader).key_management == f"rsa-oaep-{digest}"
        other = encoded.replace(b"label", b"Label")
        assert failure(other, reader).code == "bad-tag"


def test_all_failures_after_our_name_look_the_same() -> None:
    """Bleichenbacher and Vaudenay learn nothing: wrong padding, length, key, entry, tag give one error."""
    reader, other, key = person("rsa2048"), person("rsa2048", "other"), secrets.token_bytes(32)
    good = transport(reader, key)
    oaep = algorithms.identifier(algorithms.RSA_OAEP, algorithms.oaep_parameters("sha256"))
    ecdh = algorithms.identifier(algorithms.STD_DH_SHA256, algorithms.identifier(algorithms.AES256_WRAP))
    entries = {
        "random octets": transport(reader, key, wrapped=secrets.token_bytes(256)),
        "too large for the modulus": transport(reader, key, wrapped=b"\xff" * 256),
        "too short": transport(reader, key, wrapped=b"1234"),
        "too long": transport(reader, key, wrapped=bytes(1000)),
        "empty": transport(reader, key, wrapped=b""),
        "zero": transport(reader, key, wrapped=bytes(256)),
        "a key of 16 octets": transport(reader, key[:16]),
        "a key of no octets": transport(reader, b""),
        "another key": transport(reader, secrets.token_bytes(32)),
        "for another's key": transport(other, key, named=reader),
        "v1.5 called OAEP": transport(reader, key, algorithm=oaep),
        "OAEP without parameters": transport(
            reader, key, algorithm=algorithms.identifier(algorithms.RSA_OAEP)
        ),
        "unknown algorithm": transport(reader, key, algorithm=algorithms.identifier("1.2.3.4")),
        "agreement as transport": transport(reader, key, algorithm=ecdh),
    }
    seen = {name: failure(authenticated([entry], key), reader) for name, entry in entries.items()}
    seen["tag"] = failure(authenticated([good], key, aad=b"other"), reader)
    cbc = enveloped.encrypt(LETTER, [reader.certificate], cipher="aes-256-cbc")
    seen["padding"] = failure(_flip(cbc, -17), reader)
    seen["half a block"] = failure(_replace_last_octets(cbc), reader)
    kinds: tuple[pki.KeyType, ...] = ("p256", "x25519")
    for kind in kinds:
        reader = person(kind)
        encoded = enveloped.encrypt(LETTER, [reader.certificate])
        for bad in (bytes(65), bytes(32), b"", b"\x04" + bytes(64)):
            seen[f"{kind} point {len(bad)}"] = failure(_with_point(encoded, bad), reader)
    assert {(error.code, str(error)) for error in seen.values()} == {("bad-tag", "bad-tag")}


def _flip(encoded: bytes, at: int) -> bytes:
    changed = bytearray(encoded)
    changed[at] ^= 0x55
    return bytes(changed)


def _replace_last_octets(cbc: bytes) -> bytes:
    """The same EnvelopedData with eight octets fewer of ciphertext, all lengths put right."""
    return _rebuild(
        ber.parse(cbc), lambda node: node.tag == 0x80 and not node.constructed, lambda old: old[:-8]
    )


def _with_point(encoded: bytes, point: bytes) -> bytes:
    return _rebuild(ber.parse(encoded), lambda node: node.tag == ber.BIT_STRING, lambda _: b"\0" + point)


def _rebuild(node: ber.Node, chosen: Any, change: Any) -> bytes:
    if node.constructed:
        return der.tlv(node.raw[0], *(_rebuild(child, chosen, change) for child in node.elements()))
    return der.tlv(node.raw[0], change(bytes(node.content)) if chosen(node) else node.content)


def test_a_key_that_cannot_be_used_says_so() -> None:
    class Locked(SoftwareKey):
        def decrypt(self, ciphertext: bytes, scheme: KeyTransport) -> bytes:  # noqa: ARG002
            raise MedmailError("store-damaged")

    reader = person("rsa2048")
    envelope = enveloped.parse_enveloped(ber.parse(enveloped.encrypt(LETTER, [reader.certificate])))
    with pytest.raises(MedmailError) as error:
        enveloped.decrypt(envelope, [(reader.certificate, Locked(reader.private))])
    assert error.value.code == "store-damaged"
    # unless another opens the letter, whichever entry comes first
    other = person("p256")
    both = enveloped.encrypt(LETTER, [reader.certificate, other.certificate])
    keys = [(reader.certificate, Locked(reader.private)), (other.certificate, other.key)]
    assert enveloped.decrypt(enveloped.parse_enveloped(ber.parse(both)), keys).content == LETTER
    assert enveloped.decrypt(enveloped.parse_enveloped(ber.parse(both)), keys[::-1]).content == LETTER


def test_another_entry_is_tried_when_one_does_not_fit() -> None:
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    bad = transport(reader, secrets.token_bytes(32))
    assert opened(authenticated([bad, transport(reader, key)], key), reader).content == LETTER
    assert (
        failure(
            authenticated([transport(reader, secrets.token_bytes(32)) for _ in range(20)], key), reader
        ).code
        == "bad-tag"
    )


def test_gcm_in_plain_enveloped_data_is_called_by_its_name() -> None:
    reader, key = person("rsa2048"), secrets.token_bytes(32)
    algorithm = algorithms.identifier(
        algorithms.CIPHER_OIDS["aes-256-gcm"], der.sequence(der.octet_string(bytes(12)), der.integer(16))
    )
    inner = der.sequence(der.oid(algorithms.DATA), algorithm, der.octet_string(b"12345678", 0x80))
    data = der.sequence(der.integer(0), der.set_of([transport(reader, key)]), inner)
    encoded = der.sequence(der.oid(algorithms.ENVELOPED_DATA), der.tlv(0xA0, data))
    error = failure(encoded, reader)
    assert (error.code, error.facts) == ("bad-tag", {"tagless": "aes-256-gcm"})
    assert (failure(encoded, person("p256")).code, failure(encoded, reader).code) == ("no-key", "bad-tag")


def test_cbc_in_authenticated_data_looks_like_any_other_failure() -> None:
    reader = person("rsa2048")
    encoded = enveloped.encrypt(LETTER, [reader.certificate])
    gcm, cbc = (der.oid(algorithms.CIPHER_OIDS[f"aes-256-{mode}"]) for mode in ("gcm", "cbc"))
    assert failure(encoded.replace(gcm, cbc), reader).code == "bad-tag"


def agree(
    reader: Person,
    key: bytes,
    scheme: str,
    *,
    ukm: bytes | None,
    wrap: bytes,
    key_info: bytes,
    size: int,
    salted: bool,
) -> bytes:
    """A key agreement entry by RecipientKeyIdentifier, as a peer might write it."""
    public = reader.certificate.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        own = ec.generate_private_key(public.curve)
        secret = own.exchange(ec.ECDH(), public)
        point = own.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        algorithm = algorithms.identifier(algorithms.EC_PUBLIC_KEY, der.oid("1.2.840.10045.3.1.7"))
    else:
        assert isinstance(public, x25519.X25519PublicKey)
        ephemeral = x25519.X25519PrivateKey.generate()
        secret = ephemeral.exchange(public)
        point = ephemeral.public_key().public_bytes_raw()
        algorithm = algorithms.identifier(algorithms.X25519)
    kek = agreement.derive(scheme, secret, key_info, size, ukm, salted=salted)
    identifier = der.tlv(0xA0, der.octet_string(identifiers.key_identifier(reader.certificate)))
    return der.tlv(
        0xA1,
        der.integer(3),
        der.tlv(0xA0, der.tlv(0xA1, algorithm, der.bit_string(point))),
        der.tlv(0xA1, der.octet_string(ukm)) if ukm is not None else b"",
        algorithms.identifier(scheme, wrap),
        der.sequence(der.sequence(identifier, der.octet_string(aes_key_wrap(kek, key)))),
    )


@pytest.mark.parametrize("ukm", [None, b"", b"keying material"])
@pytest.mark.parametrize("scheme", algorithms.KEY_AGREEMENTS)
@pytest.mark.parametrize("salted", [True, False], ids=["salted", "as Bouncy Castle"])
def test_key_agreement_as_peers_write_it(scheme: str, ukm: bytes | None, salted: bool) -> None:
    key = secrets.token_bytes(32)
    kinds: tuple[pki.KeyType, ...] = ("p256", "x25519")
    for kind in kinds:
        reader = person(kind)
        for oid, size in algorithms.KEY_WRAPS.items():
            absent, null = algorithms.identifier(oid), algorithms.identifier(oid, der.NULL)
            for wrap, key_info in ((absent, absent), (null, null), (absent, null), (null, absent)):
                form = {"wrap": wrap, "key_info": key_info}
                entry = agree(reader, key, scheme, ukm=ukm, size=size, salted=salted, **form)
                assert opened(authenticated([entry], key), reader).content == LETTER


def test_key_derivation_by_hand() -> None:
    """RFC 5753 7.2 and RFC 8418 2.2: one block of X9.63 over SHA-256; HKDF with the ukm as salt."""
    wrap = bytes.fromhex("300b06096086480165030401" + "2d")
    info = wrap + bytes.fromhex("a0070405") + b"12345" + bytes.fromhex("a206040400000100")
    info = bytes([0x30, len(info)]) + info
    secret = bytes(range(32))
    x963 = hashlib.sha256(secret + b"\0\0\0\1" + info).digest()
    assert agreement.derive(algorithms.STD_DH_SHA256, secret, wrap, 32, b"12345") == x963
    extracted = hmac.digest(b"12345", secret, "sha256")
    hkdf = hmac.digest(extracted, info + b"\1", "sha256")
    assert agreement.derive(algorithms.STD_DH_HKDF_SHA256, secret, wrap, 32, b"12345") == hkdf


def test_a_thousand_recipients() -> None:
    reader, key = person("p256"), secrets.token_bytes(32)
    one = enveloped.encrypt(b"", [person("p256", "other").certificate])
    entry = bytes(_recipients(one).content)
    mine = bytes(_recipients(enveloped.encrypt(LETTER, [reader.certificate])).content)
    many = authenticated([*[entry] * 10_000, mine], key)
    assert len(enveloped.parse_enveloped(ber.parse(many)).recipients) == 10_001
    assert failure(many, reader).code == "bad-tag"


def _recipients(encoded: bytes) -> ber.Node:
    fields = ber.parse(encoded).fields()
    fields.take()
    return next(node for node in fields.take().explicit(0x80).elements() if node.tag == ber.SET)


def test_nobody_to_encrypt_for() -> None:
    with pytest.raises(ValueError, match="no recipients"):
        enveloped.encrypt(LETTER, [])
    with pytest.raises(MedmailError) as error:
        enveloped.encrypt(LETTER, [person("ed25519").certificate])
    assert error.value.code == "unsupported-algorithm"
