"""Whether what an authority issued is what was asked of it: for our key, under our names, of its own root."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import judge
from medmail_cli.pki.x509 import address

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def checked(
    csr: x509.CertificateSigningRequest,
    received: Sequence[x509.Certificate],
    *,
    anchors: Sequence[x509.Certificate],
    known: Sequence[x509.Certificate] = (),
    at: dt.datetime,
    url: str,
    key: "PublicKeyTypes | None" = None,
) -> tuple[x509.Certificate, ...]:
    """The certificate among ``received`` that ``csr`` asks for, and its path to one of ``anchors``.

    ``known`` may help to find the path; ``key`` is whose it is where that is not the request's own. Raises
    ``certificate-not-as-requested``.
    """
    wanted = (key or csr.public_key()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    own = next((certificate for certificate in received if _public_key(certificate) == wanted), None)
    if own is None:
        raise _not_as_requested(url, "wrong-key")
    for asked in requested_addresses(csr):
        if not address.binds(own, asked):
            raise _not_as_requested(url, "wrong-name", address=asked)
    judged = judge(
        own,
        anchors=anchors,
        enclosed=Enclosed((*received, *known)),
        at=at,
        purpose=_purpose(own),
        revocation="soft",
    )
    # an authority's clock may be seconds ahead of ours: the certificate will be valid when it is used
    problems = [problem for problem in judged.problems if problem.code != "not-yet-valid"]
    if problems:
        raise _not_as_requested(url, "unfit", problem=problems[0].code)
    return judged.chain


def _not_as_requested(url: str, reason: str, **facts: object) -> MedmailError:
    return MedmailError("certificate-not-as-requested", url=url, reason=reason, **facts)


def _public_key(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def requested_addresses(csr: x509.CertificateSigningRequest) -> list[str]:
    """The mailboxes asked for, SmtpUTF8Mailbox (RFC 9598) among them."""
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    others = [name for name in names if isinstance(name, x509.OtherName)]
    mailboxes = [address.decode_mailbox(n.value) for n in others if n.type_id == address.SMTP_UTF8_MAILBOX]
    return names.get_values_for_type(x509.RFC822Name) + [mailbox for mailbox in mailboxes if mailbox]


def _purpose(certificate: x509.Certificate) -> Literal["sign", "encrypt"]:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return "sign"
    return "sign" if usage.digital_signature or usage.content_commitment else "encrypt"
