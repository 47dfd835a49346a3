"""The published samples beside this file: where each is from stands in ``data/README.md``."""

import base64
import re
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

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
