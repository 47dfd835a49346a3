"""Opening letters, against ``openssl cms -decrypt`` followed by ``openssl cms -verify``.

The letters are made by OpenSSL: opaque signed, then enveloped with AES-256-GCM, each layer as base64 MIME.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tests.benchmarks._measure import MEDMAIL, peak_kib, process, report, seconds
from tests.support.pki import issue, make_ca

ALICE, BOB = "alice@medecin.test", "bob@medecin.test"


def files(folder: Path, key_type: str) -> None:
    """A root, Alice who signs and Bob who reads, as PEM files."""
    root = make_ca("Bench Root", key_type="p256")
    (folder / "root.pem").write_bytes(root.certificate.public_bytes(serialization.Encoding.PEM))
    for name, address in (("alice", ALICE), ("bob", BOB)):
        certificate, key = issue(root, address, key_type=key_type)  # type: ignore[arg-type]
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def letter(folder: Path, name: str, attachment: int) -> Path:
    """A letter with a random attachment of that many bytes, signed by Alice for Bob."""
    import base64

    data = base64.encodebytes(os.urandom(attachment)).replace(b"\n", b"\r\n")
    plain = folder / f"{name}.txt"
    headers = f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: bench {name}\r\nMessage-ID: <{name}@bench>\r\n"
    mime = (
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n--b\r\n"
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="a.bin"\r\n\r\n'
    )
    plain.write_bytes((headers + mime).encode() + data + b"--b--\r\n")
    signed, sealed = folder / f"{name}.signed", folder / f"{name}.eml"
    sign = [
        "openssl",
        "cms",
        "-sign",
        "-nodetach",
        "-binary",
        "-md",
        "sha256",
        "-in",
        str(plain),
        "-out",
        str(signed),
    ]
    subprocess.run([*sign, "-signer", f"{folder}/alice.pem", "-inkey", f"{folder}/alice.key"], check=True)
    encrypt = ["openssl", "cms", "-encrypt", "-aes-256-gcm", "-in", str(signed), "-out", str(sealed)]
    subprocess.run(
        [*encrypt, "-from", ALICE, "-to", BOB, "-subject", "[...]", f"{folder}/bob.pem"], check=True
    )
    return sealed


def enrol(folder: Path) -> dict[str, str]:
    """Bob's keystore and anchor; the environment that finds them."""
    secret = folder / "passphrase"
    secret.write_text("correct horse battery staple")
    env = {**os.environ, "MEDMAIL_HOME": str(folder / "home"), "MEDMAIL_PASSPHRASE_FILE": str(secret)}
    run = {"env": env, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([MEDMAIL, "trust", "add", f"{folder}/root.pem", "--no-input"], **run)  # type: ignore[call-overload]
    importing = [
        MEDMAIL,
        "enrol",
        "import",
        f"{folder}/bob.pem",
        "--key-file",
        f"{folder}/bob.key",
        "--no-input",
    ]
    subprocess.run(importing, **run)  # type: ignore[call-overload]
    return env


def openssl(folder: Path, message: Path) -> None:
    """What a script would do with OpenSSL for one message."""
    opened, content = folder / "peer.signed", folder / "peer.txt"
    key = ["-recip", f"{folder}/bob.pem", "-inkey", f"{folder}/bob.key"]
    process("openssl", "cms", "-decrypt", "-in", str(message), "-out", str(opened), *key)()
    verify = ["openssl", "cms", "-verify", "-binary", "-in", str(opened), "-CAfile", f"{folder}/root.pem"]
    process(*verify, "-out", str(content))()


def argon2_seconds() -> float:
    """The median time of the keystore's key derivation alone (RFC 9106, 64 MiB, 3 passes, 4 lanes)."""
    times = sorted(
        seconds(
            lambda: Argon2id(salt=bytes(16), length=32, iterations=3, lanes=4, memory_cost=65536).derive(b"x")
        )
        for _ in range(5)
    )
    return times[2]


def one_large(folder: Path, env: dict[str, str], derivation: float) -> None:
    """One letter of 24 MB (an attachment of 18 MB), whole processes."""
    message = letter(folder, "large", 18_000_000)
    pairs = []
    for _ in range(7):
        ours = seconds(process(MEDMAIL, "decrypt", str(message), "--json", env=env))
        pairs.append((ours, seconds(lambda: openssl(folder, message))))
    mine, theirs = (sorted(values)[len(pairs) // 2] for values in zip(*pairs, strict=True))
    print(f"on the wire {message.stat().st_size / 1e6:.1f} MB; Argon2id alone {derivation * 1000:.0f} ms")
    report("one 24 MB letter, Argon2id's time apart", mine - derivation, theirs, 1.5)
    report("one 24 MB letter, Argon2id included", mine, theirs, 99)
    peak = peak_kib([MEDMAIL, "decrypt", str(message), "--json"], env) * 1024
    times = peak / message.stat().st_size
    print(f"peak memory {peak / 2**20:.0f} MiB, {times:.1f} times the message (at most 6)")


def many_small(
    folder: Path, env: dict[str, str], derivation: float, key_type: str, count: int = 1000
) -> None:
    """A thousand letters of 20 kB in one process, against two OpenSSL commands each (timed on a tenth)."""
    messages = [letter(folder, f"small{number}", 10_000) for number in range(count)]
    ours = sorted(
        seconds(process(MEDMAIL, "decrypt", *map(str, messages), "--json", env=env)) - derivation
        for _ in range(3)
    )[1]
    sample = messages[: count // 10]
    begun = time.perf_counter()
    for message in sample:
        openssl(folder, message)
    theirs = (time.perf_counter() - begun) * count / len(sample)
    size = messages[0].stat().st_size / 1000
    report(
        f"{count} letters of {size:.0f} kB, {key_type}: {theirs / ours:.1f} times as fast", ours, theirs, 0.2
    )


def main() -> None:
    """All figures, for RSA-2048 and P-256 keys."""
    derivation = argon2_seconds()
    for key_type in ("rsa2048", "p256"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files(folder, key_type)
            env = enrol(folder)
            if key_type == "rsa2048":
                one_large(folder, env, derivation)
            many_small(folder, env, derivation, key_type)


if __name__ == "__main__":
    main()
