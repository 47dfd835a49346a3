"""CMP messages: read strictly whatever comes, and protected as OpenSSL's command line protects them."""

import datetime as dt
import functools
import hashlib
import hmac
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.cms import ber, der
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import cmp, cmp_protection, cmp_request
from medmail_cli.pki.issuance.cmp_protection import SharedSecret, Signer, authentic, signed_by
from medmail_cli.pki.issuance.csr import build_request
from tests.support.tools import require, run

# bit flips make serial numbers that are not positive
pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("ignore:Parsed a serial number")]

SECRET = b"open sesame \xc3\xa9"
ADDRESS = "dr.martin@medecin.test"
KEY = ec.generate_private_key(ec.SECP256R1())
NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


def header(protection: cmp_protection.Protection) -> cmp.Header:
    nobody = cmp.directory_name(x509.Name([]))
    return cmp.Header(protection.sender, nobody, b"t" * 16, b"n" * 16, key_id=protection.key_id, time=NOW)


def certificate(key: object = KEY, *usages: x509.ExtensionType, name: str = "Dr M") -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(1))
        .not_valid_after(NOW + dt.timedelta(1))
    )
    for usage in usages:
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())  # type: ignore[arg-type]


@functools.cache
def openssl_exchange() -> dict[str, bytes]:
    """A whole enrolment between OpenSSL's client and its own server, message by message."""
    require("openssl")
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=CMP Root",
            "-keyout", at / "key", "-out", at / "ca.pem",
        )  # fmt: skip
        (at / "secret").write_bytes(SECRET)
        names = ("ir", "ip", "certConf", "pkiconf")
        paths = {name: at / f"{name}.der" for name in names}
        run(
            "openssl", "cmp", "-config", "", "-cmd", "ir", "-use_mock_srv", "-ref", "3078",
            "-secret", f"file:{at / 'secret'}", "-srv_ref", "3078", "-srv_secret", f"file:{at / 'secret'}",
            "-newkey", at / "key", "-subject", "/CN=CMP Root", "-recipient", "/CN=CMP Root",
            "-rsp_cert", at / "ca.pem", "-rsp_capubs", at / "ca.pem", "-certout", at / "out.pem",
            "-reqout", f"{paths['ir']},{paths['certConf']}", "-rspout", f"{paths['ip']},{paths['pkiconf']}",
        )  # fmt: skip
        return {name: paths[name].read_bytes() for name in names}


def openssl_sees(message: bytes) -> str:
    return run("openssl", "asn1parse", "-inform", "DER", stdin=message).stdout.decode()


# -- reading


def test_a_whole_exchange_of_openssl_is_read_and_authentic() -> None:
    for name, octets in openssl_exchange().items():
        message = cmp.read(octets)
        assert message.kind == name
        assert authentic(message, SECRET)
        assert not authentic(message, SECRET + b"!")
        assert message.header.key_id == b"3078"
    issued = cmp.issued(cmp.read(openssl_exchange()["ip"]))
    assert (issued.request, issued.status) == (0, cmp.Status("accepted"))
    assert issued.certificate == issued.authorities[0]


def refused(octets: bytes) -> bool:
    """Whether nothing of what came is believed: it is malformed, or not by the holder of the secret."""
    try:
        message = cmp.read(octets)
    except MedmailError as error:
        return error.code in ("malformed", "too-large")
    readers: list[Callable[[cmp.Message], object]] = [cmp.issued, cmp.error, cmp.check_after, cmp.revoked]
    for body in readers:
        try:
            body(message)
        except MedmailError as error:
            if error.code != "malformed":
                return False
    return not authentic(message, SECRET)


@pytest.mark.parametrize("name", ["ip", "pkiconf"])
def test_every_truncation_is_refused(name: str) -> None:
    octets = openssl_exchange()[name]
    assert all(refused(octets[:end]) for end in range(len(octets)))


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_every_changed_bit_is_refused(data: st.DataObject) -> None:
    octets = bytearray(openssl_exchange()[data.draw(st.sampled_from(["ip", "pkiconf", "certConf"]))])
    bit = data.draw(st.integers(0, 8 * len(octets) - 1))
    octets[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(octets))


@given(st.binary(max_size=200), st.sampled_from([1, 19, 23, 26, 12, 3, 8, 0]))
@settings(deadline=None)
def test_any_body_is_read_or_malformed(content: bytes, number: int) -> None:
    first = der.sequence(
        der.integer(2), cmp.directory_name(x509.Name([])), cmp.directory_name(x509.Name([])),
        der.tlv(0xA4, der.octet_string(b"t")), der.tlv(0xA5, der.octet_string(b"n")),
    )  # fmt: skip
    assert refused(der.sequence(first, der.tlv(0xA0 | number, content)))


def status_message(kind: cmp.Kind, body: bytes) -> cmp.Message:
    shared = SharedSecret(b"r", SECRET)
    return cmp.read(cmp_protection.write(kind, body, header(shared), shared))


@given(st.text(max_size=400), st.sets(st.sampled_from(cmp.FAILURES)))
@settings(max_examples=50, deadline=None)
def test_a_status_says_what_was_written(words: str, failures: set[str]) -> None:
    body = der.sequence(cmp.status_info(2, words, sorted(failures)))
    state = cmp.error(status_message("error", body))
    assert (state.status, set(state.failures)) == ("rejection", failures)
    assert (
        state.words == " ".join(words.encode("utf-8", "replace").decode().split())[:200] or len(words) > 199
    )


@pytest.mark.parametrize("seconds", [-1, 1 << 31, 1 << 200])
def test_a_time_to_wait_that_is_none_is_refused(seconds: int) -> None:
    body = der.sequence(der.sequence(der.integer(0), der.integer(seconds)))
    with pytest.raises(MedmailError, match="check-after"):
        cmp.check_after(status_message("pollRep", body))


def test_granting_without_a_certificate_is_malformed() -> None:
    body = der.sequence(der.sequence(der.sequence(der.integer(0), cmp.status_info(0))))
    with pytest.raises(MedmailError, match="malformed"):
        cmp.issued(status_message("ip", body))


@pytest.mark.parametrize("iterations", [99, 1_000_001, 1 << 40])
def test_unlimited_work_is_not_done_for_a_stranger_and_none_is_not_enough(iterations: int) -> None:
    key = derived("sha256", min(iterations, 1_000_001))
    assert not authentic(pbm(iterations, "2.16.840.1.101.3.4.2.1", key), SECRET)


def pbm(iterations: int, digest: str, key: bytes) -> cmp.Message:
    """A message protected by ``key``, whatever its parameters say."""
    shared = SharedSecret(b"r", SECRET)
    identifiers = (der.sequence(der.oid(digest)), der.sequence(der.oid("1.2.840.113549.2.9")))
    parameters = der.sequence(
        der.octet_string(b"s" * 16), identifiers[0], der.integer(iterations), identifiers[1]
    )
    algorithm = der.sequence(der.oid(cmp_protection.PBM), parameters)
    return cmp.read(
        cmp.build(
            header(shared), "pkiconf", der.NULL, algorithm, lambda part: hmac.digest(key, part, "sha256")
        )
    )


def derived(digest: str, iterations: int = 500) -> bytes:
    key = SECRET + b"s" * 16
    for _ in range(iterations):
        key = hashlib.new(digest, key).digest()
    return key


# -- protection by a secret


def test_md5_protects_nothing() -> None:
    assert authentic(pbm(500, "2.16.840.1.101.3.4.2.1", derived("sha256")), SECRET)
    assert not authentic(pbm(500, "1.2.840.113549.2.5", derived("md5")), SECRET)


def test_pbmac1_is_what_openssl_computes_of_the_same_parameters(tmp_path: Path) -> None:
    require("openssl")
    shared = SharedSecret(b"r", SECRET, "pbmac1")
    message = cmp.read(cmp_protection.write("pkiconf", der.NULL, header(shared), shared))
    assert authentic(message, SECRET)
    shown = openssl_sees(bytes(message.algorithm.node.raw)) if message.algorithm else ""
    salt, iterations, length = re.findall(r"(?:HEX DUMP\]:|INTEGER +:)([0-9A-F]+)", shown)
    key = run(
        "openssl", "kdf", "-keylen", str(int(length, 16)), "-kdfopt", "digest:SHA256",
        "-kdfopt", f"hexpass:{SECRET.hex()}", "-kdfopt", f"hexsalt:{salt}",
        "-kdfopt", f"iter:{int(iterations, 16)}", "PBKDF2",
    ).stdout.decode().strip().replace(":", "")  # fmt: skip
    made = run(
        "openssl", "mac", "-digest", "SHA256", "-macopt", f"hexkey:{key}", "HMAC", stdin=message.protected
    ).stdout.decode()
    assert message.protection is not None
    assert bytes.fromhex(made.strip()) == message.protection


def test_a_secret_is_not_shown() -> None:
    assert "sesame" not in repr(SharedSecret(b"r", SECRET))


# -- protection by a signature


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
    ],
    ids=["rsa", "p384", "ed25519"],
)
def test_a_signed_message_is_its_signers_and_no_others(make: Callable[[], rsa.RSAPrivateKey]) -> None:
    key = make()
    own, other = certificate(key), certificate(key, name="Dr N")
    signer = Signer(SoftwareKey(key), [own])
    octets = cmp_protection.write("pkiconf", der.NULL, header(signer), signer)
    message = cmp.read(octets)
    assert message.certificates == (own,)
    assert signed_by(message, own)
    assert not signed_by(message, other)
    assert not signed_by(message, certificate(KEY))
    assert not signed_by(cmp.read(octets.replace(b"n" * 16, b"m" * 16)), own)


def test_a_certificate_that_may_not_sign_signs_nothing() -> None:
    usage = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
    own = certificate(KEY, usage)
    signer = Signer(SoftwareKey(KEY), [own])
    assert not signed_by(cmp.read(cmp_protection.write("pkiconf", der.NULL, header(signer), signer)), own)


# -- requests


def test_a_request_asks_for_what_the_pkcs10_asks_for() -> None:
    """OpenSSL's own reading of the template, and of the proof of possession, is in tests/servers."""
    pkcs10 = build_request(SoftwareKey(KEY), address=ADDRESS, name="Dr Éloïse Martin", rpps="10001234567")
    csr = x509.load_der_x509_csr(pkcs10)
    octets = cmp_request.certificate_request(csr, SoftwareKey(KEY), certificate(KEY))
    request, proof = next(ber.parse(octets).elements()).elements()
    number, template, controls = request.elements()
    subject, key, extensions = template.elements()
    assert number.integer() == 0
    assert bytes(subject.explicit(0x85).raw) == csr.subject.public_bytes()
    assert bytes(key.raw[1:]) in pkcs10
    assert bytes(extensions.content) in pkcs10
    assert b"\x2b\x06\x01\x05\x05\x07\x05\x01\x05" in bytes(controls.raw)
    _algorithm, signature = proof.elements()
    KEY.public_key().verify(bytes(signature.bits()), bytes(request.raw), ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("refusal", ["", "wrong-name"])
def test_a_confirmation_names_the_certificate_by_its_own_hash(refusal: str) -> None:
    own = certificate(KEY)
    body, version = cmp_request.confirmation(own, 0, refusal)
    hashed, number, *state = next(ber.parse(body).elements()).elements()
    assert (bytes(hashed.octets()), number.integer()) == (own.fingerprint(hashes.SHA256()), 0)
    assert (version, len(state)) == (2, 1 if refusal else 0)
    edwards = certificate(ed25519.Ed25519PrivateKey.generate())
    body, version = cmp_request.confirmation(edwards, 0)
    assert version == 3
    assert hashlib.sha512(edwards.public_bytes(Encoding.DER)).digest() in body
