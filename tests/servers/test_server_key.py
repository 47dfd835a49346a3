"""``enrol new --server-key``: the authority makes the key (EST serverkeygen, RFC 7030 §4.4)."""

import base64
import secrets
import signal
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import der
from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from tests.support.cli import MEDMAIL, PASSPHRASE, medmail, passphrase
from tests.support.killer import KILLED, count_effects, run_killed_at
from tests.support.openssl_est import Handler, OpenSslEst, Reply, new_request
from tests.support.rosters import environment
from tests.support.tools import run

ADDRESS = "dr.martin@medecin.test"
POINTS = 12
AKP = "2.16.840.1.101.2.1.2.78.5"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    passphrase(tmp_path / "home")
    return tmp_path / "home"


class Maker:
    """serverkeygen by the openssl program alone; ``encrypts`` for the certificate it issued last."""

    def __init__(self, server: OpenSslEst, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.encrypts, self.fault = False, ""
        self.requests: list[x509.CertificateSigningRequest] = []
        self.issued: bytes = b""
        server.replies["serverkeygen"] = self.make

    def make(self, _handler: Handler, body: bytes) -> Reply:
        request = x509.load_der_x509_csr(base64.b64decode(body))
        self.requests.append(request)
        key, csr = self.folder / "made.key", self.folder / "made.csr"
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        name = "mallory@evil.test" if self.fault == "name" else ADDRESS
        run(
            "openssl", "req", "-new", "-key", key, "-subj", "/CN=Dr Martin", "-out", csr,
            "-addext", f"subjectAltName=email:{name}",
        )  # fmt: skip
        certificate = self.server.ca.sign(csr.read_bytes(), "PEM")
        if self.fault == "key":
            run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        pkcs8 = run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", key, "-outform", "DER").stdout
        kind = "application/pkcs8"
        if self.encrypts:
            kind, pkcs8 = "application/pkcs7-mime; smime-type=server-generated-key", self.encrypted(pkcs8)
        self.issued = certificate
        if self.fault == "garbage":
            pkcs8 = b"no key at all"
        boundary = secrets.token_hex(8)
        parts = [
            (kind, base64.encodebytes(pkcs8)),
            ("application/pkcs7-mime", self.server.ca.certs_only(certificate)),
        ]
        text = b"".join(
            f"--{boundary}\r\nContent-Type: {media}\r\n\r\n".encode() + octets + b"\r\n"
            for media, octets in parts
        )
        answer = text + f"--{boundary}--\r\n".encode()
        return 200, {"Content-Type": f'multipart/mixed; boundary="{boundary}"'}, answer

    def encrypted(self, pkcs8: bytes) -> bytes:
        """EnvelopedData around SignedData around an AsymmetricKeyPackage, for the last certificate."""
        recipient = self.folder / "recipient.pem"
        recipient.write_bytes(self.issued)
        package = b"\x30" + bytes([0x81, len(pkcs8)]) + pkcs8
        signed = run(
            "openssl", "cms", "-sign", "-binary", "-nodetach", "-econtent_type", AKP, "-outform", "DER",
            "-signer", self.server.ca.folder / "server.pem", stdin=package,
        ).stdout  # fmt: skip
        return run(
            "openssl", "cms", "-encrypt", "-binary", "-aes256", "-outform", "DER", recipient, stdin=signed
        ).stdout


def enrol(home: Path, server: OpenSslEst, *more: str) -> tuple[int, dict[str, object]]:
    words = ("--ca", server.url, "--tls-anchors", server.ca.root, "--key", "p256", "--no-backup")
    done = medmail(home, "enrol", "new", ADDRESS, "--server-key", *words, *more, "--json", "--no-input")
    return done.exit, done.objects[0]


def held(home: Path) -> list[Identity]:
    return sorted(Keystore(home / "keystore").identities(), key=lambda one: one.created)


def test_a_key_that_openssl_made(home: Path, server: OpenSslEst, tmp_path: Path) -> None:
    maker = Maker(server, tmp_path)
    code, said = enrol(home, server)
    assert (code, said["status"], said["method"]) == (0, "enrolled", "registrar-held")
    (one,) = held(home)
    assert one.certificate is not None
    assert one.certificate.public_key() != maker.requests[0].public_key()
    assert (one.state, one.addresses) == ("active", (ADDRESS,))
    key = unlock(Keystore(home / "keystore"), PASSPHRASE.encode()).unseal(one)
    assert key.public_key() == one.certificate.public_key()
    names = maker.requests[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == [ADDRESS]
    assert enrol(home, server)[1]["status"] == "unchanged"
    assert len(maker.requests) == 1


def test_the_next_one_comes_encrypted_for_the_first(home: Path, server: OpenSslEst, tmp_path: Path) -> None:
    maker = Maker(server, tmp_path)
    enrol(home, server)
    maker.encrypts = True
    code, said = enrol(home, server, "--replace")
    assert (code, said["status"]) == (0, "enrolled")
    old, new = held(home)
    assert (old.state, new.state) == ("retired", "active")
    first, second = (one.public_bytes(Encoding.DER) for one in maker.requests)
    name = der.oid("1.2.840.113549.1.9.16.2.54")  # id-aa-asymmDecryptKeyID
    assert (name in first, name in second) == (False, True)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("key", "certificate-not-as-requested"),
        ("name", "certificate-not-as-requested"),
        ("garbage", "server-answer-malformed"),
    ],
)
def test_what_is_not_as_asked_is_not_kept(
    home: Path, server: OpenSslEst, tmp_path: Path, fault: str, code: str
) -> None:
    Maker(server, tmp_path).fault = fault
    assert enrol(home, server)[1]["code"] == code
    assert held(home) == []


def test_a_key_encrypted_for_somebody_else(home: Path, server: OpenSslEst, tmp_path: Path) -> None:
    maker = Maker(server, tmp_path)
    enrol(home, server)
    stranger = new_request("X", tmp_path / "x.key")
    maker.issued, maker.encrypts = server.ca.sign(stranger, "PEM"), True
    assert enrol(home, server, "--replace")[1]["code"] == "server-answer-malformed"
    assert [one.state for one in held(home)] == ["active"]


def test_a_key_that_was_lost_is_told_of(home: Path, server: OpenSslEst, tmp_path: Path) -> None:
    maker = Maker(server, tmp_path)
    running: list[subprocess.Popen[bytes]] = []

    def make_and_kill(handler: Handler, body: bytes) -> Reply:
        answer = maker.make(handler, body)
        running[0].kill()
        running[0].wait()
        return answer

    server.replies["serverkeygen"] = make_and_kill
    words = ("--ca", server.url, "--tls-anchors", server.ca.root, "--key", "p256", "--no-backup")
    argv = [MEDMAIL, "enrol", "new", ADDRESS, "--server-key", *map(str, words), "--json", "--no-input"]
    running.append(subprocess.Popen(argv, env=environment(home), stdout=subprocess.DEVNULL))
    assert running[0].wait(60) == -signal.SIGKILL
    assert (held(home), len(maker.requests)) == ([], 1)
    # as long as none is there it is told of, though nothing comes of asking
    server.replies["serverkeygen"] = lambda _handler, _body: (403, {}, b"no")
    done = medmail(home, *argv[1:])
    assert [one["code"] for one in done.objects] == ["server-key-lost", "ca-refused"]
    told = medmail(home, *(word for word in argv[1:] if word != "--json")).stderr
    assert f"a key of {ADDRESS} broke off: {server.url}/.well-known/est may have made one" in told
    server.replies["serverkeygen"] = maker.make
    done = medmail(home, *argv[1:])
    (note, one) = done.objects[:2]
    assert (note["code"], note["address"]) == ("server-key-lost", ADDRESS)
    assert (done.exit, one["status"]) == (0, "possible-duplicate")
    assert [each.state for each in held(home)] == ["active"]
    assert medmail(home, *argv[1:]).objects[0]["status"] == "unchanged"
    assert medmail(home, *argv[1:], "--replace").objects[0]["status"] == "enrolled"


def test_killed_anywhere_a_key_that_came_is_used_and_one_that_did_not_is_told_of(
    server: OpenSslEst, tmp_path: Path
) -> None:
    maker = Maker(server, tmp_path)
    words = ("--ca", server.url, "--tls-anchors", str(server.ca.root), "--key", "p256", "--no-backup")
    argv = ["medmail", "enrol", "new", ADDRESS, "--server-key", *words, "--json", "--no-input"]

    def fresh(name: str) -> Path:
        passphrase(tmp_path / name)
        return tmp_path / name

    total = count_effects(argv, env=environment(fresh("whole")))
    ends = set()
    # what comes before the request is every enrolment's
    for k in range(total // 2, total + 1, max(1, total // 2 // POINTS)):
        home, before = fresh(f"k{k}"), len(maker.requests)
        killed = run_killed_at(argv, k, env=environment(home)).returncode == KILLED
        first = len(maker.requests) - before
        done = medmail(home, *argv[1:])
        again = len(maker.requests) - before - first
        told = [one["status"] for one in done.objects if one["type"] == "enrolment"]
        lost = "server-key-lost" in [one.get("code") for one in done.objects]
        assert (done.exit, [one.state for one in held(home)]) == (0, ["active"]), k
        if list((home / "keystore").glob("*.asked")):
            assert told == ["unchanged"], k
            done = medmail(home, *argv[1:], "--replace")
            assert done.objects[0]["status"] == "enrolled", k
        if first and again:
            assert (told, lost) == (["possible-duplicate"], True), k
        elif first:
            assert (told[0] in ("enrolled", "unchanged"), lost) == (True, False), k
        ends.add((killed, first, again, told[0]))
    assert {(True, 1, 1, "possible-duplicate"), (True, 1, 0, "enrolled")} <= ends


def test_what_was_refused_or_never_asked_for_is_no_lost_key(
    home: Path, server: OpenSslEst, tmp_path: Path
) -> None:
    assert enrol(home, server)[1]["code"] == "ca-rejected"
    server.replies["cacerts"] = lambda _handler, _body: (503, {}, b"")
    assert enrol(home, server)[0] == 75
    del server.replies["cacerts"]
    Maker(server, tmp_path)
    assert enrol(home, server)[1]["status"] == "enrolled"


def test_an_authority_that_makes_no_keys(home: Path, server: OpenSslEst) -> None:
    code, said = enrol(home, server)
    assert (code, said["code"]) == (1, "ca-rejected")
    assert held(home) == []


def test_only_est_makes_keys_and_only_some(home: Path, server: OpenSslEst) -> None:
    assert enrol(home, server, "--method", "cmp")[0] == 2
    assert enrol(home, server, "--method", "csr")[0] == 2
    assert enrol(home, server, "--key", "x25519")[0] == 2


def test_the_sandbox_makes_the_one_that_encrypts(tmp_path: Path) -> None:
    with Operator(tmp_path / "s") as operator:
        home = operator.home(ADDRESS)
        passphrase(home)
        (tmp_path / "two.toml").write_text('certificates = "two"\n')
        config = home / "config.toml"
        config.write_text(
            f'profile = "{tmp_path}/two.toml"\n' + config.read_text().replace('profile = "generic"', "")
        )
        words = ("enrol", "new", ADDRESS, "--server-key", "--no-backup", "--key", "p256", "--json",
            "--ca-fingerprint", operator.authority.fingerprint)  # fmt: skip
        done = medmail(home, *words)
        assert done.exit == 0, done
        assert [(one["purpose"], one["method"]) for one in done.objects[:2]] == [
            ("sign", "est"),
            ("encrypt", "est"),
        ]
        again = medmail(home, *words, "--replace")
        assert [one["status"] for one in again.objects[:2]] == ["enrolled", "enrolled"]
        assert sorted(one.state for one in held(home)) == ["active", "active", "retired", "retired"]
        letter = medmail(home, "send", "--to", ADDRESS, "--subject", "x", "-", "--json", stdin=b"to myself\n")
        assert letter.exit == 0, letter
        medmail(home, "fetch")
        (found, *_) = medmail(home, "inbox", "--folder", "INBOX", "--json").objects
        verdict = medmail(home, "decrypt", found["id"], "--json").objects[0]
        assert (verdict["trusted"], verdict["text"]) == (True, "to myself\n")
        assert medmail(home, "audit", "verify").exit == 0
