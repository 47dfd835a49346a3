"""TLS as every mail server must speak it: 1.2 or newer, the certificate and its name always checked.

What goes wrong with a connection becomes an error in one place, :func:`explained`, for SMTP, IMAP and HTTP
alike: what may pass by itself is ``server-unreachable``, what cannot is an error of its own.
"""

import contextlib
import os
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medmail_cli.errors import MedmailError, not_readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


def context(
    anchors: Path | None = None, client_identity: Path | None = None, *, pem: str | None = None
) -> ssl.SSLContext:
    """A context for clients that trusts ``anchors`` or ``pem`` (text) alone, or the system's without either.

    ``client_identity`` is a PEM file with a certificate, its chain and the unencrypted key, shown to servers
    that ask for one (SASL EXTERNAL). Raises ``not-readable`` where either cannot be used.
    """
    try:
        tls_context = ssl.create_default_context(cafile=anchors, cadata=pem)
    except OSError as error:
        raise _unusable(anchors, error) from None
    tls_context.minimum_version = ssl.TLSVersion.TLSv1_2
    tls_context.sslsocket_class, tls_context.sslobject_class = _Socket, _Object
    if client_identity is not None:
        try:
            # an encrypted key must not make OpenSSL ask at the terminal by itself
            tls_context.load_cert_chain(client_identity, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise _unusable(client_identity, error) from None
    return tls_context


def anchors_in(path: Path | None) -> "tuple[x509.Certificate, ...]":
    """The certificates in a file, none without one. Raises ``not-readable`` and ``malformed``."""
    from medmail_cli.pki.x509.bundle import read_bundle

    if path is None:
        return ()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise not_readable(path, error) from None
    return read_bundle(data, str(path)).certificates


def present(tls_context: ssl.SSLContext, key: "PrivateKeyTypes", chain: "Sequence[x509.Certificate]") -> None:
    """Show servers that ask for it a certificate whose key is in memory.

    The ssl module reads files only: the one written for a moment is encrypted under a password of its own.
    """
    import secrets
    import tempfile

    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    password = secrets.token_hex(32).encode()
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    with tempfile.NamedTemporaryFile(prefix="medmail-") as file:
        file.write(b"".join([*(certificate.public_bytes(Encoding.PEM) for certificate in chain), sealed]))
        file.flush()
        tls_context.load_cert_chain(file.name, password=password)


def _unusable(path: Path | None, error: Exception) -> MedmailError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return MedmailError("not-readable", path=str(path), reason=reason)


def refusals(tls_context: ssl.SSLContext | None) -> list[MedmailError]:
    """What the key that a context logs in with said, if it signs elsewhere and did not want to, oldest first.

    OpenSSL calls it in the midst of a handshake, and knows no more to say than that this came to nothing.
    """
    errors: list[MedmailError] = getattr(tls_context, "_medmail_refusals", [])
    return errors


@contextlib.contextmanager
def network_errors(
    host: str, tls_context: ssl.SSLContext | None = None, security: "Security | None" = None
) -> Iterator[None]:
    """Turn what the system says of a connection into the error that :func:`explained` gives.

    Raises what the key said that ``tls_context`` logs in with, where that is why.
    """
    refusals(tls_context).clear()
    try:
        yield
    except (OSError, EOFError) as error:
        raise explained(error, host, tls_context, security) from None


def explained(
    error: BaseException,
    host: str,
    tls_context: ssl.SSLContext | None = None,
    security: "Security | None" = None,
    *,
    ours: bool = True,
) -> MedmailError:
    """What an error of a connection to ``host``, as messages call it, means for the person.

    ``server-untrusted`` where its certificate does not hold; ``client-certificate-refused`` where it does
    not let us in by ours, or wants one; ``wrong-security`` where it met a mail account's ``security`` with
    something that is not TLS; ``tls-failed`` where no handshake can ever succeed; ``server-unreachable``
    for whatever may pass. With ``ours=False`` nobody has configured the server, and only
    ``server-untrusted`` and ``server-unreachable`` are left.
    """
    if said := refusals(tls_context):
        return said[0]
    if isinstance(error, ssl.SSLCertVerificationError):
        return MedmailError("server-untrusted", host=host, detail=error.verify_message or "")
    if isinstance(error, ssl.SSLError) and (name := _reason(error)):
        if ours and (refused := _client_refused(error, name)):
            return MedmailError("client-certificate-refused", host=host, reason=refused)
        if ours and name in _NO_TLS and security == "tls":
            return MedmailError("wrong-security", host=host, wanted="starttls")
        facts = {"host": host, "reason": _LASTING.get(name, "tls-broken"), "detail": _words(name)}
        return MedmailError("tls-failed" if ours and name in _LASTING else "server-unreachable", **facts)
    return MedmailError("server-unreachable", host=host, reason=_passing(error))


def _passing(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "name-lookup-failed" if error.errno == socket.EAI_AGAIN else "unknown-host"
    if isinstance(error, TimeoutError):
        return "timed-out"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, ssl.SSLError | ConnectionAbortedError | ConnectionResetError) or not number:
        # so is the end of a stream, and what asyncio says in words of its own
        return "cut-off"
    return "cut-off" if isinstance(error, BrokenPipeError) else os.strerror(number)


Security = Literal["starttls", "tls"]

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons for an answer that is not TLS at all."""
_LASTING_BY_WORDS = {
    "tls-too-old": "UNSUPPORTED_PROTOCOL ALERT_PROTOCOL_VERSION NO_PROTOCOLS_AVAILABLE VERSION_TOO_LOW",
    "tls-too-weak": (
        "ALERT_HANDSHAKE_FAILURE ALERT_INSUFFICIENT_SECURITY NO_CIPHERS_AVAILABLE NO_SHARED_CIPHER"
        " DH_KEY_TOO_SMALL WRONG_SIGNATURE_TYPE UNSAFE_LEGACY_RENEGOTIATION_DISABLED"
        " WRONG_CIPHER_RETURNED NO_SUITABLE_SIGNATURE_ALGORITHM"
    ),
    "tls-refused": (
        "UNRECOGNIZED_NAME ALERT_UNRECOGNIZED_NAME ALERT_ILLEGAL_PARAMETER ALERT_UNSUPPORTED_EXTENSION"
        " UNSUPPORTED_EXTENSION ALERT_MISSING_EXTENSION ALERT_NO_APPLICATION_PROTOCOL"
        " NO_APPLICATION_PROTOCOL ALERT_DECODE_ERROR ALERT_UNEXPECTED_MESSAGE"
        " ALERT_INAPPROPRIATE_FALLBACK INAPPROPRIATE_FALLBACK ALERT_EXPORT_RESTRICTION"
    ),
}
_LASTING = {
    **dict.fromkeys(_NO_TLS, "not-tls"),
    **{name: words for words, names in _LASTING_BY_WORDS.items() for name in names.split()},
}
"""OpenSSL's reasons that the same handshake would meet again, and what the person is told."""
_OF_OUR_CERTIFICATE = {
    "CERTIFICATE_REQUIRED": "certificate-missing",
    "NO_CERTIFICATE": "certificate-missing",
    "CERTIFICATE_EXPIRED": "certificate-expired",
    "CERTIFICATE_REVOKED": "certificate-revoked",
    "UNKNOWN_CA": "certificate-issuer",
    "BAD_CERTIFICATE": "certificate-bad",
    "UNSUPPORTED_CERTIFICATE": "certificate-bad",
    "CERTIFICATE_UNKNOWN": "certificate-bad",
    "ACCESS_DENIED": "certificate-bad",
    "DECRYPT_ERROR": "certificate-bad",
}
"""Alerts (RFC 8446 §6.2) with which a server answers the certificate a client shows, or does not show."""


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's name of what happened, without the version in front of an alert; empty for an end."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return ""
    name = (error.reason or "").upper().replace(" ", "_")
    match = re.search(r"ALERT_.*|UNRECOGNIZED_NAME", name)
    name = match[0] if match else name
    return "" if name == "UNEXPECTED_EOF_WHILE_READING" else name


def _client_refused(error: ssl.SSLError, name: str) -> str | None:
    alert = name.removeprefix("ALERT_")
    if alert == "HANDSHAKE_FAILURE" and getattr(error, "agreed", False):
        # in TLS 1.2 no other alert says so; a cipher was agreed on, and the server's certificate was good
        return "certificate-missing"
    return _OF_OUR_CERTIFICATE.get(alert) if name.startswith("ALERT_") else None


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


class _Socket(ssl.SSLSocket):
    """Remembers with a failed handshake whether a cipher had been agreed on."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLError as error:
            error.agreed = self.cipher() is not None  # type: ignore[attr-defined]
            raise


class _Object(ssl.SSLObject):
    """The same for TLS that asyncio carries."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            error.agreed = self.cipher() is not None  # type: ignore[attr-defined]
            raise
