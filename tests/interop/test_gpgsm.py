"""CMS against GnuPG's gpgsm: RSA v1.5 and AES-CBC both ways; it knows no GCM, no OAEP, no ECDH."""

import datetime as dt
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from medmail_cli.cms import ber, enveloped, signed, verify
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.model import ContentCipher, SignatureScheme
from tests.support import pki
from tests.support.tools import require, run

AT = dt.datetime(2026, 6, 1, 12, 0, tzinfo=dt.UTC)
LETTER = b"Content-Type: text/plain\r\n\r\n" + b"Bonjour\r\n" * 500
PINENTRY = """#!/bin/sh
echo OK
while read -r command rest; do
    [ "$command" = GETPIN ] && echo "D p12"
    echo OK
done
"""


class Gpgsm:
    """A gpgsm home with one identity and its own agent."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca = pki.make_ca("Gpgsm Root", key_type="rsa2048")
        (home / "pinentry").write_text(PINENTRY)
        (home / "pinentry").chmod(0o700)
        (home / "gpg-agent.conf").write_text(f"pinentry-program {home / 'pinentry'}\n")
        (home / "gpgsm.conf").write_text("disable-crl-checks\ndisable-dirmngr\nno-secmem-warning\n")
        fingerprint = self.ca.certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - its own file format
        (home / "trustlist.txt").write_text(f"{fingerprint} S relax\n")
        (home / "ca.pem").write_bytes(pki.pem(self.ca.certificate))
        self("--import", home / "ca.pem")
        # now and then gpgsm 2.2 does not decrypt a valid file: another key and salt help
        for attempts_left in range(5, -1, -1):
            self.certificate, key = pki.issue(self.ca, "gpgsm@a.test", "both", "rsa2048")
            self.key = SoftwareKey(key)
            (home / "id.p12").write_bytes(pki.p12(self.certificate, key, password=b"p12", legacy=True))
            importing = ("gpgsm", "--homedir", home, "--batch", "--yes", "--import", home / "id.p12")
            if run(*importing, expect=None if attempts_left else 0).returncode == 0:
                break

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> bytes:
        return run("gpgsm", "--homedir", self.home, "--batch", "--yes", *arguments, stdin=stdin).stdout


@pytest.fixture(scope="module")
def gpgsm() -> Iterator[Gpgsm]:
    require("gpgsm", "gpgconf", "gpg-agent")
    home = Path(tempfile.mkdtemp(prefix="gpgsm-"))  # short: the agent's socket lies in it
    try:
        yield Gpgsm(home)
    finally:
        run("gpgconf", "--homedir", home, "--kill", "gpg-agent", expect=None)
        shutil.rmtree(home)


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("scheme", ["rsa-pkcs1v15-sha256", "rsa-pkcs1v15-sha512", "rsa-pss-sha256"])
def test_gpgsm_verifies_what_we_sign(
    gpgsm: Gpgsm, tmp_path: Path, scheme: SignatureScheme, detached: bool
) -> None:
    ours = signed.sign(
        LETTER,
        key=gpgsm.key,
        certificate=gpgsm.certificate,
        chain=gpgsm.ca.chain,
        signed_at=AT,
        scheme=scheme,
        detached=detached,
    )
    (tmp_path / "letter.p7s").write_bytes(ours)
    (tmp_path / "letter").write_bytes(LETTER)
    if detached:
        gpgsm("--verify", tmp_path / "letter.p7s", tmp_path / "letter")
    else:
        gpgsm("--output", tmp_path / "out", "--verify", tmp_path / "letter.p7s")
        assert (tmp_path / "out").read_bytes() == LETTER


@pytest.mark.parametrize("options", [[], ["--detach-sign"]], ids=["opaque", "detached"])
def test_we_verify_what_gpgsm_signs(gpgsm: Gpgsm, options: list[str]) -> None:
    theirs = gpgsm("--sign", *options, "--local-user", "gpgsm@a.test", stdin=LETTER)
    read = signed.parse_signed(ber.parse(theirs))
    assert (read.content is None) == bool(options)
    assert pki.named(read.signers[0], read.certificates) == gpgsm.certificate
    assert verify.check_signer(read, read.signers[0], gpgsm.certificate, LETTER) == ()


@pytest.mark.parametrize("cipher", ["aes-256-cbc", "aes-128-cbc"])
def test_gpgsm_opens_what_we_encrypt(gpgsm: Gpgsm, cipher: ContentCipher) -> None:
    ours = enveloped.encrypt(LETTER, [gpgsm.certificate], cipher=cipher)
    assert gpgsm("--decrypt", stdin=ours) == LETTER


@pytest.mark.parametrize(("cipher", "oaep"), [("aes-256-gcm", False), ("aes-256-cbc", True)])
def test_what_gpgsm_does_not_open(gpgsm: Gpgsm, cipher: ContentCipher, oaep: bool) -> None:
    """It finds no nonce in GCM's parameters, OpenSSL's neither (2.4.9 too), and knows no OAEP."""
    us = {gpgsm.certificate.fingerprint(hashes.SHA256()).hex()} if oaep else set()
    ours = enveloped.encrypt(LETTER, [gpgsm.certificate], cipher=cipher, oaep_for=us)
    done = run("gpgsm", "--homedir", gpgsm.home, "--batch", "--decrypt", stdin=ours, expect=None)
    assert (done.returncode != 0, done.stdout) == (True, b"")


@pytest.mark.parametrize("cipher", ["AES", "AES192", "AES256"])
def test_we_open_what_gpgsm_encrypts(gpgsm: Gpgsm, cipher: str) -> None:
    theirs = gpgsm("--encrypt", "--cipher-algo", cipher, "--recipient", "gpgsm@a.test", stdin=LETTER)
    envelope = enveloped.parse_enveloped(ber.parse(theirs))
    opened = enveloped.decrypt(envelope, [(gpgsm.certificate, gpgsm.key)])
    assert opened.content == LETTER
    assert opened.key_management == "rsa-pkcs1v15"
    assert not opened.authenticated
