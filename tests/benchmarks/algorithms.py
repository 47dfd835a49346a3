"""Verifying and decrypting, algorithm by algorithm: ours, OpenSSL's library and Bouncy Castle, each warm.

All three read the same structures over 20 kB, made by us, in one process of their own that has started and
has its keys; Bouncy Castle also parses certificate and key each time, some 20 microseconds. A peer that
cannot do an algorithm is shown as ``-``. Medians of rounds in which each takes its turn.
"""

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medmail_cli.cms import ber, enveloped, signed, verify
from medmail_cli.cms.encrypt import encrypt
from medmail_cli.model import ContentCipher, SignatureScheme
from tests.support import libcrypto
from tests.support.letters import NOW, Person, person
from tests.support.peers import Peer, PeerError, bouncy_castle
from tests.support.pki import KeyType

CONTENT = b"Content-Type: text/plain\r\n\r\n" + os.urandom(10_000).hex().encode()
ROUNDS, RUNS = 7, 100

SIGNATURES: list[tuple[KeyType, SignatureScheme]] = [
    ("rsa2048", "rsa-pkcs1v15-sha256"), ("rsa2048", "rsa-pss-sha256"), ("rsa4096", "rsa-pkcs1v15-sha256"),
    ("p256", "ecdsa-sha256"), ("p384", "ecdsa-sha384"), ("p521", "ecdsa-sha512"),
    ("brainpoolp256r1", "ecdsa-sha256"), ("ed25519", "ed25519"), ("ed448", "ed448"),
    ("ml-dsa-65", "ml-dsa-65"),
]  # fmt: skip
RECIPIENTS: list[tuple[KeyType, ContentCipher, bool]] = [
    ("rsa2048", "aes-256-gcm", False), ("rsa2048", "aes-256-gcm", True), ("rsa4096", "aes-256-gcm", False),
    ("p256", "aes-256-gcm", False), ("p256", "aes-256-cbc", False), ("rsa2048", "aes-256-cbc", False),
    ("p384", "aes-256-gcm", False), ("brainpoolp256r1", "aes-256-cbc", False),
    ("x25519", "aes-256-gcm", False), ("x448", "aes-256-gcm", False), ("ml-kem-768", "aes-256-gcm", False),
]  # fmt: skip


def der(someone: Person) -> tuple[bytes, bytes]:
    """Certificate and key (PKCS#8)."""
    return (
        someone.certificate.public_bytes(Encoding.DER),
        someone.raw_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    )


def each(run: Callable[[], object]) -> Callable[[], float]:
    """Seconds that one of many runs takes."""

    def timed() -> float:
        begun = time.perf_counter()
        for _ in range(RUNS):
            run()
        return (time.perf_counter() - begun) / RUNS

    return timed


def compare(
    name: str,
    ours: Callable[[], bytes],
    library: Callable[[], bytes],
    castle: Peer,
    asked: dict[str, str | bytes],
) -> None:
    """One line: medians in microseconds, and ours in theirs. ``asked`` is for Bouncy Castle."""
    assert ours() == CONTENT
    rows: list[Callable[[], float] | None] = [each(ours)]
    try:
        rows.append(each(library) if library() == CONTENT else None)
    except libcrypto.LibcryptoError:
        rows.append(None)
    try:
        castle.ask("time", runs="1", **asked)
        rows.append(lambda: int(castle.ask("time", runs=str(RUNS), **asked)) / 1e9)
    except PeerError:
        rows.append(None)
    for row in [*rows, *rows]:  # Java compiles what it has seen often
        if row:
            row()
    rounds = [[row() if row else math.nan for row in rows] for _ in range(ROUNDS)]
    mine, *theirs = map(statistics.median, zip(*rounds, strict=True))
    shown = "".join(
        f"{'-':>18}" if math.isnan(peer) else f"{peer * 1e6:9.0f} us {mine / peer:5.2f}" for peer in theirs
    )
    print(f"{name:<42}{mine * 1e6:7.0f} us {shown}", flush=True)


def verifying(kind: KeyType, scheme: SignatureScheme, castle: Peer) -> None:
    """One kind of signature."""
    alice = person("alice", key_type=kind)
    message = signed.sign(CONTENT, key=alice.key, certificate=alice.certificate, signed_at=NOW, scheme=scheme)

    def ours() -> bytes:
        read = signed.parse_signed(ber.parse(message))
        (info,) = read.signers
        assert verify.check_signer(read, info, alice.certificate, None) == ()
        assert read.content is not None
        return bytes(read.content)

    asked: dict[str, str | bytes] = {"timed": "verify", "message": message, "certificate": der(alice)[0]}
    compare(f"verify {kind} {scheme}", ours, lambda: libcrypto.verify(message), castle, asked)


def decrypting(kind: KeyType, cipher: ContentCipher, castle: Peer, *, oaep: bool) -> None:
    """One kind of recipient."""
    bob = person("bob", key_type=kind)
    certificate, key = der(bob)
    oaep_for = {sha256(certificate).hexdigest()} if oaep else set()
    message = encrypt(CONTENT, [bob.certificate], cipher=cipher, oaep_for=oaep_for)
    keys = [(bob.certificate, bob.key)]

    def ours() -> bytes:
        return enveloped.decrypt(enveloped.parse_enveloped(ber.parse(message)), keys).content

    opener: Callable[[bytes], bytes]
    try:
        opener = libcrypto.decrypting(certificate, key)
    except libcrypto.LibcryptoError:  # a kind of key it does not know
        opener = libcrypto.verify
    asked: dict[str, str | bytes] = {
        "timed": "decrypt", "message": message, "certificate": certificate, "key": key,
        "authenticated": "yes" if cipher.endswith("gcm") else "no",
    }  # fmt: skip
    name = f"decrypt {kind}{' oaep' if oaep else ''} {cipher}"
    compare(name, ours, lambda: opener(message), castle, asked)


def main() -> None:
    """All figures."""
    with tempfile.TemporaryDirectory() as name, bouncy_castle(Path(name), level=4) as castle:
        print(f"{'':<42}{'ours':>7}    {'OpenSSL, ratio':>18}{'Bouncy Castle, ratio':>21}")
        for kind, scheme in SIGNATURES:
            verifying(kind, scheme, castle)
        for kind, cipher, oaep in RECIPIENTS:
            decrypting(kind, cipher, castle, oaep=oaep)


if __name__ == "__main__":
    main()
