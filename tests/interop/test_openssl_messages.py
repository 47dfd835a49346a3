"""Whole messages to and from ``openssl cms``: MIME, line ends and header fields included."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from medmail_cli.smime import mime
from medmail_cli.smime.protect import Style, sign_only
from tests.support.letters import FILE, NOW, Person, authority, codes, letter, opened, person, sealed
from tests.support.pki import KeyType, pem
from tests.support.tools import require, run

KEYS: tuple[KeyType, ...] = ("rsa2048", "p256")


@pytest.fixture(autouse=True)
def _openssl() -> None:
    require("openssl")


def someone(name: str, key_type: KeyType) -> Person:
    return person(name) if key_type == "p256" else person(name, key_type=key_type)


def files(folder: Path, key_type: KeyType) -> None:
    for name in ("alice", "bob"):
        who = someone(name, key_type)
        (folder / f"{name}.pem").write_bytes(pem(who.certificate, who.raw_key))
    (folder / "root.pem").write_bytes(pem(authority("Health Root").certificate))


@pytest.mark.parametrize("key_type", KEYS)
@pytest.mark.parametrize("cipher", ["-aes-256-gcm", "-aes-128-gcm", "-aes-256-cbc", "-aes-128-cbc"])
@pytest.mark.parametrize("form", [["-nodetach"], [], ["-nodetach", "-stream"], ["-binary"], ["-crlfeol"]])
def test_what_openssl_makes_is_believed(
    tmp_path: Path, key_type: KeyType, cipher: str, form: list[str]
) -> None:
    files(tmp_path, key_type)
    text = tmp_path / "text"
    text.write_bytes("Content-Type: text/plain; charset=utf-8\r\n\r\nChère consœur\r\n".encode())
    signing: list[str | Path] = [
        "openssl",
        "cms",
        "-sign",
        "-signer",
        tmp_path / "alice.pem",
        *form,
        "-in",
        text,
    ]
    signed = run(*signing, "-from", "alice@medecin.test", "-to", "bob@medecin.test").stdout
    bob = someone("bob", key_type)
    who: dict[str, Any] = {"keys": [(bob.certificate, bob.key)], "at": dt.datetime.now(dt.UTC)}
    result = opened(signed, **who)
    assert (codes(result), result.verdict.text) == ([], "Chère consœur\n")
    sealing: list[str | Path] = [
        "openssl",
        "cms",
        "-encrypt",
        cipher,
        "-from",
        "alice@medecin.test",
        "-to",
        "bob@medecin.test",
    ]
    # without its mail header the signed entity is what goes into the envelope
    inner = run(*signing).stdout
    raw = run(*sealing, tmp_path / "bob.pem", stdin=inner).stdout
    result = opened(raw, **who)
    assert (codes(result), result.verdict.text) == ([], "Chère consœur\n")
    assert result.verdict.encryption.authenticated == cipher.endswith("gcm")


@pytest.mark.parametrize(
    "style", [{}, {"signature": "detached"}, {"wrapping": "message-rfc822"}, {"cipher": "aes-256-cbc"}]
)
def test_what_we_make_is_opened_by_openssl(tmp_path: Path, style: dict[str, Any]) -> None:
    files(tmp_path, "p256")
    written = letter(attachments=(FILE,))
    (tmp_path / "message").write_bytes(sealed(written, **style))
    bob: list[str | Path] = ["-recip", tmp_path / "bob.pem"]
    inner = run("openssl", "cms", "-decrypt", "-in", tmp_path / "message", *bob).stdout
    (tmp_path / "signed").write_bytes(inner)
    verify: list[str | Path] = ["openssl", "cms", "-verify", "-CAfile", tmp_path / "root.pem"]
    # with -binary OpenSSL drops the CRs of a detached part before it hashes it
    binary = [] if style.get("signature") == "detached" else ["-binary"]
    content = run(*verify, *binary, "-in", tmp_path / "signed").stdout
    result = opened(sealed(written, **style))
    assert result.content is not None
    ours = mime.parse(content)
    if style.get("wrapping"):
        ours = mime.parse(mime.decode_body(ours))
    assert [part.content_type for part in ours.walk()] == [
        part.content_type for part in result.content.walk()
    ]
    assert mime.decode_body(ours.children[1]) == FILE.data


@pytest.mark.parametrize("signature", ["opaque", "detached"])
def test_openssl_verifies_signed_only_letters(tmp_path: Path, signature: str) -> None:
    files(tmp_path, "p256")
    (only,) = sign_only(
        letter(),
        signer=person("alice").signer,
        signed_at=NOW,
        style=Style(signature=signature),  # type: ignore[arg-type]
    )
    run("openssl", "cms", "-verify", "-CAfile", tmp_path / "root.pem", stdin=only.message)
