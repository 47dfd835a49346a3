"""Reading certificates and CRLs out of the files people have: PEM in any mixture, DER, PKCS#7."""

import base64
import binascii
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cryptography import x509

from medmail_cli.cms import ber
from medmail_cli.cms.certificates import UNREADABLE, load, load_crl
from medmail_cli.cms.signed import parse_signed
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509 import dn

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_CERTIFICATE = {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}
_CRL = {b"X509 CRL", b"CRL"}
_PKCS7 = {b"PKCS7", b"CMS", b"PKCS #7 SIGNED DATA"}


@dataclass(frozen=True)
class Bundle:
    """What a file holds, each once, in its order."""

    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] = ()


def read_bundle(data: bytes, name: str) -> Bundle:
    """Everything in ``data``, which came from the file ``name``.

    Raises ``malformed`` where there is nothing, and where one block of a PEM file is damaged: half a bundle
    taken silently would mislead.
    """
    if b"-----BEGIN " not in data:
        certificates, crls = _der(data, name)
    else:
        certificates, crls = [], []
        for _label, text in blocks(data, _CERTIFICATE | _CRL | _PKCS7):
            more_certificates, more_crls = _der(decoded(text, name), name)
            certificates += more_certificates
            crls += more_crls
    if not certificates and not crls:
        raise MedmailError("malformed", what=name)
    return Bundle(tuple(dict.fromkeys(certificates)), tuple(crls))


def blocks(data: bytes, labels: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Label of each PEM block (RFC 7468) that has one of ``labels``, and what stands between BEGIN and END.

    Every octet is looked at a few times at most: a server asked for a certificate may send a million BEGINs.
    """
    at, unended = 0, set[bytes]()
    while (begin := _BEGIN.search(data, at)) is not None:
        label, at = begin[1], begin.end()
        if label in unended or label not in labels:
            continue
        end = data.find(b"-----END " + label + b"-----", at)
        if end < 0:
            unended.add(label)
        else:
            yield label, data[at:end]
            at = end


def pem(label: str, data: bytes) -> bytes:
    """``data`` as a PEM block (RFC 7468)."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def decoded(text: bytes, name: str) -> bytes:
    """What base64 stands for, white space apart. Raises ``malformed``."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise MedmailError("malformed", what=name) from error


def _der(data: bytes, name: str) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about a certificate is for its judgement to say
        try:
            return [_read_certificate(load(data))], []
        except UNREADABLE:
            pass
        try:
            return [], [_read_crl(load_crl(data))]
        except UNREADABLE:
            pass
        try:
            signed_data = parse_signed(ber.parse(data))
            if signed_data.unread:
                raise MedmailError("malformed", what=name)
            return [_read_certificate(certificate) for certificate in signed_data.certificates], []
        except (*UNREADABLE, MedmailError) as error:
            raise MedmailError("malformed", what=name) from error


def _read_certificate(certificate: x509.Certificate) -> x509.Certificate:
    """The certificate, if its names can be read: that is only found out on reading. Raises ValueError."""
    _ = dn.subject(certificate), dn.issuer(certificate), certificate.version
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate


def _read_crl(crl: x509.CertificateRevocationList) -> x509.CertificateRevocationList:
    _ = dn.crl_issuer(crl), crl.last_update_utc, crl.next_update_utc
    return crl
