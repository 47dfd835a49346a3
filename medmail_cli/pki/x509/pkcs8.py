"""Private keys in PKCS#8 (RFC 5958): plain and sealed, and in the forms that cryptography does not read.

Those are keys with their public key along, as Java writes them, keys in BER, and keys of ML-KEM and ML-DSA
that hold more than the seed (RFC 9935 6, RFC 9881 6), as OpenSSL writes them.
"""

import contextlib
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509 import pbe, seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_SEEDED = algorithms.ML_KEM | algorithms.ML_DSA


def read_key(data: bytes) -> "PrivateKeyTypes":
    """A plain private key, in DER or BER.

    Raises TypeError where it is sealed, ``expanded-key-only`` and ``malformed``, also where the public key or
    the expanded key along with it is another one's.
    """
    try:
        return load_der_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm):
        pass
    try:
        fields = ber.parse(data).fields()
        if not fields.take().tag == ber.INTEGER:
            raise TypeError("sealed")
    except MedmailError:
        raise malformed() from None
    try:
        algorithm, private = fields.take(ber.SEQUENCE), bytes(fields.take(ber.OCTET_STRING).octets())
        fields.maybe(0x80)
        public = fields.maybe(0x81)
        fields.end()
        if name := _SEEDED.get(algorithms.read(algorithm).oid):
            key: PrivateKeyTypes = _seeded(name, private)
        else:
            plain = der.sequence(der.integer(0), der.canonical(algorithm), der.octet_string(private))
            key = load_der_private_key(plain, None)
        if public is not None and (public.constructed or bytes(public.bits(0x81)) != _public_octets(key)):
            raise malformed()
    except MedmailError as error:
        raise error if error.code == "expanded-key-only" else malformed() from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise malformed() from None
    return key


def open_key(data: bytes, tries: "Sequence[pbe.Spelling]") -> "PrivateKeyTypes":
    """A private key that a password seals (RFC 5958 3), by the first spelling of it that fits.

    Raises ``wrong-p12-password``, ``too-many-rounds``, ``unsupported-algorithm`` and as :func:`read_key`.
    """
    fields = ber.parse(data).fields()
    algorithm = algorithms.read(fields.take(ber.SEQUENCE))
    sealed = bytes(fields.take(ber.OCTET_STRING).octets())
    for spelled in tries:
        try:
            opened = pbe.open_sealed(algorithm, sealed, spelled)
        except ValueError:
            continue
        except MedmailError as error:
            if error.code != "unsupported-algorithm":
                raise
            with contextlib.suppress(ValueError):
                return _by_library(data, spelled.raw)
            continue
        try:
            return read_key(opened)
        except MedmailError as error:
            # one wrong password in 256 leaves padding that looks right, and nothing that is a key below it
            if error.code == "malformed" and not _is_key(opened):
                continue
            raise
        except TypeError:
            continue
    raise MedmailError("wrong-p12-password")


def seal_key(key: "PrivateKeyTypes", password: pbe.Spelling) -> bytes:
    """EncryptedPrivateKeyInfo of a key, in DER."""
    return pbe.seal(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), password)


def _by_library(data: bytes, password: bytes) -> "PrivateKeyTypes":
    """A key sealed by one of the schemes that :mod:`medmail_cli.pki.x509.pbe` leaves out (MD5, DES, RC4)."""
    try:
        return load_der_private_key(data, password)
    except (UnsupportedAlgorithm, TypeError):
        raise malformed() from None


def _is_key(opened: bytes) -> bool:
    with contextlib.suppress(MedmailError):
        fields = ber.parse(opened).fields()
        fields.take(ber.INTEGER)
        algorithms.read(fields.take(ber.SEQUENCE))
        return True
    return False


def _seeded(name: str, private: bytes) -> seeds.SeededKey:
    """A key of ML-KEM or ML-DSA: its seed, the expanded key, or both.

    Raises ``expanded-key-only`` and ValueError.
    """
    choice = ber.parse(private)
    if choice.tag == 0x80:
        return seeds.from_seed(name, bytes(choice.octets(0x80)), None)
    if choice.tag == ber.OCTET_STRING:
        if len(choice.octets()) != seeds.KINDS[name].expanded_size:
            raise ValueError("expanded-key")
        raise MedmailError("expanded-key-only", algorithm=name, family=name.rpartition("-")[0])
    fields = choice.fields()
    seed, expanded = (bytes(fields.take(ber.OCTET_STRING).octets()) for _ in range(2))
    fields.end()
    return seeds.from_seed(name, seed, expanded)


def _public_octets(key: "PrivateKeyTypes") -> bytes:
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fields = ber.parse(info).fields()
    fields.take(ber.SEQUENCE)
    return bytes(fields.take().bits())


def malformed() -> MedmailError:
    """What is said of a key that cannot be read; the file's name is put in by who knows it."""
    return MedmailError("malformed", what="key")
