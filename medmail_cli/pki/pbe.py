"""Opening what a password seals: PBES2 (RFC 8018 §6.2) and the schemes of PKCS#12 (RFC 7292, appendix C).

``cryptography`` does this for keys alone; a PKCS#12 file may have whole safes sealed, keys and all.
"""

import hashlib

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from medmail_cli.cms import algorithms, ber

_PBES2, _PBKDF2 = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12"
_HMACS = {
    f"1.2.840.113549.2.{number}": name
    for number, name in ((7, "sha1"), (8, "sha224"), (9, "sha256"), (10, "sha384"), (11, "sha512"))
}
_OLD = {
    f"1.2.840.113549.1.12.1.{number}": scheme
    for number, scheme in ((3, ("3des", 24)), (4, ("3des", 16)), (5, ("rc2", 16)), (6, ("rc2", 5)))
}
"""Cipher and octets of its key; all with SHA-1."""


def open_sealed(algorithm: algorithms.Algorithm, sealed: bytes, password: bytes) -> bytes:
    """What ``password`` (UTF-8) sealed with ``algorithm``.

    Raises ``malformed`` and ``unsupported-algorithm``, and ValueError for the wrong password or damage.
    """
    if algorithm.parameters is None:
        raise ber.malformed("encryption")
    fields = algorithm.parameters.fields()
    if algorithm.oid == _PBES2:
        derivation, cipher = algorithms.read(fields.take()), algorithms.read(fields.take())
        found = algorithms.CIPHERS.get(cipher.oid)
        if found is None or found.name not in ("aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "3des-cbc"):
            raise algorithms.unsupported(cipher.oid)
        if cipher.parameters is None:
            raise ber.malformed("initialisation-vector")
        key, vector = _pbkdf2(derivation, password, found.key_size), bytes(cipher.parameters.octets())
        return _open("3des" if found.weak else "aes", key, vector, sealed)
    if algorithm.oid not in _OLD:
        raise algorithms.unsupported(algorithm.oid)
    name, size = _OLD[algorithm.oid]
    salt, iterations = bytes(fields.take().octets()), fields.take().integer()
    try:
        text = password.decode().encode("utf-16-be") + b"\0\0"
    except UnicodeDecodeError:
        text = password.decode("latin-1").encode("utf-16-be") + b"\0\0"
    key, vector = (_derived(text, salt, iterations, *what) for what in ((1, size), (2, 8)))
    return _open(name, key, vector, sealed)


def _open(name: str, key: bytes, vector: bytes, sealed: bytes) -> bytes:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

    if not sealed or len(sealed) % len(vector or b"?"):
        raise ValueError("length")
    if name == "rc2":
        from medmail_cli.cms import rc2

        padded = rc2.decrypt_cbc(key, 8 * len(key), vector, sealed)
    else:
        cipher = AES(key) if name == "aes" else TripleDES((key + key)[:24])  # two keys: the first once more
        padded = Cipher(cipher, CBC(vector)).decryptor().update(sealed)
    unpadder = padding.PKCS7(8 * len(vector)).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _pbkdf2(derivation: algorithms.Algorithm, password: bytes, size: int) -> bytes:
    if derivation.oid != _PBKDF2 or derivation.parameters is None:
        raise algorithms.unsupported(derivation.oid)
    fields = derivation.parameters.fields()
    salt, iterations = bytes(fields.take().octets()), fields.take().integer()
    fields.maybe(ber.INTEGER)  # the key's length, which the cipher says
    function = fields.maybe(ber.SEQUENCE)
    fields.end()
    code = _HMACS.get(algorithms.read(function).oid, "") if function is not None else "sha1"
    if not code:
        raise algorithms.unsupported(derivation.oid)
    return hashlib.pbkdf2_hmac(code, password, salt, iterations, size)


def _derived(text: bytes, salt: bytes, iterations: int, purpose: int, size: int) -> bytes:
    """A key (``purpose`` 1) or a vector (2) from a password in UTF-16 (RFC 7292 B.2, SHA-1)."""
    block = 64

    def filled(octets: bytes) -> bytes:
        whole = -(-len(octets) // block) * block
        return (octets * (whole // len(octets) + 1))[:whole] if octets else b""

    mixed, found = filled(salt) + filled(text), b""
    while len(found) < size:
        digest = bytes([purpose]) * block + mixed
        for _ in range(iterations):
            digest = hashlib.sha1(digest, usedforsecurity=False).digest()
        found += digest
        added = int.from_bytes((digest * 4)[:block]) + 1
        mixed = b"".join(
            ((int.from_bytes(mixed[at : at + block]) + added) % (1 << 8 * block)).to_bytes(block)
            for at in range(0, len(mixed), block)
        )
    return found[:size]
