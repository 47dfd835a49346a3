"""A real PKCS#11 token: SoftHSM2, filled by OpenSC's pkcs11-tool, watched through its pkcs11-spy."""

import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

from tests.support import pki
from tests.support.tools import require, run

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

PIN, WRONG_PIN, SO_PIN = "1234", "9999", "12345678"
_CONFIG = """directories.tokendir = {folder}/tokens
objectstore.backend = file
log.level = ERROR
slots.removable = false
"""
_FORBID = """
import sys, pkcs11
from pkcs11 import Attribute, ObjectClass
module, label, pin, key_id, name = sys.argv[1:]
wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: bytes.fromhex(key_id)}
with pkcs11.lib(module).get_token(token_label=label).open(rw=True, user_pin=pin) as session:
    for key in list(session.get_objects(wanted)):
        key[Attribute[name]] = False
"""
_PUBLIC = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.util import ec, rsa
module, label, key_id = sys.argv[1:]
wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: bytes.fromhex(key_id)}
with pkcs11.lib(module).get_token(token_label=label).open() as session:
    (key,) = session.get_objects(wanted)
    if key.key_type is KeyType.RSA:
        print(rsa.encode_rsa_public_key(key).hex())
    elif key.key_type is KeyType.EC:
        print(ec.encode_ec_public_key(key).hex())
    else:
        print("302a300506032b6570032100" + key[Attribute.EC_POINT][-32:].hex())
"""
BOTH = ("--usage-sign", "--usage-decrypt", "--usage-derive")


def _first(*places: str) -> Path:
    return next((path for place in places for path in Path("/usr").glob(place)), Path(places[0]))


SOFTHSM = _first("lib/*/softhsm/libsofthsm2.so", "lib/softhsm/libsofthsm2.so", "lib64/pkcs11/libsofthsm2.so")
SPY = _first("lib/*/pkcs11-spy.so", "lib64/pkcs11-spy.so")


@dataclass
class Reader:
    """Tokens in a folder; ``env`` is what a process needs to see them."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def insert(self, label: str = "CPS", pin: str = PIN) -> "Token":
        """A new token, set up."""
        run(
            *("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", SO_PIN),
            env=self.env,
        )
        return Token(self, label, pin)

    def pull(self) -> None:
        """Take every token away."""
        shutil.rmtree(self.folder / "tokens")
        (self.folder / "tokens").mkdir()

    def spied(self) -> dict[str, str]:
        """The environment in which the module :data:`SPY` writes down what it is asked."""
        log = self.folder / "spy.log"
        log.unlink(missing_ok=True)
        return {**self.env, "PKCS11SPY": str(SOFTHSM), "PKCS11SPY_OUTPUT": str(log)}

    def calls(self) -> list[str]:
        """The functions that were called under :meth:`spied`, in order."""
        log = self.folder / "spy.log"
        return re.findall(r"(?m)^\d+: (C_\w+)", log.read_text("utf-8", "replace")) if log.exists() else []


@dataclass(frozen=True)
class Token:
    """A token with a PIN."""

    reader: Reader
    label: str
    pin: str

    def _tool(self, *arguments: str | Path) -> bytes:
        login = ("--token-label", self.label, "--login", "--pin", self.pin)
        return run("pkcs11-tool", "--module", SOFTHSM, *login, *arguments, env=self.reader.env).stdout

    def put(self, certificate: x509.Certificate, key_id: str = "01") -> None:
        """A certificate, without a CKA_ID if that is empty."""
        path = self.reader.folder / "object.der"
        path.write_bytes(certificate.public_bytes(Encoding.DER))
        named = ("--id", key_id) if key_id else ()
        self._tool("--write-object", path, "--type", "cert", *named, "--label", "certificate")

    def put_key(self, key: pki.Key, key_id: str = "01", *, public: bool = True) -> None:
        """A private key and, unless told otherwise, its public half."""
        path = self.reader.folder / "object.der"
        path.write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        self._tool("--write-object", path, "--type", "privkey", "--id", key_id, "--label", "key", *BOTH)
        if public:
            path.write_bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
            self._tool("--write-object", path, "--type", "pubkey", "--id", key_id, "--label", "key")

    def put_pair(
        self, certificate: x509.Certificate, key: pki.Key, key_id: str = "01", usage: tuple[str, ...] = BOTH
    ) -> None:
        """A certificate and its private key, which then stays."""
        path = self.reader.folder / "object.der"
        path.write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        self._tool("--write-object", path, "--type", "privkey", "--id", key_id, "--label", "key", *usage)
        self.put(certificate, key_id)

    def forbid(self, attribute: str, key_id: str = "01") -> None:
        """Take an ability (``DECRYPT``, ``DERIVE``, ``SIGN``) from a private key; SoftHSM gives it all."""
        words = (str(SOFTHSM), self.label, self.pin, key_id, attribute)
        run(sys.executable, "-c", _FORBID, *words, env=self.reader.env)

    def make_key(self, kind: str, key_id: str = "01") -> "PublicKeyTypes":
        """A key made on the token, which never leaves it; its public half."""
        self._tool("--keypairgen", "--key-type", kind, "--id", key_id, "--label", "made here", *BOTH)
        words = (str(SOFTHSM), self.label, key_id)
        found = run(sys.executable, "-c", _PUBLIC, *words, env=self.reader.env).stdout
        return load_der_public_key(bytes.fromhex(found.decode()))


def reader(folder: Path) -> Reader:
    """A reader without a token; the test is skipped where the tools are missing."""
    require("softhsm2-util", "pkcs11-tool", "openssl")
    (folder / "tokens").mkdir(parents=True)
    config = folder / "softhsm2.conf"
    config.write_text(_CONFIG.format(folder=folder))
    return Reader(folder, {"SOFTHSM2_CONF": str(config)})
