"""The sandbox makes keys for others (EST's serverkeygen, RFC 7030 §4.4)."""

import base64
import datetime as dt
import secrets

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medmail_cli.cms import ber, der, enveloped, signed
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.pki.issuance import csrattrs
from medmail_cli.sandbox.ca import IdentityAuthority, RequestRefused, certs_only
from medmail_cli.transport.serverkey import DECRYPT_KEY_ID, identifier


def generated(
    authority: IdentityAuthority, request: bytes, holder: str, now: dt.datetime
) -> tuple[str, bytes]:
    """A key of the request's kind with its certificate: media type and body of the answer.

    Encrypted for the certificate that the request names, if it names one. Raises RequestRefused.
    """
    try:
        csr = x509.load_der_x509_csr(request)
        like = csr.public_key()
        wanted = _attribute(request)
    except ValueError as error:
        raise RequestRefused(f"unreadable request: {error}") from None
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if isinstance(like, rsa.RSAPublicKey) and like.key_size <= 4096:
        key = rsa.generate_private_key(65537, max(like.key_size, 2048))
    elif isinstance(like, ec.EllipticCurvePublicKey):
        key = ec.generate_private_key(like.curve)
    else:
        raise RequestRefused("keys of that kind are not made here")
    builder = x509.CertificateSigningRequestBuilder(csr.subject)
    for extension in csr.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    named = None
    if wanted is not None:
        named = next((issued for issued in authority.issued if identifier(issued) == wanted), None)
        if named is None:
            raise RequestRefused("no certificate has the key that the answer shall be encrypted for")
    own = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    certificate = authority.issue(own, holder, now)
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    kind = "application/pkcs8"
    if named is not None:
        kind = "application/pkcs7-mime; smime-type=server-generated-key"
        signer = authority.responder(now)
        package = signed.sign(
            der.sequence(pkcs8), key=SoftwareKey(signer.key), certificate=signer.certificate, signed_at=now
        )
        pkcs8 = enveloped.encrypt(package, [named], cipher="aes-256-cbc")
    boundary = secrets.token_hex(12)
    parts = (
        (kind, base64.encodebytes(pkcs8)),
        ("application/pkcs7-mime; smime-type=certs-only", certs_only([certificate])),
    )
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {media}\r\nContent-Transfer-Encoding: base64\r\n\r\n".encode()
        + octets
        + b"\r\n"
        for media, octets in parts
    )
    return f"multipart/mixed; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def _attribute(request: bytes) -> bytes | None:
    """The value of the request's id-aa-asymmDecryptKeyID."""
    fields = ber.parse(request).fields().take(ber.SEQUENCE).fields()
    for tag in (ber.INTEGER, ber.SEQUENCE, ber.SEQUENCE):
        fields.take(tag)
    attributes = [csrattrs.attribute(node) for node in fields.take(0x80).elements()]
    return next(
        (
            attribute.values[0]
            for attribute in attributes
            if attribute.oid == DECRYPT_KEY_ID and attribute.values
        ),
        None,
    )
