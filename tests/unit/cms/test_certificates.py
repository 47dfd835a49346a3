"""Certificates with slips in their encoding: read all the same, and checked as they are."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.cms import algorithms, ber, der, signed
from medmail_cli.cms.certificates import UNREADABLE, load, load_crl, load_pem
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.pki.x509.address import addresses
from medmail_cli.pki.x509.bundle import read_bundle
from medmail_cli.pki.x509.certificate import facts, subject_text
from medmail_cli.smime.open import Opened
from medmail_cli.smime.protect import protect
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import create_keystore
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.store.trust.incomplete_chains import Incomplete
from tests.support import pki
from tests.support.letters import NOW, OUTER, TEXT, codes, entity, opened, person
from tests.support.letters import letter as plain_letter
from tests.support.slips import (
    ADDRESS,
    AT,
    AUTHORITY_KEY,
    KEY,
    LATIN_1,
    NOTICE,
    PLAIN,
    ROOT,
    SLIPS,
    Fields,
    at,
    extension,
    written,
)


@pytest.mark.parametrize("slip", SLIPS)
def test_it_is_read_and_its_own_octets_are_checked(slip: str) -> None:
    data = written(SLIPS[slip])
    certificate = load(data)
    assert certificate.public_bytes(Encoding.DER) == data
    assert load_pem(certificate.public_bytes(Encoding.PEM)) == certificate
    assert certificate.fingerprint(hashes.SHA256()) == hashlib.sha256(data).digest()
    assert data.count(certificate.tbs_certificate_bytes) == 1
    assert facts(certificate).unreadable is None
    assert addresses(certificate) == (ADDRESS,)
    authorities = Authorities([ROOT.certificate], crls=[pki.make_crl(ROOT)])
    assert authorities.judge(certificate, at=AT).problems == ()
    changed = bytearray(data)
    changed[data.index(ADDRESS.encode())] ^= 1
    forged = authorities.judge(load(bytes(changed)), at=AT)
    assert [problem.code for problem in forged.problems] == ["untrusted-issuer"]


def letter(by: x509.Certificate, enclosed: bytes | None = None) -> bytes:
    """A signed letter, perhaps with another certificate than the signer's."""
    made = signed.sign(TEXT, key=SoftwareKey(KEY), certificate=by, signed_at=NOW)
    kind, explicit = ber.parse(made).elements()
    (body,) = explicit.elements()
    fields = [bytes(one.raw) for one in body.elements()]
    if enclosed is not None:
        fields[3] = der.tlv(0xA0, enclosed)
    whole = der.sequence(bytes(kind.raw), der.tlv(0xA0, der.sequence(*fields)))
    return OUTER + entity(whole, "signed-data")


def read(raw: bytes) -> Opened:
    authorities = Authorities([ROOT.certificate], crls=[pki.make_crl(ROOT)])
    return opened(raw, judge=lambda one, came: authorities.judge(one, enclosed=came, at=NOW, known_now=NOW))


@pytest.mark.parametrize("slip", SLIPS)
def test_a_letter_by_such_a_certificate_is_trusted(slip: str) -> None:
    data = written(SLIPS[slip])
    result = read(letter(load(data)))
    assert codes(result) == []
    (signer,) = result.verdict.signature.signers
    assert (signer.addresses, signer.sha256) == ((ADDRESS,), hashlib.sha256(data).hexdigest())
    # it is the certificate's own octets that the letter names
    other = read(letter(load(data), data[:-1] + bytes([data[-1] ^ 1])))
    assert "bad-signature" in codes(other)


def test_a_letter_to_such_a_certificate_is_opened() -> None:
    plain, key = pki.issue(ROOT, "bob@medecin.test", key_type="p256")
    certificate = load(written(SLIPS["number with zeros"], plain))
    (message,) = protect(
        plain_letter(),
        signer=person("alice").signer,
        recipients={"bob@medecin.test": certificate},
        signed_at=NOW,
    )
    assert codes(opened(message.message, keys=[(certificate, SoftwareKey(key))])) == []


def test_what_cannot_be_read_is_said_to_be_there() -> None:
    unread = written(at(0, der.tlv(0xA0, der.integer(7))))
    result = read(letter(PLAIN, unread))
    assert codes(result) == ["untrusted-issuer"]
    assert result.verdict.problems[0].detail == "the signer's certificate cannot be read"
    missing = read(letter(PLAIN, ROOT.certificate.public_bytes(Encoding.DER)))
    assert codes(missing) == ["untrusted-issuer"]
    assert missing.verdict.problems[0].detail == "the signer's certificate is not at hand"


def test_policies_are_read_without_their_notices() -> None:
    assert facts(load(written(SLIPS["a notice in Latin-1"]))).policies == frozenset({"1.2.3"})
    critical = load(written(extension("2.5.29.32", NOTICE, b"\x01\x01\xff")))
    assert facts(critical).unreadable is not None


def test_a_certificate_with_no_slip_is_read_as_it_is() -> None:
    assert isinstance(load(PLAIN.public_bytes(Encoding.DER)), x509.Certificate)


def test_a_signer_with_a_slip_is_remembered_for_the_next_update(tmp_path: Path) -> None:
    signers = [load(written(slip)) for slip in SLIPS.values()]
    for signer in signers:
        Incomplete(tmp_path).add([signer, ROOT.certificate])
    found = dict(Incomplete(tmp_path).all())
    assert [found.get(signer) for signer in signers] == [[ROOT.certificate]] * len(SLIPS)


def test_a_keystore_holds_an_authority_with_a_slip(tmp_path: Path) -> None:
    store = create_keystore(
        Keystore(tmp_path, seal.Cost(memory=1024, passes=1, lanes=1)), b"a passphrase", AT
    )
    above = [load(written(slip)) for slip in SLIPS.values()]
    store.add(
        KEY, PLAIN, above, addresses=(ADDRESS,), pinned=False, name="", purpose="sign", method="est", now=AT
    )  # fmt: skip
    (kept,) = Keystore(tmp_path).identities()
    assert (kept.certificate, kept.chain) == (PLAIN, tuple(above))


def test_an_anchor_with_a_slip_is_kept(tmp_path: Path) -> None:
    data = written(SLIPS["_ and * in a PrintableString"])
    trust = Trust(tmp_path / "trust", tmp_path / "cache")
    trust.add(load(data).public_bytes(Encoding.PEM), "file")
    (anchor,) = Trust(tmp_path / "trust", tmp_path / "cache").anchors()
    assert anchor.public_bytes(Encoding.DER) == data
    assert subject_text(anchor) == "CN=alice_*&"


@pytest.mark.parametrize("slip", ["@ in a PrintableString", "Latin-1 in a PrintableString"])
def test_an_authority_with_a_slip_in_its_name_revokes_and_clears(tmp_path: Path, slip: str) -> None:
    fields: Fields = [b""] * 6
    SLIPS[slip](fields)
    name = fields[5]

    def both(fields: Fields) -> None:
        fields[3] = fields[5] = name

    root = load(written(both, ROOT.certificate))
    leaf = load(written(at(3, name)))

    def crl(*revoked: x509.Certificate) -> bytes:
        plain = pki.make_crl(ROOT, revoked, number=1 + len(revoked))
        body, algorithm, _ = ber.parse(plain.public_bytes(Encoding.DER)).elements()
        parts = [bytes(one.raw) for one in body.elements()]
        parts[2] = name
        changed = der.sequence(*parts)
        assert isinstance(ROOT.key, ec.EllipticCurvePrivateKey)
        signature = ROOT.key.sign(changed, ec.ECDSA(hashes.SHA256()))
        return der.sequence(changed, bytes(algorithm.raw), der.bit_string(signature))

    def problems() -> list[str]:
        authorities = Trust(tmp_path / "trust", tmp_path / "cache").authorities
        return [problem.code for problem in authorities.judge(leaf, at=AT).problems]

    trust = Trust(tmp_path / "trust", tmp_path / "cache")
    trust.add(root.public_bytes(Encoding.DER), "root")
    assert problems() == ["revocation-unknown"]
    trust.add(crl(), "list")
    assert problems() == []
    trust.add(crl(leaf), "list")
    assert problems() == ["revoked"]
    (kept,) = trust.crls()
    assert load_crl(kept.public_bytes(Encoding.DER)) == kept
    with pytest.raises(UNREADABLE):
        load_crl(crl()[:-1])


def added(oid: str, value: bytes, critical: bytes = b"") -> Callable[[Fields], None]:
    """One extension of a list, and no other."""
    written = der.sequence(der.oid(oid), critical, der.octet_string(value))
    return lambda fields: fields.__setitem__(-1, der.tlv(0xA0, der.sequence(written)))


LIST_SLIPS = {
    "an issuer in Latin-1": added("2.5.29.35", AUTHORITY_KEY),
    "an issuer without a number": added(
        "2.5.29.35", der.sequence(der.tlv(0xA1, der.tlv(0x82, b"a.test")))
    ),
    "FALSE written": added(
        "2.5.29.28", der.sequence(der.tlv(0x81, b"\xff"), der.tlv(0x84, b"\0")), b"\x01\x01\xff"
    ),
    "nothing but FALSE": added("2.5.29.28", der.sequence(der.tlv(0x81, b"\0")), b"\x01\x01\xff"),
    "another name in Latin-1": added("2.5.29.18", der.sequence(LATIN_1)),
    "times without seconds": at(3, der.tlv(0x17, b"2601010000Z")),
}  # fmt: skip


@pytest.mark.parametrize("slip", LIST_SLIPS)
def test_a_list_with_a_slip_revokes_and_clears(slip: str) -> None:
    def judged(*revoked: x509.Certificate) -> list[str]:
        plain = pki.make_crl(ROOT, revoked)
        body, algorithm, _ = ber.parse(plain.public_bytes(Encoding.DER)).elements()
        parts = [bytes(one.raw) for one in body.elements()]
        LIST_SLIPS[slip](parts)
        changed = der.sequence(*parts)
        assert isinstance(ROOT.key, ec.EllipticCurvePrivateKey)
        made = der.bit_string(ROOT.key.sign(changed, ec.ECDSA(hashes.SHA256())))
        crl = load_crl(der.sequence(changed, bytes(algorithm.raw), made))
        assert crl.tbs_certlist_bytes == changed
        authorities = Authorities([ROOT.certificate], crls=[crl])
        return [problem.code for problem in authorities.judge(PLAIN, at=AT).problems]

    assert judged() == []
    assert judged(PLAIN) == ["revoked"]


def test_a_critical_extension_that_cannot_be_read_is_not_left_out() -> None:
    unread = load(written(extension("1.3.36.8.3.3", b"\x0c\x01\xe9", b"\x01\x01\xff")))
    assert facts(unread).unreadable is not None


def test_a_pkcs7_file_may_hold_a_certificate_with_a_slip() -> None:
    certificate = load(written(SLIPS["_ and * in a PrintableString"]))

    def bundle(*members: bytes) -> bytes:
        data = der.sequence(der.oid(algorithms.DATA))
        inner = der.sequence(der.integer(1), der.tlv(0x31), data, der.tlv(0xA0, *members), der.tlv(0x31))
        return der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, inner))

    octets, other = (one.public_bytes(Encoding.DER) for one in (certificate, PLAIN))
    assert read_bundle(bundle(octets, other), "bundle.p7b").certificates == (certificate, PLAIN)
    with pytest.raises(MedmailError, match="malformed"):  # half a bundle would mislead
        read_bundle(bundle(octets, written(at(0, der.tlv(0xA0, der.integer(7))))), "bundle.p7b")


@given(st.sampled_from(sorted(SLIPS)), st.integers(0, 2000), st.integers(1, 255))
def test_whatever_is_read_keeps_its_octets(slip: str, position: int, bits: int) -> None:
    changed = bytearray(written(SLIPS[slip]))
    changed[position % len(changed)] ^= bits
    try:
        certificate = load(bytes(changed))
    except UNREADABLE:
        return
    assert certificate.public_bytes(Encoding.DER) == bytes(changed)
    facts(certificate)
