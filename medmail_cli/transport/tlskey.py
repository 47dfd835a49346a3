"""TLS client login with a key that signs elsewhere: on a card, which it never leaves.

The ssl module takes keys from files alone. OpenSSL underneath lets a key bring its own way of signing
(RSA_METHOD, EC_KEY_METHOD), and this hands it one, in the very library that the ssl module uses. TLS 1.3
wants PSS, which OpenSSL pads itself and then wants bare RSA for; a card without that logs in by TLS 1.2.
"""

import _ssl
import ctypes
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.errors import MedmailError
from medmail_cli.model import Primitive

_RSA_PADDINGS: dict[int, Primitive] = {1: "rsa-pkcs1v15", 3: "rsa"}
"""RSA_PKCS1_PADDING, RSA_NO_PADDING."""
_EVP_PKEY_RSA, _EVP_PKEY_EC = 6, 408
_SSL_CTRL_EXTRA_CHAIN_CERT, _SSL_CTRL_SET_SIGALGS_LIST = 14, 98
_WITHOUT_PSS = b"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512"
_RSA_SIGN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
)
_EC_SIGN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint)),
    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
)
_POINTERS = (
    "d2i_X509 d2i_RSA_PUBKEY d2i_EC_PUBKEY EVP_PKEY_new RSA_meth_new EC_KEY_METHOD_new EC_KEY_get_method"
)


class SigningKey(Protocol):
    """A key that signs what TLS has hashed and padded."""

    @property
    def public_key(self) -> PublicKeyTypes:
        """The public half."""

    def primitives(self) -> frozenset[Primitive]:
        """What it can do."""

    def sign_prepared(self, data: bytes, primitive: Primitive) -> bytes:
        """The signature. Raises MedmailError if a card refuses."""


def present(tls_context: ssl.SSLContext, key: SigningKey, chain: Sequence[x509.Certificate]) -> None:
    """Show servers that ask for it a certificate whose key signs elsewhere.

    What the key says when it does not sign is in :func:`medmail_cli.transport.tls.refusals`. Raises
    ``client-key-unusable`` where the key, or this Python's OpenSSL, cannot do that, and what the card raises.
    """
    bare = not isinstance(key.public_key, rsa.RSAPublicKey) or "rsa" in key.primitives()
    library = _library()
    context = ctypes.c_void_p.from_address(id(tls_context) + object.__basicsize__)
    refusals: list[MedmailError] = []
    tls_context._medmail_refusals = refusals  # type: ignore[attr-defined]  # noqa: SLF001
    private, callbacks = _private(library, key, refusals)
    # what OpenSSL calls back lives as long as what may call it
    tls_context._medmail_callbacks = callbacks  # type: ignore[attr-defined]  # noqa: SLF001
    certificates = [_certificate(library, certificate) for certificate in chain]
    done = library.SSL_CTX_use_certificate(context, certificates[0])
    done = done and library.SSL_CTX_use_PrivateKey(context, private)
    # the context has references of its own to these two, and takes the others over
    library.X509_free(certificates[0])
    library.EVP_PKEY_free(private)
    for above in certificates[1:]:
        done = done and library.SSL_CTX_ctrl(context, _SSL_CTRL_EXTRA_CHAIN_CERT, 0, above)
    if not bare:
        tls_context.maximum_version = ssl.TLSVersion.TLSv1_2
        done = done and library.SSL_CTX_ctrl(context, _SSL_CTRL_SET_SIGALGS_LIST, 0, _WITHOUT_PSS)
    if not done:
        raise MedmailError("client-key-unusable", reason="refused-by-openssl")


def _library() -> Any:
    """The OpenSSL that the ssl module uses. Raises ``client-key-unusable`` where it is out of reach."""
    path = getattr(_ssl, "__file__", None)
    library = ctypes.CDLL(path)
    try:
        for name in _POINTERS.split():
            getattr(library, name).restype = ctypes.c_void_p
        library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
        library.SSL_CTX_ctrl.restype = ctypes.c_long
    except AttributeError:
        raise MedmailError("client-key-unusable", reason="no-openssl") from None
    return library


def _parsed(library: Any, function: str, der: bytes) -> ctypes.c_void_p:
    start = ctypes.c_char_p(der)
    parsed = getattr(library, function)(None, ctypes.byref(start), ctypes.c_long(len(der)))
    if not parsed:
        raise MedmailError("client-key-unusable", reason="refused-by-openssl")
    return ctypes.c_void_p(parsed)


def _certificate(library: Any, certificate: x509.Certificate) -> ctypes.c_void_p:
    return _parsed(library, "d2i_X509", certificate.public_bytes(Encoding.DER))


def _private(library: Any, key: SigningKey, refusals: list[MedmailError]) -> tuple[ctypes.c_void_p, object]:
    """The key as OpenSSL's EVP_PKEY, and what has to live as long as that."""
    public = key.public_key
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise MedmailError("client-key-unusable", reason="key-type")
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    whole = ctypes.c_void_p(library.EVP_PKEY_new())
    if isinstance(public, rsa.RSAPublicKey):
        inner = _parsed(library, "d2i_RSA_PUBKEY", der)
        kind, callback = _EVP_PKEY_RSA, _rsa_callback(key, refusals, (public.key_size + 7) // 8)
        # RSA_METHOD_FLAG_NO_CHECK: there are no private numbers to check
        method = ctypes.c_void_p(library.RSA_meth_new(b"medmail card", 1))
        library.RSA_meth_set_priv_enc(method, callback)
        library.RSA_set_method(inner, method)
    else:
        inner = _parsed(library, "d2i_EC_PUBKEY", der)
        kind, callback = _EVP_PKEY_EC, _ec_callback(library, key, refusals)
        method = ctypes.c_void_p(library.EC_KEY_METHOD_new(ctypes.c_void_p(library.EC_KEY_get_method(inner))))
        library.EC_KEY_METHOD_set_sign(method, callback, None, None)
        library.EC_KEY_set_method(inner, method)
    library.EVP_PKEY_assign(whole, kind, inner)
    return whole, callback


def _rsa_callback(key: SigningKey, refusals: list[MedmailError], modulus: int) -> Any:
    """``modulus`` is the length of the key's, and so of its signatures and OpenSSL's room for them."""

    def sign(size: int, data: int, into: int, _rsa: int, padding: int) -> int:
        if padding not in _RSA_PADDINGS:
            return -1
        signature = _signed(key, refusals, ctypes.string_at(data, size), _RSA_PADDINGS[padding])
        if len(signature) != modulus:
            return -1
        ctypes.memmove(into, signature, modulus)
        return modulus

    return _RSA_SIGN(sign)


def _ec_callback(library: Any, key: SigningKey, refusals: list[MedmailError]) -> Any:
    def sign(_type: int, data: int, size: int, into: int, length: Any, _kinv: int, _r: int, ours: int) -> int:
        signature = _signed(key, refusals, ctypes.string_at(data, size), "ecdsa")
        if not 0 < len(signature) <= library.ECDSA_size(ctypes.c_void_p(ours)):
            return 0
        ctypes.memmove(into, signature, len(signature))
        length[0] = len(signature)
        return 1

    return _EC_SIGN(sign)


def _signed(key: SigningKey, refusals: list[MedmailError], data: bytes, primitive: Primitive) -> bytes:
    """Nothing where the key refuses: OpenSSL then ends the handshake; no exception may pass through it."""
    try:
        return key.sign_prepared(data, primitive)
    except MedmailError as error:
        refusals.append(error)
        return b""
