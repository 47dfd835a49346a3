"""Enrolment by EST against an independent server (OpenSSL's command line) and against the sandbox."""

import base64
import contextlib
import datetime as dt
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.sandbox.operator import Operator
from medmail_cli.transport.est import EstAuthority
from tests.support.openssl_est import Handler, OpenSslCa, OpenSslEst, Reply
from tests.support.tools import run

ADDRESS = "dr.martin@medecin.test"

Client = Callable[..., EstAuthority]


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def request_for(
    address: str = ADDRESS, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None
) -> x509.CertificateSigningRequest:
    key = key or ec.generate_private_key(ec.SECP256R1())
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Dr Éloïse Martin")]))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
        .sign(key, hashes.SHA256())
    )


CSR = request_for()


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> OpenSslCa:
    return OpenSslCa.create(tmp_path_factory.mktemp("ca") / "other", "Other Root")


@pytest.fixture
def client() -> Iterator[Client]:
    """Makes authorities and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def make(server: OpenSslEst, **how: Any) -> EstAuthority:
            how = {"tls_anchors": server.ca.root, "timeout": 10.0, "patience": 3.0, **how}
            return stack.enter_context(EstAuthority(server.url, now=now, **how))

        yield make


def refused(code: str, call: Callable[[], object]) -> MedmailError:
    with pytest.raises(MedmailError) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def openssl_accepts(root: Path, chain: Sequence[x509.Certificate], tmp_path: Path) -> None:
    """OpenSSL's own path validation, for e-mail."""
    leaf, above = tmp_path / "leaf.pem", tmp_path / "above.pem"
    leaf.write_bytes(chain[0].public_bytes(Encoding.PEM))
    above.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in chain[1:-1]) or root.read_bytes())
    run(
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "smimesign",
        "-CAfile",
        root,
        "-untrusted",
        above,
        leaf,
    )


# -- the right way


@pytest.mark.parametrize("how", ["anchors", "fingerprint"])
def test_enrol_at_an_openssl_authority(
    server: OpenSslEst, ca: OpenSslCa, how: str, tmp_path: Path, client: Client
) -> None:
    trusting = {"tls_anchors": None, "fingerprint": ca.fingerprint} if how == "fingerprint" else {}
    with client(server, **trusting) as authority:
        assert [c.subject.rfc4514_string() for c in authority.anchors()] == ["CN=OpenSSL Root"]
        assert authority.csr_attributes() == ()
        for operation in (authority.enrol, authority.renew):
            chain = operation(CSR)
            assert chain[0].public_key() == CSR.public_key()
            assert chain[-1].public_bytes(Encoding.PEM).strip() == ca.root.read_bytes().strip()
            openssl_accepts(ca.root, chain, tmp_path)


@pytest.mark.parametrize("key", ["rsa3072", "p384"])
def test_enrol_at_the_sandbox(key: str, tmp_path: Path) -> None:
    made = (
        rsa.generate_private_key(65537, 3072) if key == "rsa3072" else ec.generate_private_key(ec.SECP384R1())
    )
    asked = 0

    def password() -> bytes:
        nonlocal asked
        asked += 1
        return operator.password.encode()

    with (
        Operator(tmp_path / "s") as operator,
        EstAuthority(
            operator.est_url,
            now=now,
            fingerprint=operator.authority.fingerprint,
            login=ADDRESS,
            password=password,
        ) as authority,
    ):
        assert authority.csr_attributes()[0].oid == "1.2.840.113549.1.9.14"
        assert asked == 0
        chain = authority.enrol(request_for(key=made))
        authority.renew(request_for(key=made))
        assert asked == 1
        assert len(chain) == 3
        openssl_accepts(operator.order_anchors, chain, tmp_path)
        error = refused("ca-rejected", lambda: authority.enrol(request_for("someone.else@medecin.test")))
        assert "that address only" in str(error.facts["detail"])


def test_the_sandbox_revokes_and_openssl_sees_it(tmp_path: Path) -> None:
    with Operator(tmp_path / "s") as operator:
        authority = operator.authority
        leaf = authority.issue(CSR.public_bytes(Encoding.DER), ADDRESS, now())
        authority.revoke(leaf.serial_number, now())
        for name, der in (("crl", authority.crl(now())), ("root-crl", authority.root_crl(now()))):
            run("openssl", "crl", "-inform", "DER", "-out", tmp_path / f"{name}.pem", stdin=der)
        (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        (tmp_path / "issuing.pem").write_bytes(authority.issuing.certificate.public_bytes(Encoding.PEM))
        done = run(
            "openssl", "verify", "-crl_check_all", "-CAfile", operator.order_anchors,
            "-CRLfile", tmp_path / "crl.pem", "-CRLfile", tmp_path / "root-crl.pem",
            "-untrusted", tmp_path / "issuing.pem", tmp_path / "leaf.pem", expect=2,
        )  # fmt: skip
        assert b"certificate revoked" in done.stdout + done.stderr


# -- who the server is


def test_an_unknown_server_is_not_trusted(server: OpenSslEst, client: Client) -> None:
    assert exit_of(refused("server-untrusted", client(server, tls_anchors=None).anchors).code) == 5
    assert server.seen == []


def test_another_fingerprint_ends_before_anything_is_sent(server: OpenSslEst, client: Client) -> None:
    authority = client(server, tls_anchors=None, fingerprint="ab" * 32, login="l", password=lambda: b"p")
    error = refused("ca-fingerprint-mismatch", lambda: authority.enrol(CSR))
    assert exit_of(error.code) == 5
    assert server.seen == [("GET", "cacerts", False)]


def test_a_fingerprint_is_checked_even_where_anchors_vouch(server: OpenSslEst, client: Client) -> None:
    refused("ca-fingerprint-mismatch", lambda: client(server, fingerprint="ab" * 32).enrol(CSR))


def test_a_thief_of_the_public_root_gets_nothing(ca: OpenSslCa, other_ca: OpenSslCa, client: Client) -> None:
    """Someone in the middle shows the real CA's certificates, but cannot prove to be its server."""
    with OpenSslEst(ca, tls_from=other_ca) as thief:
        authority = client(
            thief, tls_anchors=None, fingerprint=ca.fingerprint, login="l", password=lambda: b"p"
        )
        refused("server-untrusted", lambda: authority.enrol(CSR))
        assert thief.seen == [("GET", "cacerts", False)]


# -- what it issues


def test_a_certificate_for_another_key_is_refused(server: OpenSslEst, client: Client) -> None:
    elsewhere = base64.b64encode(request_for().public_bytes(Encoding.DER))
    server.replies["simpleenroll"] = lambda _h, _b: (200, {}, server.issue(elsewhere))
    error = refused("certificate-not-as-requested", lambda: client(server).enrol(CSR))
    assert (error.facts["reason"], exit_of(error.code)) == ("wrong-key", 5)


def test_a_certificate_for_another_name_is_refused(server: OpenSslEst, client: Client) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    elsewhere = request_for("dr.marten@medecin.test", key).public_bytes(Encoding.DER)
    server.replies["simpleenroll"] = lambda _h, _b: (200, {}, server.issue(base64.b64encode(elsewhere)))
    error = refused("certificate-not-as-requested", lambda: client(server).enrol(request_for(key=key)))
    assert error.facts["reason"] == "wrong-name"


def test_a_certificate_from_another_root_is_refused(
    server: OpenSslEst, other_ca: OpenSslCa, client: Client
) -> None:
    server.replies["simpleenroll"] = lambda _h, body: (200, {}, server.issue(body, other_ca))
    error = refused("certificate-not-as-requested", lambda: client(server).enrol(CSR))
    assert (error.facts["reason"], error.facts["problem"]) == ("unfit", "untrusted-issuer")


# -- how it answers


def test_base64_is_called_that_for_servers_that_look(server: OpenSslEst, client: Client) -> None:
    said = []

    def certify(handler: Handler, body: bytes) -> Reply:
        said.append(handler.headers["Content-Transfer-Encoding"])
        return 200, {}, server.issue(body)

    server.replies["simpleenroll"] = certify
    client(server).enrol(CSR)
    assert said == ["base64"]


@pytest.mark.parametrize(
    ("status", "headers", "code", "exit_code"),
    [
        (301, {"Location": "https://elsewhere.test/"}, "ca-redirected", 1),
        (400, {"Content-Type": "text/plain"}, "ca-rejected", 1),
        (401, {}, "ca-refused", 4),
        (401, {"WWW-Authenticate": "Digest realm=x"}, "ca-refused", 4),
        (401, {"WWW-Authenticate": "Basic realm=x"}, "ca-refused", 4),
        (403, {}, "ca-refused", 4),
        (404, {}, "ca-rejected", 1),
        (429, {"Retry-After": "7"}, "ca-busy", 75),
        (500, {}, "ca-busy", 75),
        (503, {}, "ca-busy", 75),
    ],
)
def test_refusals(
    server: OpenSslEst, status: int, headers: dict[str, str], code: str, exit_code: int, client: Client
) -> None:
    server.replies["simpleenroll"] = lambda _h, _b: (status, headers, b"why \x1b[31m not\n")
    error = refused(code, lambda: client(server, login="l", password=lambda: b"p").enrol(CSR))
    assert exit_of(error.code) == exit_code
    posts = [seen for seen in server.seen if seen[0] == "POST"]
    basic = "Basic" in headers.get("WWW-Authenticate", "")
    assert posts == [("POST", "simpleenroll", False), *([("POST", "simpleenroll", True)] if basic else [])]
    if status == 400:
        assert error.facts["detail"] == "why \x1b[31m not"


def test_a_certificate_issued_later_is_waited_for(server: OpenSslEst, client: Client) -> None:
    waits = iter([True, True, False])

    def later(_handler: Handler, body: bytes) -> Reply:
        return (202, {"Retry-After": "1"}, b"") if next(waits) else (200, {}, server.issue(body))

    server.replies["simpleenroll"] = later
    assert client(server, patience=10.0).enrol(CSR)[0].public_key() == CSR.public_key()


def test_it_is_not_asked_again_before_its_time(server: OpenSslEst, client: Client) -> None:
    server.replies["simpleenroll"] = lambda _h, _b: (202, {"Retry-After": "22"}, b"")
    error = refused("ca-pending", lambda: client(server, patience=21).enrol(CSR))
    assert error.facts["seconds"] == 22
    assert [operation for method, operation, _ in server.seen if method == "POST"] == ["simpleenroll"]


@pytest.mark.parametrize("headers", [{"Retry-After": "86400"}, {}])
def test_a_certificate_that_takes_too_long_is_asked_for_another_day(
    server: OpenSslEst, headers: dict[str, str], client: Client
) -> None:
    server.replies["simpleenroll"] = lambda _h, _b: (202, headers, b"")
    assert exit_of(refused("ca-pending", lambda: client(server).enrol(CSR)).code) == 75


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Welcome to the hotel</html>", b"\x00\xff" * 50, base64.b64encode(b"no PKCS#7"), b"MIIB"],
    ids=["empty", "portal", "binary", "no PKCS#7", "short"],
)
@pytest.mark.parametrize("operation", ["cacerts", "simpleenroll"])
def test_garbage(server: OpenSslEst, operation: str, body: bytes, client: Client) -> None:
    server.replies[operation] = lambda _h, _b: (200, {}, body)
    assert exit_of(refused("server-answer-malformed", lambda: client(server).enrol(CSR)).code) == 1


def test_a_huge_answer_is_not_read(server: OpenSslEst, client: Client) -> None:
    def huge(handler: Handler, _body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"A" * (1 << 16))

    server.replies["cacerts"] = huge
    refused("server-answer-malformed", client(server).anchors)


def test_a_cut_answer_is_tried_later(server: OpenSslEst, client: Client) -> None:
    server.replies["cacerts"] = lambda _h, _b: (
        200,
        {"Content-Length": "5000", "Connection": "close"},
        b"MIIB",
    )
    assert refused("server-unreachable", client(server).anchors).facts["reason"] == "cut-off"


def test_no_http_at_all(server: OpenSslEst, client: Client) -> None:
    server.replies["cacerts"] = lambda handler, _b: handler.raw(b"SSH-2.0-OpenSSH\r\n" * 20)
    refused("server-answer-malformed", client(server).anchors)


@pytest.mark.parametrize("pace", ["silent", "drip"])
def test_a_slow_server_is_given_up(server: OpenSslEst, pace: str, client: Client) -> None:
    def slow(handler: Handler, _body: bytes) -> None:
        if pace == "drip":
            handler.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1000, 0.1)
        else:
            over.wait(300)

    over = threading.Event()
    server.replies["cacerts"] = slow
    error = refused("server-unreachable", client(server, timeout=1.0).anchors)
    over.set()
    assert (error.facts["reason"], exit_of(error.code)) == ("timed-out", 75)


def test_nobody_listens(ca: OpenSslCa) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"https://localhost:{taken.getsockname()[1]}"
        refused("server-unreachable", EstAuthority(url, now=now, tls_anchors=ca.root).anchors)


def test_anchors_that_cannot_be_read(tmp_path: Path) -> None:
    refused(
        "not-readable", lambda: EstAuthority("https://localhost", now=now, tls_anchors=tmp_path / "none.pem")
    )
