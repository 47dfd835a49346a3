"""Sealing by a password and opening it: PBES2 (RFC 8018 6.2), and PKCS#12's schemes (RFC 7292 C).

``cryptography`` does this for keys alone, for one spelling of the password, and for as many rounds as a file
asks for; a PKCS#12 file may have whole safes sealed, keys and all.
"""

import contextlib
import hashlib
import hmac
import os
import unicodedata
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.errors import MedmailError

MOST_ROUNDS = 10_000_000
"""Rounds of a key derivation that a file may ask for: some seconds, ten times what careful tools write."""
ROUNDS = 600_000
"""Rounds of PBKDF2 with HMAC-SHA-256, and of PKCS#12's own derivation, in what is written here."""
_MOST_SCRYPT = 1 << 22  # N * r * p; OpenSSL writes 2^17
_PBES2, _PBKDF2, _SCRYPT = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12", "1.3.6.1.4.1.11591.4.11"
_HMAC_SHA256 = "1.2.840.113549.2.9"
_PBMAC1 = "1.2.840.113549.1.5.14"
_HMACS = {
    f"1.2.840.113549.2.{number}": name
    for number, name in ((7, "sha1"), (8, "sha224"), (9, "sha256"), (10, "sha384"), (11, "sha512"))
}
_CIPHERS = {
    "1.2.840.113549.3.7": ("3des", 24),
    **{f"2.16.840.1.101.3.4.1.{2 + 20 * step}": ("aes", 16 + 8 * step) for step in range(3)},
    **{f"1.2.392.200011.61.1.1.1.{2 + step}": ("camellia", 16 + 8 * step) for step in range(3)},
}
"""Ciphers of PBES2, all CBC, and the octets of their key."""
_DIGESTS = {name: getattr(hashlib, name) for name in ("sha1", "sha224", "sha256", "sha384", "sha512")}
_OLD = {
    f"1.2.840.113549.1.12.1.{number}": scheme
    for number, scheme in ((3, ("3des", 24)), (4, ("3des", 16)), (5, ("rc2", 16)), (6, ("rc2", 5)))
}
"""Cipher and octets of its key; all with SHA-1."""


@dataclass(frozen=True)
class Spelling:
    """A password in the octets that a tool may have made of it.

    ``raw`` goes into PBES2, ``wide`` into the schemes of PKCS#12 (RFC 7292 B.1: UTF-16 and two zeros).
    """

    raw: bytes = field(repr=False)
    wide: bytes = field(repr=False)


NO_PASSWORD = (Spelling(b"", b"\0\0"), Spelling(b"", b""))
"""What people call no password, in the two ways that tools write it."""


def spellings(given: bytes) -> tuple[Spelling, ...]:
    """What tools make of the password ``given``, the likeliest first.

    Standard is UTF-8, and UTF-16 where PKCS#12 has its own schemes; letters with accents are one character or
    two (NFC, NFD). Old tools widen the octets of a console's character set, each to 16 bits. ``given`` may
    itself come with a byte order mark, in UTF-16 or in Windows' or DOS's character set.
    """
    text = _text(given)
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    candidates = [_standard(each) for each in (text, composed, decomposed)]
    for charset in ("utf-8", "cp1252", "cp850"):
        with contextlib.suppress(UnicodeEncodeError):
            raw = composed.encode(charset)
            candidates.append(Spelling(raw, _standard(raw.decode("latin-1")).wide))
    return tuple(dict.fromkeys(candidates))


def _standard(text: str) -> Spelling:
    return Spelling(text.encode(errors="surrogatepass"), text.encode("utf-16-be", "surrogatepass") + b"\0\0")


def _text(given: bytes) -> str:
    for mark, charset in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if given.startswith(mark):
            return given.removeprefix(mark).decode(charset, "ignore").rstrip("\r\n")
    if b"\0" in given:
        return given.decode("utf-16-le", "ignore").rstrip("\r\n")
    for charset in ("utf-8", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            return given.decode(charset)
    return given.decode("latin-1")


def open_sealed(algorithm: algorithms.Algorithm, sealed: bytes, password: Spelling) -> bytes:
    """What ``password`` sealed with ``algorithm``.

    Raises ``malformed``, ``unsupported-algorithm`` and ``too-many-rounds``, and ValueError for the wrong
    password or damage.
    """
    if algorithm.parameters is None:
        raise ber.malformed("encryption")
    fields = algorithm.parameters.fields()
    if algorithm.oid == _PBES2:
        derivation, cipher = algorithms.read(fields.take()), algorithms.read(fields.take())
        if cipher.oid not in _CIPHERS:
            raise algorithms.unsupported(cipher.oid)
        name, size = _CIPHERS[cipher.oid]
        if cipher.parameters is None:
            raise ber.malformed("initialisation-vector")
        key, vector = _key(derivation, password.raw, size), bytes(cipher.parameters.octets())
        return _open(name, key, vector, sealed)
    # PBES1 has a salt and a number of rounds, whatever it does with them (RFC 8018 A.3)
    salt, rounds = bytes(fields.take(ber.OCTET_STRING).octets()), _bounded(fields.take(ber.INTEGER).integer())
    if algorithm.oid not in _OLD:
        raise algorithms.unsupported(algorithm.oid)
    name, size = _OLD[algorithm.oid]
    key, vector = (_derived("sha1", password.wide, salt, rounds, *what) for what in ((1, size), (2, 8)))
    return _open(name, key, vector, sealed)


def seal(data: bytes, password: Spelling) -> bytes:
    """EncryptedPrivateKeyInfo (RFC 5958 3) over ``data``: PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC."""
    salt, vector = os.urandom(16), os.urandom(16)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(data) + padder.finalize()
    key = hashlib.pbkdf2_hmac("sha256", password.raw, salt, ROUNDS, 32)
    sealed = Cipher(AES(key), CBC(vector)).encryptor().update(padded)
    cipher = algorithms.identifier("2.16.840.1.101.3.4.1.42", der.octet_string(vector))
    scheme = algorithms.identifier(_PBES2, der.sequence(_derivation(salt), cipher))
    return der.sequence(scheme, der.octet_string(sealed))


def mac(content: bytes, password: Spelling, *, pbmac1: bool) -> bytes:
    """MacData over ``content`` by HMAC-SHA-256, the key derived by RFC 7292 B, or by RFC 9579 (PBMAC1)."""
    salt = os.urandom(16)
    if pbmac1:
        scheme = algorithms.identifier(_HMAC_SHA256, der.NULL)
        algorithm = algorithms.identifier(_PBMAC1, der.sequence(_derivation(salt, 32), scheme))
        key = hashlib.pbkdf2_hmac("sha256", password.raw, salt, ROUNDS, 32)
    else:
        algorithm = algorithms.identifier("2.16.840.1.101.3.4.2.1", der.NULL)
        key = _derived("sha256", password.wide, salt, ROUNDS, 3, 32)
    digest = der.sequence(algorithm, der.octet_string(hmac.digest(key, content, "sha256")))
    return der.sequence(digest, der.octet_string(salt), der.integer(ROUNDS))


def _derivation(salt: bytes, length: int | None = None) -> bytes:
    size = () if length is None else (der.integer(length),)
    function = algorithms.identifier(_HMAC_SHA256, der.NULL)
    parameters = der.sequence(der.octet_string(salt), der.integer(ROUNDS), *size, function)
    return algorithms.identifier(_PBKDF2, parameters)


def holds(mac: ber.Node, content: bytes, password: Spelling) -> bool:
    """Whether MacData (RFC 7292 4) vouches for ``content``; with PBMAC1 too (RFC 9579).

    Raises ``malformed``, ``unsupported-algorithm`` and ``too-many-rounds``.
    """
    fields = mac.fields()
    digest = fields.take(ber.SEQUENCE).fields()
    algorithm, value = algorithms.read(digest.take()), bytes(digest.take(ber.OCTET_STRING).octets())
    if algorithm.oid == _PBMAC1:
        if algorithm.parameters is None:
            raise ber.malformed("pbmac1")
        inner = algorithm.parameters.fields()
        derivation, scheme = algorithms.read(inner.take()), algorithms.read(inner.take())
        if (name := _HMACS.get(scheme.oid)) is None:
            raise algorithms.unsupported(scheme.oid)
        key = _key(derivation, password.raw, None)
    else:
        if (name := algorithms.digest_name(algorithm)) not in _DIGESTS:
            raise algorithms.unsupported(algorithm.oid)
        salt = bytes(fields.take(ber.OCTET_STRING).octets())
        rounds = fields.maybe(ber.INTEGER)
        count = 1 if rounds is None else _bounded(rounds.integer())
        key = _derived(name, password.wide, salt, count, 3, _DIGESTS[name]().digest_size)
    return hmac.compare_digest(hmac.digest(key, content, name), value)


def _bounded(rounds: int) -> int:
    if rounds > MOST_ROUNDS:
        raise MedmailError("too-many-rounds", rounds=rounds, limit=MOST_ROUNDS)
    if rounds < 1:
        raise ber.malformed("rounds")
    return rounds


def _open(name: str, key: bytes, vector: bytes, sealed: bytes) -> bytes:
    from cryptography.hazmat.decrepit.ciphers.algorithms import Camellia, TripleDES

    if not sealed or len(sealed) % len(vector or b"?"):
        raise ValueError("length")
    if name == "rc2":
        from medmail_cli.cms import rc2

        padded = rc2.decrypt_cbc(key, 8 * len(key), vector, sealed)
    else:
        kinds: dict[str, type[AES | Camellia | TripleDES]]
        kinds = {"aes": AES, "camellia": Camellia, "3des": TripleDES}
        whole = (key + key)[:24] if name == "3des" else key  # of two keys the first comes once more
        padded = Cipher(kinds[name](whole), CBC(vector)).decryptor().update(sealed)
    unpadder = padding.PKCS7(8 * len(vector)).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _key(derivation: algorithms.Algorithm, password: bytes, size: int | None) -> bytes:
    """A key of ``size`` octets, or of as many as the algorithm itself says (PBKDF2, scrypt: RFC 7914 7.1)."""
    if derivation.oid not in (_PBKDF2, _SCRYPT) or derivation.parameters is None:
        raise algorithms.unsupported(derivation.oid)
    fields = derivation.parameters.fields()
    salt, cost = bytes(fields.take(ber.OCTET_STRING).octets()), fields.take(ber.INTEGER).integer()
    if derivation.oid == _SCRYPT:
        block, lanes = (fields.take(ber.INTEGER).integer() for _ in range(2))
        if min(cost, block, lanes) < 1:
            raise ber.malformed("scrypt")
        if cost * block * lanes > _MOST_SCRYPT:
            raise MedmailError("too-many-rounds", rounds=cost * block * lanes, limit=_MOST_SCRYPT)
    length = fields.maybe(ber.INTEGER)
    size = size or (length.integer() if length is not None else 0)
    if not 0 < size <= 128:
        raise ber.malformed("key-length")
    if derivation.oid == _SCRYPT:
        memory = 256 * (cost * block + block * lanes) + (1 << 20)
        return hashlib.scrypt(password, salt=salt, n=cost, r=block, p=lanes, maxmem=memory, dklen=size)
    function = fields.maybe(ber.SEQUENCE)
    fields.end()
    code = _HMACS.get(algorithms.read(function).oid, "") if function is not None else "sha1"
    if not code:
        raise algorithms.unsupported(derivation.oid)
    return hashlib.pbkdf2_hmac(code, password, salt, _bounded(cost), size)


def _derived(name: str, text: bytes, salt: bytes, rounds: int, purpose: int, size: int) -> bytes:
    """A cipher's key (``purpose`` 1) or vector (2) or a MAC's key (3), from UTF-16 (RFC 7292 B.2)."""
    function = _DIGESTS[name]
    block = function().block_size

    def filled(octets: bytes) -> bytes:
        whole = -(-len(octets) // block) * block
        return (octets * (whole // len(octets) + 1))[:whole] if octets else b""

    mixed, derived = filled(salt) + filled(text), b""
    while len(derived) < size:
        digest = bytes([purpose]) * block + mixed
        for _ in range(rounds):
            digest = function(digest).digest()
        derived += digest
        added = int.from_bytes((digest * -(-block // len(digest)))[:block]) + 1
        mixed = b"".join(
            ((int.from_bytes(mixed[at : at + block]) + added) % (1 << 8 * block)).to_bytes(block)
            for at in range(0, len(mixed), block)
        )
    return derived[:size]
