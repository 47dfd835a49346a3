"""PKCS#12 files of Bouncy Castle with a key to sign and one to decrypt, as hospitals give them out."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.keyfile import read_keys
from medmail_cli.store.keys.identity import key_digest
from tests.support import pki
from tests.support.cli import medmail
from tests.support.homes import keystore
from tests.support.peers import Peer, bouncy_castle

ROOT = pki.make_ca("Hospital")
SIGNS = pki.issue(ROOT, "dr.a@hopital.test", "sign")
OPENS = pki.issue(ROOT, "dr.a@hopital.test", "encrypt", "p256")
PASSWORD = "mot de passe à l’hôpital"
NOW = dt.datetime.now(dt.UTC)
_OLD = "1.2.840.113549.1.12.1"
CIPHERS = {
    "the key store": "", "AES-128": "2.16.840.1.101.3.4.1.2", "AES-256": "2.16.840.1.101.3.4.1.42",
    "3DES": f"{_OLD}.3", "3DES of two keys": f"{_OLD}.4", "RC2-128": f"{_OLD}.5", "RC2-40": f"{_OLD}.6",
}  # fmt: skip


@pytest.fixture(scope="module")
def bc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with bouncy_castle(tmp_path_factory.mktemp("bc")) as peer:
        yield peer


def made(bc: Peer, cipher: str) -> bytes:
    values: dict[str, bytes | str] = {"password": PASSWORD, "cipher": CIPHERS[cipher]}
    for number, (certificate, key) in enumerate((SIGNS, OPENS), 1):
        values[f"certificate{number}"] = certificate.public_bytes(Encoding.DER)
        values[f"key{number}"] = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return bc.ask("pkcs12", **values)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_key_is_read(bc: Peer, cipher: str) -> None:
    data = made(bc, cipher)
    found = read_keys(data, "file", lambda: PASSWORD.encode())
    digests = {key_digest(key.public_key()) for key in found.keys}
    assert digests == {key_digest(key.public_key()) for _, key in (SIGNS, OPENS)}
    assert set(found.certificates) == {SIGNS[0], OPENS[0]}
    with pytest.raises(MedmailError) as caught:
        read_keys(data, "file", lambda: b"another")
    assert caught.value.code == "wrong-p12-password"


@pytest.mark.parametrize("cipher", ["the key store", "AES-256", "3DES"])
def test_both_are_enrolled(bc: Peer, tmp_path: Path, cipher: str) -> None:
    home, file, password = tmp_path / "home", tmp_path / "both.p12", tmp_path / "password"
    keystore(home)
    file.write_bytes(made(bc, cipher))
    password.write_text(PASSWORD)
    done = medmail(home, "enrol", "import", file, "--p12-password-file", password, "--json")
    enrolled = [one for one in done.objects if one["type"] == "enrolment"]
    assert [one["status"] for one in enrolled] == ["imported", "imported"]
    assert [one["purpose"] for one in enrolled] == ["sign", "encrypt"]
    assert done.exit == 0
