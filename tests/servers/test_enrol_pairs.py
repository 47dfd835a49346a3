"""Kinds of keys and how many: one certificate or two, keys that only encrypt, ML-KEM beside another."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from medmail_cli.pki.issuance.csr import build_request
from medmail_cli.sandbox.ca import RequestRefused
from medmail_cli.sandbox.operator import Operator
from medmail_cli.sandbox.possession import voucher
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from tests.support import letters
from tests.support.cli import Done, medmail
from tests.support.letters import NOW
from tests.support.tools import require, run

ADDRESS = "dr.martin@medecin.test"


def new(home: Path, operator: Operator, *options: str | Path) -> Done:
    root = operator.authority.fingerprint
    return medmail(home, "enrol", "new", ADDRESS, "--json", "--ca-fingerprint", root, *options)


def held(home: Path) -> list[tuple[str, str, str]]:
    return [(one.key_type, one.purpose, one.state) for one in identities(home)]


def statuses(done: Done) -> list[str]:
    return [one["status"] for one in done.objects if one["type"] == "enrolment"]


def identities(home: Path) -> tuple[Identity, ...]:
    return Keystore(home / "keystore").identities()


def to_oneself(home: Path, folder: Path, *options: str) -> dict[str, Any]:
    words: list[str | Path] = ["--to", ADDRESS, "--subject", "x", "-o", folder / "l.eml", "--force"]
    sent = medmail(home, "send", *words, *options, "-", stdin=b"me\n")
    assert sent.exit == 0, sent.stderr
    verdict: dict[str, Any] = medmail(home, "decrypt", "--offline", "--json", folder / "l.eml").objects[0]
    assert (verdict["exit"], verdict["text"]) == (0, "me\n")
    return verdict


@pytest.mark.parametrize("key", ["rsa3072", "p384", "ed25519"])
def test_two_certificates_each_for_its_own_work(
    home: Path, operator: Operator, tmp_path: Path, key: str
) -> None:
    if key != "ed25519":  # which cannot encrypt, whatever the profile says
        (tmp_path / "two.toml").write_text('certificates = "two"\n')
        (home / "config.toml").write_text(
            f'profile = "{tmp_path}/two.toml"\n' + (home / "config.toml").read_text()
        )
    done = new(home, operator, "--key", key)
    assert done.exit == 0, done.stderr
    encrypts = "x25519" if key == "ed25519" else key
    assert held(home) == [(key, "sign", "active"), (encrypts, "encrypt", "active")]
    signer, reader = (one.certificate for one in identities(home))
    assert signer is not None
    assert reader is not None
    usages = [one.extensions.get_extension_for_class(x509.KeyUsage).value for one in (signer, reader)]
    assert [usage.digital_signature for usage in usages] == [True, False]
    verdict = to_oneself(home, tmp_path)
    assert verdict["signature"]["signers"][0]["sha256"] == identities(home)[0].sha256
    again = new(home, operator, "--key", key)
    assert statuses(again) == ["unchanged", "unchanged"]
    renewed = medmail(home, "enrol", "renew", "--all", "--json")
    assert statuses(renewed) == ["renewed", "renewed"]
    to_oneself(home, tmp_path)
    # the old keys open old mail still
    assert [state for _, _, state in held(home)] == ["retired", "retired", "active", "active"]


def test_ml_kem_stands_beside_the_ordinary_key(home: Path, operator: Operator, tmp_path: Path) -> None:
    assert new(home, operator, "--key", "p256").exit == 0
    assert new(home, operator, "--key", "ml-kem-768").exit == 0
    assert held(home) == [("p256", "both", "active"), ("ml-kem-768", "encrypt", "active")]
    assert to_oneself(home, tmp_path)["encryption"]["key_management"] == "ecdh-es-p256"
    assert to_oneself(home, tmp_path, "--post-quantum")["encryption"]["key_management"] == "ml-kem-768"
    # neither hides that the other ends, and both are renewed
    listed = medmail(home, "enrol", "status", "--json").objects[:-1]
    assert len(listed) == 2
    renewed = medmail(home, "enrol", "renew", "--all", "--json")
    assert statuses(renewed) == ["renewed", "renewed"]
    assert to_oneself(home, tmp_path, "--post-quantum")["encryption"]["key_management"] == "ml-kem-768"
    assert statuses(new(home, operator, "--key", "ml-kem-1024")) == ["unchanged"]
    assert new(home, operator, "--key", "ml-kem-1024", "--replace").exit == 0
    assert to_oneself(home, tmp_path, "--post-quantum")["encryption"]["key_management"] == "ml-kem-1024"
    assert to_oneself(home, tmp_path)["encryption"]["key_management"] == "ecdh-es-p256"


def test_nobody_vouches_for_a_key_without_one_that_signs(home: Path, operator: Operator) -> None:
    done = new(home, operator, "--key", "ml-kem-768")
    assert (done.exit, done.objects[-1]["code"]) == (1, "no-signer")
    assert held(home) == []


def test_by_hand_both_requests_are_in_one_file(home: Path, operator: Operator, tmp_path: Path) -> None:
    require("openssl")
    (tmp_path / "two.toml").write_text('certificates = "two"\n')
    (home / "config.toml").write_text(f'profile = "{tmp_path}/two.toml"\n')
    path = tmp_path / "requests.pem"
    words = ("enrol", "new", ADDRESS, "--method", "csr", "--key", "p256", "-o", path, "--json")
    done = medmail(home, *words)
    assert done.objects[-1]["counts"]["waiting"] == 2
    texts = [f"-----BEGIN{part}" for part in path.read_text().split("-----BEGIN")[1:]]
    assert len(texts) == 2
    for text in texts:
        assert b"verify OK" in run("openssl", "req", "-verify", "-noout", stdin=text.encode()).stderr
    # the same two again
    assert medmail(home, *words, "--force").exit == 0
    assert [f"-----BEGIN{part}" for part in path.read_text().split("-----BEGIN")[1:]] == texts


def test_by_hand_the_request_that_signs_goes_out_first(home: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "sign.pem", tmp_path / "encrypt.pem"
    words = ("enrol", "new", ADDRESS, "--method", "csr", "--key", "ed25519", "--json", "-o")
    done = medmail(home, *words, first)
    assert done.exit == 0, done.stderr
    assert [(one["type"], one.get("code")) for one in done.objects] == [
        ("enrolment", None),
        ("note", "signer-first"),
        ("result", None),
    ]
    assert first.read_text().count("-----BEGIN") == 1
    ca, key, signed = tmp_path / "ca.pem", tmp_path / "ca.key", tmp_path / "signed.pem"
    run("openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=Hand", "-out", ca,
        "-keyout", key)  # fmt: skip
    run("openssl", "x509", "-req", "-in", first, "-CA", ca, "-CAkey", key, "-copy_extensions", "copy",
        "-out", signed)  # fmt: skip
    assert medmail(home, "enrol", "import", signed, "--no-backup").exit == 0
    done = medmail(home, *words, second)
    assert (done.exit, done.objects[-1]["counts"]["waiting"]) == (0, 1), done.stderr
    asked = run("openssl", "req", "-noout", "-text", "-in", second)
    assert b"X25519" in asked.stdout


# -- statements of possession (RFC 9883)


def test_a_statement_holds_whole_or_not_at_all() -> None:
    alice, reader = letters.person("alice"), letters.person("reader", key_type="x25519", purpose="encrypt")
    vouched = (reader.certificate.public_key(), alice.certificate)
    der = build_request(alice.key, address="alice@medecin.test", vouched=vouched)
    assert voucher(der, [letters.person("bob").certificate, alice.certificate]) == alice.certificate
    assert voucher(der, [letters.person("bob").certificate]) is None
    for bit in range(0, 8 * len(der), 11):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        assert voucher(bytes(changed), [alice.certificate]) is None
    for size in range(0, len(der), 17):
        assert voucher(der[:size], [alice.certificate]) is None


@pytest.mark.parametrize("wrong", ["another's", "revoked", "stranger", "unsigned"])
def test_the_sandbox_believes_the_holder_alone(home: Path, operator: Operator, wrong: str) -> None:
    authority = operator.authority
    alice = letters.person("alice")
    address = "alice@medecin.test"
    own = authority.issue(
        build_request(alice.key, address=address), address, NOW
    )  # alice's key under the sandbox's authority
    reader = letters.person("reader", key_type="x25519", purpose="encrypt")
    if wrong == "another's":
        address = "bob@medecin.test"
    if wrong == "stranger":
        own = alice.certificate
    request = build_request(alice.key, address=address, vouched=(reader.certificate.public_key(), own))
    if wrong == "revoked":
        authority.revoke(own.serial_number, NOW)
    if wrong == "unsigned":
        request = request[:-4] + bytes(4)
    with pytest.raises(RequestRefused):
        authority.issue(request, address, NOW)
    if wrong == "unsigned":
        request = build_request(alice.key, address=address, vouched=(reader.certificate.public_key(), own))
        assert authority.issue(request, address, NOW).public_key() == reader.certificate.public_key()
