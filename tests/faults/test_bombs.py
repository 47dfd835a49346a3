"""Letters made to cost much: each is bounded in time and memory, and ends in a verdict that says why.

The limits are generous and absolute, for slow machines; on a fast one each takes a fraction of a second.
"""

import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import algorithms, ber, der, enveloped, signed
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.smime import compose
from medmail_cli.smime.fields import parse_mailboxes, parse_parameters
from medmail_cli.smime.open import Opened
from tests.support import pki
from tests.support.letters import (
    NOW,
    OUTER,
    TEXT,
    authority,
    codes,
    encrypt,
    entity,
    opened,
    person,
    sealed,
    sign,
)  # fmt: skip

SECONDS = 8.0
"""Of processor time."""
MEGABYTES = 400


def bounded(raw: bytes, seconds: float = SECONDS, **options: object) -> Opened:
    """Open a message within the limits of time and memory."""
    begun = time.process_time()
    result = opened(raw, **options)  # type: ignore[arg-type]
    taken = time.process_time() - begun
    assert taken < seconds, f"{taken:.1f} s"
    return result


def nested(levels: int) -> bytes:
    """SEQUENCEs within each other, without an end of their own."""
    return b"\x30\x80" * levels + b"\0\0" * levels


def compressed(content: bytes, times: int = 1) -> bytes:
    """CompressedData, again and again."""
    for _ in range(times):
        inner = der.sequence(
            der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(zlib.compress(content, 9)))
        )
        body = der.sequence(der.integer(0), algorithms.identifier(algorithms.ZLIB), inner)
        data = der.sequence(der.oid(algorithms.COMPRESSED_DATA), der.tlv(0xA0, body))
        content = entity(data, "compressed-data")
    return content


TEXT_HEAD = b"Content-Type: text/plain"
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
BASE64 = b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n"
PRINTABLE = TEXT_HEAD + b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
CHUNKS = der.tlv(0xA0, b"\x24\x80" + b"\x04\x01x" * 1_000_000 + b"\0\0")
EMPTY = b"\x30\x83\x1e\x84\x80" + b"\x05\x00" * 1_000_000

BOMBS: dict[str, Callable[[], bytes]] = {
    "nested BER": lambda: entity(nested(500_000), "signed-data"),
    "nested BER inside a signature": lambda: entity(
        der.sequence(der.oid(algorithms.SIGNED_DATA), b"\xa0\x80" + nested(100_000) + b"\0\0"), "signed-data"
    ),
    "a length of exabytes": lambda: entity(b"\x30\x88\x7f" + b"\xff" * 7 + b"x" * 100, "signed-data"),
    "a million empty elements": lambda: entity(
        b"\x30\x83\x1e\x84\x80" + b"\x05\x00" * 1_000_000, "signed-data"
    ),
    "a million chunks": lambda: entity(
        der.sequence(der.oid(algorithms.ENVELOPED_DATA), CHUNKS), "enveloped-data"
    ),
    "a quarter of a gigabyte compressed": lambda: compressed(
        b"Content-Type: text/plain\r\n\r\n" + bytes(1 << 28)
    ),
    "compressed seven times": lambda: compressed(TEXT + bytes(1 << 26), 7),
    "nested multiparts": lambda: b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(5000)
    ),
    "a million parts": lambda: MIXED + b"--b\r\n\r\nx\r\n" * 1_000_000,
    "boundaries that begin alike": lambda: MIXED + b"--bb\r\n" * 500_000,
    "a header field of a million folds": lambda: b"X-Long: a\r\n" + b" b\r\n" * 1_000_000 + TEXT,
    "a hundred thousand header fields": lambda: b"X: y\r\n" * 100_000 + TEXT,
    "a million nested comments in From": lambda: b"From: " + b"(" * 900_000 + b"\r\n" + TEXT,
    "encoded words without an end": lambda: b"Subject: " + b"=?utf-8?q?" * 90_000 + b"\r\n" + TEXT,
    "a parameter in ten thousand pieces": lambda: (
        b"Content-Type: text/plain"
        + b"".join(b";\r\n a*%d=x" % n for n in range(10_000))
        + b"\r\n\r\nHello\r\n"
    ),
    "quotation marks without an end": lambda: b"From: " + b'"\\' * 400_000 + b"\r\n" + TEXT,
    "addresses without an end": lambda: b"From: " + b"a@b," * 200_000 + b"\r\n" + TEXT,
    "HTML tags without an end": lambda: b"Content-Type: text/html\r\n\r\n" + b"<a href='" * 500_000,
    "nested HTML": lambda: b"Content-Type: text/html\r\n\r\n" + b"<div><style>" * 400_000,
    "flowed quotations": lambda: (
        TEXT_HEAD + b"; format=flowed\r\n\r\n" + b"> " * 500_000 + b"x \r\n" * 200_000
    ),
    "quoted-printable": lambda: (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + b"=\r\n" * 1_000_000
    ),
    "base64 of junk": lambda: (
        b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + b"=-!?" * 2_000_000
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_in_time(name: str) -> None:
    bomb = BOMBS[name]()
    for raw in (OUTER + bomb, OUTER + encrypt(sign(bomb))):
        result = bounded(raw)
        assert result.verdict.trusted == (not codes(result))


def peak_of(work: Callable[[], object]) -> int:
    """The most octets that are held at once meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["nested BER", "a million chunks", "compressed seven times", "a million parts"]
)
def test_bomb_in_memory(name: str) -> None:
    raw = OUTER + BOMBS[name]()
    peak = peak_of(lambda: opened(raw))
    assert peak < 10 * len(raw) + (300 << 20), f"{peak >> 20} MiB for {len(raw) >> 10} KiB"


@pytest.mark.parametrize("value", ["a", "\\"])
@pytest.mark.parametrize("read", [parse_mailboxes, parse_parameters])
def test_a_long_quoted_string_is_read_in_some_times_its_size(
    read: Callable[[str], object], value: str
) -> None:
    quoted = f'a; name="{value * 1_000_000}"'
    peak = peak_of(lambda: read(quoted))
    assert peak < 20 * len(quoted), f"{peak >> 20} MiB"


def test_recipients_by_the_ten_thousands() -> None:
    carol, bob = person("carol").certificate, person("bob").certificate
    one = bytes(_body(enveloped.encrypt(TEXT, [carol]))[1].content)
    mine = enveloped.encrypt(TEXT, [bob])
    many = bounded(OUTER + entity(_with_recipients(mine, one * 20_000), "authEnveloped-data"))
    assert many.verdict.text == "Hello\n"
    too_many = bounded(OUTER + entity(_with_recipients(mine, one * 100_000), "authEnveloped-data"))
    assert codes(too_many) == ["malformed"]


def test_recipients_who_are_almost_us() -> None:
    """Our serial number under another's name: names are read once, whatever the number of our keys."""
    bob = person("bob")
    serial = der.integer(bob.certificate.serial_number)
    names = [
        der.sequence(
            *[der.tlv(0x31, der.sequence(der.oid("2.5.4.3"), der.tlv(0x1E, b"\0H\0e" + bytes([0, at]))))] * 4
        )
        for at in range(32, 127)
    ]
    entries = b"".join(
        der.sequence(
            der.integer(0),
            der.sequence(name, serial),
            algorithms.identifier(algorithms.RSA, der.NULL),
            der.octet_string(b"key"),
        )
        for name in names * 600
    )
    data = _with_recipients(enveloped.encrypt(TEXT, [bob.certificate]), entries)
    result = bounded(OUTER + entity(data, "authEnveloped-data"), keys=[(bob.certificate, bob.key)] * 5)
    assert result.verdict.text == "Hello\n"


def _body(encoded: bytes) -> list[ber.Node]:
    _oid, explicit = ber.parse(encoded).elements()
    (content,) = explicit.elements()
    return list(content.elements())


def _with_recipients(data: bytes, others: bytes) -> bytes:
    """The letter with entries of others before its own."""
    version, mine, *rest = _body(data)
    entries = der.tlv(0x31, others, bytes(mine.content))
    inner = der.sequence(bytes(version.raw), entries, *(bytes(one.raw) for one in rest))
    return der.sequence(der.oid(algorithms.AUTH_ENVELOPED_DATA), der.tlv(0xA0, inner))


def test_a_thousand_signers_and_certificates() -> None:
    alice = person("alice")
    mesh = [pki.make_ca("Mesh").certificate for _ in range(40)]
    data = signed.sign(TEXT, key=alice.key, certificate=alice.certificate, signed_at=NOW, chain=mesh * 30)
    assert codes(bounded(OUTER + entity(data, "signed-data"))) == []


def test_signers_whom_many_certificates_name() -> None:
    """With the content hashed for each signer under each certificate, and again with line ends repaired."""
    bob, carol = person("bob"), person("carol")
    certificates = [
        pki.issue(authority("Health Root"), "alice@medecin.test", key_type="p256", serial=5)[0].public_bytes(
            Encoding.DER
        )
        for _ in range(8)
    ]
    content = TEXT.replace(b"\r", b"") + b"All is well.\n" * 1_000_000
    _, digests, inner, _, signers = _body(
        signed.sign(content, key=bob.key, certificate=carol.certificate, signed_at=NOW, detached=True)
    )
    (signer,) = signers.elements()
    version, _, _, attributes, *rest = (bytes(each.raw) for each in signer.elements())
    issuer = der.sequence(authority("Health Root").certificate.subject.public_bytes(), der.integer(5))
    sha3 = algorithms.identifier(algorithms.DIGESTS["sha3-512"])
    body = der.sequence(
        der.integer(1),
        bytes(digests.raw),
        bytes(inner.raw),
        der.tlv(0xA0, *certificates),
        der.tlv(0x31, der.sequence(version, issuer, sha3, attributes, *rest) * 32),
    )
    data = der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, body))
    assert codes(bounded(OUTER + compose.multipart_signed(content, data, micalg="sha3-512"))) == [
        "bad-signature"
    ]


def test_a_mesh_of_cross_certificates() -> None:
    """Every authority certified every other: the number of paths is the factorial of theirs."""
    keys = {name: pki.make_ca(name) for name in map(str, range(7))}
    crossed = [
        pki.cross(keys[issuer], keys[subject]) for issuer in keys for subject in keys if issuer != subject
    ]
    leaf, key = pki.issue(keys["0"], "alice@medecin.test", key_type="p256")
    from medmail_cli.cms.keys import SoftwareKey

    data = signed.sign(TEXT, key=SoftwareKey(key), certificate=leaf, signed_at=NOW, chain=crossed)
    assert codes(bounded(OUTER + entity(data, "signed-data"))) == ["untrusted-issuer"]


def test_long_lists_that_came_along() -> None:
    root = authority("Health Root")
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject).last_update(NOW).next_update(NOW.replace(year=2027))
    )  # fmt: skip
    entries = [
        x509.RevokedCertificateBuilder().serial_number(n + 1).revocation_date(NOW).build()
        for n in range(20_000)
    ]
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    listed = builder.sign(root.key, pki._digest_for(root.key))  # type: ignore[arg-type]
    octets = listed.public_bytes(Encoding.DER)
    from medmail_cli.pki.path.evidence import Enclosed

    begun = time.process_time()
    judged = Authorities([root.certificate]).judge(
        person("alice").certificate, enclosed=Enclosed(crls=[x509.load_der_x509_crl(octets)] * 50), at=NOW
    )
    assert judged.trusted
    assert time.process_time() - begun < SECONDS


def test_letters_themselves_are_quick() -> None:
    bounded(sealed(), seconds=1.0)
