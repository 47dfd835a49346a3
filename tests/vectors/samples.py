"""The published samples beside this file: where each is from stands in ``data/README.md``."""

import base64
import re
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from medmail_cli.cms import algorithms, der

DATA = Path(__file__).with_name("data")


@cache
def pems(name: str) -> dict[str, list[bytes]]:
    """What stands under each heading of a file of PEMs."""
    found: dict[str, list[bytes]] = {}
    heading, block = "", b""
    for line in (DATA / name).read_bytes().splitlines(keepends=True):
        if block or line.startswith(b"-----BEGIN"):
            block += line
        elif line.strip():
            heading = line.decode().strip()
        if line.startswith(b"-----END"):
            found.setdefault(heading, []).append(block)
            block = b""
    return found


def one(name: str, heading: str, label: bytes = b"") -> bytes:
    """The PEM under the heading that starts so, and of that label where there are several."""
    return next(
        pem
        for found, several in pems(name).items()
        if found.startswith(heading)
        for pem in several
        if label in pem.partition(b"\n")[0]
    )


def der_of(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def certificate(name: str, heading: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(one(name, heading, b"CERTIFICATE"))


def key(name: str, heading: str) -> PrivateKeyTypes:
    return load_pem_private_key(one(name, heading, b"KEY"), None)


@cache
def rfc4134() -> dict[str, bytes]:
    """The files of RFC 4134's appendix B by their names (its appendix A.1)."""
    text = (DATA / "rfc4134.txt").read_text()
    files = re.findall(r"^\|>(\S+)\n(.*?)^\|<\1$", text, re.DOTALL | re.MULTILINE)
    return {name: base64.b64decode(body.replace("|", "")) for name, body in files}


@cache
def hexadecimal(name: str) -> dict[str, bytes]:
    """The octets under each number of a file of hexadecimal."""
    found = re.findall(r"^(\d+\.\d+)\n((?:[0-9a-f]+\n)+)", (DATA / name).read_text(), re.MULTILINE)
    return {number: bytes.fromhex(body) for number, body in found}


def certified(key: bytes) -> x509.Certificate:
    """A certificate for a SubjectPublicKeyInfo, whatever is wrong with that; its own signature is none."""
    name = der.sequence(der.tlv(der.SET, der.sequence(der.oid("2.5.4.3"), der.tlv(0x0C, b"Wycheproof"))))
    algorithm = algorithms.identifier(algorithms.ED25519)
    validity = der.sequence(der.tlv(0x17, b"260101000000Z"), der.tlv(0x17, b"460101000000Z"))
    body = der.sequence(der.tlv(0xA0, der.integer(2)), der.integer(1), algorithm, name, validity, name, key)
    return x509.load_der_x509_certificate(der.sequence(body, algorithm, der.bit_string(bytes(64))))
