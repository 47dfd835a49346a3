"""Private keys in the forms, and under the passwords, that people's tools write."""

import base64
import hashlib
import subprocess
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from medmail_cli.cms import algorithms, der
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509 import pbe
from medmail_cli.pki.x509.keyfile import read_keys
from medmail_cli.pki.x509.seeds import KINDS
from tests.support import pki
from tests.support.tools import require, run

pytestmark = pytest.mark.thorough

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

ROOT = pki.make_ca("Root")
CERTIFICATE, KEY = pki.issue(ROOT, "a@x.test", "both", "p256")
OIDS = {name: oid for oid, name in (algorithms.ML_KEM | algorithms.ML_DSA).items()}


def p12(password: bytes, *chain: x509.Certificate, old: bool = False) -> bytes:
    """A PKCS#12 file of the pair, in today's schemes or those of old tools."""
    scheme = pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC if old else pkcs12.PBES.PBESv2SHA256AndAES256CBC
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048).key_cert_algorithm(scheme)
    protection = builder.hmac_hash(hashes.SHA1() if old else hashes.SHA256()).build(password)  # noqa: S303 - as old tools
    assert isinstance(KEY, ec.EllipticCurvePrivateKey)
    return pkcs12.serialize_key_and_certificates(b"x", KEY, CERTIFICATE, chain, protection)


def never() -> bytes:
    raise AssertionError("asked for a password")


def refused(data: bytes, given: bytes = b"pw") -> MedmailError:
    with pytest.raises(MedmailError) as caught:
        read_keys(data, "keys.pem", lambda: given)
    return caught.value


def seeded(name: str, form: str) -> bytes:
    """PKCS#8 of a key of ML-KEM or ML-DSA in one of the three forms (RFC 9935 6, RFC 9881 6)."""
    kind = KINDS[name]
    seed = hashlib.shake_256(name.encode()).digest(kind.seed_size)
    expanded = kind.expand(seed, kind.from_seed(seed).public_key().public_bytes_raw())
    if form == "another's":
        other = seed[::-1]
        expanded = kind.expand(other, kind.from_seed(other).public_key().public_bytes_raw())
    inner = {
        "seed": der.octet_string(seed, 0x80),
        "expandedKey": der.octet_string(expanded),
    }.get(form, der.sequence(der.octet_string(seed), der.octet_string(expanded)))
    return der.sequence(der.integer(0), algorithms.identifier(OIDS[name]), der.octet_string(inner))


def as_pem(label: str, data: bytes) -> bytes:
    return (
        f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(data) + f"-----END {label}-----\n".encode()
    )


def sealed(data: bytes, password: bytes) -> bytes:
    """EncryptedPrivateKeyInfo over ``data`` (PBES2), whatever ``data`` is."""
    salt, vector = b"saltsalt", bytes(16)
    key = hashlib.pbkdf2_hmac("sha256", password, salt, 1000, 32)
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    fill = 16 - len(data) % 16
    octets = Cipher(AES(key), CBC(vector)).encryptor().update(data + bytes([fill]) * fill)
    function = algorithms.identifier("1.2.840.113549.2.9", der.NULL)
    derivation = algorithms.identifier(
        "1.2.840.113549.1.5.12", der.sequence(der.octet_string(salt), der.integer(1000), function)
    )
    cipher = algorithms.identifier("2.16.840.1.101.3.4.1.42", der.octet_string(vector))
    scheme = algorithms.identifier("1.2.840.113549.1.5.13", der.sequence(derivation, cipher))
    return der.sequence(scheme, der.octet_string(octets))


@pytest.mark.parametrize("name", KINDS)
def test_a_seed_alone_and_with_its_expanded_key_is_the_same_key(name: str) -> None:
    keys: list[PrivateKeyTypes] = []
    for data in (
        seeded(name, "seed"),
        seeded(name, "both"),
        as_pem("PRIVATE KEY", seeded(name, "both")),
        sealed(seeded(name, "both"), b"pw"),
        as_pem("ENCRYPTED PRIVATE KEY", sealed(seeded(name, "both"), b"pw")),
    ):
        keys += read_keys(data, "file", lambda: b"pw").keys
    assert (
        len(
            {
                key.public_key().public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
                for key in keys
            }
        )
        == 1
    )
    assert len(keys) == 5


@pytest.mark.parametrize("name", KINDS)
def test_an_expanded_key_alone_is_named_and_one_of_another_seed_is_refused(name: str) -> None:
    error = refused(seeded(name, "expandedKey"))
    assert (error.code, error.facts["algorithm"], error.facts["what"]) == (
        "expanded-key-only",
        name,
        "keys.pem",
    )
    assert refused(sealed(seeded(name, "expandedKey"), b"pw")).code == "expanded-key-only"
    assert refused(seeded(name, "another's")).code == "malformed"


ACCENTS = "mot de passe à l’hôpital"
WRITTEN = {
    "UTF-8": ACCENTS.encode(),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + ACCENTS.encode(),
    "NFD": unicodedata.normalize("NFD", ACCENTS).encode(),
    "CP1252": ACCENTS.encode("cp1252"),
    "UTF-16 with a mark": (ACCENTS + "\r\n").encode("utf-16"),
    "UTF-16 big-endian": b"\xfe\xff" + ACCENTS.encode("utf-16-be"),
    "UTF-16 without one": ACCENTS.encode("utf-16-le"),
}


@pytest.mark.parametrize("old", [False, True], ids=["PBES2", "3DES"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("given", WRITTEN.values(), ids=WRITTEN)
def test_a_password_opens_however_it_is_spelled(given: bytes, form: Literal["NFC", "NFD"], old: bool) -> None:
    password = unicodedata.normalize(form, ACCENTS).encode()
    data = p12(password, *ROOT.chain, old=old)
    found = read_keys(data, "file", lambda: given)
    assert [key.public_key() for key in found.keys] == [KEY.public_key()]
    pkcs8 = KEY.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(password)
    )
    assert read_keys(pkcs8, "file", lambda: given).keys[0].public_key() == KEY.public_key()


@pytest.mark.parametrize("charset", ["cp1252", "cp850", "utf-8"])
@pytest.mark.parametrize(
    "options", [(), ("-legacy",), ("-keypbe", "AES-256-CBC", "-certpbe", "NONE"), ("-nomac",)], ids=str
)
def test_openssl_under_a_console_of_any_character_set(
    tmp_path: Path, charset: str, options: tuple[str, ...]
) -> None:
    """OpenSSL takes the octets that the console gives it; ones that are no UTF-8 it widens."""
    require("openssl")
    password = "mot de passe à l'hôpital"
    (tmp_path / "password").write_bytes(password.encode(charset) + b"\n")
    (tmp_path / "pair.pem").write_bytes(pki.pem(CERTIFICATE, KEY))
    run("openssl", "pkcs12", "-export", "-in", tmp_path / "pair.pem", "-out", tmp_path / "pair.p12",
        "-passout", f"file:{tmp_path / 'password'}", *options)  # fmt: skip
    run("openssl", "pkcs8", "-topk8", "-scrypt", "-in", tmp_path / "pair.pem", "-out", tmp_path / "key.pem",
        "-passout", f"file:{tmp_path / 'password'}")  # fmt: skip
    for file in ("pair.p12", "key.pem"):
        found = read_keys((tmp_path / file).read_bytes(), "file", password.encode)
        assert [key.public_key() for key in found.keys] == [KEY.public_key()]
        assert refused((tmp_path / file).read_bytes(), b"another").code == "wrong-p12-password"


@pytest.mark.parametrize("given", [b"", b"\xff\xfe", b"\0", b"\xed\xa0\x80", b"\x81\x8d", b"\xff" * 9])
def test_no_password_ends_in_another_error(given: bytes) -> None:
    for old in (False, True):
        data = p12(b"pw", old=old)
        assert refused(data, given).code == "wrong-p12-password"


@pytest.mark.parametrize("rounds", [pbe.MOST_ROUNDS + 1, 2**31, 2**63, -1, 0])
@pytest.mark.parametrize("where", ["mac", "safe", "key"])
def test_a_file_that_wants_too_many_rounds_is_refused_before_any(where: str, rounds: int) -> None:
    def scheme() -> bytes:
        parameters = der.sequence(der.octet_string(b"saltsalt"), der.integer(rounds))
        return algorithms.identifier("1.2.840.113549.1.12.1.3", parameters)

    if where == "key":
        data = der.sequence(scheme(), der.octet_string(bytes(16)))
    else:
        empty = der.tlv(0xA0, der.octet_string(der.sequence()))
        content = der.sequence(der.oid("1.2.840.113549.1.7.1"), empty)
        if where == "safe":
            info = der.sequence(der.oid("1.2.840.113549.1.7.1"), scheme(), der.octet_string(bytes(16), 0x80))
            sealing = der.sequence(
                der.oid("1.2.840.113549.1.7.6"), der.tlv(0xA0, der.sequence(der.integer(0), info))
            )
            octets = der.octet_string(der.sequence(sealing))
            data = der.sequence(
                der.integer(3), der.sequence(der.oid("1.2.840.113549.1.7.1"), der.tlv(0xA0, octets))
            )
        else:
            digest = der.sequence(
                algorithms.identifier("1.3.14.3.2.26", der.NULL), der.octet_string(bytes(20))
            )
            mac = der.sequence(digest, der.octet_string(b"saltsalt"), der.integer(rounds))
            data = der.sequence(der.integer(3), content, mac)
    error = refused(data)
    assert error.code == ("too-many-rounds" if rounds > 0 else "malformed")
    assert error.facts["what"] == "keys.pem"


def test_scrypt_that_wants_too_much_is_refused() -> None:
    numbers = [der.integer(number) for number in (1 << 20, 8, 1)]
    derivation = algorithms.identifier(
        "1.3.6.1.4.1.11591.4.11", der.sequence(der.octet_string(b"salt"), *numbers)
    )
    cipher = algorithms.identifier("2.16.840.1.101.3.4.1.42", der.octet_string(bytes(16)))
    scheme = algorithms.identifier("1.2.840.113549.1.5.13", der.sequence(derivation, cipher))
    assert refused(der.sequence(scheme, der.octet_string(bytes(16)))).code == "too-many-rounds"


def test_a_certificate_that_stands_there_twice_is_one() -> None:
    twice = p12(b"pw", CERTIFICATE, *ROOT.chain, CERTIFICATE)
    assert read_keys(twice, "file", lambda: b"pw").certificates == (CERTIFICATE, *ROOT.chain)


def test_pkcs12_in_base64_or_pem_is_read() -> None:
    data = pki.p12(CERTIFICATE, KEY, ROOT.chain, b"pw")
    for written in (
        base64.b64encode(data), base64.encodebytes(data),
        b"\xef\xbb\xbf" + base64.encodebytes(data).replace(b"\n", b"\r\n"),
        as_pem("PKCS12", data),
    ):  # fmt: skip
        assert read_keys(written, "file", lambda: b"pw").keys[0].public_key() == KEY.public_key()


def test_keys_in_base64_or_after_a_mark_are_read() -> None:
    plain = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for written in (base64.encodebytes(plain), b"\xef\xbb\xbf" + as_pem("PRIVATE KEY", plain)):
        assert read_keys(written, "file", never).keys[0].public_key() == KEY.public_key()


def test_java_key_stores_are_named(tmp_path: Path) -> None:
    require("keytool")
    for kind in ("JKS", "JCEKS"):
        store = tmp_path / f"keys.{kind}"
        subprocess.run(
            ["keytool", "-genkeypair", "-storetype", kind, "-keystore", store, "-storepass", "changeit",
             "-keypass", "changeit", "-dname", "CN=a", "-alias", "a", "-keyalg", "RSA"],
            check=True, capture_output=True,
        )  # fmt: skip
        error = refused(store.read_bytes())
        assert (error.code, error.facts["kind"]) == ("other-container", kind)
