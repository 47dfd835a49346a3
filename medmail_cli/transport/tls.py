"""TLS as every mail server must speak it: 1.2 or newer, the certificate and its name always checked."""

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError

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
        made = ssl.create_default_context(cafile=anchors, cadata=pem)
    except OSError as error:
        raise _unusable(anchors, error) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if client_identity is not None:
        try:
            # an encrypted key must not make OpenSSL ask at the terminal by itself
            made.load_cert_chain(client_identity, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise _unusable(client_identity, error) from None
    return made


def present(made: ssl.SSLContext, key: "PrivateKeyTypes", chain: "Sequence[x509.Certificate]") -> None:
    """Show servers that ask for it a certificate whose key is in memory.

    The ssl module reads files only: the one written for a moment is encrypted under a password of its own.
    """
    import secrets
    import tempfile

    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    password = secrets.token_hex(32).encode()
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    with tempfile.NamedTemporaryFile(prefix="medmail-") as file:
        file.write(b"".join([*(one.public_bytes(Encoding.PEM) for one in chain), sealed]))
        file.flush()
        made.load_cert_chain(file.name, password=password)


def _unusable(path: Path | None, error: Exception) -> MedmailError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return MedmailError("not-readable", path=str(path), reason=reason)


def refusals(made: ssl.SSLContext | None) -> list[MedmailError]:
    """What the key that a context logs in with said, if it signs elsewhere and did not want to, oldest first.

    OpenSSL calls it in the midst of a handshake, and knows no more to say than that this came to nothing.
    """
    found: list[MedmailError] = getattr(made, "_medmail_refusals", [])
    return found


@contextlib.contextmanager
def network_errors(host: str, made: ssl.SSLContext | None = None) -> Iterator[None]:
    """Turn what the system says of a connection into ``server-untrusted`` or ``server-unreachable``.

    ``host`` is what the message calls the server. Raises what the key said that ``made`` logs in with, where
    that is why.
    """
    said = refusals(made)
    said.clear()
    try:
        yield
    except (OSError, EOFError) as error:
        raise (said[0] if said else _explained(error, host)) from None


def _explained(error: OSError | EOFError, host: str) -> MedmailError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return MedmailError("server-untrusted", host=host, detail=error.verify_message or str(error))
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
    elif isinstance(error, TimeoutError):
        reason = "timed-out"
    elif isinstance(error, ConnectionResetError | BrokenPipeError | EOFError):
        reason = "cut-off"
    elif isinstance(error, socket.gaierror):
        reason = "unknown-host"
    else:
        # aiosmtplib and asyncio wrap the system's words in their own
        number = error.errno or getattr(error.__cause__, "errno", None)
        reason = os.strerror(number) if number else error.strerror or str(error)
    return MedmailError("server-unreachable", host=host, reason=reason)
