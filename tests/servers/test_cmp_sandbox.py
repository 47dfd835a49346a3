"""The sandbox's CMP: OpenSSL's command line as its client, and ours, by secret and by certificate."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import cmp
from medmail_cli.pki.issuance.cmp_protection import Protection, SharedSecret, Signer
from medmail_cli.pki.issuance.csr import build_request
from medmail_cli.sandbox.cmp import CMP
from medmail_cli.sandbox.operator import Operator
from medmail_cli.transport.cmp import CmpAuthority
from tests.support.memories import Kept
from tests.support.tools import require, run

ADDRESS, OTHER = "dr.martin@medecin.test", "dr.durand@medecin.test"
SoftKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def by_password(
    operator: Operator, address: str = ADDRESS, mac: Literal["pbm", "pbmac1"] = "pbm"
) -> SharedSecret:
    return SharedSecret(address.encode(), operator.password.encode(), mac)


def request(key: SoftKey, address: str = ADDRESS) -> x509.CertificateSigningRequest:
    return x509.load_der_x509_csr(build_request(SoftwareKey(key), address=address, name="Dr É. Martin"))


def fresh() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Pretending(SoftwareKey):
    """A key that is taken for another one."""

    def __init__(self, own: SoftKey, others: SoftKey) -> None:
        super().__init__(own)
        self._others = others

    @property
    def public_key(self) -> PublicKeyTypes:
        return self._others.public_key()


Client = Callable[..., CmpAuthority]


@pytest.fixture
def client(operator: Operator) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:

        def make(credentials: Protection | None = None, url: str = "") -> CmpAuthority:
            vouch = credentials or by_password(operator)
            return stack.enter_context(
                CmpAuthority(
                    url or operator.cmp_url, now=now, credentials=lambda: vouch,
                    tls_anchors=operator.order_anchors, timeout=10, patience=5,
                )
            )  # fmt: skip

        yield make


def accepted(operator: Operator, chain: tuple[x509.Certificate, ...], folder: Path) -> bool:
    """OpenSSL's own judgement of a path for e-mail, revocation included."""
    authority = operator.authority
    for name, der in (
        ("crl", authority.crl(now())),
        ("root-crl", authority.root_crl(now())),
    ):
        run("openssl", "crl", "-inform", "DER", "-out", folder / f"{name}.pem", stdin=der)
    for name, certificate in (("leaf", chain[0]), ("issuing", authority.issuing.certificate)):
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    done = run(
        "openssl", "verify", "-x509_strict", "-purpose", "smimesign", "-crl_check_all",
        "-CAfile", operator.order_anchors,
        "-CRLfile", folder / "crl.pem", "-CRLfile", folder / "root-crl.pem",
        "-untrusted", folder / "issuing.pem", folder / "leaf.pem", expect=None,
    )  # fmt: skip
    return done.returncode == 0


# -- ours


@pytest.mark.parametrize("mac", ["pbm", "pbmac1"])
@pytest.mark.parametrize(
    "key",
    [fresh, lambda: rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate],
    ids=["p256", "rsa", "ed25519"],
)
def test_a_certificate_for_a_fresh_key(
    operator: Operator, client: Client, tmp_path: Path, mac: Literal["pbm", "pbmac1"],
    key: Callable[[], SoftKey],
) -> None:  # fmt: skip
    made = key()
    authority = client(by_password(operator, mac=mac))
    chain = authority.enrol(request(made), SoftwareKey(made), Kept())
    assert len(chain) == 3
    assert chain[0].public_key() == made.public_key()
    assert accepted(operator, chain, tmp_path)
    assert authority.anchors() == (operator.authority.root.certificate,)


def test_in_the_clear_as_well(operator: Operator, client: Client) -> None:
    made = fresh()
    plain = client(url=f"http://127.0.0.1:{operator.ports.http}{CMP}")
    assert plain.enrol(request(made), None, Kept())[0].public_key() == made.public_key()


def test_renewed_by_the_certificate_that_ends_and_revoked(
    operator: Operator, client: Client, tmp_path: Path
) -> None:
    old, new = fresh(), fresh()
    first = client().enrol(request(old), SoftwareKey(old), Kept())
    authority = client(Signer(SoftwareKey(old), first[:1]))
    second = authority.renew(request(new), SoftwareKey(new), Kept())
    assert second[0].public_key() == new.public_key()
    assert accepted(operator, first, tmp_path)
    authority.revoke(first[0], "superseded")
    assert not accepted(operator, first, tmp_path)
    assert accepted(operator, second, tmp_path)
    shown = run("openssl", "crl", "-in", tmp_path / "crl.pem", "-noout", "-text").stdout
    assert b"Superseded" in shown
    with pytest.raises(MedmailError, match="signerNotTrusted"):
        authority.enrol(request(new), SoftwareKey(new), Kept())


def test_revoked_already_is_no_error_and_anothers_is_one(operator: Operator, client: Client) -> None:
    made = fresh()
    mine = client().enrol(request(made), SoftwareKey(made), Kept())
    for _ in range(2):
        client().revoke(mine[0], "keyCompromise")
    theirs = client(by_password(operator, OTHER)).enrol(request(made, OTHER), SoftwareKey(made), Kept())
    with pytest.raises(MedmailError, match="badCertId"):
        client().revoke(theirs[0])


def test_nobody_gets_a_certificate_for_anothers_address_or_key(operator: Operator, client: Client) -> None:
    made = fresh()
    with pytest.raises(MedmailError, match="that address only"):
        client().enrol(request(made, OTHER), SoftwareKey(made), Kept())
    with pytest.raises(MedmailError, match="badPOP"):
        client().enrol(request(made), Pretending(fresh(), made), Kept())


@pytest.mark.parametrize("kept", range(3))
def test_a_killed_run_leaves_one_certificate_that_is_valid(
    operator: Operator, client: Client, kept: int, tmp_path: Path
) -> None:
    made, memory = fresh(), Kept(limit=kept)
    csr = request(made)
    with contextlib.suppress(KeyboardInterrupt):
        client().enrol(csr, SoftwareKey(made), memory)
    memory.limit = 99
    chain = client().enrol(csr, SoftwareKey(made), memory)
    issued = [one for one in operator.authority.issued if one.public_key() == made.public_key()]
    valid = [one for one in issued if one.serial_number not in operator.authority.revoked]
    assert valid == [chain[0]]
    assert accepted(operator, chain, tmp_path)


# -- OpenSSL's


def openssl(operator: Operator, folder: Path, command: str, *more: str | Path, expect: int = 0) -> str:
    (folder / "password").write_text(operator.password)
    done = run(
        "openssl", "cmp", "-config", "", "-cmd", command,
        "-server", f"localhost:{operator.ports.est}{CMP}", "-tls_used",
        "-tls_trusted", operator.order_anchors, "-recipient", "/CN=Order", *more, expect=expect,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode(errors="replace")


def new_key(folder: Path, name: str) -> Path:
    path = folder / f"{name}.key"
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    return path


@pytest.mark.parametrize("confirmation", [(), ("-implicit_confirm",)])
@pytest.mark.parametrize("command", ["ir", "cr", "p10cr"])
def test_openssl_enrols_by_a_password(
    operator: Operator, tmp_path: Path, command: str, confirmation: tuple[str, ...]
) -> None:
    require("openssl")
    key, csr = new_key(tmp_path, "ee"), tmp_path / "csr.pem"
    run("openssl", "req", "-new", "-key", key, "-subj", "/CN=Dr M", "-addext",
        f"subjectAltName=email:{ADDRESS}", "-out", csr)  # fmt: skip
    said = openssl(
        operator, tmp_path, command, "-ref", ADDRESS, "-secret", f"file:{tmp_path / 'password'}",
        "-csr", csr, "-newkey", key, "-certout", tmp_path / "cert.pem",
        "-out_trusted", operator.order_anchors, *confirmation,
    )  # fmt: skip
    assert ("PKICONF" in said) == (not confirmation)
    certificate = x509.load_pem_x509_certificate((tmp_path / "cert.pem").read_bytes())
    assert accepted(operator, (certificate,), tmp_path)


def test_openssl_renews_and_revokes_by_its_certificate(operator: Operator, tmp_path: Path) -> None:
    require("openssl")
    first, second = new_key(tmp_path, "first"), new_key(tmp_path, "second")
    old, new = tmp_path / "old.pem", tmp_path / "new.pem"
    openssl(
        operator, tmp_path, "ir", "-ref", ADDRESS, "-secret", f"file:{tmp_path / 'password'}",
        "-newkey", first, "-subject", "/CN=Dr M", "-certout", old,
    )  # fmt: skip
    signing = ("-cert", old, "-key", first, "-trusted", operator.order_anchors)
    openssl(operator, tmp_path, "kur", *signing, "-newkey", second, "-certout", new)
    certificate = x509.load_pem_x509_certificate(new.read_bytes())
    assert accepted(operator, (certificate,), tmp_path)
    openssl(operator, tmp_path, "rr", *signing, "-oldcert", old, "-revreason", "4")
    assert not accepted(operator, (x509.load_pem_x509_certificate(old.read_bytes()),), tmp_path)


def test_openssl_is_refused_with_a_wrong_password(operator: Operator, tmp_path: Path) -> None:
    require("openssl")
    said = openssl(
        operator, tmp_path, "ir", "-ref", ADDRESS, "-secret", "pass:wrong", "-unprotected_errors",
        "-newkey", new_key(tmp_path, "ee"), "-subject", "/CN=Dr M", "-certout", tmp_path / "x", expect=1,
    )  # fmt: skip
    assert "badMessageCheck" in said


# -- hostile clients


def whole_request(operator: Operator, folder: Path) -> bytes:
    openssl(
        operator, folder, "ir", "-ref", ADDRESS, "-secret", f"file:{folder / 'password'}",
        "-newkey", new_key(folder, "ee"), "-subject", "/CN=Dr M", "-certout", folder / "x",
        "-reqout", f"{folder / 'ir.der'},{folder / 'conf.der'}",
    )  # fmt: skip
    return (folder / "ir.der").read_bytes()


@pytest.fixture(scope="module")
def octets(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    require("openssl")
    return whole_request(operator, tmp_path_factory.mktemp("request"))


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_request_gets_no_certificate(
    operator: Operator, octets: bytes, data: st.DataObject
) -> None:
    changed = bytearray(octets)
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    before = len(operator.authority.issued)
    with contextlib.suppress(MedmailError):  # malformed, or answered with an error
        assert cmp.read(operator.responder.answer(bytes(changed), now())).kind == "error"
    assert len(operator.authority.issued) == before


def test_a_request_that_is_sent_again_gets_no_second_certificate(operator: Operator, octets: bytes) -> None:
    before = len(operator.authority.issued)
    again = cmp.read(operator.responder.answer(octets, now()))
    assert cmp.error(again).failures == ("transactionIdInUse",)
    assert len(operator.authority.issued) == before
