"""What an EST authority wants of requests is done: csrattrs (RFC 7030, 9908), the link to the connection."""

import base64
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from medmail_cli.cms import ber, der
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance.csr import build_request
from medmail_cli.pki.issuance.csrattrs import Wanted, fitted
from medmail_cli.sandbox import web
from medmail_cli.sandbox.operator import Operator
from medmail_cli.transport.est import EstAuthority
from tests.support.cli import medmail, passphrase
from tests.support.openssl_est import Handler, OpenSslCa, OpenSslEst, Reply
from tests.support.tools import run

ADDRESS = "dr.martin@medecin.test"
RFC_7030 = b"MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw=="
KEY = SoftwareKey(ec.generate_private_key(ec.SECP256R1()))
CSR = x509.load_der_x509_csr(build_request(KEY, address=ADDRESS, name="Dr Martin"))
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"


class Watched:
    """A server that says what it wants, and keeps requests with the tls-unique of each one's connection."""

    def __init__(self, server: OpenSslEst, wants: bytes) -> None:
        self.server = server
        self.requests: list[tuple[x509.CertificateSigningRequest, str | None, bytes]] = []
        server.replies["csrattrs"] = lambda _handler, _body: (200, {}, wants)
        for operation in ("simpleenroll", "simplereenroll"):
            server.replies[operation] = self.certify

    def certify(self, handler: Handler, body: bytes) -> Reply:
        connection = handler.connection
        assert isinstance(connection, ssl.SSLSocket)
        binding = connection.get_channel_binding("tls-unique")
        octets = base64.b64decode(body)
        run("openssl", "req", "-inform", "DER", "-verify", "-noout", stdin=octets)
        self.requests.append((x509.load_der_x509_csr(octets), connection.version(), binding or b""))
        return 200, {}, self.server.issue(body)


Start = Callable[..., Watched]
"""Starts a server that wants so much, by these versions of TLS."""


@pytest.fixture
def watched(ca: OpenSslCa) -> Iterator[Start]:
    running: list[OpenSslEst] = []

    def start(wants: bytes, versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (TLS_1_2, TLS_1_3)) -> Watched:
        running.append(OpenSslEst(ca, versions=versions).__enter__())
        return Watched(running[-1], wants)

    yield start
    for server in running:
        server.__exit__()


def asked(watched: Watched, ca: OpenSslCa, operation: str = "enrol", **options: object) -> None:
    with EstAuthority(
        watched.server.url, now=lambda: datetime.now(UTC), tls_anchors=ca.root, **options  # type: ignore[arg-type]
    ) as authority:  # fmt: skip
        getattr(authority, operation)(CSR, KEY)


def challenge(request: x509.CertificateSigningRequest) -> bytes | None:
    try:
        return request.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value
    except x509.AttributeNotFound:
        return None


# --- proof of possession, tied to the connection ------------------------------------------------------------


@pytest.mark.parametrize("wants", [b"", RFC_7030])
def test_under_tls_1_2_a_request_is_tied_to_its_connection(
    watched: Start, ca: OpenSslCa, wants: bytes
) -> None:
    server = watched(wants, (TLS_1_2, TLS_1_2))
    for operation in ("enrol", "renew"):
        asked(server, ca, operation)
        request, version, binding = server.requests[-1]
        assert version == "TLSv1.2"
        assert challenge(request) == base64.b64encode(binding)


def test_a_login_asked_for_or_an_answer_put_off_is_tied_again(watched: Start, ca: OpenSslCa) -> None:
    server = watched(b"", (TLS_1_2, TLS_1_2))
    refusals: list[Reply] = [
        (401, {"WWW-Authenticate": "Basic", "Connection": "close"}, b""),
        (202, {"Retry-After": "1", "Connection": "close"}, b""),
    ]

    def certify(handler: Handler, body: bytes) -> Reply:
        done = server.certify(handler, body)
        if not refusals:
            return done
        handler.close_connection = True
        return refusals.pop(0)

    server.server.replies["simpleenroll"] = certify
    asked(server, ca, login="me", password=lambda: b"secret")
    bindings = [binding for _, _, binding in server.requests]
    assert len(set(bindings)) == 3
    assert [challenge(one) for one, _, _ in server.requests] == [base64.b64encode(one) for one in bindings]


def test_tls_1_3_is_left_only_where_the_authority_wants_the_link(watched: Start, ca: OpenSslCa) -> None:
    free, linked, newest = watched(b""), watched(RFC_7030), watched(RFC_7030, (TLS_1_3, TLS_1_3))
    for server in (free, linked, newest):
        asked(server, ca)
    assert [(one[1], challenge(one[0])) for one in free.requests] == [("TLSv1.3", None)]
    ((request, version, binding),) = linked.requests
    assert (version, challenge(request)) == ("TLSv1.2", base64.b64encode(binding))
    assert [(one[1], challenge(one[0])) for one in newest.requests] == [("TLSv1.3", None)]


def test_the_sandbox_refuses_a_request_of_another_connection(tmp_path: Path) -> None:
    with Operator(tmp_path / "s") as operator:
        other = der.sequence(der.oid("1.2.840.113549.1.9.7"), der.set_of([der.tlv(0x13, b"b3RoZXI=")]))
        stolen = fitted(CSR.public_bytes(Encoding.DER), KEY, Wanted(), binding=b"other")
        assert other in stolen
        authority = EstAuthority(
            operator.est_url, now=lambda: datetime.now(UTC), fingerprint=operator.authority.fingerprint,
            login=ADDRESS, password=operator.password.encode,
        )  # fmt: skip
        with authority, pytest.raises(MedmailError) as caught:
            authority.enrol(x509.load_der_x509_csr(stolen))
        assert caught.value.code == "ca-rejected"
        assert "another connection" in str(caught.value.facts["detail"])
        authority._server.bind()  # a connection that can be tied
        with authority:
            assert len(authority.enrol(CSR, KEY)) == 3
            assert authority._server.binding is not None


# --- attributes --------------------------------------------------------------------------------------------


def extension(oid: str, value: bytes | None, *critical: bytes) -> bytes:
    return der.sequence(der.oid(oid), *critical, *([der.octet_string(value)] if value is not None else []))


def attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.set_of(values))


def wants(*items: bytes) -> bytes:
    return base64.encodebytes(der.sequence(*items))


CRITICAL = b"\x01\x01\xff"
USAGE = x509.KeyUsage(True, True, False, False, False, False, False, False, False).public_bytes()
OTHERS = x509.SubjectAlternativeName([x509.RFC822Name("mallory@evil.test")]).public_bytes()
EKU, KU, SAN, SKI = "2.5.29.37", "2.5.29.15", "2.5.29.17", "2.5.29.14"


def test_extensions_are_asked_for_as_the_authority_says(watched: Start, ca: OpenSslCa) -> None:
    listed = der.sequence(extension(KU, USAGE, CRITICAL), extension(EKU, b""), extension(SAN, OTHERS))
    for body in (
        wants(
            attribute(EXTENSION_REQUEST, listed),
            der.oid(SKI),
            der.oid("1.2.3.4"),
            attribute("1.2.3.5", der.NULL),
        ),
        wants(
            attribute("1.2.840.113549.1.9.16.2.61", template(extensions=listed, also=extension(SKI, None)))
        ),
    ):
        server = watched(body)
        asked(server, ca)
        ((request, _, _),) = server.requests
        found = {one.oid.dotted_string: one for one in request.extensions}
        assert found.keys() == {EKU, KU, SAN, SKI}
        assert (found[KU].critical, found[KU].value.public_bytes()) == (True, USAGE)
        assert found[EKU].value == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        assert found[SKI].value == x509.SubjectKeyIdentifier.from_public_key(CSR.public_key())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.RFC822Name) == [ADDRESS]


def template(*, subject: bytes = b"", key: bytes = b"", extensions: bytes = b"", also: bytes = b"") -> bytes:
    """CertificationRequestInfoTemplate of RFC 9908 §3.4."""
    listed = bytes(ber.parse(extensions).content) if extensions else b""
    requested = attribute("1.2.840.113549.1.9.16.2.62", der.sequence(listed, also)) if listed else b""
    return der.sequence(der.integer(0), subject, key, der.tlv(0xA1, requested))


def test_a_template_says_what_stands_in_the_subject(watched: Start, ca: OpenSslCa) -> None:
    country = der.sequence(der.oid("2.5.4.6"), der.tlv(0x13, b"FR"))
    rdns = [
        der.set_of([country]),
        der.set_of([der.sequence(der.oid("2.5.4.3"))]),
        der.set_of([der.sequence(der.oid("2.5.4.11"))]),
    ]
    body = wants(attribute("1.2.840.113549.1.9.16.2.61", template(subject=der.sequence(*rdns))))
    server = watched(body)
    asked(server, ca)
    asked(server, ca, "renew")
    first, again = (one[0].subject for one in server.requests)
    assert [(one.oid, one.value) for one in first] == [
        (NameOID.COUNTRY_NAME, "FR"),
        (NameOID.COMMON_NAME, "Dr Martin"),
    ]
    assert again == CSR.subject


def test_the_signature_is_the_one_wanted_where_the_key_can_make_it(watched: Start, ca: OpenSslCa) -> None:
    server = watched(wants(der.oid("1.2.840.113549.1.1.13"), der.oid("1.2.840.10045.4.3.3")))
    asked(server, ca)
    assert server.requests[0][0].signature_algorithm_oid.dotted_string == "1.2.840.10045.4.3.3"


@pytest.mark.parametrize("status", [204, 400, 403, 404, 405, 500, 501])
def test_an_authority_that_does_not_say_wants_nothing(watched: Start, ca: OpenSslCa, status: int) -> None:
    server = watched(b"")
    server.server.replies["csrattrs"] = lambda _handler, _body: (status, {}, b"")
    asked(server, ca)
    assert server.requests[0][0] == CSR


def rsa_template(bits: int) -> bytes:
    modulus = der.integer(1 << (bits - 1))
    algorithm = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.NULL)
    return der.tlv(0xA0, algorithm, der.bit_string(der.sequence(modulus, der.integer(65537))))


@pytest.mark.parametrize(
    ("body", "kind", "other", "certified"),
    [
        (RFC_7030, "p384", "p256", False),
        (wants(attribute("1.2.840.113549.1.1.1", der.integer(4096))), "rsa4096", "p256", False),
        (wants(attribute("1.2.840.113549.1.1.1", der.integer(3072))), "rsa3072", "rsa4096", False),
        (
            wants(
                attribute("1.2.840.10045.2.1", der.oid("1.3.132.0.34")), der.oid("1.2.840.113549.1.1.1")
            ),
            "p384", "rsa4096", True,
        ),
        (
            wants(attribute("1.2.840.10045.2.1", der.oid("1.3.132.0.35"), der.oid("1.2.840.10045.3.1.7"))),
            "p256", "p384", False,
        ),
        (
            wants(attribute("1.2.840.113549.1.9.16.2.61", template(key=rsa_template(4096)))),
            "rsa4096", "p256", False,
        ),
        # of any curve or length, or one shorter than we make
        (wants(der.oid("1.2.840.10045.2.1")), "p256", "p384", True),
        (wants(der.oid("1.2.840.113549.1.1.1")), "rsa3072", "rsa4096", True),
        (wants(attribute("1.2.840.113549.1.1.1", der.integer(2048))), "rsa3072", "rsa4096", True),
        # a signature among others asks for no key
        (wants(der.oid("1.2.840.10045.4.3.2"), der.oid("1.3.101.112")), "rsa3072", "p256", True),
        (b"<html>no attributes</html>", "rsa3072", "p256", True),
        (b"", "rsa3072", "p256", True),
    ],
)  # fmt: skip
def test_the_key_is_of_the_kind_the_authority_certifies(
    watched: Start, ca: OpenSslCa, body: bytes, kind: str, other: str, certified: bool, tmp_path: Path
) -> None:
    server, home = watched(body), tmp_path / "home"
    passphrase(home)
    words = ("--ca", server.server.url, "--tls-anchors", ca.root, "--no-backup", "--json")
    done = medmail(home, "enrol", "new", ADDRESS, *words)
    assert (done.exit, done.objects[0]["key"]) == (0, kind), done
    public = server.requests[0][0].public_key()
    assert isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    done = medmail(home, "enrol", "new", ADDRESS, *words, "--replace", "--key", other)
    if certified:
        assert done.objects[0]["key"] == other
        return
    (told,) = done.objects
    assert (told["code"], told["exit"], len(server.requests)) == ("key-not-wanted", 2, 1)
    assert (other in told["message"], kind in told["message"]) == (True, True)
    assert "--key" in told["hint"]
    assert [one["status"] for one in medmail(home, "keys", "list", "--json").objects[:-1]] == ["active"]


ED25519 = der.oid("1.3.101.112")


@pytest.fixture
def home_of_ed25519(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A home, and the root's fingerprint, of an authority that asks for Ed25519 alone."""
    with Operator(tmp_path / "s") as operator:
        monkeypatch.setattr(web, "_CSR_ATTRIBUTES", der.sequence(ED25519))
        home = operator.home(ADDRESS, tmp_path / "home")
        passphrase(home)
        yield home, operator.authority.fingerprint


def kinds(home: Path, state: str = "active") -> list[tuple[str, str]]:
    listed = medmail(home, "keys", "list", "--json").objects
    return [(one["key"], one["purpose"]) for one in listed if one.get("status") == state]


def test_ed25519_asked_for_brings_x25519(home_of_ed25519: tuple[Path, str]) -> None:
    home, root = home_of_ed25519
    words = ("--ca-fingerprint", root, "--no-backup", "--json")
    refused = medmail(home, "enrol", "new", ADDRESS, *words, "--key", "rsa3072")
    assert refused.objects[-1]["code"] == "key-not-wanted"
    done = medmail(home, "enrol", "new", ADDRESS, *words)
    assert done.exit == 0, done.stderr
    assert kinds(home) == [("ed25519", "sign"), ("x25519", "encrypt")]
    again = medmail(home, "enrol", "new", ADDRESS, *words)
    assert {one["status"] for one in again.objects if one["type"] == "enrolment"} == {"unchanged"}
    # of the kinds that are in use both are what is wanted still
    done = medmail(home, "enrol", "renew", ADDRESS, "--no-backup", "--json")
    assert done.exit == 0, done.stderr
    assert kinds(home) == [("ed25519", "sign"), ("x25519", "encrypt")]


def test_a_renewal_takes_the_kind_that_the_authority_certifies_today(
    watched: Start, ca: OpenSslCa, tmp_path: Path
) -> None:
    server, home = watched(b""), tmp_path / "home"
    passphrase(home)
    words = ("--ca", server.server.url, "--tls-anchors", ca.root, "--no-backup", "--json")
    assert medmail(home, "enrol", "new", ADDRESS, *words, "--key", "p256").exit == 0
    renew = ("enrol", "renew", ADDRESS, *words)
    server.server.replies["csrattrs"] = lambda _handler, _body: (200, {}, RFC_7030)
    refused = medmail(home, *renew, "--key", "p256")
    assert refused.objects[-1]["code"] == "key-not-wanted"
    assert medmail(home, *renew).exit == 0
    assert kinds(home) == [("p384", "both")]
    # what it certifies among others stays as it is
    body = wants(der.oid("1.2.840.113549.1.1.1"), der.oid("1.2.840.10045.2.1"))
    server.server.replies["csrattrs"] = lambda _handler, _body: (200, {}, body)
    assert medmail(home, *renew).exit == 0
    assert kinds(home) == [("p384", "both")]


def test_a_batch_makes_keys_of_that_kind(watched: Start, ca: OpenSslCa, tmp_path: Path) -> None:
    server, home, roster = watched(RFC_7030), tmp_path / "home", tmp_path / "roster.csv"
    passphrase(home)
    roster.write_text(f"address,name\n{ADDRESS},Dr Martin\n")
    words = (
        "--ca",
        server.server.url,
        "--tls-anchors",
        ca.root,
        "--out-dir",
        tmp_path / "out",
        "--p12",
        "--json",
    )
    refused = medmail(home, "enrol", "batch", roster, *words, "--key", "p256")
    assert (refused.exit, refused.objects[-1]["code"]) == (2, "key-not-wanted")
    done = medmail(home, "enrol", "batch", roster, *words)
    assert done.exit == 0, done
    public = server.requests[0][0].public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp384r1"


def test_a_batch_makes_ed25519_keys_where_only_they_are_certified(
    home_of_ed25519: tuple[Path, str], tmp_path: Path
) -> None:
    home, _ = home_of_ed25519
    roster, out = tmp_path / "roster.csv", tmp_path / "out"
    roster.write_text(f"address,name\n{ADDRESS},Dr Martin\n")
    done = medmail(home, "enrol", "batch", roster, "--ca", "order", "--out-dir", out, "--json")
    assert done.exit == 0, done
    (row,) = (one for one in done.objects if one["type"] == "enrolment")
    given = [(one["key"], one["purpose"]) for one in row["certificates"]]
    assert given == [("ed25519", "sign"), ("x25519", "encrypt")]
