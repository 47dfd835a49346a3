"""Enrolment by CMP at an independent server: OpenSSL's command line, and somebody in between who lies."""

import contextlib
import datetime as dt
import functools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from medmail_cli.cms import der
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.pki.issuance import cmp, cmp_protection
from medmail_cli.pki.issuance.cmp_protection import Protection, SharedSecret, Signer
from medmail_cli.pki.issuance.csr import build_request
from medmail_cli.transport.cmp import CmpAuthority
from tests.support.memories import Kept
from tests.support.openssl_cmp import REFERENCE, SECRET, Between, OpenSslCmp, signer
from tests.support.openssl_est import OpenSslCa
from tests.support.tools import require, run

ADDRESS = "dr.martin@medecin.test"
KEY = ec.generate_private_key(ec.SECP256R1())
CSR = x509.load_der_x509_csr(build_request(SoftwareKey(KEY), address=ADDRESS, name="Dr Éloïse Martin"))
SHARED = ("-srv_ref", REFERENCE, "-srv_secret", f"pass:{SECRET}")


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def by_secret(secret: str = SECRET) -> SharedSecret:
    return SharedSecret(REFERENCE.encode(), secret.encode())


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> OpenSslCa:
    require("openssl")
    return OpenSslCa.create(tmp_path_factory.mktemp("ca") / "one", "CMP Root")


@pytest.fixture(scope="module")
def issued(ca: OpenSslCa) -> Path:
    """What the server answers with: a certificate for our request."""
    path = ca.folder / "issued.pem"
    path.write_bytes(ca.sign(CSR.public_bytes(Encoding.DER), "DER"))
    return path


@pytest.fixture(scope="module")
def registrar(ca: OpenSslCa) -> tuple[Path, Path]:
    return signer(ca, "authority", "CMP RA")


@pytest.fixture(scope="module")
def person(ca: OpenSslCa) -> tuple[Path, Path]:
    return signer(ca, "person", "Dr Nobody")


def holder(person: tuple[Path, Path]) -> Signer:
    certificate = x509.load_pem_x509_certificate(person[0].read_bytes())
    return Signer(SoftwareKey(load_pem_private_key(person[1].read_bytes(), None)), [certificate])


def signing(by: tuple[Path, Path], ca: OpenSslCa) -> tuple[str | Path, ...]:
    return ("-srv_cert", by[0], "-srv_key", by[1], "-srv_trusted", ca.root)


Client = Callable[..., CmpAuthority]
Server = Callable[..., OpenSslCmp]


@pytest.fixture
def server(tmp_path: Path, issued: Path, ca: OpenSslCa) -> Iterator[Server]:
    """Starts servers that share our secret, or have what is given instead, and stops them."""
    with contextlib.ExitStack() as stack:

        def start(*options: str | Path, vouching: tuple[str | Path, ...] = SHARED) -> OpenSslCmp:
            answers = () if "-rsp_cert" in options else ("-rsp_cert", issued)
            roots = () if "-rsp_capubs" in options else ("-rsp_capubs", ca.root)
            return stack.enter_context(OpenSslCmp(tmp_path, (*vouching, *answers, *roots, *options)))

        yield start


@pytest.fixture
def between() -> Iterator[Callable[[OpenSslCmp], Between]]:
    with contextlib.ExitStack() as stack:
        yield lambda running: stack.enter_context(Between(running.url))


@pytest.fixture
def client() -> Iterator[Client]:
    with contextlib.ExitStack() as stack:

        def make(at: OpenSslCmp | Between, credentials: Protection | None = None, **how: Any) -> CmpAuthority:
            how = {"timeout": 10.0, "patience": 10.0, **how}
            vouch = credentials or by_secret()
            return stack.enter_context(CmpAuthority(at.url, now=now, credentials=lambda: vouch, **how))

        yield make


def refused(code: str, call: Callable[[], object]) -> MedmailError:
    with pytest.raises(MedmailError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value


def kinds(asked: list[bytes]) -> list[str]:
    return [cmp.read(one).kind for one in asked]


# -- the right way


@pytest.mark.parametrize("how", ["anchors", "fingerprint", "caPubs"])
def test_a_certificate_for_a_shared_secret(
    server: Server, client: Client, ca: OpenSslCa, how: str, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay = between(server())
    trusting: dict[str, dict[str, object]] = {
        "anchors": {"tls_anchors": ca.root},
        "fingerprint": {"fingerprint": ca.fingerprint},
        "caPubs": {},
    }
    authority = client(relay, **trusting[how])
    assert authority.anchors() == ()
    chain = authority.enrol(CSR, SoftwareKey(KEY), Kept())
    assert kinds(relay.asked) == ["ir", "certConf"]
    assert chain[0].public_key() == KEY.public_key()
    assert [one.public_bytes(Encoding.PEM).strip() for one in chain[1:]] == [ca.root.read_bytes().strip()]
    assert authority.anchors() == chain[-1:]


def test_a_pkcs10_where_the_key_is_not_at_hand(server: Server, client: Client, ca: OpenSslCa) -> None:
    running = server()
    chain = client(running, tls_anchors=ca.root).enrol(CSR, None, Kept())
    assert chain[0].public_key() == KEY.public_key()


@pytest.mark.parametrize("operation", ["enrol", "renew"])
def test_a_certificate_signs_for_another(
    operation: str, server: Server, client: Client, ca: OpenSslCa, registrar: tuple[Path, Path],
    person: tuple[Path, Path], issued: Path, between: Callable[[OpenSslCmp], Between],
) -> None:  # fmt: skip
    relay = between(server(vouching=signing(registrar, ca)))
    # OpenSSL's server renews the certificate alone that it answers with
    renewed = Signer(SoftwareKey(KEY), [x509.load_pem_x509_certificate(issued.read_bytes())])
    by = renewed if operation == "renew" else holder(person)
    chain = getattr(client(relay, by, tls_anchors=ca.root), operation)(CSR, SoftwareKey(KEY), Kept())
    assert kinds(relay.asked) == [{"enrol": "cr", "renew": "kur"}[operation], "certConf"]
    assert chain[0].public_key() == KEY.public_key()


def test_openssl_reads_in_our_request_what_the_pkcs10_asks_for(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay = between(server())
    client(relay).enrol(CSR, SoftwareKey(KEY), Kept())
    shown = run("openssl", "asn1parse", "-inform", "DER", stdin=relay.asked[0]).stdout.decode()
    assert "Dr Éloïse Martin" in shown
    assert "X509v3 Subject Alternative Name" in shown


def test_a_certificate_is_revoked(server: Server, client: Client, issued: Path) -> None:
    running = server()
    authority = client(running)
    authority.revoke(x509.load_pem_x509_certificate(issued.read_bytes()), "superseded")
    other = x509.load_pem_x509_certificate(issued.with_name("ca.pem").read_bytes())
    refused("ca-rejected", lambda: authority.revoke(other))


# -- waiting


def test_a_certificate_issued_later_is_polled_for_no_sooner_than_asked(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay = between(server("-poll_count", "3", "-check_after", "1"))
    began = time.monotonic()
    client(relay).enrol(CSR, SoftwareKey(KEY), Kept())
    assert time.monotonic() - began > 2
    assert kinds(relay.asked) == ["ir", "pollReq", "pollReq", "pollReq", "certConf"]


def test_what_takes_too_long_is_polled_for_by_the_next_run(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server("-poll_count", "2", "-check_after", "3")), Kept()
    error = refused("ca-pending", lambda: client(relay, patience=1.0).enrol(CSR, SoftwareKey(KEY), memory))
    assert (exit_of(error.code), error.facts["seconds"]) == (75, 3)
    assert kinds(relay.asked) == ["ir", "pollReq"]
    client(relay).enrol(CSR, SoftwareKey(KEY), memory)
    assert kinds(relay.asked[2:]) == ["pollReq", "certConf"]
    assert len({cmp.read(one).header.transaction for one in relay.asked}) == 1


# -- being killed


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_killed_run_leaves_one_confirmed_certificate(
    kept: int, server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server()), Kept(limit=kept)
    if kept < 2:
        with pytest.raises(KeyboardInterrupt):
            client(relay).enrol(CSR, SoftwareKey(KEY), memory)
    else:  # the last thing done: the certificate has not become an identity
        client(relay).enrol(CSR, SoftwareKey(KEY), memory)
    before = kinds(relay.asked)
    assert before == (["ir"] if kept == 0 else ["ir", "certConf"])
    assert (b'"chain": ["30' in memory.state) == (kept > 0)
    memory.limit = 99
    assert client(relay).enrol(CSR, SoftwareKey(KEY), memory)[0].public_key() == KEY.public_key()
    # OpenSSL's server forgets a transaction with its end: it does not know the confirmation repeated
    after = {0: ["ir", "certConf"], 1: ["certConf", "ir", "certConf"], 2: []}[kept]
    assert kinds(relay.asked)[len(before) :] == after
    assert b'"confirmed": true' in memory.state


def test_a_confirmation_that_did_not_arrive_is_sent_again(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server()), Kept()
    upstream = relay.upstream

    def cut(number: int, body: bytes) -> bytes:
        relay.upstream = "http://127.0.0.1:1/" if number == 1 else upstream
        return body

    relay.change = cut
    with pytest.raises(MedmailError):
        client(relay, timeout=2.0).enrol(CSR, SoftwareKey(KEY), memory)
    relay.upstream, relay.change = upstream, lambda _number, body: body
    client(relay).enrol(CSR, SoftwareKey(KEY), memory)
    assert kinds(relay.asked) == ["ir", "certConf", "certConf"]
    assert kinds(relay.answered) == ["ip", "pkiconf"]


def test_what_is_kept_serves_its_own_request_and_authority_alone(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server()), Kept()
    client(relay).enrol(CSR, SoftwareKey(KEY), memory)
    other = between(server())
    client(other).enrol(CSR, SoftwareKey(KEY), memory)
    assert kinds(other.asked) == ["ir", "certConf"]


# -- refusals


@pytest.mark.parametrize(
    ("failure", "code", "exit_code"),
    [("1", "ca-refused", 4), ("9", "ca-rejected", 1), ("19", "ca-rejected", 1), ("20", "ca-refused", 4),
     ("23", "ca-refused", 4), ("24", "ca-busy", 75), ("25", "ca-busy", 75)],
)  # fmt: skip
def test_refusals(server: Server, client: Client, failure: str, code: str, exit_code: int) -> None:
    running = server("-pkistatus", "2", "-failure", failure, "-statusstring", "why not")
    error = refused(code, lambda: client(running).enrol(CSR, SoftwareKey(KEY), Kept()))
    assert exit_of(error.code) == exit_code
    assert error.facts["detail"] == f"{cmp.FAILURES[int(failure)]} why not"
    assert error.facts["believed"] is True


@pytest.mark.parametrize("form", [("-send_error",), ("-pkistatus", "2")])
def test_a_refusal_that_nobody_protects_is_shown(
    form: tuple[str, ...], server: Server, client: Client
) -> None:
    for unprotected in ((), ("-send_unprot_err",)):
        running = server(*form, *unprotected)
        authority = client(running)
        error = refused("ca-rejected", functools.partial(authority.enrol, CSR, SoftwareKey(KEY), Kept()))
        assert error.facts["believed"] is not bool(unprotected)


def test_a_wrong_secret_is_told_and_ends_no_transaction(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server("-poll_count", "2", "-check_after", "5")), Kept()
    refused("ca-pending", lambda: client(relay, patience=0.5).enrol(CSR, SoftwareKey(KEY), memory))
    before, other = memory.state, client(relay, by_secret("no"))
    error = refused("ca-rejected", lambda: other.enrol(CSR, SoftwareKey(KEY), memory))
    assert error.facts["believed"] is False
    assert memory.state == before


def test_an_answer_that_nobody_protects_is_not_believed(server: Server, client: Client) -> None:
    running, memory = server("-send_unprotected"), Kept()
    error = refused("server-untrusted", lambda: client(running).enrol(CSR, SoftwareKey(KEY), memory))
    assert exit_of(error.code) == 5
    assert memory.saved == 0


# -- who the server is


def test_a_person_of_the_same_authority_does_not_speak_for_it(
    server: Server, client: Client, ca: OpenSslCa, person: tuple[Path, Path]
) -> None:
    authority = client(server(vouching=signing(person, ca)), holder(person), tls_anchors=ca.root)
    refused("server-untrusted", lambda: authority.enrol(CSR, SoftwareKey(KEY), Kept()))


def test_a_stranger_does_not_speak_for_it_either(
    server: Server, client: Client, ca: OpenSslCa, person: tuple[Path, Path], tmp_path: Path
) -> None:
    other = OpenSslCa.create(tmp_path / "other", "CMP Root")
    running = server(vouching=signing(signer(other, "authority", "CMP RA"), ca))
    authority = client(running, holder(person), tls_anchors=ca.root)
    refused("server-untrusted", lambda: authority.enrol(CSR, SoftwareKey(KEY), Kept()))


def test_a_signature_is_not_answered_with_a_secret(
    server: Server, client: Client, ca: OpenSslCa, person: tuple[Path, Path], registrar: tuple[Path, Path]
) -> None:
    """Nor a secret with a signature: the other way would let a weaker kind in."""
    by_mac = server("-srv_trusted", ca.root)
    authority = client(by_mac, holder(person), tls_anchors=ca.root)
    refused("server-untrusted", lambda: authority.enrol(CSR, SoftwareKey(KEY), Kept()))
    by_signature = server("-accept_unprotected", vouching=signing(registrar, ca))
    authority = client(by_signature, tls_anchors=ca.root)
    refused("server-untrusted", lambda: authority.enrol(CSR, SoftwareKey(KEY), Kept()))


def test_another_fingerprint_ends_it(server: Server, client: Client) -> None:
    running = server()
    authority = client(running, fingerprint="ab" * 32)
    refused("ca-fingerprint-mismatch", lambda: authority.enrol(CSR, SoftwareKey(KEY), Kept()))
    assert "rejected by client" in running.log


# -- what it issues


@pytest.mark.parametrize("other", ["key", "name"])
def test_a_certificate_that_was_not_asked_for_is_refused_at_the_authority_too(
    other: str, server: Server, client: Client, ca: OpenSslCa, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1()) if other == "key" else KEY
    address = ADDRESS if other == "key" else "dr.marten@medecin.test"
    elsewhere = tmp_path / "elsewhere.pem"
    elsewhere.write_bytes(ca.sign(build_request(SoftwareKey(key), address=address), "DER"))
    running, memory = server("-rsp_cert", elsewhere), Kept()
    error = refused(
        "certificate-not-as-requested", lambda: client(running).enrol(CSR, SoftwareKey(KEY), memory)
    )
    assert (error.facts["reason"], exit_of(error.code)) == (f"wrong-{other}", 5)
    assert memory.state == b""
    assert "rejected by client" in running.log


def test_without_anything_that_vouches_for_its_root_a_certificate_is_refused(
    server: Server, client: Client, issued: Path
) -> None:
    running = server("-rsp_capubs", issued)
    error = refused(
        "certificate-not-as-requested", lambda: client(running).enrol(CSR, SoftwareKey(KEY), Kept())
    )
    assert error.facts["problem"] == "untrusted-issuer"


# -- somebody in between


def resealed(body: bytes, **changed: Any) -> bytes:
    """The same answer in another header, protected by the secret: what a faulty authority may send."""
    message = cmp.read(body)
    kept = {name: getattr(message.header, name) for name in message.header.__dataclass_fields__}
    kind = changed.pop("kind", message.kind)
    content = changed.pop("body", bytes(message.body.raw))
    return cmp_protection.write(kind, content, cmp.Header(**{**kept, **changed}), by_secret())


@pytest.mark.parametrize(
    "change", [{"transaction": b"o" * 16}, {"answers": b"o" * 16}, {"answers": None}, {"kind": "cp"}]
)
def test_an_answer_to_another_message_is_refused(
    change: dict[str, Any], server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server()), Kept()
    relay.change = lambda _number, body: resealed(body, **change)
    refused("server-answer-malformed", lambda: client(relay).enrol(CSR, SoftwareKey(KEY), memory))
    assert memory.saved == 0


def test_an_answer_of_another_time_is_refused(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay = between(server())
    client(relay).enrol(CSR, SoftwareKey(KEY), Kept())
    first = relay.answered[0]
    relay.change = lambda _number, _body: first
    refused("server-answer-malformed", lambda: client(relay).enrol(CSR, SoftwareKey(KEY), Kept()))


def test_our_own_message_sent_back_is_no_answer(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay = between(server())
    relay.change = lambda _number, _body: relay.asked[-1]
    refused("server-answer-malformed", lambda: client(relay).enrol(CSR, SoftwareKey(KEY), Kept()))


def test_an_error_of_somebody_in_between_changes_nothing(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server("-poll_count", "2", "-check_after", "4")), Kept()
    refused("ca-pending", lambda: client(relay, patience=0.5).enrol(CSR, SoftwareKey(KEY), memory))
    header = cmp.read(relay.answered[-1]).header
    words = der.sequence(cmp.status_info(2, "go \x1b[31m away", ["transactionIdInUse"]))
    relay.change = lambda _number, _body: cmp.build(header, "error", words)
    before = memory.state
    error = refused("ca-rejected", lambda: client(relay).enrol(CSR, SoftwareKey(KEY), memory))
    assert error.facts["believed"] is False
    assert memory.state == before


def test_a_confirmation_nobody_asked_for_is_not_sent(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay, memory = between(server()), Kept()
    relay.change = lambda _number, body: resealed(body, implicit_confirm=True)
    client(relay).enrol(CSR, SoftwareKey(KEY), memory)
    assert kinds(relay.asked) == ["ir"]
    assert not cmp.read(relay.asked[0]).header.implicit_confirm
    assert b'"confirmed": true' in memory.state


def test_no_changed_answer_is_believed(
    server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    chosen = random.Random(7)
    relay, memory = between(server()), Kept()

    def flip(_number: int, body: bytes) -> bytes:
        changed = bytearray(body)
        changed[chosen.randrange(len(changed))] ^= 1 << chosen.randrange(8)
        return bytes(changed)

    relay.change = flip
    for _ in range(60):
        error = refused_somehow(lambda: client(relay).enrol(CSR, SoftwareKey(KEY), memory))
        assert error.code in ("server-answer-malformed", "server-untrusted"), error
    assert memory.saved == 0


def refused_somehow(call: Callable[[], object]) -> MedmailError:
    with pytest.raises(MedmailError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("body", [b"", b"<html>Welcome to the hotel</html>", b"\x30\x80" * 5000])
def test_garbage(
    body: bytes, server: Server, client: Client, between: Callable[[OpenSslCmp], Between]
) -> None:
    relay = between(server())
    relay.change = lambda _number, _body: body
    refused("server-answer-malformed", lambda: client(relay).enrol(CSR, SoftwareKey(KEY), Kept()))


@pytest.mark.parametrize("url", ["ftp://ca.test/", "https://", "http://u@ca.test/", "http://c/?q", "ca"])
def test_an_address_that_is_none(url: str) -> None:
    refused("insecure-url", lambda: CmpAuthority(url, now=now, credentials=by_secret))
