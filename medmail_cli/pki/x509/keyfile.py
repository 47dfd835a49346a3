"""Reading private keys and their certificates out of the files people have: PKCS#12, PEM, DER.

PKCS#12 in its modern form and in those of old tools, also in base64 or PEM; PEM in any mixture and order,
keys encrypted or not, PKCS#8 or as OpenSSL once wrote them; DER of a key, a certificate or PKCS#7.
"""

import codecs
import contextlib
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from medmail_cli.cms import algorithms
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509 import pkcs12
from medmail_cli.pki.x509.bundle import blocks, decoded, read_bundle
from medmail_cli.pki.x509.pbe import Spelling, spellings
from medmail_cli.pki.x509.pkcs8 import open_key, read_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_PKCS8, _SEALED, _PKCS12 = b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"PKCS12"
_KEYS = frozenset(kind + _PKCS8 for kind in (b"", b"ENCRYPTED ", b"RSA ", b"EC ", b"DSA ", b"OPENSSH "))
_CERTIFICATES = re.compile(rb"-----BEGIN (?:[A-Z0-9#]+ )*(?:CERTIFICATE|PKCS7|CMS|SIGNED DATA)-----")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+")
_OTHERS = {b"\xfe\xed\xfe\xed": "JKS", b"\xce\xce\xce\xce": "JCEKS"}
"""Containers that are named and not read, by how they begin."""
_KINDS = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    x25519.X25519PrivateKey,
    x448.X448PrivateKey,
)

Password = Callable[[], bytes]
"""Gives the file's password; called only where one is needed, and then once a file."""


@dataclass(frozen=True)
class KeyFile:
    """What a file holds: private keys (never shown) and certificates, each in its order."""

    keys: "tuple[PrivateKeyTypes, ...]" = field(default=(), repr=False)
    certificates: tuple[x509.Certificate, ...] = ()
    name: str = ""

    def __add__(self, other: "KeyFile") -> "KeyFile":
        """What two files hold together, under the name of the first."""
        both = dict.fromkeys((*self.certificates, *other.certificates))
        return KeyFile((*self.keys, *other.keys), tuple(both), self.name)


def read_keys(data: bytes, name: str, password: Password) -> KeyFile:
    """The keys and certificates in ``data``, which came from the file ``name``.

    Raises ``wrong-p12-password``, ``malformed`` where it is nothing of the kind or damaged,
    ``other-container`` where it is another program's, ``too-many-rounds``, ``expanded-key-only`` for a key of
    ML-KEM or ML-DSA without its seed, and ``unsupported-algorithm`` for a key no letter is signed or
    encrypted with (DSA).
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    if other := _OTHERS.get(data[:4]):
        raise MedmailError("other-container", path=name, kind=other)
    try:
        key_file = _read(data, name, password)
    except MedmailError as error:
        if error.code in ("malformed", "too-many-rounds", "expanded-key-only"):
            raise MedmailError(error.code, **error.facts | {"what": name}) from None
        raise
    for key in key_file.keys:
        if not isinstance(key, _KINDS) and not algorithms.ml_name(key):
            raise MedmailError("unsupported-algorithm", algorithm=type(key).__name__.lstrip("_"))
    return key_file


def _read(data: bytes, name: str, password: Password) -> KeyFile:
    if b"-----BEGIN " in data:
        return _pem(data, name, password)
    if pkcs12.is_pfx(data):
        return _pkcs12(data, name, password)
    with contextlib.suppress(MedmailError):
        return KeyFile((), read_bundle(data, name).certificates, name)
    if _BASE64.fullmatch(data) and (inner := decoded(data, name))[:1] == b"\x30":
        return _read(inner, name, password)
    return KeyFile((_key(data, password),), (), name)


def _pem(data: bytes, name: str, password: Password) -> KeyFile:
    key_file, given = KeyFile((), (), name), _once(password)
    for label, text in blocks(data, _KEYS | {_PKCS12}):
        if label == _PKCS12:
            key_file += _pkcs12(decoded(text, name), name, given)
        elif label in (_PKCS8, _SEALED):
            key_file += KeyFile((_key(decoded(text, name), given),), ())
        else:
            whole = b"-----BEGIN %b-----%b-----END %b-----\n" % (label, text, label)
            key_file += KeyFile((_old_pem(whole, given),), ())
    if _CERTIFICATES.search(data):
        key_file += KeyFile((), read_bundle(data, name).certificates)
    if not key_file.keys and not key_file.certificates:
        raise MedmailError("malformed", what=name)
    return key_file


def _once(password: Password) -> Password:
    """The password, asked for once."""
    return functools.cache(password)


def _key(data: bytes, password: Password) -> "PrivateKeyTypes":
    """A key in DER, sealed or not. Raises as :func:`read_keys` does."""
    try:
        return read_key(data)
    except TypeError:  # it is encrypted
        return open_key(data, spellings(password()))


def _old_pem(block: bytes, password: Password) -> "PrivateKeyTypes":
    """A key as OpenSSL or OpenSSH once wrote it, sealed by PEM's own means (RFC 1421) or not."""
    try:
        return load_pem_private_key(block, None)
    except TypeError:  # it is encrypted
        tries: tuple[Spelling, ...] = spellings(password())
    except (ValueError, UnsupportedAlgorithm):
        raise MedmailError("malformed", what="key") from None
    for spelled in tries:
        with contextlib.suppress(ValueError, TypeError):
            try:
                return load_pem_private_key(block, spelled.raw)
            except UnsupportedAlgorithm:
                raise MedmailError("malformed", what="key") from None
    raise MedmailError("wrong-p12-password")


def _pkcs12(data: bytes, name: str, password: Password) -> KeyFile:
    contents = pkcs12.read(data, lambda: spellings(password()))
    keys: list[PrivateKeyTypes] = []
    for key in contents.keys:
        if all(key.public_key() != other.public_key() for other in keys):
            keys.append(key)
    return KeyFile(tuple(keys), tuple(dict.fromkeys(contents.certificates)), name)
