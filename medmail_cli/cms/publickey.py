"""A certificate's public key as it stands there: what it is restricted to, and whether it is too weak."""

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from medmail_cli.cms import algorithms, ber, identifiers
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

_LEAST_RSA_BITS = 2048
_LEAST_CURVE_BITS = 256
_SMALL_CURVES = frozenset(
    [f"1.3.132.0.{number}" for number in (*range(1, 10), 15, *range(22, 34))]  # SEC 2: 112 to 239 bits
    + [f"1.2.840.10045.3.1.{number}" for number in range(1, 7)]  # X9.62: prime192v1 to prime239v3
    + [f"1.3.36.3.3.2.8.1.1.{number}" for number in range(1, 7)]  # brainpoolP160r1 to P224t1
)


def is_weak(certificate: "x509.Certificate", key: "CertificatePublicKeyTypes | None") -> bool:
    """Whether a key is too short to be trusted: RSA below 2,048 bits, curves below 256, all of DSA.

    ``key`` is the certificate's, None where cryptography cannot read it: then it is looked at here, for
    curves it does not know and RSA exponents that are none (1, or even).
    """
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size < _LEAST_RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.key_size < _LEAST_CURVE_BITS
    if key is not None:
        return isinstance(key, dsa.DSAPublicKey)
    try:
        return _unread_is_weak(certificate)
    except MedmailError:
        return False


def _unread_is_weak(certificate: "x509.Certificate") -> bool:
    algorithm, octets = identifiers.subject_public_key(certificate)
    if algorithm.oid == algorithms.EC_PUBLIC_KEY:
        curve = algorithm.parameters
        return curve is not None and curve.tag == ber.OID and curve.oid() in _SMALL_CURVES
    if algorithm.oid not in (algorithms.RSA, algorithms.RSA_PSS, algorithms.RSA_OAEP):
        return False
    fields = ber.parse(octets).fields()
    modulus, exponent = fields.take().integer(), fields.take().integer()
    return modulus.bit_length() < _LEAST_RSA_BITS or exponent < 3 or exponent % 2 == 0


def pss_restriction(certificate: "x509.Certificate") -> "algorithms.Algorithm | None":
    """The id-RSASSA-PSS of a key that signs with PSS alone (RFC 4055 1.2), None for every other key.

    Its parameters, where there are any, bind the signature's: same digests, a salt at least as long.
    """
    if certificate.public_key_algorithm_oid.dotted_string != algorithms.RSA_PSS:
        return None
    return identifiers.subject_public_key(certificate)[0]
