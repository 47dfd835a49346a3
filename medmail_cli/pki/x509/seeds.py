"""Private keys of ML-KEM and ML-DSA as their seed gives them: FIPS 203 (algorithms 13 and 16), FIPS 204 (6).

A file may hold the seed, the key expanded from it, or both (RFC 9935 6, RFC 9881 6). The library works with
seeds; that an expanded key beside one is its own is seen by expanding the seed once more. Nothing here is
used to encrypt or to sign, so that it need not take the same time for every key.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

Polynomial = list[int]
SeededKey = (
    mlkem.MLKEM768PrivateKey
    | mlkem.MLKEM1024PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)

_KEM_Q, _DSA_Q = 3329, 8380417
_DROPPED = 13  # bits of t that the public key leaves out (FIPS 204, table 1)
_TERMS = 256


@dataclass(frozen=True)
class Kind:
    """A parameter set: how its key is made from the seed, the seed's and the expanded key's octets."""

    from_seed: Callable[[bytes], SeededKey]
    seed_size: int
    expanded_size: int
    expand: Callable[[bytes, bytes], bytes]
    """The expanded key, from the seed and the public key."""


def _kem(rank: int) -> Callable[[bytes, bytes], bytes]:
    def expand(seed: bytes, public: bytes) -> bytes:
        """FIPS 203, algorithm 16; K-PKE.KeyGen's key is the vector s in the NTT domain."""
        sigma = hashlib.sha3_512(seed[:32] + bytes([rank])).digest()[32:]
        vector = b""
        for number in range(rank):
            sampled = _centred(hashlib.shake_256(sigma + bytes([number])).digest(128))
            vector += _packed(_transformed(sampled, _KEM_Q, _KEM_ZETAS), 12)
        return vector + public + hashlib.sha3_256(public).digest() + seed[32:]

    return expand


def _dsa(rows: int, columns: int, eta: int) -> Callable[[bytes, bytes], bytes]:
    def expand(seed: bytes, public: bytes) -> bytes:
        """FIPS 204, algorithm 6; sk is rho, K, tr, s1, s2 and the low bits of t (algorithm 24)."""
        mixed = hashlib.shake_256(seed + bytes([rows, columns])).digest(128)
        rho, secret, key = mixed[:32], mixed[32:96], mixed[96:]
        small = [_bounded(secret + number.to_bytes(2, "little"), eta) for number in range(columns + rows)]
        first, second = small[:columns], small[columns:]
        transformed = [_transformed(polynomial, _DSA_Q, _DSA_ZETAS) for polynomial in first]
        low = b""
        for row in range(rows):
            total = [0] * _TERMS
            for column, factor in enumerate(transformed):
                uniform = _uniform(rho + bytes([column, row]))
                total = [(a + b * c) % _DSA_Q for a, b, c in zip(total, uniform, factor, strict=True)]
            product = _untransformed(total)
            t = [(a + b) % _DSA_Q for a, b in zip(product, second[row], strict=True)]
            # Power2Round (algorithm 35): the remainder in (-2^12, 2^12], written as 2^12 minus it
            low += _packed([_HALF - _remainder(polynomial) for polynomial in t], _DROPPED)
        bits = (2 * eta).bit_length()
        packed = b"".join(_packed([eta - term for term in polynomial], bits) for polynomial in small)
        return rho + key + hashlib.shake_256(public).digest(64) + packed + low

    return expand


_HALF = 1 << _DROPPED - 1


def _remainder(term: int) -> int:
    low = term % (1 << _DROPPED)
    return low - (1 << _DROPPED) if low > _HALF else low


def _reversed(number: int, bits: int) -> int:
    return int(f"{number:0{bits}b}"[::-1], 2)


_KEM_ZETAS = [pow(17, _reversed(number, 7), _KEM_Q) for number in range(128)]
_DSA_ZETAS = [pow(1753, _reversed(number, 8), _DSA_Q) for number in range(256)]


def _transformed(polynomial: Sequence[int], modulus: int, zetas: Sequence[int]) -> Polynomial:
    """The number-theoretic transform (FIPS 203, algorithm 9; FIPS 204, algorithm 41)."""
    terms, length, number = [term % modulus for term in polynomial], _TERMS // 2, 1
    while number < len(zetas):
        for start in range(0, _TERMS, 2 * length):
            zeta = zetas[number]
            number += 1
            for at in range(start, start + length):
                turned = zeta * terms[at + length] % modulus
                terms[at + length] = (terms[at] - turned) % modulus
                terms[at] = (terms[at] + turned) % modulus
        length //= 2
    return terms


def _untransformed(polynomial: Sequence[int]) -> Polynomial:
    """ML-DSA's transform undone (FIPS 204, algorithm 42)."""
    terms, length, number = list(polynomial), 1, _TERMS
    while length < _TERMS:
        for start in range(0, _TERMS, 2 * length):
            number -= 1
            for at in range(start, start + length):
                kept = terms[at]
                terms[at] = (kept + terms[at + length]) % _DSA_Q
                terms[at + length] = -_DSA_ZETAS[number] * (kept - terms[at + length]) % _DSA_Q
        length *= 2
    scale = pow(_TERMS, -1, _DSA_Q)
    return [term * scale % _DSA_Q for term in terms]


def _packed(terms: Sequence[int], bits: int) -> bytes:
    """Terms of that many bits each, the lowest first (FIPS 203, algorithm 5; FIPS 204, algorithms 16, 17)."""
    whole = 0
    for term in reversed(terms):
        whole = whole << bits | term
    return whole.to_bytes(len(terms) * bits // 8, "little")


def _centred(octets: bytes) -> Polynomial:
    """Terms between -2 and 2, by the difference of two bits and two (FIPS 203, algorithm 8, eta 2)."""
    halves = [half for octet in octets for half in (octet & 15, octet >> 4)]
    return [(half & 1) + (half >> 1 & 1) - (half >> 2 & 1) - (half >> 3) for half in halves]


def _uniform(seed: bytes) -> Polynomial:
    """Terms below the modulus, in the NTT domain, by rejection (FIPS 204, algorithms 14 and 30)."""
    size = 3 * _TERMS
    while True:
        octets = hashlib.shake_128(seed).digest(size)
        drawn = (int.from_bytes(octets[at : at + 3], "little") & 0x7FFFFF for at in range(0, size, 3))
        if len(terms := [term for term in drawn if term < _DSA_Q]) >= _TERMS:
            return terms[:_TERMS]
        size += 168


def _bounded(seed: bytes, eta: int) -> Polynomial:
    """Terms between -eta and eta, by rejection (FIPS 204, algorithms 15 and 31)."""
    size = 2 * _TERMS
    while True:
        halves = (half for octet in hashlib.shake_256(seed).digest(size) for half in (octet & 15, octet >> 4))
        if eta == 2:
            terms = [2 - half % 5 for half in halves if half < 15]
        else:
            terms = [4 - half for half in halves if half < 9]
        if len(terms) >= _TERMS:
            return terms[:_TERMS]
        size += 136


KINDS: dict[str, Kind] = {
    "ml-kem-768": Kind(mlkem.MLKEM768PrivateKey.from_seed_bytes, 64, 2400, _kem(3)),
    "ml-kem-1024": Kind(mlkem.MLKEM1024PrivateKey.from_seed_bytes, 64, 3168, _kem(4)),
    "ml-dsa-44": Kind(mldsa.MLDSA44PrivateKey.from_seed_bytes, 32, 2560, _dsa(4, 4, 2)),
    "ml-dsa-65": Kind(mldsa.MLDSA65PrivateKey.from_seed_bytes, 32, 4032, _dsa(6, 5, 4)),
    "ml-dsa-87": Kind(mldsa.MLDSA87PrivateKey.from_seed_bytes, 32, 4896, _dsa(8, 7, 2)),
}
"""Each parameter set by our name of it."""


def from_seed(name: str, seed: bytes, expanded: bytes | None) -> SeededKey:
    """The key of ``seed``. Raises ValueError where it has another length or ``expanded`` is another's."""
    kind = KINDS[name]
    if len(seed) != kind.seed_size:
        raise ValueError("seed")
    key = kind.from_seed(seed)
    if expanded is not None and expanded != kind.expand(seed, key.public_key().public_bytes_raw()):
        raise ValueError("expanded-key")
    return key
