"""NSS's command line (cmsutil), both ways: what Thunderbird's library makes is believed, ours it reads.

Its limits are tested to be limits still: it agrees on no key and knows no GCM and no OAEP (3.87).
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pytest

from medmail_cli.cms import ber, enveloped, signed, verify
from medmail_cli.model import ContentCipher, SignatureScheme
from tests.support import pki
from tests.support.letters import Person, authority, person
from tests.support.tools import require, run

NOW = dt.datetime(2026, 11, 22, 9, 0, tzinfo=dt.UTC)
CONTENT = b"Content-Type: text/plain\r\n\r\nHello\r\n" * 20
KINDS: tuple[pki.KeyType, ...] = ("rsa2048", "p256", "p384")


@dataclass(frozen=True)
class Nss:
    """A certificate database with Alice's and Bob's keys of every kind, named by address and kind."""

    folder: Path

    def cmsutil(self, *arguments: str | Path, content: bytes, expect: int | None = 0) -> bytes:
        """What cmsutil writes."""
        given, made = self.folder / "in", self.folder / "out"
        given.write_bytes(content)
        made.write_bytes(b"")
        done = run("cmsutil", *arguments, "-d", f"sql:{self.folder}", "-i", given, "-o", made, expect=expect)
        return made.read_bytes() if done.returncode == 0 else b""


def who(name: str, kind: pki.KeyType) -> Person:
    return person(f"{name}-{kind}", key_type=kind)


@pytest.fixture(scope="module")
def nss(tmp_path_factory: pytest.TempPathFactory) -> Nss:
    require("certutil", "pk12util", "cmsutil")
    folder = tmp_path_factory.mktemp("nss")
    database = f"sql:{folder}"
    run("certutil", "-N", "-d", database, "--empty-password")
    (folder / "root.pem").write_bytes(pki.pem(authority("Health Root").certificate))
    run("certutil", "-A", "-d", database, "-n", "root", "-t", "CT,C,C", "-i", folder / "root.pem")
    for name in ("alice", "bob"):
        for kind in KINDS:
            someone = who(name, kind)
            path = folder / f"{name}-{kind}.p12"
            path.write_bytes(
                pki.p12(someone.certificate, someone.raw_key, password=b"secret", name=path.stem)
            )
            run("pk12util", "-i", path, "-d", database, "-W", "secret")
    return Nss(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("detached", [False, True], ids=["opaque", "detached"])
def test_we_verify_what_nss_signs(nss: Nss, kind: pki.KeyType, detached: bool) -> None:
    alice = who("alice", kind)
    options = ("-T",) if detached else ()
    theirs = nss.cmsutil("-S", "-N", f"alice-{kind}", "-H", "SHA256", "-G", *options, content=CONTENT)
    read = signed.parse_signed(ber.parse(theirs))
    (info,) = read.signers
    assert info.id.names(alice.certificate)
    assert (read.content is None) == detached
    assert verify.check_signer(read, info, alice.certificate, CONTENT) == ()
    assert verify.check_signer(read, info, alice.certificate, CONTENT + b"!") == ("bad-signature",)


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [*((kind, None) for kind in KINDS), ("rsa2048", "rsa-pss-sha256"), ("rsa2048", "rsa-pkcs1v15-sha512")],
)
def test_nss_verifies_what_we_sign(nss: Nss, kind: pki.KeyType, scheme: SignatureScheme | None) -> None:
    alice = who("alice", kind)
    ours = signed.sign(CONTENT, key=alice.key, certificate=alice.certificate, signed_at=NOW, scheme=scheme)
    assert nss.cmsutil("-D", content=ours) == CONTENT
    forged = ours.replace(b"Hello", b"Pay!!", 1)
    assert nss.cmsutil("-D", content=forged, expect=None) == b""


@pytest.mark.parametrize("kind", ["rsa2048"])
def test_we_open_what_nss_encrypts(nss: Nss, kind: pki.KeyType) -> None:
    bob = who("bob", kind)
    theirs = nss.cmsutil("-E", "-r", bob.address, content=CONTENT)
    opened = enveloped.decrypt(
        enveloped.parse_enveloped(ber.parse(theirs)), [(bob.certificate, bob.key)], allow_weak=True
    )
    assert opened.content == CONTENT


@pytest.mark.parametrize("cipher", ["aes-256-cbc", "aes-128-cbc", "aes-256-gcm"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_nss_opens_what_we_encrypt(nss: Nss, kind: pki.KeyType, cipher: ContentCipher) -> None:
    bob = who("bob", kind)
    ours = enveloped.encrypt(CONTENT, [bob.certificate], cipher=cipher)
    known = kind == "rsa2048" and cipher.endswith("cbc")
    assert nss.cmsutil("-D", content=ours, expect=0 if known else None) == (CONTENT if known else b"")
