"""What PKITS does not ask: mail usages, time rules, soft and hard revocation, meshes, odd bytes."""

import datetime as dt
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.cms import der
from medmail_cli.cms.certificates import load
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.fitness import fit
from medmail_cli.pki.path.validation import Authorities, Judgement, judge
from medmail_cli.pki.x509.address import addresses
from tests.support import pki
from tests.support.tools import require, run

# bit flips make negative serial numbers
pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("ignore:Parsed a serial number")]

AT = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ROOT = pki.make_ca("Root")
SUB = pki.make_ca("Sub", parent=ROOT)
LEAF, _ = pki.issue(SUB, "dr.b@medecin.test", key_type="p256")
FRESH = (pki.make_crl(ROOT), pki.make_crl(SUB))


def codes(judgement: Judgement) -> list[str]:
    return sorted({problem.code for problem in judgement.problems})


def of(certificate: x509.Certificate, **how: object) -> list[str]:
    given: dict[str, object] = {
        "anchors": [ROOT.certificate], "intermediates": [SUB.certificate], "crls": FRESH, "at": AT,
    }  # fmt: skip
    return codes(judge(certificate, **(given | how)))  # type: ignore[arg-type]


def test_a_good_chain_has_no_problem_and_names_its_anchor() -> None:
    judgement = judge(
        LEAF, anchors=[ROOT.certificate], enclosed=Enclosed([SUB.certificate]), crls=FRESH, at=AT
    )
    assert judgement.trusted
    assert not judgement.notes
    assert judgement.chain == (LEAF, SUB.certificate, ROOT.certificate)
    assert judgement.anchor == "CN=Root"


def test_without_its_anchor_only_the_issuer_is_wrong() -> None:
    assert of(LEAF, anchors=[]) == ["untrusted-issuer"]
    assert of(LEAF, intermediates=[]) == ["untrusted-issuer"]
    impostor = pki.make_ca("Root")
    assert of(LEAF, anchors=[impostor.certificate]) == ["untrusted-issuer"]


def test_no_skew_on_certificates() -> None:
    short, _ = pki.issue(SUB, "a@x.test", key_type="p256", not_before=AT - DAY, not_after=AT + DAY)
    second = dt.timedelta(seconds=1)
    assert of(short, at=AT + DAY) == []
    assert of(short, at=AT + DAY + second) == ["expired"]
    assert of(short, at=AT - DAY - second) == ["not-yet-valid"]


def test_an_expired_authority_is_expired() -> None:
    old = pki.make_ca("Old", parent=ROOT, not_after=AT - DAY)
    leaf, _ = pki.issue(old, "a@x.test", key_type="p256")
    assert "expired" in of(leaf, enclosed=Enclosed([old.certificate]))


def crl(
    revoked_at: dt.datetime, reason: x509.ReasonFlags | None = None, next_update: dt.datetime = pki.FAR
) -> tuple[x509.CertificateRevocationList, ...]:
    listed = pki.make_crl(SUB, [LEAF], revoked_at=revoked_at, reason=reason, next_update=next_update)
    return pki.make_crl(ROOT), listed


@pytest.mark.parametrize(
    ("reason", "later_counts"),
    [
        (None, True),
        (x509.ReasonFlags.key_compromise, True),
        (x509.ReasonFlags.certificate_hold, True),
        (x509.ReasonFlags.superseded, False),
        (x509.ReasonFlags.affiliation_changed, False),
        (x509.ReasonFlags.cessation_of_operation, False),
    ],
)
def test_a_revocation_known_today_counts_whatever_its_date(
    reason: x509.ReasonFlags | None, later_counts: bool
) -> None:
    before, after = crl(AT - DAY, reason), crl(AT + DAY, reason)
    assert of(LEAF, crls=before, known_now=AT + 9 * DAY) == ["revoked"]
    assert of(LEAF, crls=before) == ["revoked"]
    # with --at, only what had happened by then
    assert of(LEAF, crls=after) == []
    assert of(LEAF, crls=after, known_now=AT + 9 * DAY) == (["revoked"] if later_counts else [])


def test_five_minutes_of_skew_on_crls() -> None:
    minutes = dt.timedelta(minutes=1)
    stale = (pki.make_crl(ROOT), pki.make_crl(SUB, next_update=AT))
    assert of(LEAF, crls=stale, at=AT + 5 * minutes) == []
    assert of(LEAF, crls=stale, at=AT + 6 * minutes) == ["revocation-unknown"]
    future = (pki.make_crl(ROOT), pki.make_crl(SUB, at=AT + 5 * minutes))
    assert of(LEAF, crls=future, known_now=AT) == []
    assert of(LEAF, crls=future, known_now=AT - minutes) == ["revocation-unknown"]


def test_a_stale_crl_still_revokes() -> None:
    assert "revoked" in of(LEAF, crls=crl(AT - 9 * DAY, next_update=AT - DAY))


def test_unknown_status_is_a_problem_or_a_note() -> None:
    assert of(LEAF, crls=()) == ["revocation-unknown"]
    soft = judge(LEAF, anchors=[ROOT.certificate], intermediates=[SUB.certificate], at=AT, revocation="soft")
    assert soft.trusted
    assert {note.code for note in soft.notes} == {"revocation-unknown"}


def test_a_crl_of_somebody_elses_key_is_not_believed() -> None:
    forged = pki.make_crl(pki.make_ca("Sub", parent=ROOT), [LEAF])
    assert of(LEAF, crls=(*FRESH, forged)) == []


def test_a_revoked_intermediate_revokes_all_below() -> None:
    assert of(LEAF, crls=(pki.make_crl(ROOT, [SUB.certificate]), FRESH[1])) == ["revoked"]


def usage_case(purpose: pki.Purpose, key_type: pki.KeyType) -> x509.Certificate:
    return pki.issue(SUB, "a@x.test", purpose, key_type=key_type)[0]


@pytest.mark.parametrize(
    ("purpose", "key_type", "signs", "encrypts"),
    [
        ("both", "p256", True, True),
        ("sign", "p256", True, False),
        ("encrypt", "p256", False, True),
        ("encrypt", "rsa2048", False, True),
        ("sign", "ed25519", True, False),
        ("encrypt", "x25519", False, True),
        ("none", "p256", True, True),
        ("none", "ed25519", True, False),
        ("none", "x25519", False, True),
        ("none", "ml-dsa-65", True, False),
        ("none", "ml-kem-768", False, True),
    ],
)
def test_key_usage(purpose: pki.Purpose, key_type: pki.KeyType, signs: bool, encrypts: bool) -> None:
    certificate = usage_case(purpose, key_type)
    assert of(certificate) == ([] if signs else ["wrong-key-usage"])
    assert of(certificate, purpose="encrypt") == ([] if encrypts else ["wrong-key-usage"])


def test_a_key_for_pss_alone_encrypts_nothing(tmp_path: Path) -> None:
    require("openssl")
    run("openssl", "req", "-x509", "-newkey", "rsa-pss", "-nodes", "-keyout", tmp_path / "key",
        "-subj", "/CN=a", "-out", tmp_path / "pem")  # fmt: skip
    certificate = x509.load_pem_x509_certificate((tmp_path / "pem").read_bytes())
    assert fit(certificate, "sign")
    assert not fit(certificate, "encrypt")


@pytest.mark.parametrize("key_type", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ed448"])
def test_an_authority_of_a_newer_kind(key_type: pki.KeyType) -> None:
    ca = pki.make_ca("Newer", key_type=key_type)
    leaf, _ = pki.issue(ca, "a@x.test", key_type="p256")
    assert of(leaf, anchors=[ca.certificate], crls=[pki.make_crl(ca)]) == []
    assert of(leaf, anchors=[ca.certificate], crls=[pki.make_crl(ca, [leaf])]) == ["revoked"]
    other = pki.make_ca("Newer", key_type=key_type)
    assert of(leaf, anchors=[other.certificate]) == ["untrusted-issuer"]


def test_no_revocation_is_believed_only_where_it_may_stand() -> None:
    """RFC 9608 §3: in an authority's certificate, or beside a place to ask, it makes that invalid."""
    none = [(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\x05\x00"), False)]
    short, _ = pki.issue(ROOT, "a@x.test", key_type="p256", extensions=none)
    assert of(short, crls=[]) == []
    asked, _ = pki.issue(ROOT, "a@x.test", key_type="p256", crl_url="http://ca.test/crl", extensions=none)
    assert of(asked) == ["untrusted-issuer"]
    assert of(asked, crls=[]) == ["revocation-unknown", "untrusted-issuer"]
    assert of(asked, crls=[pki.make_crl(ROOT, [asked])]) == ["revoked", "untrusted-issuer"]
    ca = pki.make_ca("Never", parent=ROOT, extensions=none)
    leaf, _ = pki.issue(ca, "a@x.test", key_type="p256")
    crls = [pki.make_crl(ca), pki.make_crl(ROOT, [ca.certificate])]
    assert of(leaf, intermediates=[ca.certificate], crls=crls) == ["revoked", "untrusted-issuer"]
    assert of(leaf, intermediates=[ca.certificate], crls=[pki.make_crl(ca), *FRESH]) == ["untrusted-issuer"]


def test_a_server_certificate_is_not_for_mail() -> None:
    server = usage_case("server", "p256")
    assert of(server) == ["wrong-extended-key-usage"]
    assert of(server, purpose="tls") == []
    assert of(LEAF, purpose="tls") == ["wrong-extended-key-usage"]


def test_an_authority_for_servers_cannot_vouch_for_mail() -> None:
    only_servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    ca = pki.make_ca("Servers", parent=ROOT, extensions=[(only_servers, False)])
    leaf, _ = pki.issue(ca, "a@x.test", key_type="p256")
    assert of(leaf, enclosed=Enclosed([ca.certificate]), revocation="soft") == ["wrong-extended-key-usage"]


def test_weak_keys_and_algorithms() -> None:
    small, _ = pki.issue(SUB, "a@x.test", key_type="rsa1024")
    assert of(small) == ["weak-key"]
    rsa_ca = pki.make_ca("Old", key_type="rsa2048")
    for ca, digest in ((rsa_ca, "sha1"), (rsa_ca, "md5"), (ROOT, "sha1")):
        leaf, _ = pki.issue(ca, "a@x.test", key_type="p256")
        weak = pki.weakly_signed(leaf.public_bytes(Encoding.DER), ca.key, digest)  # type: ignore[arg-type]
        judged = of(x509.load_der_x509_certificate(weak), anchors=[ca.certificate], revocation="soft")
        assert judged == ["weak-algorithm"], (ca, digest)
    curve = ec.generate_private_key(ec.SECP192R1())
    tiny, _ = pki.issue(SUB, "a@x.test", key=curve)
    assert of(tiny) == ["weak-key"]


@pytest.mark.parametrize(("kind", "size"), [(x25519.X25519PublicKey, 32), (x448.X448PublicKey, 56)])
@pytest.mark.parametrize("number", [0, 1, 9])
def test_a_key_that_agrees_on_nothing_is_weak(
    kind: type[x25519.X25519PublicKey], size: int, number: int
) -> None:
    """Of small order (RFC 7748 6): whatever is agreed with it is zero, and known to everybody."""

    class Holder:
        def public_key(self) -> x25519.X25519PublicKey:
            return kind.from_public_bytes(number.to_bytes(size, "little"))

    certificate, _ = pki.issue(SUB, "a@x.test", "encrypt", key=Holder())  # type: ignore[arg-type]
    assert of(certificate, purpose="encrypt") == (["weak-key"] if number < 2 else [])


def test_a_leaf_issues_nothing() -> None:
    leaf, key = pki.issue(SUB, "a@x.test", key_type="p256")
    below, _ = pki.issue(pki.Authority(leaf, key, (leaf, *SUB.chain)), "boss@x.test", key_type="p256")
    assert "untrusted-issuer" in of(below, enclosed=Enclosed([leaf]))


def test_name_constraints_hold_for_every_way_to_bear_an_address() -> None:
    constraint = x509.NameConstraints([x509.RFC822Name("medecin.test")], None)
    ca = pki.make_ca("Order", parent=ROOT, extensions=[(constraint, True)])
    more = {"enclosed": Enclosed([ca.certificate]), "revocation": "soft"}
    assert of(pki.issue(ca, "a@medecin.test", key_type="p256")[0], **more) == []
    assert of(pki.issue(ca, "a@evil.test", key_type="p256")[0], **more) == ["untrusted-issuer"]
    in_subject, _ = pki.issue(ca, "a@evil.test", key_type="p256", email_in_subject=True)
    assert of(in_subject, **more) == ["untrusted-issuer"]
    mailbox = "é@evil.test".encode()
    utf8 = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), bytes([12, len(mailbox)]) + mailbox)
    hidden, _ = pki.issue(
        ca, None, key_type="p256", extensions=[(x509.SubjectAlternativeName([utf8]), False)]
    )
    assert of(hidden, **more) == ["untrusted-issuer"]


@pytest.mark.parametrize(
    ("distances", "problems"),
    [
        (b"", []),
        (der.tlv(0x80, b"\0"), []),  # as some authorities write what DER leaves out
        (der.tlv(0x80, b"\1"), ["untrusted-issuer"]),
        (der.tlv(0x81, b"\0"), ["untrusted-issuer"]),
        (der.tlv(0x80, b"\0") + der.tlv(0x81, b"\3"), ["untrusted-issuer"]),
    ],
)
@pytest.mark.parametrize("which", [0xA0, 0xA1])
def test_a_constraint_that_begins_or_ends_below_its_base_is_not_understood(
    which: int, distances: bytes, problems: list[str]
) -> None:
    base = b"x.test" if which == 0xA0 else b"y.test"
    tree = der.sequence(der.tlv(0x81, base), distances)
    value = der.sequence(der.tlv(which, tree))
    constraints = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.30"), value)
    ca = pki.make_ca("Bound", parent=ROOT, extensions=[(constraints, True)])
    leaf, _ = pki.issue(ca, "a@x.test", key_type="p256")
    above = load(ca.certificate.public_bytes(Encoding.DER))
    assert of(leaf, intermediates=[above], crls=[*FRESH, pki.make_crl(ca)]) == problems


def test_constraints_on_other_names_hold_for_their_own_kind_alone() -> None:
    def other(kind: str, text: str) -> x509.OtherName:
        return x509.OtherName(x509.ObjectIdentifier(kind), der.tlv(0x0C, text.encode()))

    def below(constraint: x509.NameConstraints, *names: x509.GeneralName) -> list[str]:
        ca = pki.make_ca("Order", parent=ROOT, extensions=[(constraint, True)])
        bearing = [(x509.SubjectAlternativeName(names), False)]
        leaf, _ = pki.issue(ca, None, key_type="p256", extensions=bearing)
        return of(leaf, intermediates=[ca.certificate], crls=[*FRESH, pki.make_crl(ca)])

    mailbox, login, other_kind = "1.3.6.1.5.5.7.8.9", "1.3.6.1.4.1.311.20.2.3", "1.2.3.4"
    address = x509.RFC822Name("a@x.test")
    for constraint in (
        x509.NameConstraints(None, [other(mailbox, "é@x.test")]),
        x509.NameConstraints([other(mailbox, "é@y.test")], None),
    ):
        assert below(constraint, other(mailbox, "é@x.test")) == ["untrusted-issuer"]
        assert below(constraint, address) == []
    for constraint in (
        x509.NameConstraints(None, [other(login, "a")]),
        x509.NameConstraints([other(login, "a")], None),
    ):
        assert below(constraint, address, other(login, "b")) == ["untrusted-issuer"]
        assert below(constraint, address, other(other_kind, "b"), other(mailbox, "é@x.test")) == []


def test_an_unknown_critical_extension_is_refused() -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    leaf, _ = pki.issue(SUB, "a@x.test", key_type="p256", extensions=[(strange, True)])
    assert of(leaf) == ["untrusted-issuer"]
    plain, _ = pki.issue(SUB, "a@x.test", key_type="p256", extensions=[(strange, False)])
    assert of(plain) == []


def test_a_pinned_leaf_is_its_own_anchor_and_no_more() -> None:
    lone = pki.make_ca("nobody", key_type="p256")
    leaf, key = pki.issue(lone, "a@x.test", key_type="p256")
    assert of(leaf, anchors=[leaf]) == []
    below, _ = pki.issue(pki.Authority(leaf, key, (leaf,)), "b@x.test", key_type="p256")
    assert "untrusted-issuer" in of(below, anchors=[leaf], revocation="soft")


def test_a_persons_certificate_as_anchor_issues_nothing_though_it_does_not_say_so() -> None:
    """Many leave basicConstraints and keyUsage out; old roots do too, and must not be taken for one."""

    def bare(name: str, issuer: x509.Certificate | None, address: str | None) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
        )
        builder = builder.not_valid_before(pki.EPOCH).not_valid_after(pki.FAR).serial_number(7)
        if address:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False
            )
        return builder.public_key(KEY.public_key()).sign(KEY, hashes.SHA256())  # type: ignore[arg-type]

    root = bare("Old Root", None, None)
    assert of(bare("A", root, "a@x.test"), anchors=[root], revocation="soft") == []
    for friend in (bare("Friend", None, "friend@x.test"), bare("Friend", SUB.certificate, None)):
        assert of(friend, anchors=[friend]) == []
        assert of(bare("Boss", friend, "boss@x.test"), anchors=[friend], revocation="soft") == [
            "untrusted-issuer"
        ]


def test_a_mesh_of_cross_certificates_ends_soon() -> None:
    names = [f"CA {n}" for n in range(8)]
    cas = [pki.make_ca(name) for name in names]
    crossed = [
        pki.issue(issuer, None, "none", name=ca.certificate.subject.rfc4514_string()[3:], key=ca.key,
                  extensions=())[0]
        for issuer in cas for ca in cas if issuer is not ca
    ]  # fmt: skip
    leaf, _ = pki.issue(cas[0], "a@x.test", key_type="p256")
    started = time.process_time()
    assert of(leaf, anchors=[ROOT.certificate], enclosed=Enclosed(crossed)) == ["untrusted-issuer"]
    assert time.process_time() - started < 2


def test_another_path_is_found_when_the_first_has_expired() -> None:
    """A renewed intermediate: same name and key, the old one expired."""
    old = pki.make_ca("Twice", parent=ROOT, not_after=AT - DAY)
    leaf, _ = pki.issue(old, "a@x.test", key_type="p256")
    assert of(leaf, enclosed=Enclosed([old.certificate]), revocation="soft") == ["expired"]
    builder = (
        x509.CertificateBuilder().subject_name(old.certificate.subject).issuer_name(ROOT.certificate.subject)
        .public_key(old.certificate.public_key()).serial_number(9)
        .not_valid_before(pki.EPOCH).not_valid_after(pki.FAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )  # fmt: skip
    renewed = builder.sign(ROOT.key, hashes.SHA256())  # type: ignore[arg-type]
    assert of(leaf, enclosed=Enclosed([old.certificate, renewed]), revocation="soft") == []


def test_a_path_of_unknown_status_is_better_than_one_that_has_expired() -> None:
    middle = pki.make_ca("Middle", parent=pki.make_ca("Upper", parent=ROOT))
    issuing = pki.make_ca("Issuing", parent=middle)
    rights = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    expired = pki._certify(ROOT, issuing.key, issuing.certificate.subject, pki.EPOCH, AT - DAY, rights)
    leaf, _ = pki.issue(issuing, "a@x.test", key_type="p256")
    helpers = [expired, *issuing.chain[:-1]]
    # with a revocation unknown of everybody, the longer way has more problems of that kind, and no other
    assert of(leaf, intermediates=helpers, crls=[], revocation="soft") == []
    assert of(leaf, intermediates=helpers, crls=[]) == ["revocation-unknown"]


def mutated(data: bytes) -> Iterable[bytes]:
    for position in range(len(data)):
        for bit in (0, 7, position % 8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            yield bytes(changed)
        yield data[:position]


def test_a_changed_certificate_is_never_trusted_and_never_raises() -> None:
    authorities = Authorities([ROOT.certificate], [SUB.certificate], FRESH)
    for data in mutated(LEAF.public_bytes(Encoding.DER)):
        try:
            certificate = x509.load_der_x509_certificate(data)
        except (ValueError, x509.InvalidVersion):
            continue
        assert not authorities.judge(certificate, at=AT, known_now=AT).trusted


def test_a_changed_crl_never_clears_and_never_raises() -> None:
    revoking = pki.make_crl(SUB, [LEAF], revoked_at=AT - DAY)
    for data in mutated(revoking.public_bytes(Encoding.DER)):
        try:
            changed = x509.load_der_x509_crl(data)
        except (ValueError, x509.InvalidVersion):
            continue
        assert of(LEAF, crls=(FRESH[0], changed)) in (["revoked"], ["revocation-unknown"])


def test_a_year_that_no_calendar_has() -> None:
    """GeneralizedTime can say 0000; Python's datetime cannot."""
    far = dt.datetime(9998, 1, 1, tzinfo=dt.UTC)
    leaf, _ = pki.issue(SUB, "a@x.test", key_type="p256", not_after=far)
    zero = x509.load_der_x509_certificate(leaf.public_bytes(Encoding.DER).replace(b"9998", b"0000"))
    assert "untrusted-issuer" in of(zero)
    listing = pki.make_crl(SUB, [LEAF], next_update=far).public_bytes(Encoding.DER)
    crl = x509.load_der_x509_crl(listing.replace(b"9998", b"0000"))
    assert of(LEAF, crls=(FRESH[0], crl)) == ["revocation-unknown"]


def test_a_changed_intermediate_is_never_trusted_and_never_raises() -> None:
    for data in mutated(SUB.certificate.public_bytes(Encoding.DER)):
        try:
            changed = x509.load_der_x509_certificate(data)
        except (ValueError, x509.InvalidVersion):
            continue
        assert of(LEAF, intermediates=[changed])


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=40), st.sampled_from(["2.5.29.33", "2.5.29.30", "2.5.29.17", "2.5.29.31", "2.5.29.36"])
)
def test_any_bytes_in_an_extension_are_judged(value: bytes, oid: str) -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    leaf, _ = pki.issue(SUB, None, key_type="p256", key=KEY, extensions=[(strange, False)])
    of(leaf, revocation="soft")


KEY = pki.make_key("p256")


def test_no_certificate_makes_judging_slow() -> None:
    many = [x509.DNSName(f"h{n}.x.test") for n in range(3000)]
    ca = pki.make_ca("Many", parent=ROOT, extensions=[(x509.NameConstraints(None, many), True)])
    leaf, _ = pki.issue(ca, None, key_type="p256", extensions=[(x509.SubjectAlternativeName(many), False)])
    policies = [x509.PolicyInformation(x509.ObjectIdentifier(f"1.2.3.{n}"), None) for n in range(3000)]
    verbose, _ = pki.issue(
        SUB, "a@x.test", key_type="p256", extensions=[(x509.CertificatePolicies(policies), False)]
    )
    started = time.process_time()
    assert of(leaf, enclosed=Enclosed([ca.certificate]), revocation="soft") == ["untrusted-issuer"]
    assert of(verbose) == []
    assert of(LEAF, enclosed=Enclosed([verbose] * 10 + [leaf] * 20_000)) == []
    assert time.process_time() - started < 2


@pytest.mark.parametrize("slow", ["rsa", "brainpoolp512r1"])
def test_no_crowd_of_slow_keys_makes_judging_slow(slow: str) -> None:
    """Authorities of the right name that nobody knows, and lists signed by none of them."""
    signer = pki.make_key("rsa3072" if slow == "rsa" else "brainpoolp512r1")

    def crowd() -> Iterator[x509.Certificate]:
        for number in range(200):
            key: object = pki.make_key("brainpoolp512r1").public_key()
            if slow == "rsa":
                modulus = (1 << 3072) - 2 * number - 1
                key = rsa.RSAPublicNumbers(modulus - 2, modulus).public_key()
            name, other = SUB.certificate.subject, pki.make_key("p256")
            builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1 + number)
            builder = builder.not_valid_before(pki.EPOCH).not_valid_after(pki.FAR)
            yield builder.public_key(key).sign(other, hashes.SHA256())  # type: ignore[arg-type]

    impostor = pki.Authority(SUB.certificate, signer, SUB.chain)
    lists = [pki.make_crl(impostor, number=number) for number in range(16)]
    helpers = [*crowd()]
    forged, _ = pki.issue(impostor, "a@x.test", key_type="p256")
    started = time.process_time()
    assert of(LEAF, enclosed=Enclosed(helpers, lists)) == []
    assert of(forged, enclosed=Enclosed(helpers, lists)) == ["untrusted-issuer"]
    assert time.process_time() - started < 4  # it was a minute


def test_a_name_that_is_no_name() -> None:
    """A BIT STRING as common name: cryptography raises TypeError, and only when the name is looked at."""
    odd = LEAF.public_bytes(Encoding.DER)
    at = odd.index(b"\x0c\x11dr.b@medecin.test")
    certificate = x509.load_der_x509_certificate(odd[:at] + b"\x03\x11\0" + odd[at + 3 :])
    with pytest.raises(TypeError):
        _ = certificate.subject
    judgement = judge(certificate, anchors=[ROOT.certificate], enclosed=Enclosed([SUB.certificate]), at=AT)
    assert "untrusted-issuer" in codes(judgement)
    assert addresses(certificate) == ("dr.b@medecin.test",)
