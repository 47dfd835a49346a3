"""OpenSSL's own library in this process, by ctypes: the peer that needs no start, for the benchmarks.

Only what they compare: CMS_verify, CMS_decrypt (cms.h) and X509_verify_cert with CRLs (x509_vfy.h).
"""

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

_BINARY, _NO_SIGNER_CERT_VERIFY = 0x80, 0x20
_CRL_CHECK = 0x4


class LibcryptoError(Exception):
    """OpenSSL would not, or cannot; the argument is its own reason."""


def _load() -> Any:
    name = ctypes.util.find_library("crypto")
    assert name is not None, "libcrypto is not installed"
    library: Any = ctypes.CDLL(name)
    for function in (
        "BIO_new_mem_buf", "BIO_new", "BIO_s_mem", "d2i_CMS_ContentInfo", "d2i_AutoPrivateKey", "d2i_X509",
        "d2i_X509_CRL", "X509_STORE_new", "X509_STORE_CTX_new", "OPENSSL_sk_new_null",
    ):  # fmt: skip
        getattr(library, function).restype = ctypes.c_void_p
    library.ERR_get_error.restype = ctypes.c_ulong
    return library


_crypto = _load()


def _checked(value: int | None) -> Any:
    if not value:
        code, text = _crypto.ERR_get_error(), ctypes.create_string_buffer(256)
        _crypto.ERR_error_string_n(ctypes.c_ulong(code), text, len(text))
        while _crypto.ERR_get_error():  # the rest of the queue would be taken for the next call's
            continue
        raise LibcryptoError(text.value.decode())
    return ctypes.c_void_p(value)


def _read(function: str, der: bytes) -> Any:
    at = ctypes.c_char_p(der)
    return _checked(getattr(_crypto, function)(None, ctypes.byref(at), ctypes.c_long(len(der))))


def _output(bio: Any) -> bytes:
    """The octets of a memory BIO (BIO_CTRL_INFO)."""
    start = ctypes.c_void_p()
    _crypto.BIO_ctrl.restype = ctypes.c_long
    length = _crypto.BIO_ctrl(bio, 3, ctypes.c_long(0), ctypes.byref(start))
    return ctypes.string_at(start, length) if length else b""


def verify(message: bytes) -> bytes:
    """The content of SignedData, its signatures good by the certificates in it; no chain is judged."""
    parsed = _read("d2i_CMS_ContentInfo", message)
    out = _checked(_crypto.BIO_new(ctypes.c_void_p(_crypto.BIO_s_mem())))
    try:
        _checked(_crypto.CMS_verify(parsed, None, None, None, out, _BINARY | _NO_SIGNER_CERT_VERIFY))
        return _output(out)
    finally:
        _crypto.BIO_free_all(out)
        _crypto.CMS_ContentInfo_free(parsed)


def decrypting(certificate: bytes, key: bytes) -> Callable[[bytes], bytes]:
    """What opens EnvelopedData and AuthEnvelopedData with a key (PKCS#8) that is loaded once."""
    holder, private = _read("d2i_X509", certificate), _read("d2i_AutoPrivateKey", key)

    def decrypt(message: bytes) -> bytes:
        parsed = _read("d2i_CMS_ContentInfo", message)
        out = _checked(_crypto.BIO_new(ctypes.c_void_p(_crypto.BIO_s_mem())))
        try:
            _checked(_crypto.CMS_decrypt(parsed, private, holder, None, out, _BINARY))
            return _output(out)
        finally:
            _crypto.BIO_free_all(out)
            _crypto.CMS_ContentInfo_free(parsed)

    return decrypt


def judging(anchors: list[bytes], helpers: list[bytes], crls: list[bytes]) -> Callable[[bytes], None]:
    """What validates a certificate's chain, its own revocation included, with authorities loaded once."""
    store = _checked(_crypto.X509_STORE_new())
    for anchor in anchors:
        _checked(_crypto.X509_STORE_add_cert(store, _read("d2i_X509", anchor)))
    for crl in crls:
        _checked(_crypto.X509_STORE_add_crl(store, _read("d2i_X509_CRL", crl)))
    _crypto.X509_STORE_set_flags(store, ctypes.c_ulong(_CRL_CHECK))
    untrusted = ctypes.c_void_p(_crypto.OPENSSL_sk_new_null())
    for helper in helpers:
        _crypto.OPENSSL_sk_push(untrusted, _read("d2i_X509", helper))

    def judge(certificate: bytes) -> None:
        subject = _read("d2i_X509", certificate)
        context = _checked(_crypto.X509_STORE_CTX_new())
        try:
            _checked(_crypto.X509_STORE_CTX_init(context, store, subject, untrusted))
            if _crypto.X509_verify_cert(context) != 1:
                raise LibcryptoError(str(_crypto.X509_STORE_CTX_get_error(context)))
        finally:
            _crypto.X509_STORE_CTX_free(context)
            _crypto.X509_free(subject)

    return judge
