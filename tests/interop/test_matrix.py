"""Bouncy Castle and PKI.js, both ways: what each makes is opened and believed, what we make they read.

What a peer cannot do is tested to fail still, with the reason, so that it shows when it has learned it.
"""

import datetime as dt
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medmail_cli.cms import ber, content, enveloped, signed, verify
from medmail_cli.model import ContentCipher, SignatureScheme
from medmail_cli.smime import mime
from medmail_cli.smime.open import Opened
from medmail_cli.smime.protect import Style, protect
from tests.support.letters import Person, codes, letter, opened, person
from tests.support.peers import Peer, PeerError, bouncy_castle, pkijs
from tests.support.pki import KeyType

NOW = dt.datetime(2026, 11, 22, 9, 0, tzinfo=dt.UTC)
CONTENT = "Content-Type: text/plain; charset=utf-8\r\n\r\nChère consœur\r\n".encode() * 40
SHORT = "Chère consœur\r\n"


@pytest.fixture(scope="module")
def bc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with bouncy_castle(tmp_path_factory.mktemp("bc")) as peer:
        yield peer


@pytest.fixture(scope="module")
def js() -> Iterator[Peer]:
    with pkijs() as peer:
        yield peer


def who(kind: KeyType, name: str = "alice") -> Person:
    return person(name, key_type=kind)


def der(someone: Person) -> bytes:
    return someone.certificate.public_bytes(Encoding.DER)


def pkcs8(someone: Person) -> bytes:
    return someone.raw_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def checked(theirs: bytes, signer: Person, over: bytes | None = None) -> tuple[str, ...]:
    read = signed.parse_signed(ber.parse(theirs))
    (info,) = read.signers
    assert info.id.names(signer.certificate)
    assert read.content == (CONTENT if over is None else None)
    assert "bad-signature" in verify.check_signer(read, info, signer.certificate, CONTENT + b"!")
    return verify.check_signer(read, info, signer.certificate, over)


def unsealed(theirs: bytes, reader: Person, **options: Any) -> enveloped.Decrypted:
    envelope = enveloped.parse_enveloped(ber.parse(theirs))
    found = enveloped.decrypt(envelope, [(reader.certificate, reader.key)], **options)
    assert found.content == CONTENT
    return found


# -- Bouncy Castle

BC_SCHEMES: list[tuple[KeyType, str, tuple[str, ...]]] = [
    ("rsa2048", "SHA256withRSA", ()),
    ("rsa2048", "SHA512withRSA", ()),
    ("rsa2048", "SHA1withRSA", ("weak-algorithm",)),
    ("rsa2048", "SHA256withRSAandMGF1", ()),
    ("rsa2048", "SHA512withRSAandMGF1", ()),
    ("rsa2048", "SHAKE128withRSAPSS", ()),
    ("rsa2048", "SHAKE256withRSAPSS", ()),
    ("rsa2048", "SHA512(256)withRSA", ()),
    ("rsa2048", "SHA3-224withRSA", ()),
    ("p256", "SHA256withECDSA", ()),
    ("p256", "SHA3-256withECDSA", ()),
    ("p256", "SHAKE256withECDSA", ()),
    ("p384", "SHA384withECDSA", ()),
    ("p521", "SHA512withECDSA", ()),
    ("brainpoolp256r1", "SHA256withECDSA", ()),
    ("brainpoolp384r1", "SHA384withECDSA", ()),
    ("brainpoolp512r1", "SHA512withECDSA", ()),
    ("ed25519", "Ed25519", ()),
    ("ed448", "Ed448", ()),
]


@pytest.mark.parametrize("form", ["plain", "detached", "no attributes", "by key", "stream"])
@pytest.mark.parametrize(("kind", "scheme", "problems"), BC_SCHEMES, ids=lambda value: str(value))
def test_we_verify_what_bouncy_castle_signs(
    bc: Peer, kind: KeyType, scheme: str, problems: tuple[str, ...], form: str
) -> None:
    alice = who(kind)
    theirs = bc.ask(
        "sign", scheme=scheme, certificate=der(alice), key=pkcs8(alice), content=CONTENT,
        detached="yes" if form == "detached" else "no", attributes="no" if form == "no attributes" else "yes",
        by="key" if form == "by key" else "name", stream="yes" if form == "stream" else "no",
    )  # fmt: skip
    assert checked(theirs, alice, CONTENT if form == "detached" else None) == problems


OUR_SCHEMES: list[tuple[KeyType, SignatureScheme | None]] = [
    *((kind, None) for kind in ("rsa2048", "p256", "p384", "p521", "brainpoolp256r1", "ed25519", "ed448")),
    ("rsa2048", "rsa-pss-sha256"),
    ("rsa2048", "rsa-pkcs1v15-sha512"),
]


@pytest.mark.parametrize("detached", [False, True], ids=["opaque", "detached"])
@pytest.mark.parametrize(("kind", "scheme"), OUR_SCHEMES, ids=str)
def test_bouncy_castle_verifies_what_we_sign(
    bc: Peer, kind: KeyType, scheme: SignatureScheme | None, detached: bool
) -> None:
    alice = who(kind)
    ours = signed.sign(
        CONTENT, key=alice.key, certificate=alice.certificate, signed_at=NOW, scheme=scheme, detached=detached
    )
    outside = {"content": CONTENT} if detached else {}
    assert bc.ask("verify", message=ours, certificate=der(alice), **outside) == CONTENT
    with pytest.raises(PeerError):
        bc.ask("verify", message=ours, certificate=der(who(kind, "carol")), **outside)


BC_MANAGEMENTS: list[tuple[KeyType, str, str]] = [
    ("rsa2048", "", "rsa-pkcs1v15"),
    ("rsa2048", "oaep/SHA-1/SHA-1", "rsa-oaep-sha1"),
    ("rsa2048", "oaep/SHA-256/SHA-256", "rsa-oaep-sha256"),
    ("rsa2048", "oaep/SHA-512/SHA-1", "rsa-oaep-sha512"),
    ("rsa2048", "oaep/SHA-384/SHA-256/Étiquette", "rsa-oaep-sha384"),
    *(
        (kind, f"{kdf}/aes-256", f"ecdh-es-{kind}")
        for kind in ("p256", "p384", "p521", "brainpoolp256r1", "brainpoolp384r1", "brainpoolp512r1")
        for kdf in ("sha256", "cofactor-sha256")
    ),
    *(("p256", f"{kdf}/aes-128", "ecdh-es-p256") for kdf in ("sha1", "sha224", "sha384", "sha512")),
    ("p256", "cofactor-sha1/aes-256/material", "ecdh-es-p256"),
    ("p384", "cofactor-sha512/aes-256/material", "ecdh-es-p384"),
]
BC_CIPHERS = [f"aes-{size}-{mode}" for size in (128, 192, 256) for mode in ("cbc", "gcm")]


@pytest.mark.parametrize(("kind", "management", "name"), BC_MANAGEMENTS, ids=str)
def test_we_open_what_bouncy_castle_encrypts(bc: Peer, kind: KeyType, management: str, name: str) -> None:
    bob = who(kind, "bob")
    for cipher, by in product(BC_CIPHERS, ("name", "key")):
        theirs = bc.ask(
            "encrypt", cipher=cipher, management=management, by=by, certificate=der(bob), content=CONTENT
        )
        found = unsealed(theirs, bob)
        assert (found.algorithm, found.key_management) == (cipher, name)


@pytest.mark.parametrize(
    "extra",
    [{"stream": "yes", "cipher": "aes-256-cbc"}, {"attributes": "yes", "cipher": "aes-256-gcm"}],
    ids=["chunks", "authenticated attributes"],
)
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_chunked_and_attributed_envelopes(bc: Peer, kind: KeyType, extra: dict[str, str]) -> None:
    bob = who(kind, "bob")
    management = "" if kind == "rsa2048" else "sha256/aes-256"
    theirs = bc.ask("encrypt", management=management, certificate=der(bob), content=CONTENT, **extra)
    assert unsealed(theirs, bob).key_management


@pytest.mark.parametrize("attributes", ["no", "yes"])
@pytest.mark.parametrize("cipher", ["aes-128-ccm", "aes-256-ccm"])
def test_ccm_of_bouncy_castle(bc: Peer, cipher: str, attributes: str) -> None:
    bob = who("rsa2048", "bob")
    asked = {"cipher": cipher, "management": "", "attributes": attributes}
    theirs = bc.ask("encrypt", certificate=der(bob), content=CONTENT[:60_000], **asked)
    envelope = enveloped.parse_enveloped(ber.parse(theirs))
    found = enveloped.decrypt(envelope, [(bob.certificate, bob.key)])
    assert (found.content, found.algorithm, found.authenticated) == (CONTENT[:60_000], cipher, True)


@pytest.mark.parametrize(
    ("kind", "management", "cipher"),
    [("rsa2048", "", "3des-cbc"), ("rsa2048", "", "rc2-cbc"), ("p256", "sha1/3des", "3des-cbc")],
)
def test_old_ciphers_of_bouncy_castle(bc: Peer, kind: KeyType, management: str, cipher: str) -> None:
    bob = who(kind, "bob")
    theirs = bc.ask("encrypt", cipher=cipher, management=management, certificate=der(bob), content=CONTENT)
    assert unsealed(theirs, bob, allow_weak=True).weak


@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384", "brainpoolp256r1"])
def test_bouncy_castle_opens_what_we_encrypt(bc: Peer, kind: KeyType, cipher: ContentCipher) -> None:
    bob, carol = who(kind, "bob"), who("rsa2048", "carol")
    ours = enveloped.encrypt(CONTENT, [carol.certificate, bob.certificate], cipher=cipher)
    authenticated = "yes" if cipher.endswith("gcm") else "no"
    asked: dict[str, str | bytes] = {
        "message": ours,
        "certificate": der(bob),
        "key": pkcs8(bob),
        "authenticated": authenticated,
    }
    if kind != "rsa2048" and authenticated == "yes":
        with pytest.raises(
            PeerError, match="no key agreement in AuthEnvelopedData"
        ):  # 1.72 has no such class
            bc.ask("decrypt", **asked)
    else:
        assert bc.ask("decrypt", **asked) == CONTENT


def test_we_read_what_bouncy_castle_compresses(bc: Peer) -> None:
    assert content.decompress(ber.parse(bc.ask("compress", content=CONTENT)), 1 << 20)[1] == CONTENT


@pytest.mark.parametrize(
    ("steps", "layers"),
    [
        ("sign", ("signed",)),
        ("opaque", ("signed",)),
        ("sign encrypt", ("encrypted", "signed")),
        ("opaque encrypt", ("encrypted", "signed")),
        ("sign encrypt sign", ("signed", "encrypted", "signed")),
        ("compress sign encrypt", ("encrypted", "signed", "compressed")),
        ("sign compress encrypt", ("encrypted", "compressed", "signed")),
    ],
)
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_whole_messages_by_bouncy_castle(
    bc: Peer, kind: KeyType, steps: str, layers: tuple[str, ...]
) -> None:
    alice, bob = who(kind), who(kind, "bob")
    scheme, management = ("SHA256withRSA", "") if kind == "rsa2048" else ("SHA256withECDSA", "sha256/aes-256")
    raw = bc.ask(
        "mail", steps=steps, content=SHORT, scheme=scheme, management=management, cipher="aes-256-cbc",
        certificate=der(alice), key=pkcs8(alice), reader=der(bob), sender=alice.address, to=bob.address,
    )  # fmt: skip
    result = read_by(bob, raw)
    assert codes(result) == []
    assert (result.verdict.layers, result.verdict.text) == (layers, "Chère consœur\n")


def read_by(bob: Person, raw: bytes) -> Opened:
    return opened(raw, keys=[(bob.certificate, bob.key)], at=dt.datetime.now(dt.UTC))


@pytest.mark.parametrize("named", [False, True])
def test_bouncy_castle_reads_a_letter_of_ours_to_its_end(bc: Peer, named: bool) -> None:
    """Envelope, then signature, as a reader built on it does; RSA, since 1.72 agrees on no key under GCM.

    KIM's readers are built on it: with recipient-emails too, whose place in an AuthEnvelopedData (RFC 5083
    2.1) OpenSSL 3.0 has wrong, so that it opens none of these.
    """
    alice, bob = who("p256"), who("rsa2048", "bob")
    style, to = Style(recipient_emails=named), {bob.address: bob.certificate}
    raw = protect(letter(), signer=alice.signer, recipients=to, signed_at=NOW, style=style)[0].message
    outer = mime.decode_body(mime.parse(raw))
    inner = bc.ask("decrypt", message=outer, certificate=der(bob), key=pkcs8(bob), authenticated="yes")
    said = bc.ask("verify", message=mime.decode_body(mime.parse(inner)), certificate=der(alice))
    assert "Résultats de Mme Durand" in str(mime.parse(said).text("subject"))


# -- PKI.js

JS_SCHEMES: list[tuple[KeyType, str, str]] = [
    ("rsa2048", "rsa-pkcs1v15", "SHA-256"),
    ("rsa2048", "rsa-pkcs1v15", "SHA-512"),
    ("rsa2048", "rsa-pss", "SHA-256"),
    ("rsa2048", "rsa-pss", "SHA-384"),
    ("p256", "p256", "SHA-256"),
    ("p384", "p384", "SHA-384"),
    ("p521", "p521", "SHA-512"),
]


@pytest.mark.parametrize("form", ["plain", "detached", "no attributes"])
@pytest.mark.parametrize(("kind", "scheme", "digest"), JS_SCHEMES, ids=str)
def test_we_verify_what_pkijs_signs(js: Peer, kind: KeyType, scheme: str, digest: str, form: str) -> None:
    alice = who(kind)
    theirs = js.ask(
        "sign", scheme=scheme, hash=digest, certificate=der(alice), key=pkcs8(alice), content=CONTENT,
        detached="yes" if form == "detached" else "no", attributes="no" if form == "no attributes" else "yes",
        at=NOW.isoformat(),
    )  # fmt: skip
    assert checked(theirs, alice, CONTENT if form == "detached" else None) == ()


@pytest.mark.parametrize("detached", [False, True], ids=["opaque", "detached"])
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("rsa2048", None), ("rsa2048", "rsa-pss-sha256"), ("p256", None), ("p384", None), ("p521", None)],
)
def test_pkijs_verifies_what_we_sign(
    js: Peer, kind: KeyType, scheme: SignatureScheme | None, detached: bool
) -> None:
    alice = who(kind)
    ours = signed.sign(
        CONTENT, key=alice.key, certificate=alice.certificate, signed_at=NOW, scheme=scheme, detached=detached
    )
    outside = {"content": CONTENT} if detached else {}
    assert js.ask("verify", message=ours, **outside) == (b"" if detached else CONTENT)
    if detached:
        with pytest.raises(PeerError):
            js.ask("verify", message=ours, content=CONTENT + b"!")


@pytest.mark.parametrize("digest", ["SHA-1", "SHA-256", "SHA-384", "SHA-512"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384", "p521"])
def test_we_open_what_pkijs_encrypts(js: Peer, kind: KeyType, digest: str) -> None:
    bob = who(kind, "bob")
    for size in (128, 256):
        theirs = js.ask(
            "encrypt", cipher=f"AES-CBC/{size}", hash=digest, certificate=der(bob), content=CONTENT
        )
        found = unsealed(theirs, bob)
        name = f"rsa-oaep-{digest.lower().replace('-', '')}" if kind == "rsa2048" else f"ecdh-es-{kind}"
        assert (found.algorithm, found.key_management) == (f"aes-{size}-cbc", name)


def test_pkijs_puts_gcm_where_it_does_not_belong(js: Peer) -> None:
    bob = who("p256", "bob")
    theirs = js.ask("encrypt", cipher="AES-GCM/256", hash="SHA-256", certificate=der(bob), content=CONTENT)
    with pytest.raises(Exception, match="bad-tag") as refused:
        unsealed(theirs, bob)
    assert refused.value.facts["tagless"] == "aes-256-gcm"  # type: ignore[attr-defined]


@pytest.mark.parametrize("cipher", ["aes-256-cbc", "aes-128-cbc"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_pkijs_opens_what_we_encrypt(js: Peer, kind: KeyType, cipher: ContentCipher) -> None:
    from cryptography.hazmat.primitives import hashes

    bob = who(kind, "bob")
    oaep = {bob.certificate.fingerprint(hashes.SHA256()).hex()}  # WebCrypto has no RSA v1.5 decryption
    ours = enveloped.encrypt(CONTENT, [bob.certificate], cipher=cipher, oaep_for=oaep)
    if kind == "rsa2048":
        assert js.ask("decrypt", message=ours, certificate=der(bob), key=pkcs8(bob)) == CONTENT
    else:  # 4.0.0 derives with an empty entityUInfo where there is no ukm (RFC 5753 7.2: absent)
        with pytest.raises(PeerError):
            js.ask("decrypt", message=ours, certificate=der(bob), key=pkcs8(bob))
