"""An independent EST client, Bouncy Castle's, against the sandbox."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from medmail_cli.sandbox.operator import Operator
from tests.support.peers import JARS, SOURCES
from tests.support.tools import require, run

ADDRESS = "dr.martin@medecin.test"


Ask = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def ask(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """One operation of the client; a wrong password if asked for."""
    require("java", "javac", "openssl")
    folder = tmp_path_factory.mktemp("client")
    path = os.pathsep.join([*(f"/usr/share/java/{jar}.jar" for jar in JARS), str(folder)])
    run("javac", "-nowarn", "-cp", path, "-d", folder, SOURCES / "EstClient.java")
    authority = operator.est_url.removeprefix("https://").partition("/")[0]

    def asked(operation: str, *request: Path, password: str = operator.password):  # type: ignore[no-untyped-def]
        argv: list[str | Path] = [
            "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", path, "EstClient", operation, authority,
            operator.order_anchors, ADDRESS, password, *request,
        ]  # fmt: skip
        return subprocess.run(argv, capture_output=True, check=False, timeout=120)

    return asked


@pytest.fixture
def request_(tmp_path: Path) -> Path:
    run(
        "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Dr Martin",
        "-addext", f"subjectAltName=email:{ADDRESS}",
        "-outform", "DER", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "csr.der",
    )  # fmt: skip
    return tmp_path / "csr.der"


def test_its_certificates_and_what_it_wants(ask: Ask, operator: Operator) -> None:
    done = ask("cacerts")
    assert done.returncode == 0, done.stderr
    found = x509.load_pem_x509_certificates(done.stdout)
    assert operator.authority.root.certificate in found
    assert operator.authority.issuing.certificate in found
    assert ask("csrattrs").stdout.split() == [b"1.2.840.113549.1.9.14"]


@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll"])
def test_a_certificate(ask: Ask, operator: Operator, request_: Path, operation: str) -> None:
    done = ask(operation, request_)
    assert done.returncode == 0, done.stderr
    (certificate,) = x509.load_pem_x509_certificates(done.stdout)
    assert certificate in operator.authority.issued
    key = load_pem_private_key((request_.parent / "key.pem").read_bytes(), None)
    assert certificate.public_key() == key.public_key()


def test_a_key_that_the_sandbox_makes(ask: Ask, request_: Path) -> None:
    done = ask("serverkeygen", request_)
    assert done.returncode == 0, done.stderr
    at = done.stdout.rindex(b"-----BEGIN")
    (certificate,) = x509.load_pem_x509_certificates(done.stdout[:at])
    made = load_pem_private_key(done.stdout[at:], None).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate.public_key().public_bytes(*form) == made.public_bytes(*form)
    own = load_pem_private_key((request_.parent / "key.pem").read_bytes(), None)
    assert made.public_bytes(*form) != own.public_key().public_bytes(*form)


def test_a_wrong_password_gets_nothing(ask: Ask, operator: Operator, request_: Path) -> None:
    before = len(operator.authority.issued)
    for operation in ("simpleenroll", "serverkeygen"):
        assert b"401" in ask(operation, request_, password="wrong").stderr
    assert len(operator.authority.issued) == before
